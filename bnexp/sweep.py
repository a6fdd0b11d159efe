"""The named sweeps: which configs they ask for, and what their runs say together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bnexp.analysis import (
    BatchSizes,
    Cells,
    Comparison,
    Row,
    SmallBatchCost,
    by_batch_size,
    cells,
    compare_arms,
    small_batch_cost,
    varying_keys,
)
from bnexp.compose import expand, given
from bnexp.config import NORMS, Config, val_size
from bnexp.data import header
from bnexp.errors import UsageError, one_of

AXES: Mapping[str, str] = {"batch-size": "train.batch_size", "lr": "optim.lr", "norm": "model.norm"}
"""The key that each named sweep goes through; `grid` goes through what its overrides list."""
BATCH_SIZES = (2, 4, 8, 16, 32, 64, 128, 256, 512)
CROSSED_LRS = (0.003, 0.01, 0.03, 0.1)
"""Learning rates that each batch size is tried with: one rate for all would favour the batch size that it suits."""
LRS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
ARMS = ("batch", "none")
SEEDS = 5


@dataclass(frozen=True)
class Asked:
    """The configs that a sweep asks for, by part. A part is named by its budget; batch sizes have one at equal epochs and one at equal
    steps, because a fixed number of epochs confounds the batch size with the number of updates."""

    kind: str
    parts: Mapping[str, tuple[Config, ...]]

    @property
    def configs(self) -> list[Config]:
        """Each config once."""
        return list(dict.fromkeys(config for part in self.parts.values() for config in part))


@dataclass(frozen=True)
class Result:
    """What the runs of one part say, where all keys but the sweep's own have one value, `setting`. Only what its kind has is there."""

    part: str
    setting: dict[str, Any]
    comparison: Comparison | None = None
    batch_sizes: BatchSizes | None = None
    small_batches: tuple[SmallBatchCost, ...] = ()
    cells: Cells | None = None

    def plain(self) -> dict[str, Any]:
        """As values that JSON takes, without what is not there."""
        return {key: value for key, value in asdict(self).items() if value not in (None, ())}


def ask(
    kind: str,
    overrides: Sequence[str] = (),
    *,
    values: Sequence[str] | None = None,
    seeds: int | None = None,
    config_dir: Path | None = None,
) -> Asked:
    """Every config of a sweep, checked. What `overrides` give wins over the sweep's defaults; the seed varies fastest.

    Args:
        values: of the sweep's own key, as texts.
        seeds: how many, from the config's own on; None: 5, or those that `overrides` list.

    Raises:
        UsageError: a cell is not valid, the grid is empty, or two of the arguments say the same thing twice.
    """
    keys = given(overrides)
    lines = list(overrides)
    axis = AXES.get(kind)
    if values is not None and axis is None:
        raise UsageError("sweep grid takes its values from OVERRIDES, as in `bnexp sweep grid optim.lr=0.01,0.1 model.norm=batch,none`.")
    if values is not None and axis in keys:
        raise UsageError(f"--values and {axis}=... both say which values to sweep; give one of them.")
    if values is not None and not values:
        raise UsageError(f"--values is empty: the grid has no cell; give values of {axis}, as in --values 4,16,64.")
    if seeds is not None and keys.get("seed"):
        raise UsageError("--seeds and seed=... with several values both say which seeds to train; give one of them.")
    if axis is not None and "model.norm" not in keys and kind != "norm":
        lines.append(f"model.norm={','.join(ARMS)}")
    if kind == "batch-size" and "optim.lr" not in keys:
        lines.append(f"optim.lr={','.join(f'{lr:g}' for lr in CROSSED_LRS)}")
    if axis is not None and axis not in keys:
        chosen = list(values) if values is not None else _defaults(kind, expand(lines, config_dir))
        lines.append(f"{axis}={','.join(chosen)}")
    count = 1 if keys.get("seed") else seeds or SEEDS
    configs = [config.replace(seed=config.seed + index) for config in expand(lines, config_dir) for index in range(count)]
    by_epochs = all(config.train.epochs is not None and not config.train.until_target for config in configs)
    if kind == "batch-size" and by_epochs and len({config.train.batch_size for config in configs}) > 1:
        again = equal_steps(configs)
        steps = budget([config for config in again if config.train.steps is not None])
        return Asked(kind, {f"equal epochs ({budget(configs)})": tuple(configs), f"equal steps ({steps})": tuple(again)})
    return Asked(kind, {budget(configs): tuple(configs)})


def _defaults(kind: str, configs: Sequence[Config]) -> list[str]:
    if kind == "batch-size":
        most = min(training_images(config) for config in {config.data: config for config in configs}.values())
        return [str(size) for size in BATCH_SIZES if size <= most]
    return [f"{lr:g}" for lr in LRS] if kind == "lr" else list(NORMS)


def training_images(config: Config) -> int:
    """Images that a run trains on, validation left out."""
    _, train, _ = header(config.data)
    return train - val_size(train, config.data.val_fraction)


def equal_steps(configs: Sequence[Config]) -> list[Config]:
    """The same configs with as many steps for every batch size as the middle one makes in its epochs, which stays as it is."""
    sizes = sorted({config.train.batch_size for config in configs})
    middle = sizes[len(sizes) // 2]
    images = {data: training_images(next(c for c in configs if c.data == data)) for data in {config.data for config in configs}}
    found = []
    for config in configs:
        steps = (config.train.epochs or 0) * (images[config.data] // middle)
        same = config.train.batch_size == middle
        found.append(config if same else config.replace(**{"train.epochs": None, "train.steps": steps}))
    return found


def budget(configs: Sequence[Config]) -> str:
    """What the runs are given, in words: `10 epochs`, `400 steps`, `until 95 %, at most 400 steps`; what differs is joined by `or`."""
    words = set()
    for config in configs:
        epochs, steps = config.train.epochs, config.train.steps
        amount = f"{steps} step{'s' * (steps != 1)}" if epochs is None else f"{epochs} epoch{'s' * (epochs != 1)}"
        words.add(f"until {100 * config.train.target:g} %, at most {amount}" if config.train.until_target else amount)
    return one_of(sorted(words))


def analyse(kind: str, part: str, rows: Sequence[Row]) -> list[Result]:
    """What the rows of one part say; one result for each setting of the keys that are none of the sweep's own. Rows that cannot be read
    say nothing."""
    rows = [row for row in rows if "seed" in row]
    own = {"optim.lr", "model.norm", *([AXES[kind]] if kind in AXES else [])}
    if kind == "grid":
        return [Result(part, {}, cells=cells(rows))]
    extra = [key for key in varying_keys(rows) if key.removeprefix("config.") not in own | {"train.epochs", "train.steps"}]
    settings: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        settings.setdefault(tuple(repr(row.get(key)) for key in extra), []).append(row)
    return [_result(kind, part, {key.removeprefix("config."): here[0].get(key) for key in extra}, here) for here in settings.values()]


def _result(kind: str, part: str, setting: dict[str, Any], rows: Sequence[Row]) -> Result:
    arms = sorted({str(row["config.model.norm"]) for row in rows})
    baseline = "none" if "none" in arms else arms[0]
    if kind == "batch-size":
        costs = [small_batch_cost(rows, arm, stats=stats) for arm in arms for stats in ("running", "batch")[: 1 + (arm != "none")]]
        return Result(part, setting, batch_sizes=by_batch_size(rows, baseline), small_batches=tuple(costs))
    return Result(part, setting, comparison=compare_arms(rows, baseline))
