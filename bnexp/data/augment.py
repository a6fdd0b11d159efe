"""Augmentation of whole training batches on the device. The random draws are made on the CPU, so that they are the same on every device."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad


def draw_crop_flip(generator: torch.Generator, n: int, shape: tuple[int, ...], *, flip: bool = True) -> tuple[Tensor, Tensor]:
    """Random offsets_[n, 2] int64, each from 0 to twice the padding, and flips_[n] bool, for images of `shape` [C, H, W]; on the CPU.
    Without `flip` none is mirrored, and the offsets are the same."""
    offsets = [torch.randint(0, 2 * p + 1, (n,), generator=generator) for p in _padding(shape)]
    flips = torch.randint(0, 2, (n,), generator=generator).bool() if flip else torch.zeros(n, dtype=torch.bool)
    return torch.stack(offsets, 1), flips


def crop_flip(x: Tensor, offsets: Tensor, flips: Tensor) -> Tensor:
    """x_[N, C, H, W] float padded by an eighth of each side, cropped back to [H, W] at `offsets`, mirrored left-right where `flips`.

    x is normalized and the padding is 0, the training set's mean: this adds no coloured edge and hardly changes the batch's mean, which
    matters to batch norm. (He et al. 2016, https://arxiv.org/abs/1512.03385, section 4.2: 4 pixels on 32x32.)
    """
    n, channels, height, width = x.shape
    pad_h, pad_w = _padding((channels, height, width))
    offsets, flips = offsets.to(x.device, non_blocking=True), flips.to(x.device, non_blocking=True)
    row_NH = offsets[:, :1] + torch.arange(height, device=x.device)
    col_NW = offsets[:, 1:] + torch.arange(width, device=x.device)
    col_NW = torch.where(flips[:, None], col_NW.flip(1), col_NW)
    image_N = torch.arange(n, device=x.device)
    padded = pad(x, (pad_w, pad_w, pad_h, pad_h))
    # the indices around the slice broadcast to [N, H, W] and come first: [N, H, W, C]
    return padded[image_N[:, None, None], :, row_NH[:, :, None], col_NW[:, None, :]].permute(0, 3, 1, 2).contiguous()


def _padding(shape: tuple[int, ...]) -> tuple[int, int]:
    """Padding of height and width: an eighth of the side, rounded down."""
    return shape[1] // 8, shape[2] // 8
