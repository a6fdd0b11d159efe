"""The report: one self-contained HTML file and its figures. It renders a study and computes nothing; no torch."""

from __future__ import annotations

from pathlib import Path

from bnexp.analysis import Study
from bnexp.analysis.law import NoiseLaw
from bnexp.analysis.study import MAX_PARTS
from bnexp.base.quoting import command_line
from bnexp.report.content import Shown, fewer
from bnexp.report.law import law_shown
from bnexp.report.page import Page, write, write_slides
from bnexp.report.reproduce import commands, config_table, environment_table
from bnexp.report.show import shown
from bnexp.report.view import View
from bnexp.storage.curves import curves, lists

MOST_FIGURES = 20
NO_DRAWINGS = "So many settings have tables and no drawings; name fewer runs for these."

__all__ = ["chapters", "write_law_report", "write_report"]


def write_report(folder: Path, study: Study, *, every_figure: bool = False, slides: bool = False) -> Path:
    """Writes `index.html` and `figures/` on a study, and gives the page's path. More than `MAX_PARTS` parts have tables alone.

    Args:
        every_figure: instead of at most `MOST_FIGURES`.
        slides: writes `slides.html` instead, and gives its path.
    """
    every = chapters(study)
    kept = every if every_figure else fewer(every, MOST_FIGURES)
    left_out = sum(len(chapter.pictures) for chapter in every) - sum(len(chapter.pictures) for chapter in kept)
    results = study.results
    lost = sorted(run.id for run in study.runs if run.id not in results)
    damaged = sorted(run.id for run in study.runs if run.id in results and not run.is_whole(run.metrics_jsonl, results[run.id]))
    environments = [result.environment for result in results.values() if result.environment is not None]
    configs = [result.config for result in results.values()]
    tables = config_table(configs), environment_table(environments)
    page = Page(study.title, kept, commands(environments), *tables, study.command, lost, damaged, left_out)
    return write_slides(page, folder) if slides else write(page, folder)


def chapters(study: Study) -> list[Shown]:
    """Its parts with their tables and figures, which are drawn here."""
    paths, many = {run.id: run.metrics_jsonl for run in study.runs}, len(study.parts) > 1
    drawn = len(study.parts) <= MAX_PARTS and any(part.grid is None for part in study.parts)
    found = []
    for index, part in enumerate(study.parts, 1):
        known = part, lambda run: curves(paths[run]), f"part{index}_" if many else "", lambda run: lists(paths[run])
        view = View(*known) if drawn and part.grid is None else None
        found.append(shown(part, study.kind, view, () if drawn else (NO_DRAWINGS,)))
    return found


def write_law_report(folder: Path, law: NoiseLaw) -> Path:
    """The same for what `bnexp stats` found (`bnexp.studies.noise_law`)."""
    tables = config_table([law.config]), environment_table([law.environment])
    return write(Page(f"Batch statistics: {law.data}", [law_shown(law)], [], *tables, command_line()), folder)
