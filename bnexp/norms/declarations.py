"""Every norm: the function that makes its layer, and what the rest of the program has to know of it. A new norm is one entry of `NORMS`.

The function is `(dim, runs, channels, **keys) -> nn.Module` for x_[B, R*C, *map] with `dim` spatial dimensions (0: [B, R*C]). R runs lie
side by side in the channel axis, so that statistics must stay within the C channels of a run, and learnable values are one a channel,
[R*C]. `keys` are the values of those keys under `model` that the norm declares. Torch is imported inside the functions: configs, tables
and figures read this module without it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn

BN_KEYS = ("bn_momentum", "bn_eps", "bn_affine")


@dataclass(frozen=True)
class Norm:
    """One norm. The traits have the values of a norm that knows one example only, such as layer norm."""

    make: Callable[..., nn.Module | None]
    label: str
    """An arm with it, as tables and sentences name it: `with BN`, which follows `a step` as well as `accuracy`."""
    summary: str
    """What it does, in one line of the table of norms."""
    source: str = ""
    colour: str | None = None
    """Of its arm in every figure; None: one that is free."""
    keys: tuple[str, ...] = ()
    """The keys under `model` that it reads. Beside other norms they are no part of a run's id."""
    batch_statistics: bool = False
    """It normalizes with the batch's mean and variance in training, and with running ones in eval mode: its layers are `_BatchNorm`s."""
    cancels_bias: bool = False
    """A bias right before it has no effect, because it subtracts each channel's mean: the layer before it has none."""
    foldable: bool = False
    """In eval mode it is an affine map of each channel, which `evaluate --folded` folds into the layer before it."""
    steady: bool = True
    """Every training step does the same: it may be compiled, and recorded and replayed on a GPU."""
    adds_noise: bool = False
    """In training it gives gamma x-hat + beta with noise on top, from which x-hat cannot be read."""
    freezes: bool = False
    """From `model.bn_freeze_at` on it normalizes with statistics that stay as they are."""


def batch_norm(dim: int, runs: int, channels: int, *, bn_momentum: float, bn_eps: float, bn_affine: bool) -> nn.Module:
    """Per channel over batch and map, (x - mean) / sqrt(var + eps) * gamma + beta.

    Train mode normalizes with the batch's biased variance and moves `running_mean` and `running_var` (unbiased) by `bn_momentum`;
    eval mode uses the running statistics.
    """
    from torch import nn

    layers = (nn.BatchNorm1d, nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
    return layers[dim](runs * channels, eps=bn_eps, momentum=bn_momentum, affine=bn_affine)


def no_norm(dim: int, runs: int, channels: int) -> None:
    """No normalization: the convolution carries a bias instead, so that the arms have the same freedom to shift."""


def noisy(dim: int, runs: int, channels: int, *, bn_momentum: float, bn_eps: float, bn_affine: bool) -> nn.Module:
    from bnexp.norms.modules import NoisyBatchNorm

    layer = NoisyBatchNorm(dim, runs * channels, eps=bn_eps, momentum=bn_momentum, affine=bn_affine)
    layer.seeds = (0,) * runs
    return layer


def frozen(
    dim: int, runs: int, channels: int, *, bn_momentum: float, bn_eps: float, bn_affine: bool, bn_freeze_at: int | None
) -> nn.Module:
    """`set_up_norms` sets from which step it is frozen: where `bn_freeze_at` is None, only a training knows its budget."""
    from bnexp.norms.modules import FrozenBatchNorm

    return FrozenBatchNorm(dim, runs * channels, eps=bn_eps, momentum=bn_momentum, affine=bn_affine)


NO_NORM = "none"
"""The network without a norm: what the others are compared with."""

NORMS: Mapping[str, Norm] = {
    "batch": Norm(
        batch_norm,
        label="with BN",
        summary="batch norm: x-hat = (x - mean)/sqrt(var + eps) over batch and map, then gamma and beta; running averages in eval mode",
        source="Ioffe and Szegedy 2015, Alg. 1 and 2",
        colour="#0072b2",
        keys=BN_KEYS,
        batch_statistics=True,
        cancels_bias=True,
        foldable=True,
    ),
    NO_NORM: Norm(no_norm, label="without BN", summary="no norm; convolutions get a bias", colour="#d55e00"),
    "noisy": Norm(
        noisy,
        label="with noisy",
        summary="batch norm, then noise whose distribution jumps at every step: a control for covariate shift",
        source="Santurkar et al. 2018, Alg. 1",
        colour="#cc79a7",
        keys=BN_KEYS,
        batch_statistics=True,
        cancels_bias=True,
        steady=False,
        adds_noise=True,
    ),
    "frozen": Norm(
        frozen,
        label="with frozen",
        summary="batch norm whose statistics stay as they are after `model.bn_freeze_at` steps: a control for the batch's noise",
        source="Page 2019",
        colour="#009e73",
        keys=(*BN_KEYS, "bn_freeze_at"),
        batch_statistics=True,
        cancels_bias=True,
        steady=False,
        freezes=True,
    ),
}


def has_batch_statistics(name: str) -> bool:
    """Whether networks with this norm have running statistics; not those of a norm that this version does not know."""
    return name in NORMS and NORMS[name].batch_statistics
