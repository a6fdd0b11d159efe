"""The normalization layers that `model.norm` names: one function each, registered in `NORMS`.

A norm is a function `(config, dim, runs, channels) -> nn.Module` for x_[B, R*C, *map] with `dim` spatial dimensions (0: [B, R*C]).
What it declares in `Norm` decides whether the convolution before it keeps its bias and whether running statistics exist.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from bnexp.base.seeds import derive
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


class CountedBatchNorm(_BatchNorm):
    """Batch norm of any dimension that knows how many batches its running statistics have seen, without asking the device."""

    def __init__(self, dim: int, channels: int, **options: Any) -> None:
        super().__init__(channels, **options)
        self.dim, self.batches = dim, 0

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self.batches = int(self.num_batches_tracked or 0)

    def _check_input_dim(self, x: Tensor) -> None:
        if x.dim() != self.dim + 2:
            raise ValueError(f"expected {self.dim + 2} dimensions, got {x.dim()}")

    def count(self) -> None:
        """To be called after a forward pass; a copy that does not track (see `metrics.twin`) stays where it is."""
        self.batches += self.training and self.track_running_stats


class NoisyBatchNorm(CountedBatchNorm):
    """Batch norm, then noise whose distribution changes with every step (Santurkar et al. 2018, Alg. 1 and section 2.2).

    Per step and channel mu ~ U(-0.5, 0.5) and sigma ~ U(1, 1.25); per element m ~ U(mu - 0.1, mu + 0.1) and s ~ N(sigma, 0.1); the
    activation a becomes s*a + m. The noise of a step is a function of the run's seed, the layer and the step. In eval mode the
    activation is scaled by the noise's expectation, E[s] = 1.125 (the paper does not say; this keeps the scale that later layers know).
    """

    MEAN, SCALE, MEAN_SPREAD, SCALE_STD = 0.5, 1.25, 0.1, 0.1
    seeds: Sequence[int] = (0,)
    """A seed for each run; with `place`, the layer's number, set by `set_up_norms`."""
    place = 0

    def forward(self, x: Tensor) -> Tensor:
        a = super().forward(x)
        if not self.training:
            return a * ((1 + self.SCALE) / 2)
        noise = [self._draw(seed, (len(a), a.shape[1] // len(self.seeds), *a.shape[2:])) for seed in self.seeds]
        self.count()
        s, m = (torch.cat(part, dim=1).to(a) for part in zip(*noise, strict=True))
        return s * a + m

    def _draw(self, seed: int, shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        """One run's s and m, [B, C, *map], drawn on the CPU so that every device has the same."""
        generator = torch.Generator().manual_seed(derive(seed, f"noise/{self.place}", self.batches))
        per_channel = (shape[1], *[1] * (len(shape) - 2))
        mu = self.MEAN * (2 * torch.rand(per_channel, generator=generator) - 1)
        sigma = 1 + (self.SCALE - 1) * torch.rand(per_channel, generator=generator)
        m = mu + self.MEAN_SPREAD * (2 * torch.rand(shape, generator=generator) - 1)
        return sigma + self.SCALE_STD * torch.randn(shape, generator=generator), m


class FrozenBatchNorm(CountedBatchNorm):
    """Batch norm for `freeze_at` steps; from then on its running statistics stay as they are and normalize in training too, without a
    gradient through them. gamma and beta go on learning. After D. Page, "How to Train Your ResNet 7: Batch Norm" (frozen part-way).
    """

    freeze_at = 1
    """Set by `set_up_norms`: only a training knows its budget."""

    @property
    def frozen(self) -> bool:
        return self.batches >= self.freeze_at

    def forward(self, x: Tensor) -> Tensor:
        if self.training and self.frozen:
            return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps)
        y = super().forward(x)
        self.count()
        return y


def noisy(config: ModelConfig, dim: int, runs: int, channels: int) -> nn.Module:
    """`NoisyBatchNorm`: a control in which the distribution of a layer's inputs jumps at every step although it is normalized."""
    layer = NoisyBatchNorm(dim, runs * channels, eps=config.bn_eps, momentum=config.bn_momentum, affine=config.bn_affine)
    layer.seeds = (0,) * runs
    return layer


def frozen(config: ModelConfig, dim: int, runs: int, channels: int) -> nn.Module:
    """`FrozenBatchNorm`: a control that keeps the normalization and loses the statistics of the batch."""
    return FrozenBatchNorm(dim, runs * channels, eps=config.bn_eps, momentum=config.bn_momentum, affine=config.bn_affine)


NORMS: dict[str, Norm] = {
    "batch": Norm(batch_norm, cancels_bias=True),
    "none": Norm(no_norm, cancels_bias=False),
    "noisy": Norm(noisy, cancels_bias=True),
    "frozen": Norm(frozen, cancels_bias=True),
}


def make_norm(config: ModelConfig, dim: int, runs: int, channels: int) -> nn.Module | None:
    """The norm of `config.norm` for `channels` channels a run, or None where there is none."""
    return NORMS[config.norm].make(config, dim, runs, channels)


def set_up_norms(network: nn.Module, seeds: Sequence[int], freeze_at: int) -> None:
    """Tells the norms what is not in their config: a seed for each run's noise, and the step from which statistics are frozen."""
    for place, layer in enumerate(module for module in network.modules() if isinstance(module, CountedBatchNorm)):
        if isinstance(layer, NoisyBatchNorm):
            layer.seeds, layer.place = tuple(seeds), place
        elif isinstance(layer, FrozenBatchNorm):
            layer.freeze_at = freeze_at
