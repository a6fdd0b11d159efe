"""What a row says: whether it is a result, what it scored, which arm, learning rate and seed it belongs to.

A row is one run's summary.json, flat, as `bnexp.run.rows` makes it. The rules on what counts are here and nowhere else:

- `finished` and `diverged` runs are results. `failed`, `interrupted` and `running` ones are not: they are counted as missing.
- A diverged run is never dropped. Its accuracy is 0 (its logits are not numbers, so it predicts nothing; what is recorded for it is the
  share of whichever class argmax falls back to), its validation loss is infinite, and its steps to target are infinite even if it passed
  the target before it diverged: who trains on loses what was reached.
- A finished run without a finite validation loss counts with an infinite one.
- A finished run that misses the target has infinite steps to it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from bnexp.errors import UsageError

Row = Mapping[str, Any]
ArmOf = Callable[[Row], str]

STATS = ("running", "precise", "batch")
"""The statistics that batch norm is evaluated with."""
NORM = ("config.model.norm",)
"""The config keys that define the arms, unless the caller says otherwise."""
IGNORED = frozenset(
    f"config.{key}" for key in ("name", "seed", "device", "threads", "data.root", "optim.lr", "train.checkpoint_every", "data.fingerprint")
)
"""Config keys in which compared runs may differ: the learning rate and the seed are the grid, the others change no numbers."""
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


def seed_of(row: Row) -> int:
    return int(row["seed"])


def lr_of(row: Row) -> float:
    return float(row["config.optim.lr"])


def batch_size_of(row: Row) -> int:
    return int(row["config.train.batch_size"])


def accuracy(row: Row, stats: str = "running") -> float | None:
    """Test accuracy in [0, 1] under `stats`: 0 for a diverged run, None where there is none."""
    return _scored(row, f"test.{stats}.accuracy")


def val_accuracy(row: Row) -> float | None:
    """Validation accuracy in [0, 1] at the end of training: 0 for a diverged run, None where there is none."""
    return _scored(row, "val.accuracy")


def val_loss(row: Row) -> float:
    """Validation loss (nats an example) at the end of training: infinite for a diverged run and where it is not finite."""
    value = None if is_diverged(row) else number(row, "val.loss")
    return math.inf if value is None else value


def steps_to_target(row: Row) -> float:
    """Updates until validation accuracy first reached the target: infinite for a miss and for a diverged run."""
    value = None if is_diverged(row) else number(row, "target.reached_step")
    return math.inf if value is None else value


def gap(row: Row) -> float | None:
    """Generalization gap: training accuracy minus test accuracy (running statistics). None for a diverged run: it has neither."""
    train, test = number(row, "train.accuracy"), number(row, "test.running.accuracy")
    return None if is_diverged(row) or train is None or test is None else train - test


def number(row: Row, key: str) -> float | None:
    """The finite number under `key`, or None."""
    value = row.get(key)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return None
    return float(value)


def by_seed(rows: Iterable[Row], measure: Callable[[Row], float | None]) -> dict[int, float]:
    """What `measure` says of each result, by seed; seeds without a value are left out."""
    values = {seed_of(row): measure(row) for row in rows if is_result(row)}
    return {seed: value for seed, value in sorted(values.items()) if value is not None}


def one_a_cell(rows: Sequence[Row], arm_of: ArmOf) -> list[Row]:
    """The rows in a fixed order, one for each arm, learning rate and seed: a result goes before a run that has none.

    Raises:
        UsageError: two results share arm, learning rate and seed and are not the same recipe, so that a pairing by seed would mix settings.
    """
    cells: dict[tuple[str, float, int], Row] = {}
    for row in sorted(rows, key=lambda row: (not is_result(row), str(row["id"]))):
        cell = (arm_of(row), lr_of(row), seed_of(row))
        first = cells.setdefault(cell, row)
        differing = [key.removeprefix("config.") for key in varying([first, row])]
        if differing and is_result(row):
            raise UsageError(
                f"{first['id']} and {row['id']} have the same arm ({cell[0]}), learning rate and seed, and differ in "
                f"{', '.join(differing)}; compare runs of one setting at a time."
            )
    return [cells[cell] for cell in sorted(cells)]


def varying(rows: Sequence[Row], treatment: Sequence[str] = ()) -> list[str]:
    """The config keys in which results differ although nobody asked them to: all but the treatment's, the grid's and diagnostics'."""
    keys = {key for row in rows for key in row if key.startswith("config.") and not key.startswith("config.metrics.")}
    return sorted(key for key in keys - IGNORED - set(treatment) if len({repr(row.get(key)) for row in rows}) > 1)


def tidy(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """One flat row a run for a CSV file: scalars only, the same columns in the same order in every row, sorted by id.

    Lists in the config are joined by commas; other lists (the confusion matrix) are left out. `steps_to_target` is added: `inf` for a
    result that missed, empty (None) for a run that is no result. All other values are as recorded: see `status` for diverged runs.
    """
    found = []
    for row in rows:
        flat = {key: _scalar(key, value) for key, value in row.items() if not isinstance(value, (list, tuple)) or key.startswith("config.")}
        found.append({**flat, "steps_to_target": steps_to_target(row) if is_result(row) else None})
    columns = [*LEADING, *sorted({key for row in found for key in row} - set(LEADING))]
    return [{key: row.get(key) for key in columns} for row in sorted(found, key=lambda row: str(row["id"]))]


def _scored(row: Row, key: str) -> float | None:
    return (0.0 if is_diverged(row) else number(row, key)) if is_result(row) else None


def _scalar(key: str, value: Any) -> Any:
    return ",".join(map(str, value)) if isinstance(value, (list, tuple)) else value
