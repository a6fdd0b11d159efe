"""The named sweeps: which configs they ask for, and what their runs say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bnexp.analysis import Study, analyse
from bnexp.base.errors import UsageError, did_you_mean, one_of, short
from bnexp.base.quoting import command_line
from bnexp.config import KEYS, Config, check_fits
from bnexp.config.compose import check_cells, expand, given
from bnexp.config.names import key_meant
from bnexp.data import header
from bnexp.execution.grid import GridPlan, train_all
from bnexp.norms import NO_NORM, NORMS
from bnexp.storage.run import Run

if TYPE_CHECKING:
    from bnexp.execution.launch import Outcome

AXES: Mapping[str, str] = {"batch-size": "train.batch_size", "lr": "optim.lr", "norm": "model.norm"}
"""The key that each named sweep goes through; `grid` goes through what its overrides list."""
KINDS = (*AXES, "grid")
BATCH_SIZES = (2, 4, 8, 16, 32, 64, 128, 256, 512)
CROSSED_LRS = (0.003, 0.01, 0.03, 0.1)
"""Learning rates that each batch size is tried with: one rate for all would favour the batch size that it suits."""
LRS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
ARMS = ("batch", NO_NORM)
SEEDS = 10
"""Seeds a cell, unless the command says otherwise: fewer show half a point of accuracy in one comparison of four."""


@dataclass(frozen=True)
class SweepRequest:
    """The configs that a sweep asks for, by part. A part is named by its budget; batch sizes have one at equal epochs and one at equal
    steps, because a fixed number of epochs confounds the batch size with the number of updates."""

    kind: str
    parts: Mapping[str, tuple[Config, ...]]

    @property
    def configs(self) -> list[Config]:
        """Each config once."""
        return list(dict.fromkeys(config for part in self.parts.values() for config in part))


def unknown_kind(text: str) -> UsageError:
    """The error for a kind of sweep that does not exist, with the one that was meant."""
    meant = (key_meant(text.replace("-", "_"), KEYS) or "").rpartition(".")[2].replace("_", "-")  # each is the last part of a key
    hint = f" Did you mean '{meant}'?" if meant in KINDS else did_you_mean(text, KINDS)
    return UsageError(f"'{short(text)}' is no kind of sweep; choose {one_of(KINDS)}.{hint}")


def train(
    asked: SweepRequest, prepared: GridPlan, *, workers: int | None = None, scheduler: str | None = None, quiet: bool = False
) -> Outcome:
    """Trains what is missing of a planned sweep; errors as `train_all`."""
    return train_all(
        prepared, kind=f"sweep {asked.kind}", parts=_members(asked, prepared), workers=workers, scheduler=scheduler, quiet=quiet
    )


def study_of(asked: SweepRequest, prepared: GridPlan, outcome: Outcome) -> Study:
    """What the runs of a sweep say. Raises UsageError where none can be read."""
    return analyse(f"sweep {asked.kind}", outcome.runs, outcome.results, _members(asked, prepared), command=command_line())


def _members(asked: SweepRequest, prepared: GridPlan) -> dict[str, list[Run]]:
    by_id = {run.id: run for run in prepared.runs}
    return {part: [by_id[prepared.ids[config]] for config in configs] for part, configs in asked.parts.items()}


def request(
    kind: str,
    overrides: Sequence[str] = (),
    *,
    values: Sequence[str] | None = None,
    seeds: int | None = None,
    config_dir: Path | None = None,
) -> SweepRequest:
    """Every config of a sweep, checked. Keys that `overrides` name win over the sweep's defaults, which win over what an experiment's
    file says; the seed varies fastest.

    Args:
        values: of the sweep's own key, as texts.
        seeds: how many, from the config's own on; None: 10, or those that `overrides` list.

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
    cells = expand(lines, config_dir)
    check_cells(len(cells) * count)
    configs = [config.replace(seed=config.seed + index) for config in cells for index in range(count)]
    if kind == "batch-size" and len({(config.train.epochs, config.train.steps) for config in configs}) > 1:
        raise UsageError("A sweep over batch sizes has one budget; give train.epochs or train.steps one value, or use `bnexp sweep grid`.")
    by_epochs = all(config.train.epochs is not None and not config.train.until_target for config in configs)
    if kind == "batch-size" and by_epochs and len({config.train.batch_size for config in configs}) > 1:
        again = equal_steps(configs)
        steps = budget([config for config in again if config.train.steps is not None])
        return SweepRequest(kind, {f"equal epochs ({budget(configs)})": tuple(configs), f"equal steps ({steps})": tuple(again)})
    return SweepRequest(kind, {budget(configs): tuple(configs)})


def _defaults(kind: str, configs: Sequence[Config]) -> list[str]:
    if kind == "batch-size":
        most = min(training_images(config) for config in {config.data: config for config in configs}.values())
        return [str(size) for size in BATCH_SIZES if size <= most]
    return [f"{lr:g}" for lr in LRS] if kind == "lr" else list(NORMS)


def training_images(config: Config) -> int:
    """Images that a run trains on, validation left out."""
    return header(config.data)[1]


def equal_steps(configs: Sequence[Config]) -> list[Config]:
    """The same configs with as many steps for every batch size as the middle one makes in its epochs, which stays as it is.

    Raises:
        UsageError: a config does not fit its data.
    """
    sizes = sorted({config.train.batch_size for config in configs})
    middle = sizes[len(sizes) // 2]
    headers = {data: header(data) for data in {config.data for config in configs}}
    for config in configs:
        check_fits(config, *headers[config.data])  # before the steps of a batch larger than the data, which would be 0
    found = []
    for config in configs:
        steps = (config.train.epochs or 0) * (headers[config.data][1] // middle)
        same = config.train.batch_size == middle
        found.append(config if same else config.replace(**{"train.epochs": None, "train.steps": steps}))
    return found


def budget(configs: Sequence[Config]) -> str:
    """What the runs are given, in words: `10 epochs`, `400 steps`, `until 95 %, at most 400 steps`; what differs is joined by `or`."""
    sentences = set()
    for config in configs:
        epochs, steps = config.train.epochs, config.train.steps
        amount = f"{steps} step{'s' * (steps != 1)}" if epochs is None else f"{epochs} epoch{'s' * (epochs != 1)}"
        sentences.add(f"until {100 * config.train.target:g} %, at most {amount}" if config.train.until_target else amount)
    return one_of(sorted(sentences))
