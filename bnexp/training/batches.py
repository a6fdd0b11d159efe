"""Training batches of R runs, by indexing into tensors that lie on the device.

The order and the augmentation of an epoch are a pure function of (seed, epoch): each run draws them from generators seeded by
`derive(seed, purpose, epoch)`, on the CPU. So arms with one seed see identical batches on every device, and a resumed run has no
generator to restore.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence

import torch
from torch import Tensor

from bnexp.base.seeds import derive
from bnexp.config import Config
from bnexp.data import Dataset, crop_flip, draw_crop_flip
from bnexp.models import memory_format

AHEAD_BYTES, MAX_AHEAD = 2**18, 16
"""Batches that follow each other are made together, as many as take so many bytes, which a core's cache holds: made one by one they took
a thirtieth of a step of the digits network (65 us of 1.8 ms at batch 4, one thread)."""
ALIGNED = 64
"""Bytes: MKL promises the same bits for the same alignment only, and what is allocated for itself has this one."""


class Batches:
    """Batches by step: x_[B, R*C, *map] normalized and augmented, y_[R, B]. The last partial batch of an epoch is dropped. One step of
    `ahead` makes its batch and the next ones."""

    def __init__(self, data: Dataset, configs: Sequence[Config], dtype: torch.dtype) -> None:
        self.data, self.seeds, self.dtype = data, [config.seed for config in configs], dtype
        self.size, self.augment = configs[0].train.batch_size, configs[0].data.augment
        self.per_epoch = len(data.train) // self.size
        self.format = memory_format(len(data.shape) - 1, data.train.x.device)
        batch_bytes = self.size * len(configs) * math.prod(data.shape) * dtype.itemsize
        self.ahead = max(1, min(MAX_AHEAD, AHEAD_BYTES // batch_bytes)) if batch_bytes % ALIGNED == 0 else 1
        self._epoch, self._made = -1, -1
        self._xs: tuple[Tensor, ...] = ()

    def __getitem__(self, step: int) -> tuple[Tensor, Tensor]:
        epoch, position = divmod(step, self.per_epoch)
        if epoch != self._epoch:
            self._start(epoch)
        chunk, place = divmod(position, self.ahead)
        if chunk != self._made:
            self._make(chunk)
        return self._xs[place], self._ys_RB[place]

    def _make(self, chunk: int) -> None:
        """The batches of steps `chunk * ahead` and on: N = ahead * B images of each run at once, of which each batch is a view."""
        self._xs, self._made = (), -1  # a large one goes before the next is made
        steps = slice(chunk * self.ahead, (chunk + 1) * self.ahead)
        index_SBR = self._index_SBR[steps]
        x = self.data.normalize(self.data.train.x[index_SBR.flatten(0, 1)])  # [N, R, C, *map]
        if self.augment != "none":
            moved = crop_flip(x.flatten(0, 1), self._offsets[steps].flatten(0, 1), self._flips[steps].flatten())
            x = moved.unflatten(0, x.shape[:2])
        self._xs = x.flatten(1, 2).to(dtype=self.dtype, memory_format=self.format).split(self.size)
        self._ys_RB = self.data.train.y[index_SBR].transpose(1, 2).unbind()
        self._made = chunk

    def _start(self, epoch: int) -> None:
        """Draws an epoch: index_[S, B, R], and offsets_[S, B*R, 2] with flips_[S, B*R] where images are augmented."""
        device = self.data.train.x.device
        draws = [self._draw(seed, epoch) for seed in self.seeds]
        self._index_SBR = torch.stack([draw[0] for draw in draws], dim=1).view(self.per_epoch, self.size, -1).to(device)
        if self.augment != "none":
            self._offsets = torch.stack([draw[1] for draw in draws], dim=1).view(self.per_epoch, -1, 2).to(device)
            self._flips = torch.stack([draw[2] for draw in draws], dim=1).view(self.per_epoch, -1).to(device)
        self._epoch, self._made = epoch, -1

    def _draw(self, seed: int, epoch: int) -> tuple[Tensor, ...]:
        """One run's epoch on the CPU, N = S*B: index_[N], and offsets_[N, 2] with flips_[N] where images are augmented."""
        used = self.per_epoch * self.size
        index_N = torch.randperm(len(self.data.train), generator=_generator(seed, "order", epoch))[:used]
        if self.augment == "none":
            return (index_N,)
        return index_N, *draw_crop_flip(_generator(seed, "augment", epoch), used, self.data.shape, flip=self.augment == "crop_flip")

    def order_digests(self, epochs: int) -> list[str]:
        """16 hex digits a run, of a SHA-256 over the batch size and what the first `epochs` epochs draw: images, offsets, flips.

        Runs with the same digits see the same batches. Nothing here moves the batches themselves.
        """
        digests = []
        for seed in self.seeds:
            digest = hashlib.sha256(f"{self.size}".encode())  # the same order, cut otherwise, makes other batches
            for epoch in range(epochs):
                for drawn in self._draw(seed, epoch):
                    digest.update(drawn.contiguous().numpy().tobytes())
            digests.append(digest.hexdigest()[:16])
        return digests


def _generator(seed: int, purpose: str, epoch: int) -> torch.Generator:
    return torch.Generator().manual_seed(derive(seed, purpose, epoch))
