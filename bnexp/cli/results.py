"""How commands end: results printed, stored beside the runs or where --out says, a report with them, the exit code."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from bnexp.base.errors import BnexpError, failure, reason
from bnexp.cli.options import print_json
from bnexp.cli.streams import say

if TYPE_CHECKING:
    from bnexp.analysis import Study
    from bnexp.config import Config
    from bnexp.execution.grid import GridPlan
    from bnexp.execution.launch import Outcome

SOME_FAILED = 3


def store_results(
    name: str, plain: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], group: Path, out: Path | None, csv: str = "runs"
) -> Path | None:
    """Writes the rows and the result; the folder that has them, or None where that failed: the results are still shown."""
    from bnexp.storage.group import store

    written = []
    for folder in ([out] if out else []) + [group]:
        try:
            store(folder, name, plain, rows, csv)
            written.append(folder)
        except OSError as error:
            say(f"Error: the results could not be written to {folder} ({reason(error)}).")
    return written[0] if written else None


def try_report(stored: Path | None, write: Callable[[Path], Path], quiet: bool) -> None:
    """Writes a report beside stored results. What keeps it from being written is said, and is no reason to lose them."""
    if stored is None:
        return
    if not quiet:
        say("Drawing the report ...")
    try:
        path = write(stored)
    except (BnexpError, OSError) as error:
        say(f"No report: {failure(error)}")
        path = stored
    if not quiet:
        say(f"Report, rows and results: {path}")


def end(stored: Path | None) -> None:
    """Ends with 1 where the results could not be written."""
    if stored is None:
        raise typer.Exit(BnexpError.exit_code)


def finish(study: Study, outcome: Outcome, out: Path | None, json: bool, quiet: bool, verbose: bool) -> None:
    """How a command with a study ends: the study is stored in its group's folder and where --out says, printed, written as a page, and its
    means over seeds for TensorBoard. Ends with 3 if some runs failed, with 1 if the results could not be written."""
    from bnexp.analysis import to_json, to_table
    from bnexp.base.files import null_nonfinite
    from bnexp.storage.group import group_of
    from bnexp.tensorboard.means import write_means

    plain, group = to_json(study), group_of(outcome.runs)
    name = study.kind.replace(" ", "-")
    stored = store_results(name, plain, to_table(study.results.values()), group.results_folder(study.name), out)
    if json:
        about = {"runs": outcome.summaries, "reused": sorted(outcome.reused), "failed": dict(outcome.failed)}
        print_json({**about, **null_nonfinite(plain)})
    else:
        from bnexp.tables import show, study_summary, study_tables

        show(study_tables(study) if verbose else study_summary(study))
    try:
        write_means(group, study)
    except OSError as error:
        say(f"Warning: TensorBoard's means over seeds could not be written ({reason(error)}).")

    def write(folder: Path) -> Path:
        from bnexp.report import write_report  # matplotlib

        return write_report(folder, study)

    try_report(stored, write, quiet)
    check_failed(outcome)
    end(stored)


def check_failed(outcome: Outcome) -> None:
    """Ends with 3 if some runs failed."""
    if outcome.failed:
        say(f"Error: {outcome.failure}")
        raise typer.Exit(SOME_FAILED)


def print_plan(prepared: GridPlan, parts: Mapping[str, Sequence[Config]], workers: int | None, json: bool) -> None:
    """How --dry-run ends: what would be trained, by the part of the request, and what it takes."""
    from bnexp.tables import plan_table, show

    plan = prepared.plain(workers, {part: len(configs) for part, configs in parts.items()})
    if json:
        print_json(plan)
    else:
        show(plan_table(plan))


def print_outcome(outcome: Outcome, json: bool, quiet: bool) -> None:
    """The summary of one run, or a table of several; a finished run that was not trained again is named."""
    summaries = outcome.summaries
    if outcome.reused and not quiet:
        which = summaries[0]["id"] if len(summaries) == 1 else f"{len(outcome.reused)} of {len(summaries)} runs"
        say(f"{which}: finished before, not trained again. `bnexp train --fresh` trains anew.")
    if json:
        print_json(summaries[0] if len(summaries) == 1 else {"runs": summaries})
        return
    from bnexp.storage.curves import curve, curves
    from bnexp.tables import run_table, seeds_table, show

    if len(summaries) == 1:
        show(run_table(outcome.results[outcome.runs[0].id], str(outcome.runs[0].folder), curves(outcome.runs[0].metrics_jsonl)))
    else:
        show(seeds_table([outcome.results[run.id] for run in outcome.runs], [curve(run.metrics_jsonl, "val/loss") for run in outcome.runs]))
