"""A grid of any shape as one table: a cell for each setting, over its seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from bnexp.analysis.compare import DIFFERENCE, accuracy_cell
from bnexp.analysis.failures import FailureRate, failure_rate
from bnexp.analysis.pairs import Cell, cell
from bnexp.analysis.rows import (
    STATS,
    Row,
    by_seed,
    deduplicate,
    gap,
    is_cold,
    is_result,
    resolution_of,
    seed_of,
    setting,
    target_interval,
    val_loss,
    varying_keys,
)
from bnexp.analysis.target import Quartiles, quartiles_to_target
from bnexp.base.errors import UsageError, did_you_mean


@dataclass(frozen=True)
class GridCell:
    """One setting over its seeds. Accuracies are shares, steps are updates, losses are nats an example."""

    values: tuple[Any, ...]
    """Of the table's `keys`, in their order; None where the runs do not read the key (or its value is null)."""
    n: int
    n_missing: int
    """Runs that failed to run, were interrupted or are still going."""
    failures: FailureRate
    accuracy: dict[str, Cell]
    """Test accuracy by statistics (running, precise, batch) of the runs that trained."""
    val_loss: Cell
    """Infinite as soon as one run diverged."""
    steps: Quartiles
    gap: Cell
    """Training minus test accuracy, over the runs that trained."""
    ema_warm: bool
    """Every finished run's running statistics have forgotten their initial (0, 1)."""

    @property
    def n_diverged(self) -> int:
        return self.failures.diverged


@dataclass(frozen=True)
class Cells:
    """The table: `keys` are config keys, `cells` are sorted by their values, numbers as numbers."""

    keys: tuple[str, ...]
    cells: tuple[GridCell, ...]
    n_unreadable: int
    """Rows without a config: nobody can say which cell they belong to."""


def cells(rows: Sequence[Row], keys: Sequence[str] | None = None) -> Cells:
    """Groups the runs by `keys` (`optim.lr` or `config.optim.lr`); None: by every config key that varies, the seed apart.

    Raises:
        UsageError: no run has such a key, or two results of a cell share a seed and are not the same recipe.
    """
    known = [row for row in rows if any(key.startswith("config.") for key in row)]
    chosen = varying_keys(known) if keys is None else [key if key.startswith("config.") else f"config.{key}" for key in keys]
    there = sorted({key for row in known for key in row if key.startswith("config.")})
    for key in chosen:
        if known and key not in there:
            name, names = key.removeprefix("config."), [name.removeprefix("config.") for name in there]
            raise UsageError(f"No run has the config key '{name}'.{did_you_mean(name, names)}")

    def values_of(row: Row) -> tuple[Any, ...]:
        return tuple(setting(row, key) for key in chosen)

    one = deduplicate(known, lambda row: (values_of(row), seed_of(row)), lambda _: "the same cell and seed", varying_keys)
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for (values, _), row in one.items():
        groups.setdefault(values, []).append(row)
    table = [_cell(values, groups[values]) for values in sorted(groups, key=lambda values: [_order(value) for value in values])]
    return Cells(tuple(chosen), tuple(table), len(rows) - len(known))


def _cell(values: tuple[Any, ...], rows: Sequence[Row]) -> GridCell:
    results = [row for row in rows if is_result(row)]
    return GridCell(
        values=values,
        n=len(results),
        n_missing=len(rows) - len(results),
        failures=failure_rate(results),
        accuracy={stats: accuracy_cell(results, stats) for stats in STATS},
        val_loss=cell(list(by_seed(results, val_loss).values())),
        steps=quartiles_to_target([target_interval(row) for row in results]),
        gap=cell(list(by_seed(results, gap).values()), DIFFERENCE, resolution=resolution_of(results)),
        ema_warm=not any(map(is_cold, results)),
    )


def _order(value: Any) -> tuple[Any, ...]:
    """None, then truth values, numbers, text, lists: each kind sorts in its own way, and kinds do not compare."""
    if value is None:
        return (0,)
    if isinstance(value, bool):
        return 1, value
    if isinstance(value, (int, float)):
        return 2, value
    if isinstance(value, tuple):
        return 4, [_order(item) for item in value]
    return 3, str(value)
