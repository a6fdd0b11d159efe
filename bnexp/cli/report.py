"""The command that writes a report on existing runs."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bnexp.base.errors import UsageError, one_line
from bnexp.cli.app import app
from bnexp.cli.checks import check_out
from bnexp.cli.options import RUNS, Json, NoConfigDir, Quiet, RunsDir, complete_runs_and_sweeps, named_in_utf8, print_json

if TYPE_CHECKING:
    from bnexp.analysis import StepTime

LONGEST_MS = 1e9


@app.command()
def report(
    runs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="RUN|SWEEP", help="Runs, or a sweep or comparison by its id; none: all runs.", autocompletion=complete_runs_and_sweeps
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Write it there, instead of into the runs folder.", callback=named_in_utf8)
    ] = None,
    slides: Annotated[bool, typer.Option("--slides", help="Write slides.html instead, one figure a slide, to be projected.")] = False,
    all_figures: Annotated[bool, typer.Option("--all-figures", help="Draw every figure, instead of the 20 that say most.")] = False,
    runs_dir: RunsDir = RUNS,
    config_dir: NoConfigDir = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Writes one self-contained HTML file on existing runs, and every figure as SVG and PNG beside it.

    It has what the runs' data allow: the answer with its interval, curves, accuracy by batch size and learning rate, steps to target,
    activations, gradients, statistics, the audit, and what it takes to do it again. compare, sweep and stats write one of their own.

    \b
    Examples:
      bnexp report
      bnexp report last --out results
      bnexp report 3f2a90c1 --slides
      bnexp report batch-bs32-lr0.1-s0 none-bs32-lr0.1-s0
    """
    from bnexp.analysis import Arms, analyse, with_step_times
    from bnexp.base.quoting import command_line
    from bnexp.report import write_report
    from bnexp.storage.folder import list_runs, results_of
    from bnexp.storage.group import Group, find_all, group_of
    from bnexp.storage.run import Run

    asked = find_all(runs or [], runs_dir)
    if len(asked) == 1 and isinstance(asked[0], Group):
        group = asked[0]
    else:
        found = [item for item in asked if isinstance(item, Run)] if runs else list_runs(runs_dir)
        if len(found) < len(asked):
            raise UsageError("A report is of one sweep or comparison, or of runs; give one sweep, or runs.")
        if not found:
            raise UsageError(f"There are no runs in {runs_dir}; `bnexp train` makes one, and --runs-dir names another folder.")
        group = group_of(found)
    if group.members_json.is_file():  # these runs were asked for together, and are shown as they were then
        kind, parts, arms, command = group.kind, group.parts(), Arms.stored(group.arms()), group.command
        if not group.members():
            raise UsageError(f"All runs of {group.id} have been removed: there is nothing to report.")
    else:
        kind, parts, arms, command = "report", {"": found}, None, ""
    members = list({run.id: run for own in parts.values() for run in own}.values())
    check_out(out)
    times, margin = _measured(group.stored("compare.json")) if kind == "compare" else ({}, None)
    study = analyse(kind, members, results_of(members), parts, arms=arms, command=command or command_line(), margin=margin)
    study = with_step_times(study, times) if times else study
    path = write_report(out or group.results_folder(study.name), study, every_figure=all_figures, slides=slides)
    if json:
        print_json({"report": str(path), "runs": [run.id for run in members]})
    else:
        print(one_line(str(path)) if sys.stdout.isatty() else path)


def _measured(stored: Path) -> tuple[Mapping[str, StepTime], float | None]:
    """The step times and the margin of a comparison of these runs; none where nothing usable was stored."""
    import json

    from msgspec import convert

    from bnexp.analysis import StepTime

    times: dict[str, StepTime] = {}
    margins: list[float] = []
    with suppress(OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        found = json.loads(stored.read_text())
        margins = [float(one["equivalence"]["margin"]) for one in found["comparison"]["headline"]["versus"].values() if one["equivalence"]]
        times = convert(found["step_times"], dict[str, StepTime])
    turns = {len(time.turns_ms) for time in times.values()}
    usable = len(turns) == 1 and turns != {0} and all(0 < ms < LONGEST_MS for time in times.values() for ms in time.turns_ms)
    return times if usable else {}, next((margin for margin in margins if 0 < margin < 1), None)
