"""A part of a study as a chapter of the page, with the sections that its data allow."""

from __future__ import annotations

import math
from collections.abc import Iterable

from bnexp.analysis import Part
from bnexp.analysis.numbers import numbers
from bnexp.analysis.wording import count, label
from bnexp.plots import Picture
from bnexp.report import network_figures, training_figures
from bnexp.report.arm_figures import confusion
from bnexp.report.content import Section, Shown, there
from bnexp.report.diagram import network
from bnexp.report.view import View
from bnexp.tables.study import tables, title
from bnexp.tables.table import Table


def shown(part: Part, kind: str, view: View | None = None, notes: Iterable[str] = ()) -> Shown:
    """The chapter, without figures where there is no view of the part; `notes` stand beside its own."""
    figures: list[Section] = []
    notes, hero = [*part.notes, *notes], None
    if view is not None:
        grid, training = training_figures.grid(view), training_figures.training(view)
        hero = next(iter((*grid, *training)), None)
        figures = [
            _figures("Learning rate, batch size, steps to the target", (*grid, *training_figures.to_target(view)), hero),
            _figures("Training", training, hero),
            _figures("The network and its errors", (*confusion(view), *there([network(view)]))),
            _figures("Inside the network: activations", network_figures.activations(view)),
            _figures("Inside the network: gradients and loss landscape", network_figures.optimization(view)),
            _figures("Running against precise statistics", network_figures.running_statistics(view)),
            _figures("What gamma and beta do before the ReLU", network_figures.relu(view)),
        ]
        if lost := len(view.without_curves):
            notes.append(f"{count(lost, 'run')} recorded no curves, or lost them: the tables count them, and no curve shows them.")
    answers = part.answers if part.answers != part.answer else ()
    sections = (
        Section("In numbers", tables=tuple(table for table in tables(part, kind) if table.rows)),
        Section("The tests behind the answer", answers),
        *figures,
        Section("Every run", tables=(_all_runs(part),) if part.grid is None else ()),
    )
    kept = tuple(section for section in sections if section.text or section.pictures or section.tables)
    data = dict.fromkeys(run.data.contents for run in part.runs if run.data is not None and run.data.contents)
    contents = " ".join(f"Data: {one}." for one in data)  # one, but where files changed between runs
    return Shown(title(part), part.question, part.answer, contents, tuple(notes), kept, tuple(numbers(part)), hero, part.audit)


def _figures(heading: str, pictures: tuple[Picture, ...], hero: Picture | None = None) -> Section:
    return Section(heading, pictures=tuple(picture for picture in pictures if picture is not hero))


def _all_runs(part: Part) -> Table:
    """Every run in a row."""
    arms, rows = part.arms, []
    for run in sorted(part.runs, key=lambda run: (arms.labels.index(arms.arm_of(run)), run.batch_size, run.lr, run.seed)):
        step = run.steps_to_target
        reached = "" if not run.is_result else "inf" if math.isinf(step) else f"{step:,.0f}"
        scores = ["" if value is None else f"{100 * value:.2f}" for value in (run.test.running.accuracy, run.val.accuracy)]
        rows.append((run.id, run.status, label(arms.arm_of(run)), f"{run.batch_size}", f"{run.lr:g}", f"{run.seed}", *scores, reached))
    return Table(("run", "status", "arm", "batch", "lr", "seed", "test %", "val %", "steps to target"), tuple(rows))
