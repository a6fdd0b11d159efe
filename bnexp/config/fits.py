"""Whether a config and its data go together: what needs the data's shape, sizes and classes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from bnexp.base.errors import UsageError
from bnexp.config.choices import MODELS
from bnexp.config.fields import show
from bnexp.norms import NORMS

if TYPE_CHECKING:
    from bnexp.config.tree import Config, DataConfig

MAX_CLASSES = 2_000
"""The confusion matrix, which every summary holds, has their square."""


def check_root(root: str) -> None:
    if not root.strip():
        raise UsageError("data.root is empty text; give a path, or null for the default.")
    if "\0" in root:
        raise UsageError(f"data.root={show(root)} holds a NUL, which no path does.")
    try:
        root.encode()
    except UnicodeEncodeError:
        raise UsageError(f"data.root={show(root)} is not UTF-8; rename what it names.") from None


def check_subset(data: DataConfig, train: int) -> None:
    """Raises UsageError where data.subset is more than the `train` training examples (with the validation split off them)."""
    if data.subset is not None and data.subset > train:
        raise UsageError(f"data.subset={data.subset} is more than the {train} training images of data={data.name}.")


def map_sizes(spatial: tuple[int, ...], blocks: int) -> list[tuple[int, ...]]:
    """The map after each of the network's blocks: the first keeps its size, each later one halves it (rounding up)."""
    sizes = [spatial]
    for _ in range(blocks - 1):
        sizes.append(tuple(-(-side // 2) for side in sizes[-1]))
    return sizes


def val_size(train: int, val_fraction: float) -> int:
    return max(1, round(train * val_fraction))


def check_fits(config: Config, shape: tuple[int, ...], train: int, classes: int) -> None:
    """Raises UsageError where the config does not fit data of this shape [C, *map], number of training images (validation left out) and
    number of classes: the network does not take them, the batch is too large, BN would see one value a channel, ..."""
    spatial, batch = shape[1:], config.train.batch_size
    model = MODELS[config.model.name]
    if model.convolutional and not 1 <= len(spatial) <= 3:
        raise UsageError(
            f"model={config.model.name} takes maps of 1, 2 or 3 dimensions, and an example here has shape {list(shape)}; use model=mlp."
        )
    if classes < 2:
        raise UsageError(f"The data have {classes} class; at least 2 are needed.")
    if classes > MAX_CLASSES:
        raise UsageError(f"The data have {classes:,} classes; {MAX_CLASSES:,} are the most. Are the labels numbers to be predicted?")
    if train < 1:
        raise UsageError("The data have too few training examples to train and to validate on.")
    if batch > train:
        raise UsageError(f"train.batch_size={batch} is larger than the {train} training images (after validation); use at most {train}.")
    if NORMS[config.model.norm].batch_statistics and batch == 1:
        last = map_sizes(spatial, len(config.model.widths))[-1] if model.convolutional else ()
        if math.prod(last) == 1:
            where = f"maps of {'x'.join(map(str, last))}" if model.convolutional else "fully connected layers"
            raise UsageError(
                f"train.batch_size=1 gives batch norm one value a channel on {where}, which has no variance; "
                "use train.batch_size of 2 or more, fewer model.widths, or model.norm=none."
            )
    steps = config.train.steps if config.train.steps is not None else (config.train.epochs or 0) * (train // batch)
    if config.optim.warmup_steps >= steps:
        raise UsageError(
            f"optim.warmup_steps={config.optim.warmup_steps} leaves nothing of the {steps} step{'s' * (steps != 1)} of the budget for the "
            "schedule; lower it, or train longer."
        )
    if NORMS[config.model.norm].freezes:
        freeze_at = config.model.bn_freeze_at or max(1, steps // 2)
        if freeze_at >= steps:
            raise UsageError(
                f"model.bn_freeze_at={freeze_at} is not below the budget of {steps} step{'s' * (steps != 1)}, so that nothing is frozen; "
                "lower it, train longer, or use model.norm=batch."
            )
    if config.data.augment != "none" and len(spatial) != 2:
        have = f"data.augment={config.data.augment} is for images, and an example here has shape {list(shape)}"
        raise UsageError(f"{have}; use data.augment=none.")


def doubtful(configs: Sequence[Config]) -> str | None:
    """The sentence on a setting that is seldom meant; None where there is none."""
    if any(config.train.batch_size == 1 and NORMS[config.model.norm].batch_statistics for config in configs):
        return (
            "with train.batch_size=1 batch norm normalizes each image with its own mean and variance, as instance norm does; "
            "evaluation uses the running statistics of many images, and its results may be far off."
        )
    return None
