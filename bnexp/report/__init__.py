"""The report: one self-contained HTML file and its figures. Written from what runs left on disk; no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from msgspec import convert

from bnexp.analysis import Arms, StepMs
from bnexp.base.quoting import command_line
from bnexp.config import from_mapping
from bnexp.report.chapters import MAX_CHAPTERS, chapters
from bnexp.report.law import law_shown
from bnexp.report.overview import overview
from bnexp.report.page import Page, write
from bnexp.report.reproduce import commands, config_table, environment_table
from bnexp.report.show import shown
from bnexp.report.view import View, corrected
from bnexp.storage.curves import curves
from bnexp.storage.facts import Environment
from bnexp.storage.result import RunResult
from bnexp.storage.run import Run

__all__ = ["write_law_report", "write_report"]


def write_report(
    folder: Path,
    title: str,
    runs: Sequence[Run],
    parts: Mapping[str, Sequence[RunResult]],
    *,
    arms: Arms | None = None,
    step_ms: Mapping[str, StepMs] | None = None,
    margin: float | None = None,
) -> Path:
    """Writes `report.html` and `figures/` on these runs, and gives the page's path.

    Args:
        parts: the runs' results, by the budget they were asked for; a run may stand in several.
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
        pages = [overview(results, part) for part, results in parts.items()]
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
    known = {result.id: result for results in parts.values() for result in results}
    lost = sorted(run.id for run in runs if run.id not in known)
    damaged = sorted(run.id for run in runs if run.id in known and not run.is_whole(run.metrics_jsonl))
    configs, where = [result.config for result in known.values()], [result.environment for result in known.values()]
    environments = [environment for environment in where if environment is not None]
    page = Page(title, pages, commands(environments), config_table(configs), environment_table(environments), command_line(), lost, damaged)
    return write(page, folder)


def write_law_report(folder: Path, law: Mapping[str, Any]) -> Path:
    """The same for what `bnexp stats` found (`bnexp.studies.noise_law`)."""
    config, environment = from_mapping(law["config"]), convert(law["environment"], Environment)
    tables = config_table([config]), environment_table([environment])
    return write(Page(f"Batch statistics: {law['data']}", [law_shown(law)], [], *tables, command_line()), folder)
