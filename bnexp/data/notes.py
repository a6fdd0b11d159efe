"""What a data set holds and what may be a mistake in it, as sentences."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch

from bnexp.base.errors import DataError, short
from bnexp.config import DATASETS, OWN_FILES, DataConfig
from bnexp.config.choices import contents
from bnexp.data.arrays import Arrays

if TYPE_CHECKING:
    from bnexp.data.dataset import Dataset


def check_labels(data: Dataset) -> None:
    """Raises DataError where validation or test data share no class with the training data: all would be wrong."""
    known = set(data.train.y.unique().tolist())
    for part, split in (("validation", data.val), ("test", data.test)):
        labels = set(split.y.unique().tolist())
        if labels and not labels & known:
            raise DataError(
                f"No label of the {part} data ({_names(data, labels)}) is among those of the training data ({_names(data, known)}); "
                "number both alike. Numbers to be predicted are no classes."
            )


def notes(config: DataConfig, data: Dataset, arrays: Arrays, copies: int) -> Iterator[str]:
    """What a user's own files hold, how they were read, what looks wrong. `copies`: test examples that are in training or validation."""
    if data.name in OWN_FILES:
        yield contents(data.name, data.classes, len(data.train), len(data.val), len(data.test))
    yield from arrays.notes
    if arrays.test is None and arrays.val is not None:
        yield (
            f"There is no test part, so {len(data.test):,} of the training part are the test data; to test on the validation part, call it "
            "test, and validation is split off the training part"
        )
    known = set(data.train.y.unique().tolist())
    for part, split in (("Validation", data.val), ("Test", data.test)):
        labels = set(split.y.unique().tolist()) - known
        if labels:
            count = int(torch.isin(split.y, torch.tensor(sorted(labels), device=split.y.device)).sum())
            names = _names(data, labels)
            yield f"{part} data have classes that training data lack ({names}): {count:,} of {len(split):,} are wrong whatever is learned"
    if copies:
        yield f"{copies:,} of the {len(data.test):,} test images are also among the training or validation images, pixel by pixel"
    yield from _constant(data)
    if config.augment == "crop_flip" and (
        DATASETS[data.name].characters or (data.name == "folder" and set(data.classes) <= set("0123456789"))
    ):
        yield "data.augment=crop_flip mirrors digits and letters, which costs accuracy; data.augment=crop does not"


def _constant(data: Dataset) -> Iterator[str]:
    x_NCP = data.train.x.reshape(*data.train.x.shape[:2], -1)
    suspects = (data.std == 1).nonzero().flatten().tolist()  # what a constant channel has
    channels = [channel for channel in suspects if bool((x_NCP[:, channel] == x_NCP[0, channel, 0]).all())]
    alike = bool((x_NCP[1:2] == x_NCP[0]).all()) and bool((x_NCP == x_NCP[0]).all())  # the second example decides for nearly all sets
    if len(channels) == x_NCP.shape[1] or alike:
        yield "All training examples are equal: there is nothing to learn from"
    elif channels:
        which = f"{len(channels):,} of {x_NCP.shape[1]:,} channels (the first is number {channels[0]})"
        yield f"{which} are constant over all training examples and say nothing"


def _names(data: Dataset, labels: set[int]) -> str:
    shown = sorted(labels)[:5]
    return ", ".join(short(data.classes[label], 40) for label in shown) + ", ..." * (len(labels) > len(shown))
