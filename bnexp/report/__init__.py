"""The report: one self-contained HTML file and its figures. Written from what runs left on disk; no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bnexp.analysis import Arms, Row, StepMs
from bnexp.base.quoting import command_line
from bnexp.report.chapters import MAX_CHAPTERS, chapters, readable
from bnexp.report.law import law_shown
from bnexp.report.overview import overview
from bnexp.report.page import Page, write
from bnexp.report.reproduce import commands, config_table, environment_table
from bnexp.report.show import shown
from bnexp.report.view import View, corrected
from bnexp.storage.curves import curves
from bnexp.storage.folder import flatten
from bnexp.storage.run import Run

__all__ = ["write_law_report", "write_report"]


def write_report(
    folder: Path,
    title: str,
    runs: Sequence[Run],
    parts: Mapping[str, Sequence[Row]],
    *,
    arms: Arms | None = None,
    step_ms: Mapping[str, StepMs] | None = None,
    margin: float | None = None,
) -> Path:
    """Writes `report.html` and `figures/` on these runs, and gives the page's path.

    Args:
        parts: the runs' rows (`rows_of`), by the budget they were asked for; a run may stand in several.
        arms: of a comparison, whose runs all belong together; None: they are found.
        step_ms: the median step of each turn of each arm, where that was timed: steps to target become seconds.
        margin: of an equivalence of test accuracies, a share.

    Raises:
        UsageError: no run can be read.
    """
    found = chapters(parts, arms)
    folders = {run.id: run.metrics_jsonl for run in runs}
    many = len(found) > 1
    if len(found) > MAX_CHAPTERS:
        pages = [overview([row for row in rows if readable(row)], part) for part, rows in parts.items()]
    else:
        views = [
            View(
                chapter,
                lambda run: curves(folders[run]),
                f"part{index}_" if many else "",
                primary=not many,
                margin=margin,
                step_ms=None if many else step_ms,
            )
            for index, chapter in enumerate(found, 1)
        ]
        corrected(views)
        pages = [shown(view) for view in views]
    every = list({row["id"]: row for own in parts.values() for row in own}.values())
    rows, lost = [row for row in every if readable(row)], sorted(str(row["id"]) for row in every if not readable(row))
    shown_ids = {str(row["id"]) for row in rows}
    damaged = sorted(run.id for run in runs if run.id in shown_ids and not run.is_whole(run.metrics_jsonl))
    page = Page(title, pages, commands(rows), config_table(rows), environment_table(rows), command_line(), lost, damaged)
    return write(page, folder)


def write_law_report(folder: Path, law: Mapping[str, Any]) -> Path:
    """The same for what `bnexp stats` found (`bnexp.studies.noise_law`)."""
    row = flatten({"config": law["config"], "environment": law["environment"]})
    page = Page(f"Batch statistics: {law['data']}", [law_shown(law)], [], config_table([row]), environment_table([row]), command_line())
    return write(page, folder)
