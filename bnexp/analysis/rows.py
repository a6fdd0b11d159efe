"""What a row says: whether it is a result, what it scored, which arm, learning rate and seed it belongs to.

A row is one run's summary.json, flat, as `rows` of the runs folder makes it. The rules on what counts are here and nowhere else:

- `finished` and `diverged` runs are results. `failed`, `interrupted` and `running` ones are not: they are counted as missing.
- A run that diverged, or that ended at chance, failed to train. Failures are counted as a rate (`failures`), and accuracies are those of
the runs that did train: a mean over accuracies and zeros describes neither.
- A diverged run's validation loss is infinite, and so are its steps to target, even if it passed the target before it diverged: training
  longer loses what was reached. A finished run without a finite validation loss counts with an infinite one.
- A finished run that misses the target has infinite steps to it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar, cast

from bnexp.base.errors import UsageError
from bnexp.config import USED_WHEN, Config
from bnexp.config.fields import leaves

Row = Mapping[str, Any]
ArmOf = Callable[[Row], str]
CellKey = TypeVar("CellKey", bound=tuple[Any, ...])

STATS = ("running", "precise", "batch")
"""The statistics that batch norm is evaluated with."""
AT_CHANCE = 3.0
"""Standard errors above chance up to which a run counts as untrained."""
NORM = ("config.model.norm",)
"""The config keys that define the arms, unless the caller says otherwise."""
IGNORED = frozenset(
    f"config.{key}"
    for key in (
        *("name", "seed", "device", "threads", "data.root", "data.follow_links", "data.fingerprint"),
        *("optim.lr", "train.checkpoint_every"),
    )
)
"""Config keys in which compared runs may differ: the learning rate and the seed are the grid, the others change no numbers."""
BUDGET = ("config.train.epochs", "config.train.steps")
"""Two spellings of one thing: runs that were given as many updates do not differ in budget, however it was asked for."""
DEFAULTS = {f"config.{name}": value for name, value in leaves(Config())}
GROUPS = frozenset(key.rpartition(".")[0] for key in DEFAULTS)
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


def norm_of(row: Row) -> str:
    """The arm of a run where arms are norms."""
    return str(row["config.model.norm"])


def is_result(row: Row) -> bool:
    return row["status"] in ("finished", "diverged")


def is_diverged(row: Row) -> bool:
    return bool(row["status"] == "diverged")


def is_cold(row: Row) -> bool:
    """Whether the initial (0, 1) still weighs in a run's running statistics; where that is not recorded, or there are none, it does not.
    Those of a diverged run are not read."""
    return not is_diverged(row) and row.get("running_statistics.warm") is False


def is_failure(row: Row) -> bool:
    """Whether a result did not train: it diverged, or ended at chance, in training and in the test under each of the three statistics."""
    return is_diverged(row) or (is_at_chance(row) and _at_chance(row, [f"test.{stats}.accuracy" for stats in STATS], "data.test"))


def is_at_chance(row: Row) -> bool:
    """Whether a finished run has no more of its training images right than always naming the largest class would, beyond three standard
    errors of that share. Where the training accuracy is not recorded it is not known to be so."""
    return is_result(row) and _at_chance(row, ["train.accuracy"], "train.images")


def _at_chance(row: Row, scores: Sequence[str], images: str) -> bool:
    """The share of the largest class is that of the test set; where it is not recorded, one over the classes."""
    classes, n = row.get("data.classes"), number(row, images)
    chance = number(row, "test.chance") or (1 / len(classes) if isinstance(classes, (list, tuple)) and classes else None)
    found = [score for name in scores if (score := number(row, name)) is not None]
    if chance is None or not n or not found:
        return False
    return max(found) <= chance + AT_CHANCE * math.sqrt(chance * (1 - chance) / n)


def seed_of(row: Row) -> int:
    return int(row["seed"])


def lr_of(row: Row) -> float:
    return float(row["config.optim.lr"])


def batch_size_of(row: Row) -> int:
    return int(row["config.train.batch_size"])


def accuracy(row: Row, stats: str = "running") -> float | None:
    """Test accuracy in [0, 1] under `stats`; None for a run that failed to train, and where there is none."""
    return None if not is_result(row) or is_failure(row) else number(row, f"test.{stats}.accuracy")


def resolution_of(rows: Iterable[Row]) -> float:
    """The step between two accuracies: one over the number of test images, of the smallest test set among the rows; 0 where none says."""
    images = [n for row in rows if (n := number(row, "data.test"))]
    return 1 / min(images) if images else 0.0


def val_accuracy(row: Row) -> float | None:
    """Validation accuracy in [0, 1] at the end of training; None for a diverged run, and where there is none."""
    return None if not is_result(row) or is_diverged(row) else number(row, "val.accuracy")


def val_loss(row: Row) -> float:
    """Validation loss (nats an example) at the end of training: infinite for a diverged run and where it is not finite."""
    value = None if is_diverged(row) else number(row, "val.loss")
    return math.inf if value is None else value


def steps_to_target(row: Row) -> float:
    """Updates until validation accuracy first reached the target: infinite for a miss and for a diverged run. No step is below 1."""
    value = None if is_diverged(row) else number(row, "target.reached_step")
    return math.inf if value is None or value < 1 else value


def target_interval(row: Row) -> tuple[float, float]:
    """(last update at which the target was not reached, first at which it was): the target was reached in between, evaluations being what
    they are. A miss: (its budget, infinity), as it would have needed more. Both the step where the one before is not recorded."""
    reached = steps_to_target(row)
    if math.isinf(reached):
        return budget_of(row) or 0.0, reached
    before = number(row, "target.previous_step")
    return (reached if before is None else min(max(before, 0.0), reached)), reached


def gap(row: Row) -> float | None:
    """Generalization gap: training accuracy minus test accuracy (running statistics). None for a run that failed to train."""
    train, test = number(row, "train.accuracy"), accuracy(row)
    return None if train is None or test is None else train - test


def number(row: Row, key: str) -> float | None:
    """The finite number under `key`, or None."""
    value = row.get(key)
    if type(value) is float:  # the usual case, tens of thousands of times in a comparison
        return value if math.isfinite(value) else None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:  # a whole number beyond what a float holds
        return None


def by_seed(rows: Iterable[Row], measure: Callable[[Row], float | None]) -> dict[int, float]:
    """What `measure` says of each result, by seed; seeds without a value are left out."""
    values = {seed_of(row): measure(row) for row in rows if is_result(row)}
    return {seed: value for seed, value in sorted(values.items()) if value is not None}


def budget_of(row: Row) -> float | None:
    """Updates that the run was given: as recorded, else the config's number of steps; None where neither says."""
    given = number(row, "budget.steps")
    return number(row, "config.train.steps") if given is None else given


