"""Which results belong together: by seed, by cell, by what they differ in; and all of them as a table."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from operator import attrgetter
from typing import Any, TypeVar

from bnexp.base.errors import UsageError
from bnexp.config import KEYS
from bnexp.storage.result import Row, RunResult

ArmOf = Callable[[RunResult], str]
CellKey = TypeVar("CellKey", bound=tuple[Any, ...])

norm_of: ArmOf = attrgetter("norm")
"""The arm of a run where arms are norms."""
NORM = ("config.model.norm",)
"""The config keys that define the arms, unless the caller says otherwise."""
IGNORED = frozenset(
    f"config.{key}"
    for key in (
        *("name", "seed", "device", "threads", "data.root", "data.follow_links"),
        *("optim.lr", "train.checkpoint_every"),
    )
)
"""Config keys in which compared runs may differ: the learning rate and the seed are the grid, the others change no numbers."""
BUDGET = ("config.train.epochs", "config.train.steps")
"""Two spellings of one thing: runs that were given as many updates do not differ in budget, however it was asked for."""
COMPARED = tuple(f"config.{key}" for key in KEYS if not key.startswith("metrics."))
LEADING = (
    "id",
    "status",
    "seed",
    "config.data.name",
    "config.model.norm",
    "config.model.placement",
    "config.train.batch_size",
    "config.optim.lr",
    "steps_to_target",
    "test.running.accuracy",
    "test.precise.accuracy",
    "test.batch.accuracy",
    "test.running.loss",
    "train.accuracy",
    "val.loss",
    "val.accuracy",
    "val.best_accuracy",
    "steps",
    "epochs",
    "diverged_at_step",
    "parameters",
)
"""The first columns of the CSV; the others follow in alphabetical order."""


def by_seed(runs: Iterable[RunResult], measure: Callable[[RunResult], float | None]) -> dict[int, float]:
    """What `measure` says of each result, by seed; seeds without a value are left out."""
    values = {run.seed: measure(run) for run in runs if run.is_result}
    return {seed: value for seed, value in sorted(values.items()) if value is not None}


def resolution_of(runs: Iterable[RunResult]) -> float:
    """The step between two accuracies: one over the number of test images, of the smallest test set among the runs; 0 where none says."""
    images = [run.data.test for run in runs if run.data is not None and run.data.test]
    return 1 / min(images) if images else 0.0


def budget_kind(runs: Sequence[RunResult]) -> str:
    """`steps`: all were given as many updates; `epochs`: not known to be so, but all as many epochs; else `unequal`."""
    steps, epochs = {run.budget_steps for run in runs}, {run.config.train.epochs for run in runs}
    return "steps" if _one_known(steps) else "epochs" if _one_known(epochs) else "unequal"


def one_a_cell(runs: Sequence[RunResult], arm_of: ArmOf) -> list[RunResult]:
    """The runs in a fixed order, one for each arm, learning rate and seed: a result goes before a run that has none.

    Raises:
        UsageError: two results share arm, learning rate and seed and are not the same recipe, so that a pairing by seed would mix settings.
    """

    def cell_of(run: RunResult) -> tuple[str, float, int]:
        return arm_of(run), run.lr, run.seed

    cells = deduplicate(runs, cell_of, lambda cell: f"the same arm ({cell[0]}), learning rate and seed")
    return [cells[cell] for cell in sorted(cells)]


def deduplicate(
    runs: Sequence[RunResult],
    cell_of: Callable[[RunResult], CellKey],
    shared: Callable[[CellKey], str],
    differing_in: Callable[[Sequence[RunResult]], Sequence[str]] | None = None,
) -> dict[CellKey, RunResult]:
    """One run for each value of `cell_of`: a result before a run that has none, then the first by id.

    Args:
        shared: what two runs of a cell have in common, in words.
        differing_in: the config keys in which two runs of a cell are not one recipe (`varying`).

    Raises:
        UsageError: two results share a cell and are not the same recipe.
    """
    cells: dict[CellKey, RunResult] = {}
    for run in sorted(runs, key=lambda run: (not run.is_result, run.id)):
        cell = cell_of(run)
        first = cells.setdefault(cell, run)
        if first is run or not run.is_result:
            continue
        differing = [key.removeprefix("config.") for key in (differing_in or varying)([first, run])]
        if differing:
            raise UsageError(
                f"{first.id} and {run.id} have {shared(cell)}, and differ in {', '.join(differing)}; compare runs of one setting at a time."
            )
    return cells


def varying(runs: Sequence[RunResult], treatment: Sequence[str] = ()) -> list[str]:
    """The config keys in which results differ unintentionally: all but the treatment's, the grid's and diagnostics'.

    A key that a run does not read (`bn_momentum` without batch norm) makes no difference there; nor do epochs and steps that come to
    equally many updates.
    """
    return _varying(runs, {*IGNORED, *treatment})


def varying_keys(runs: Sequence[RunResult]) -> list[str]:
    """`varying`, the learning rate among them: what a grid was made of, the seed apart."""
    return _varying(runs, IGNORED - {"config.optim.lr"})


def _varying(runs: Sequence[RunResult], ignored: Iterable[str]) -> list[str]:
    found = []
    for key in sorted(set(COMPARED).difference(ignored)):
        value = attrgetter(key)
        if len({value(run) for run in runs}) > 1 and len({value(run) for run in runs if run.reads(key)}) > 1:
            found.append(key)
    same_budget = any(key in BUDGET for key in found) and budget_kind(runs) == "steps"
    return [key for key in found if not (same_budget and key in BUDGET)]


def to_table(runs: Iterable[RunResult]) -> list[Row]:
    """One flat row a run for a CSV file: scalars only, the same columns in the same order in every row, sorted by id.

    Lists in the config are joined by commas; other lists (the confusion matrix) and `test.correct` are left out. `steps_to_target` is
    added: `inf` for a result that missed, empty (None) for a run that is no result. All other values are as recorded: see `status` for
    diverged runs.
    """
    found: list[Row] = []
    for run in runs:
        shown = {key: value for key, value in run.row().items() if not isinstance(value, list) or key.startswith("config.")}
        flat = {
            key: ",".join(map(str, value)) if isinstance(value, list) else value for key, value in shown.items() if key != "test.correct"
        }
        found.append({**flat, "steps_to_target": run.steps_to_target if run.is_result else None})
    columns = [*LEADING, *sorted({key for row in found for key in row} - set(LEADING))]
    return [{key: row.get(key) for key in columns} for row in sorted(found, key=lambda row: str(row["id"]))]


def _one_known(values: set[int | None]) -> bool:
    return len(values) == 1 and None not in values
