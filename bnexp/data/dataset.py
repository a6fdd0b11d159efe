"""A data set on the device: three splits, and the training split's statistics that normalize them all."""

from __future__ import annotations

from dataclasses import dataclass, replace
from importlib import import_module

import numpy as np
import torch
from torch import Tensor

from bnexp.base.errors import DataError
from bnexp.config import DATASETS, DataConfig, val_size
from bnexp.config.fits import check_subset
from bnexp.data.arrays import Array, Arrays, Part, Progress, Report, Source
from bnexp.data.notes import check_labels, notes

CHUNK_BYTES = 4 * 2**20
"""Float64 working memory of the statistics: what stays in a CPU's cache is 5 times quicker than what does not."""
TEST, SUBSET, VAL = 0, 1, 2
"""The purposes of a split: the second word of its random stream's seed."""


@dataclass(frozen=True)
class Split:
    """x_[N, C, *map] uint8 or float32, not yet normalized, and y_[N] int64, both on the device."""

    x: Tensor
    y: Tensor

    def __len__(self) -> int:
        return len(self.y)


@dataclass(frozen=True)
class Dataset:
    """Training, validation and test data. mean_[C] and std_[C] are those of train.x alone; std is 1 for a constant channel. `notes` are
    sentences on what was found, of which a user should know."""

    name: str
    classes: tuple[str, ...]
    train: Split
    val: Split
    test: Split
    mean: Tensor
    std: Tensor
    notes: tuple[str, ...] = ()

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.train.x.shape[1:])

    @property
    def header(self) -> tuple[tuple[int, ...], int, int]:
        return self.shape, len(self.train), len(self.classes)

    def normalize(self, x: Tensor) -> Tensor:
        """(x - mean) / std per channel, float32. x is [B, C, *map], or [B, R, C, *map] for a stack: channels are counted from the right."""
        per_channel = (-1,) + (1,) * (len(self.shape) - 1)
        return (x - self.mean.view(per_channel)).div_(self.std.view(per_channel))  # uint8 minus float32 is float32


def load(
    config: DataConfig, device: torch.device, report: Report = lambda _: None, progress: Progress | None = None, *, download: bool = True
) -> Dataset:
    """The data set that `config` names, on `device`. Deterministic: the same files and config give the same tensors. `report` is called
    with a sentence on what takes time, `progress` with (done, total) while images are decoded; `download` allows to fetch a named set.

    The test part is set apart first, then `subset` is drawn from the training part, then validation from the rest; a set's own parts are
    taken as they are. Raises UsageError where data.root does not exist, or data.subset is too large; DataError where the data cannot be
    read, downloaded, or held in memory, or no test label is among the training ones."""
    module = import_module(f"bnexp.data.{DATASETS[config.name].module}")  # only the one that is used
    arrays: Arrays = module.read(Source(config, report, progress, download))
    _, y = arrays.train
    train_i, val_i, test_i = np.arange(len(y)), None, None
    if arrays.test is None:
        train_i, test_i = split_off(y, arrays.n_test, config.split_seed, TEST)
    check_subset(config, len(train_i))
    if config.subset is not None:  # hold out the others: thus each class keeps a member as long as that can be
        others = len(train_i) - config.subset
        train_i = train_i[split_off(y[train_i], others, config.split_seed, SUBSET)[0]]
    if arrays.val is None:
        n_val = val_size(len(train_i), config.val_fraction)
        if n_val >= len(train_i):
            raise DataError(f"data={config.name} has {len(train_i)} training examples, too few to hold out validation data.")
        rest, held = split_off(y[train_i], n_val, config.split_seed, VAL)
        train_i, val_i = train_i[rest], train_i[held]
    train = _split(arrays.train, train_i, device)
    val, test = _split(arrays.val or arrays.train, val_i, device), _split(arrays.test or arrays.train, test_i, device)
    mean, std = channel_statistics(train.x)
    found = Dataset(config.name, arrays.classes, train, val, test, mean, std)
    check_labels(found)
    copies = 0 if arrays.digests is None else _copies(arrays, arrays.digests, train_i, val_i, test_i)
    return replace(found, notes=tuple(notes(config, found, arrays, copies)))


