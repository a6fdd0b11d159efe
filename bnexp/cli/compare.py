"""`bnexp compare`: arms against a baseline, paired by seed, from new runs or existing ones."""

from __future__ import annotations

from contextlib import suppress
from typing import Annotated

import typer

from bnexp.base.errors import UsageError, one_of, short
from bnexp.cli.app import app
from bnexp.cli.checks import caution, check_machine, check_out
from bnexp.cli.options import (
    RUNS,
    ConfigDir,
    DryRun,
    Fresh,
    Json,
    Out,
    Quiet,
    RunsDir,
    Scheduler,
    Seeds,
    Verbose,
    Workers,
    complete_items,
    listed,
    refuse_loose_values,
    runs_and_overrides,
)
from bnexp.cli.results import check_failed, finish, print_plan


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
            "--lrs",
            "--values",
            metavar="A,B,...",
            help="Learning rates that each arm is tried with.",
            show_default="half-decades 0.003 to 3",
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
    dry_run: DryRun = False,
    out: Out = None,
    runs_dir: RunsDir = RUNS,
    config_dir: ConfigDir = None,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Compares arms, paired by seed: each seed at the learning rate that it chose, then all at the same one, with intervals and an audit.

    Each seed chooses its learning rate on validation data, so that the choice is part of what varies. The one question asked in advance is
    test accuracy; all other p are corrected for their number. Steps to target become seconds with each arm's step time, measured in turns
    afterwards.

    \b
    Examples:
      bnexp compare --no-bn
      bnexp compare --no-bn data=waveforms --lrs 0.01,0.1,1 --out results
      bnexp compare --no-bn --refine --margin 0.5 --seeds 20 --dry-run
      bnexp compare batch-bs32-lr0.1-s0 none-bs32-lr0.1-s0
    """
    from dataclasses import asdict

    from bnexp.analysis import arms_of
    from bnexp.execution.grid import prepare, widths_here
    from bnexp.execution.launch import Outcome
    from bnexp.execution.terminal import Terminal
    from bnexp.storage.folder import find_run
    from bnexp.storage.group import group_of
    from bnexp.studies import compare as compares
    from bnexp.studies.sweep import budget

    share = compares.share_of(margin)
    names, overrides = runs_and_overrides(items)
    if no_bn or norm:
        refuse_loose_values(names, "--lrs", lrs)
    if names:
        asked = {
            "--no-bn": no_bn,
            "--norm": norm,
            "--lrs": lrs,
            "--seeds": seeds,
            "--scheduler": scheduler,
            "--fresh": fresh,
            "--dry-run": dry_run,
            "--refine": refine,
        }
        new = [*overrides, *(option for option, value in asked.items() if value), *(["--workers"] if workers is not None else [])]
        if new:
            raise UsageError(f"{short(names[0])} names an existing run, and {new[0]} asks for new ones; give runs alone, or none.")
        try:
            runs = list(dict.fromkeys(find_run(name, runs_dir) for name in names))
        except UsageError:
            if line := compares.line_for_norms(names):
                raise UsageError(f"No run has the name {one_of(names)}, which is that of a norm. Write: {line}") from None
            raise
        outcome = Outcome(runs, frozenset(run.id for run in runs))
        arms = arms_of(list(outcome.results.values()), [run.id for run in runs if run.id not in outcome.results])
        check_out(out)
        with suppress(OSError):  # what cannot be written there is said below
            group_of(runs).store_members("compare", {"": runs}, asdict(arms))
    else:
        if not (no_bn or norm):
            raise UsageError("Say what to compare: --no-bn, --norm NAME, or two or more runs.")
        check_machine(workers, scheduler)
        configs = compares.request(overrides, norm or [], no_bn=no_bn, lrs=listed(lrs, "--lrs"), seeds=seeds, config_dir=config_dir)
        caution(configs, quiet)
        if not dry_run:
            check_out(out)
        widths = widths_here(Terminal(quiet), dry_run=dry_run) if scheduler is None else None
        if dry_run:
            print_plan(prepare(configs, runs_dir, fresh=fresh, widths=widths), {budget(configs): configs}, workers, json)
            return
        arms = compares.arms_by_norm(configs)

        refinements = compares.REFINEMENTS if refine else 0
        outcome = compares.train(
            configs,
            arms,
            runs_dir,
            refinements=refinements,
            fresh=fresh,
            widths=widths,
            workers=workers,
            scheduler=scheduler,
            quiet=quiet,
        )
        if compares.lacks_an_arm(outcome, arms):
            check_failed(outcome)  # not one run of an arm could even write its summary
    finish(compares.study_of(outcome, arms, Terminal(quiet), share), outcome, out, json, quiet, verbose)
