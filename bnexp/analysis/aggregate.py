"""The runs of one setting over their seeds, and a grid of any shape as a table of such settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from operator import attrgetter
from typing import Any

from bnexp.analysis.failures import failure_rate
from bnexp.analysis.grouping import by_seed, deduplicate, resolution_of, varying_keys
from bnexp.analysis.pairs import Estimate, estimate
from bnexp.analysis.results import Aggregate, Grid
from bnexp.analysis.target import Interval, quartiles_to_target
from bnexp.config import check_key
from bnexp.storage.result import STATS, RunResult

SHARE, DIFFERENCE = (0.0, 1.0), (-1.0, 1.0)


def aggregate(runs: Sequence[RunResult], steps: Mapping[int, Interval] | None = None, n_missing: int = 0, **identity: Any) -> Aggregate:
    """What runs of one setting, one a seed, scored; those without a result are counted as missing.

    Args:
        steps: by seed, when the target was reached; None: as each run recorded it.
        n_missing: runs without a result beside those given.
        identity: what names the aggregate: `arm`, `lr`, `picked`, `fastest`, `values`.
    """
    results = [run for run in runs if run.is_result]
    sizes = {run.parameters for run in results}
    return Aggregate(
        n=len(results),
        n_missing=n_missing + len(runs) - len(results),
        failures=failure_rate(results),
        accuracy={stats: accuracy_estimate(results, stats) for stats in STATS},
        val_loss=estimate(list(by_seed(results, attrgetter("val_loss")).values())),
        steps=quartiles_to_target([run.target_interval for run in results] if steps is None else list(steps.values())),
        gap=estimate(list(by_seed(results, attrgetter("gap")).values()), DIFFERENCE, resolution=resolution_of(results)),
        parameters=sizes.pop() if len(sizes) == 1 else None,
        ema_warm=not any(run.is_cold for run in results),
        **identity,
    )


def accuracy_estimate(runs: Sequence[RunResult], stats: str) -> Estimate:
    """Test accuracy under `stats` over the results among `runs` that trained."""
    return estimate(list(by_seed(runs, lambda run: run.accuracy(stats)).values()), SHARE, resolution=resolution_of(runs))


def grid(runs: Sequence[RunResult], keys: Sequence[str] | None = None) -> Grid:
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
    ordered = sorted(groups, key=lambda values: [_order(value) for value in values])
    return Grid(tuple(chosen), tuple(aggregate(groups[values], values=values) for values in ordered))


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