def budget_kind(rows: Sequence[Row]) -> str:
    """`steps`: all were given as many updates; `epochs`: not known to be so, but all as many epochs; else `unequal`."""
    steps, epochs = ({measure(row) for row in rows} for measure in (budget_of, lambda row: number(row, "config.train.epochs")))
    return "steps" if _one_known(steps) else "epochs" if _one_known(epochs) else "unequal"


def until_target(row: Row) -> bool | None:
    """Whether the run was to stop at its target; None where that is not recorded."""
    found = row.get("budget.until_target")
    found = row.get("config.train.until_target") if found is None else found
    return None if found is None else bool(found)


def fingerprint_of(row: Row) -> str | None:
    """The hash of the user's own data, where it is recorded."""
    found = row.get("data.fingerprint") or row.get("config.data.fingerprint")
    return None if found is None else str(found)


def one_a_cell(rows: Sequence[Row], arm_of: ArmOf) -> list[Row]:
    """The rows in a fixed order, one for each arm, learning rate and seed: a result goes before a run that has none.

    Raises:
        UsageError: two results share arm, learning rate and seed and are not the same recipe, so that a pairing by seed would mix settings.
    """

    def cell_of(row: Row) -> tuple[str, float, int]:
        return arm_of(row), lr_of(row), seed_of(row)

    cells = deduplicate(rows, cell_of, lambda cell: f"the same arm ({cell[0]}), learning rate and seed")
    return [cells[cell] for cell in sorted(cells)]


