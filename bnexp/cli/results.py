"""How commands end: results printed, stored beside the runs or where --out says, a report with them, the exit code."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from bnexp.base.errors import BnexpError, failure, reason, short
from bnexp.cli.options import print_json
from bnexp.cli.streams import say

if TYPE_CHECKING:
    from bnexp.analysis import Arms, StepMs
    from bnexp.execution.launch import Outcome
    from bnexp.storage.group import Group
    from bnexp.storage.result import RunResult
    from bnexp.storage.run import Run

SOME_FAILED = 3
TITLES = {
    "compare": "Comparison",
    "sweep batch-size": "Sweep over the batch size",
    "sweep lr": "Sweep over the learning rate",
    "sweep norm": "Sweep over the norms",
    "sweep grid": "Sweep over a grid",
}
"""The reports' headings, by what was asked for."""


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


def store_means(group: Group, runs: Sequence[Run]) -> None:
    """The means over seeds that TensorBoard shows; a disk that does not take them ends nothing."""
    from bnexp.tensorboard.means import write_means

    try:
        write_means(group, runs)
    except OSError as error:
        say(f"Warning: TensorBoard's means over seeds could not be written ({reason(error)}).")


def report_on(
    folder: Path,
    kind: str,
    runs: Sequence[Run],
    parts: Mapping[str, Sequence[RunResult]],
    arms: Arms | None = None,
    step_ms: Mapping[str, StepMs] | None = None,
    margin: float | None = None,
) -> Path:
    """The report of what was asked for as `kind`; arguments as `bnexp.report.write_report`, which is imported here: drawing needs
    matplotlib, and training does not."""
    from bnexp.report import write_report

    return write_report(folder, TITLES.get(kind, kind), runs, parts, arms=arms, step_ms=step_ms, margin=margin)


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


def end_grid(outcome: Outcome, stored: Path | None) -> None:
    """Ends with 3 if some runs failed, with 1 if the results could not be written."""
    if outcome.failed:
        reasons = "; ".join(dict.fromkeys(reason.rstrip(".") for reason in outcome.failed.values()))
        say(
            f"Error: {len(outcome.failed)} of {len(outcome.runs)} runs failed: {short(reasons, 300)}. "
            "The same command again trains only what is missing."
        )
        raise typer.Exit(SOME_FAILED)
    end(stored)


def print_many(outcome: Outcome, plain: Mapping[str, Any]) -> None:
    """The runs of a grid and what they say together, as JSON."""
    from bnexp.base.files import null_nonfinite

    print_json({"runs": outcome.summaries, "reused": sorted(outcome.reused), "failed": dict(outcome.failed), **null_nonfinite(dict(plain))})


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
        show(run_table(outcome.runs[0].result(), str(outcome.runs[0].folder), curves(outcome.runs[0].metrics_jsonl)))
    else:
        show(seeds_table([run.result() for run in outcome.runs], [curve(run.metrics_jsonl, "val/loss") for run in outcome.runs]))
