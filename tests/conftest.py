"""What several test files share: one CPU thread, and tiny data sets of any dimension."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch

from bnexp.data import Dataset, Split
from bnexp.data.dataset import channel_statistics

Tiny = Callable[..., Dataset]


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def tiny() -> Tiny:
    """tiny(shape, train=48, val=20, test=22, classes=3, seed=0): float examples of `shape` [C, *map], noise about one pattern a class."""

    def make(shape: tuple[int, ...], *, train: int = 48, val: int = 20, test: int = 22, classes: int = 3, seed: int = 0) -> Dataset:
        generator = torch.Generator().manual_seed(seed)
        pattern = torch.randn(classes, *shape, generator=generator)

        def split(n: int) -> Split:
            y = torch.arange(n) % classes
            return Split(3 + 2 * (pattern[y] + torch.randn(n, *shape, generator=generator)), y)

        parts = split(train), split(val), split(test)
        return Dataset("tiny", tuple(map(str, range(classes))), *parts, *channel_statistics(parts[0].x))

    return make
