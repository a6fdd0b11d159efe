"""`bnexp sweep`: a grid of runs over one key, or several."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from bnexp.base.errors import UsageError
from bnexp.cli.app import app
from bnexp.cli.checks import caution, check_machine, check_out
from bnexp.cli.options import (
    RUNS,
    BatchSizes,
    ConfigDir,
    DryRun,
    Fresh,
    Json,
    Lrs,
    Out,
    Overrides,
    Quiet,
    RunsDir,
    Scheduler,
    Seeds,
    Verbose,
    Workers,
    listed,
    refuse_loose_values,
)
from bnexp.cli.results import check_failed, finish, print_plan
from bnexp.norms import NORMS

EXAMPLES = {"--lrs": "0.01,0.1,1", "--batch-sizes": "4,16,64"}


class Kind(StrEnum):
    """What `bnexp sweep` goes through."""

    BATCH_SIZE = "batch-size"
    LR = "lr"
    NORM = "norm"
    GRID = "grid"


def _kind(text: str) -> Kind:
    if text not in tuple(Kind):
        from bnexp.studies.sweep import unknown_kind

        raise unknown_kind(text)
    return Kind(text)


def _spelled_out(kind: Kind, overrides: list[str], options: dict[str, list[str] | None]) -> tuple[list[str], list[str] | None]:
    """The overrides, and the values of the sweep's own key, that `--values`, `--lrs` and `--batch-sizes` stand for.

    Raises:
        UsageError: two of them, or one and an override, say the same thing.
    """
    from bnexp.studies.sweep import AXES

    values = listed(options["--values"], "--values")
    for option, key in (("--lrs", "optim.lr"), ("--batch-sizes", "train.batch_size")):
        if (given := listed(options[option], option)) is None:
            continue
        if not given:
            raise UsageError(f"{option} is empty: the grid has no cell; give values of {key}, as in {option} {EXAMPLES[option]}.")
        if any(override.partition("=")[0] == key for override in overrides):
            raise UsageError(f"{option} and {key}=... both say which values to sweep; give one of them.")
        if AXES.get(kind.value) != key:
            overrides = [*overrides, f"{key}={','.join(given)}"]
        elif values is not None:
            raise UsageError(f"--values and {option} both say which values to sweep; give one of them.")
        else:
            values = given
    return overrides, values


@app.command()
def sweep(
    kind: Annotated[
        Kind,
        typer.Argument(
            parser=_kind,
            help="What to go through; grid takes comma lists and range() in OVERRIDES.",
            autocompletion=lambda incomplete: [kind for kind in Kind if kind.startswith(incomplete)],
        ),
    ],
    overrides: Overrides = None,
    values: Annotated[
        list[str] | None, typer.Option("--values", metavar="A,B,...", help="Values to go through, instead of the usual.")
    ] = None,
    lrs: Lrs = None,
    batch_sizes: BatchSizes = None,
    seeds: Seeds = None,
    workers: Workers = None,
    scheduler: Scheduler = None,
    fresh: Fresh = False,
    dry_run: DryRun = False,
    out: Out = None,
    runs_dir: RunsDir = RUNS,
    config_dir: ConfigDir = None,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Trains a grid of runs on all of the machine, reuses those that are finished, and says what they show together.

    batch-size and lr train both arms, with and without batch norm, unless model.norm is given. batch-size crosses the learning rates
    0.003, 0.01, 0.03 and 0.1, and reports at equal epochs and at equal steps.

    \b
    Examples:
      bnexp sweep batch-size --values 4,32,256
      bnexp sweep lr data=waveforms --lrs 0.01,0.1,1 --dry-run
      bnexp sweep grid optim.lr=0.01,0.1,1 model.norm=batch,none 'seed=range(5)' --out results
    """
    from bnexp.execution.grid import prepare, widths_here
    from bnexp.execution.terminal import Terminal
    from bnexp.studies import sweep as sweeps

    if kind is not Kind.GRID:
        own, given = {Kind.LR: ("--lrs", lrs), Kind.BATCH_SIZE: ("--batch-sizes", batch_sizes)}.get(kind, ("", None))
        option, given = (own, given) if given else ("--values", values)
        refuse_loose_values(overrides or [], option, given, NORMS if kind is Kind.NORM else ())
    check_machine(workers, scheduler)
    lines, chosen = _spelled_out(kind, overrides or [], {"--values": values, "--lrs": lrs, "--batch-sizes": batch_sizes})
    asked = sweeps.request(kind.value, lines, values=chosen, seeds=seeds, config_dir=config_dir)
    caution(asked.configs, quiet)
    if not dry_run:
        check_out(out)
    widths = widths_here(Terminal(quiet), dry_run=dry_run) if scheduler is None else None
    prepared = prepare(asked.configs, runs_dir, fresh=fresh, widths=widths)
    if dry_run:
        print_plan(prepared, asked.parts, workers, json)
        return
    outcome = sweeps.train(asked, prepared, workers=workers, scheduler=scheduler, quiet=quiet)
    if not outcome.results:
        check_failed(outcome)  # not one run could even write its summary
    finish(sweeps.study_of(asked, prepared, outcome), outcome, out, json, quiet, verbose)