def _copies(arrays: Arrays, digests: Array, train_i: Array, val_i: Array | None, test_i: Array | None) -> int:
    """How many test examples are also in training or validation. Indices are those of `arrays.train`; None: a part of its own."""
    first_val = len(arrays.train[1])
    first_test = first_val + (0 if arrays.val is None else len(arrays.val[1]))
    val = digests[first_val:first_test] if val_i is None else digests[val_i]
    test = digests[first_test:] if test_i is None else digests[test_i]
    return int(np.isin(test, np.concatenate([digests[train_i], val])).sum())


def channel_statistics(x: Tensor) -> tuple[Tensor, Tensor]:
    """mean_[C] and biased std_[C] of x_[N, C, *map], float32, summed in float64; the std of a constant channel is 1."""
    x_NCP = x.reshape(*x.shape[:2], -1)
    count = x_NCP.shape[0] * x_NCP.shape[2]
    parts = torch.split(x_NCP, max(1, CHUNK_BYTES // (8 * x_NCP[0].numel())))
    mean = torch.stack([part.double().sum(2).sum(0) for part in parts]).sum(0) / count
    squares = torch.stack([(part.double() - mean[:, None]).square_().sum(2).sum(0) for part in parts]).sum(0)
    constant = x_NCP.amax((0, 2)) == x_NCP.amin((0, 2))  # exact, where the squares may keep a rounding error
    return mean.float(), torch.where(constant, 1.0, (squares / count).sqrt().float())


def _split(part: Part, index: Array | None, device: torch.device) -> Split:
    """The examples of a part that `index` names, or all of them, copied."""
    x, y = part
    index = np.arange(len(y)) if index is None else index
    return Split(torch.from_numpy(np.ascontiguousarray(x[index])).to(device), torch.from_numpy(y[index]).to(device))


def split_off(y: Array, count: int, seed: int, purpose: int) -> tuple[Array, Array]:
    """Indices (rest, held) of a stratified split of y_[N] that holds out exactly `count`, each ascending. The seed is data.split_seed,
    never the run's: all runs of an experiment see the same test and validation data. Each purpose has a random stream of its own, so that
    changing one (say, `subset`) leaves the draws of the others as they are.

    Every class gives its share `count * n_k / N`, rounded down or up so that the counts add up (largest remainders first, ties by lot). A
    class never gives its last member while another class can give one instead: a class with one member stays in the rest."""
    if not 0 <= count <= len(y):
        raise ValueError(f"cannot hold out {count} of {len(y)}")
    rng = np.random.default_rng([seed, purpose])
    _, member, sizes = np.unique(y, return_inverse=True, return_counts=True)
    counts = _shares(sizes, count, rng)
    order = rng.permutation(len(y))
    order = order[np.argsort(member[order], kind="stable")]  # grouped by class, shuffled within each
    rank = np.arange(len(y)) - np.repeat(np.cumsum(sizes) - sizes, sizes)  # place within its class
    held = order[rank < np.repeat(counts, sizes)]
    mask = np.zeros(len(y), dtype=bool)
    mask[held] = True
    return np.flatnonzero(~mask), np.flatnonzero(mask)


def _shares(sizes: Array, count: int, rng: np.random.Generator) -> Array:
    """How many of each class are held out; they add up to `count`."""
    quota = count * sizes / sizes.sum()
    counts: Array = np.floor(quota).astype(np.int64)
    by_remainder = np.lexsort((rng.random(len(sizes)), counts - quota))
    for spared in (1, 0):  # first leave every class a member; only when that cannot be, do not
        counts = np.minimum(counts, np.maximum(sizes - spared, 0)) if spared else counts
        while counts.sum() < count and (counts < sizes - spared).any():
            for k in by_remainder:
                if counts.sum() < count and counts[k] < sizes[k] - spared:
                    counts[k] += 1
    return counts
