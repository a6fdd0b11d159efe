"""A grid of any shape as one table: a cell for each setting, over its seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

from bnexp.analysis.compare import DIFFERENCE, accuracy_cell
from bnexp.analysis.failures import FailureRate, failure_rate
from bnexp.analysis.grouping import by_seed, deduplicate, resolution_of, varying_keys
from bnexp.analysis.pairs import Cell, cell
from bnexp.analysis.target import Quartiles, quartiles_to_target
from bnexp.config import check_key
from bnexp.storage.result import STATS, RunResult


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


def cells(runs: Sequence[RunResult], keys: Sequence[str] | None = None) -> Cells:
    """Groups the runs by `keys` (`optim.lr` or `config.optim.lr`); None: by every config key that varies, the seed apart.

    Raises:
        UsageError: there is no such key, or two results of a cell share a seed and are not the same recipe.
    """
    chosen = varying_keys(runs) if keys is None else [f"config.{key.removeprefix('config.')}" for key in keys]
    for key in chosen:
        check_key(key.removeprefix("config."))

    def values_of(run: RunResult) -> tuple[Any, ...]:
        return tuple(run.setting(key) for key in chosen)

    one = deduplicate(runs, lambda run: (values_of(run), run.seed), lambda _: "the same cell and seed", varying_keys)
    groups: dict[tuple[Any, ...], list[RunResult]] = {}
    for (values, _), run in one.items():
        groups.setdefault(values, []).append(run)
    table = [_cell(values, groups[values]) for values in sorted(groups, key=lambda values: [_order(value) for value in values])]
    return Cells(tuple(chosen), tuple(table))


def _cell(values: tuple[Any, ...], runs: Sequence[RunResult]) -> GridCell:
    results = [run for run in runs if run.is_result]
    return GridCell(
        values=values,
        n=len(results),
        n_missing=len(runs) - len(results),
        failures=failure_rate(results),
        accuracy={stats: accuracy_cell(results, stats) for stats in STATS},
        val_loss=cell(list(by_seed(results, attrgetter("val_loss")).values())),
        steps=quartiles_to_target([run.target_interval for run in results]),
        gap=cell(list(by_seed(results, attrgetter("gap")).values()), DIFFERENCE, resolution=resolution_of(results)),
        ema_warm=not any(run.is_cold for run in results),
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