def deduplicate(
    rows: Sequence[Row],
    cell_of: Callable[[Row], CellKey],
    shared: Callable[[CellKey], str],
    differing_in: Callable[[Sequence[Row]], Sequence[str]] | None = None,
) -> dict[CellKey, Row]:
    """One row for each value of `cell_of`: a result before a run that has none, then the first by id.

    Args:
        shared: what two runs of a cell have in common, in words.
        differing_in: the config keys in which two runs of a cell are not one recipe (`varying`).

    Raises:
        UsageError: two results share a cell and are not the same recipe.
    """
    cells: dict[CellKey, Row] = {}
    for row in sorted(rows, key=lambda row: (not is_result(row), str(row["id"]))):
        cell = cell_of(row)
        first = cells.setdefault(cell, row)
        if first is row or not is_result(row):
            continue
        differing = [key.removeprefix("config.") for key in (differing_in or varying)([first, row])]
        if differing:
            raise UsageError(
                f"{first['id']} and {row['id']} have {shared(cell)}, and differ in {', '.join(differing)}; "
                "compare runs of one setting at a time."
            )
    return cells


def varying(rows: Sequence[Row], treatment: Sequence[str] = ()) -> list[str]:
    """The config keys in which results differ although nobody asked them to: all but the treatment's, the grid's and diagnostics'.

    A key that a run does not read (`bn_momentum` without batch norm) makes no difference there; nor do epochs and steps that come to
    equally many updates.
    """
    return _varying(rows, {*IGNORED, *treatment})


def varying_keys(rows: Sequence[Row]) -> list[str]:
    """`varying`, the learning rate among them: what a grid was made of, the seed apart."""
    return _varying(rows, IGNORED - {"config.optim.lr"})


def matters(row: Row, key: str) -> bool:
    """Whether the run reads the config key: `config.model.bn_momentum` is not read without batch norm (`bnexp.config.USED_WHEN`)."""
    reads = USED_WHEN.get(key.removeprefix("config."))
    try:
        return reads is None or reads(cast(Config, _ConfigOf(row, "config")))
    except (KeyError, TypeError):  # a norm, or a kind of value, that this version does not know
        return True


def setting(row: Row, key: str) -> Any:
    """The value of a config key, hashable; None where the run does not read it. A row without the key is older than it: its default."""
    if not matters(row, key):
        return None
    return _value(row, key)


def to_table(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """One flat row a run for a CSV file: scalars only, the same columns in the same order in every row, sorted by id.

    Lists in the config are joined by commas; other lists (the confusion matrix) and `test.correct` are left out. `steps_to_target` is
    added: `inf` for a result that missed, empty (None) for a run that is no result. All other values are as recorded: see `status` for
    diverged runs.
    """
    found = []
    for row in rows:
        shown = {key: value for key, value in row.items() if not isinstance(value, (list, tuple)) or key.startswith("config.")}
        flat = {key: _scalar(key, value) for key, value in shown.items() if key != "test.correct"}
        found.append({**flat, "steps_to_target": steps_to_target(row) if is_result(row) else None})
    columns = [*LEADING, *sorted({key for row in found for key in row} - set(LEADING))]
    return [{key: row.get(key) for key in columns} for row in sorted(found, key=lambda row: str(row["id"]))]


def _varying(rows: Sequence[Row], ignored: Iterable[str]) -> list[str]:
    keys = {key for row in rows for key in row if key.startswith("config.") and not key.startswith("config.metrics.")}
    found = [key for key in keys.difference(ignored) if len({repr(_value(row, key)) for row in rows}) > 1]
    found = [key for key in found if len({repr(_value(row, key)) for row in rows if matters(row, key)}) > 1]
    same_budget = any(key in BUDGET for key in found) and budget_kind(rows) == "steps"
    return sorted(key for key in found if not (same_budget and key in BUDGET))


def _value(row: Row, key: str) -> Any:
    value = row[key] if key in row else DEFAULTS.get(key)
    return tuple(value) if isinstance(value, list) else value


def _one_known(values: set[float | None]) -> bool:
    return len(values) == 1 and None not in values


class _ConfigOf:
    """A row's config under the attributes of `Config`."""

    def __init__(self, row: Row, path: str) -> None:
        self._row, self._path = row, path

    def __getattr__(self, name: str) -> Any:
        path = f"{self._path}.{name}"
        return _ConfigOf(self._row, path) if path in GROUPS else _value(self._row, path)


def _scalar(key: str, value: Any) -> Any:
    return ",".join(map(str, value)) if isinstance(value, (list, tuple)) else value
