"""Commands about many runs: sweep, compare."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bnexp.base.errors import UsageError, short
from bnexp.cli.app import app
from bnexp.cli.cautions import caution
from bnexp.cli.options import (
    RUNS,
    ConfigDir,
    Json,
    Overrides,
    Quiet,
    RunsDir,
    complete_items,
    listed,
    print_json,
    runs_and_overrides,
)
from bnexp.cli.results import Out, check_out, end, report_on, store_means, store_results, try_report
from bnexp.cli.streams import say

if TYPE_CHECKING:
    from bnexp.config import Config
    from bnexp.execution.grid import GridPlan
    from bnexp.execution.launch import Outcome

SOME_FAILED = 3


class Kind(StrEnum):
    """What `bnexp sweep` goes through."""

    BATCH_SIZE = "batch-size"
    LR = "lr"
    NORM = "norm"
    GRID = "grid"


Seeds = Annotated[
    int | None, typer.Option("--seeds", min=1, max=1024, help="Seeds a cell (seed, seed+1, ...), which pair the arms.", show_default="10")
]
Workers = Annotated[
    int | None,
    typer.Option(
        "--workers", min=0, max=1024, help="Processes on this machine; 0 trains in this one.", show_default="one a core, or one a GPU"
    ),
]
Scheduler = Annotated[
    str | None,
    typer.Option(
        "--scheduler",
        metavar="ADDRESS",
        help="A Dask scheduler, tls://HOST:PORT or tcp://HOST:PORT, or its scheduler file: train on its workers.",
    ),
]
Fresh = Annotated[bool, typer.Option("--fresh", help="Train finished runs again; each is replaced once its successor is complete.")]


@app.command()
def sweep(
    kind: Annotated[Kind, typer.Argument(help="What to go through; grid takes comma lists and range() in OVERRIDES.")],
    overrides: Overrides = None,
    values: Annotated[
        list[str] | None, typer.Option("--values", metavar="A,B,...", help="Values to go through, instead of the usual.")
    ] = None,
    seeds: Seeds = None,
    workers: Workers = None,
    scheduler: Scheduler = None,
    fresh: Fresh = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan and what it will take; train nothing.")] = False,
    out: Out = None,
    runs_dir: RunsDir = RUNS,
    config_dir: ConfigDir = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Trains a grid of runs on all of the machine, reuses those that are finished, and says what they show together.

    batch-size and lr train both arms, with and without batch norm, unless model.norm is given. batch-size crosses the learning rates
    0.003, 0.01, 0.03 and 0.1, and reports at equal epochs and at equal steps.

    \b
    Examples:
      bnexp sweep batch-size --values 4,32,256
      bnexp sweep lr data=waveforms --dry-run
      bnexp sweep grid optim.lr=0.01,0.1,1 model.norm=batch,none 'seed=range(5)' --out results
    """
    from bnexp.analysis import to_table
    from bnexp.execution.grid import prepare, train_all, widths_here
    from bnexp.execution.terminal import Terminal
    from bnexp.storage.folder import results_of
    from bnexp.studies import sweep as sweeps

    _check_machine(workers, scheduler)
    asked = sweeps.request(kind.value, overrides or [], values=listed(values, "--values"), seeds=seeds, config_dir=config_dir)
    caution(asked.configs, quiet)
    if not dry_run:
        check_out(out)
    widths = widths_here(Terminal(quiet), dry_run=dry_run) if scheduler is None else None
    prepared = prepare(asked.configs, runs_dir, fresh=fresh, widths=widths)
    if dry_run:
        _print_plan(prepared, asked.parts, workers, json)
        return
    by_id = {run.id: run for run in prepared.runs}
    members = {part: [by_id[prepared.ids[config]] for config in configs] for part, configs in asked.parts.items()}
    outcome = train_all(prepared, kind=f"sweep {kind.value}", parts=members, workers=workers, scheduler=scheduler, quiet=quiet)
    results = results_of(outcome.runs)
    answers = sweeps.analyse(
        kind.value, {part: [(config, results.get(prepared.ids[config])) for config in configs] for part, configs in asked.parts.items()}
    )
    plain = {"kind": kind.value, "results": [answer.plain() for answer in answers]}
    stored = store_results(f"sweep-{kind.value}", plain, to_table(results.values()), prepared.group.folder, out)
    if json:
        _print_many(outcome, plain)
    else:
        from bnexp.tables import show, sweep_tables

        show(sweep_tables(answers))
    by_part = {part: [results[run.id] for run in runs if run.id in results] for part, runs in members.items()}
    store_means(prepared.group, outcome.runs)
    try_report(stored, lambda folder: report_on(folder, f"sweep {kind.value}", outcome.runs, by_part), quiet)
    _end(outcome, stored)


