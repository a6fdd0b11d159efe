"""The normalization layers that `model.norm` names: one function each, registered in `NORMS`.

A norm is a function `(config, dim, runs, channels) -> nn.Module` for x_[B, R*C, *map] with `dim` spatial dimensions (0: [B, R*C]).
What it declares in `Norm` decides whether the convolution before it keeps its bias and whether running statistics exist.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from bnexp.config import ModelConfig

BATCH_NORMS: dict[int, type[nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d]] = {
    0: nn.BatchNorm1d,
    1: nn.BatchNorm1d,
    2: nn.BatchNorm2d,
    3: nn.BatchNorm3d,
}


@dataclass(frozen=True)
class Norm:
    """How to make a norm, and what it means for the layer before it."""

    make: Callable[[ModelConfig, int, int, int], nn.Module | None]
    cancels_bias: bool
    """A bias right before the norm has no effect: the norm subtracts it again."""


def batch_norm(config: ModelConfig, dim: int, runs: int, channels: int) -> nn.Module:
    """Batch norm (Ioffe and Szegedy 2015, Alg. 1): per channel over batch and map, (x - mean) / sqrt(var + eps) * gamma + beta.

    Train mode normalizes with the batch's biased variance and moves `running_mean` and `running_var` (unbiased) by `bn_momentum`;
    eval mode uses the running statistics.
    """
    return BATCH_NORMS[dim](runs * channels, eps=config.bn_eps, momentum=config.bn_momentum, affine=config.bn_affine)


def no_norm(config: ModelConfig, dim: int, runs: int, channels: int) -> None:
    """No normalization: the convolution carries a bias instead, so that the arms have the same freedom to shift."""


NORMS: dict[str, Norm] = {"batch": Norm(batch_norm, cancels_bias=True), "none": Norm(no_norm, cancels_bias=False)}


def make_norm(config: ModelConfig, dim: int, runs: int, channels: int) -> nn.Module | None:
    """The norm of `config.norm` for `channels` channels a run, or None where there is none."""
    return NORMS[config.norm].make(config, dim, runs, channels)