@app.command()
def compare(
    items: Annotated[
        list[str] | None,
        typer.Argument(metavar="OVERRIDE|RUN", help="Config values, or two or more existing runs.", autocompletion=complete_items),
    ] = None,
    no_bn: Annotated[bool, typer.Option("--no-bn", help="Compare with the network without batch norm.")] = False,
    norm: Annotated[
        list[str] | None, typer.Option("--norm", metavar="NAME", help="Compare with this norm; more than once for more.")
    ] = None,
    lrs: Annotated[
        list[str] | None,
        typer.Option(
            "--lrs", metavar="A,B,...", help="Learning rates that each arm is tried with.", show_default="half-decades 0.003 to 3"
        ),
    ] = None,
    refine: Annotated[
        bool, typer.Option("--refine", help="Bisect each arm's largest stable learning rate twice; every arm is trained at each new rate.")
    ] = False,
    margin: Annotated[
        float | None,
        typer.Option("--margin", metavar="POINTS", help="Test whether the arms' test accuracies are equivalent within so many points."),
    ] = None,
    seeds: Seeds = None,
    workers: Workers = None,
    scheduler: Scheduler = None,
    fresh: Fresh = False,
    out: Out = None,
    runs_dir: RunsDir = RUNS,
    config_dir: ConfigDir = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Compares arms, paired by seed: each seed at the learning rate that it chose, then all at the same one, with intervals and an audit.

    Each seed chooses its learning rate on validation data, so that the choice is part of what varies. The one question asked in advance is
    test accuracy; all other p are corrected for their number. Steps to target become seconds with each arm's step time, measured in turns
    afterwards.

    \b
    Examples:
      bnexp compare --no-bn
      bnexp compare --no-bn data=waveforms --lrs 0.01,0.1,1 --out results
      bnexp compare --no-bn --refine --margin 0.5 --seeds 20
      bnexp compare batch-bs32-lr0.1-s0 none-bs32-lr0.1-s0
    """
    from dataclasses import asdict

    from bnexp.analysis import arms_of, to_table
    from bnexp.execution.grid import prepare, train_all, widths_here
    from bnexp.execution.launch import Outcome
    from bnexp.execution.terminal import Terminal
    from bnexp.storage.folder import find_run, results_of
    from bnexp.storage.group import group_of
    from bnexp.studies import compare as compares

    if margin is not None and not 0 < margin < 100:
        raise UsageError(f"--margin {margin:g} is not a margin in points of accuracy; give one above 0 and below 100, as in --margin 0.5.")
    share = None if margin is None else margin / 100
    names, overrides = runs_and_overrides(items)
    if names:
        asked = {
            "--no-bn": no_bn,
            "--norm": norm,
            "--lrs": lrs,
            "--seeds": seeds,
            "--scheduler": scheduler,
            "--fresh": fresh,
            "--refine": refine,
        }
        new = [*overrides, *(option for option, value in asked.items() if value), *(["--workers"] if workers is not None else [])]
        if new:
            raise UsageError(f"{short(names[0])} names a run that is there, and {new[0]} asks for new ones; give runs alone, or none.")
        runs = list(dict.fromkeys(find_run(name, runs_dir) for name in names))
        known = results_of(runs)
        arms = arms_of(list(known.values()), [run.id for run in runs if run.id not in known])
        check_out(out)
        outcome = Outcome(runs, frozenset(run.id for run in runs))
        with suppress(OSError):  # what cannot be written there is said below
            group_of(runs).store_members("compare", {"": runs}, asdict(arms))
    else:
        if not (no_bn or norm):
            raise UsageError("Say what to compare: --no-bn, --norm NAME, or two or more runs.")
        _check_machine(workers, scheduler)
        configs = compares.request(overrides, norm or [], no_bn=no_bn, lrs=listed(lrs, "--lrs"), seeds=seeds, config_dir=config_dir)
        caution(configs, quiet)
        check_out(out)
        widths = widths_here(Terminal(quiet)) if scheduler is None else None
        arms = compares.arms_by_norm(configs)

        def train(some: Sequence[Config], again: bool) -> Outcome:
            prepared = prepare(some, runs_dir, fresh=fresh and not again, widths=widths)
            return train_all(prepared, kind="compare", arms=arms, workers=workers, scheduler=scheduler, quiet=quiet)

        outcome = compares.train_refined(configs, arms, train, compares.REFINEMENTS if refine else 0)
        if not {arms.arm_of(result) for result in results_of(outcome.runs).values()}.issuperset(arms.labels):
            _end(outcome, None)  # not one run of an arm could even write its summary
    found = compares.compared(outcome.runs, arms, Terminal(quiet), share)
    group = group_of(outcome.runs)
    stored = store_results("compare", found.plain(), to_table(results_of(outcome.runs).values()), group.folder, out)
    if json:
        _print_many(outcome, found.plain())
    else:
        from bnexp.tables import comparison_tables, show

        show(comparison_tables(found))
    step_ms = {arm: time.turns_ms for arm, time in found.step_times.items()}
    parts = {"": list(results_of(outcome.runs).values())}
    store_means(group, outcome.runs)
    try_report(stored, lambda folder: report_on(folder, "compare", outcome.runs, parts, arms=arms, step_ms=step_ms, margin=share), quiet)
    _end(outcome, stored)


def _check_machine(workers: int | None, scheduler: str | None) -> None:
    if workers is not None and scheduler is not None:
        raise UsageError("--workers counts processes on this machine, and --scheduler names another's; give one of them.")
    if scheduler is not None:
        from bnexp.base.network import is_open
        from bnexp.execution.cluster import address_of

        if is_open(address := address_of(scheduler)):
            say(
                f"Warning: whoever reaches the scheduler {short(address)} can run code as you, here and on its workers; "
                "the README says how to secure it with TLS."
            )


def _print_many(outcome: Outcome, plain: Mapping[str, Any]) -> None:
    from bnexp.base.files import null_nonfinite

    print_json({"runs": outcome.summaries, "reused": sorted(outcome.reused), "failed": dict(outcome.failed), **null_nonfinite(dict(plain))})


def _end(outcome: Outcome, stored: Path | None) -> None:
    """Ends with 3 if some runs failed, with 1 if the results could not be written."""
    if outcome.failed:
        reasons = "; ".join(dict.fromkeys(reason.rstrip(".") for reason in outcome.failed.values()))
        say(
            f"Error: {len(outcome.failed)} of {len(outcome.runs)} runs failed: {short(reasons, 300)}. "
            "The same command again trains only what is missing."
        )
        raise typer.Exit(SOME_FAILED)
    end(stored)


def _print_plan(prepared: GridPlan, parts: Mapping[str, Sequence[Config]], workers: int | None, json: bool) -> None:
    from bnexp.tables import plan_table, show

    plan = prepared.plain(workers, {part: len(configs) for part, configs in parts.items()})
    if json:
        print_json(plan)
    else:
        show(plan_table(plan))
