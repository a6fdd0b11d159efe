"""The torch classes of norms that PyTorch lacks, and what a training or a copy of the network sets in them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from bnexp.base.seeds import derive


class CountedBatchNorm(_BatchNorm):
    """Batch norm of any dimension that counts the batches in its running statistics on the host, so that no step waits for the device."""

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
        """To be called after a forward pass; a copy that does not track (`metrics.NetworkCopy`) stays where it is."""
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
    gradient through them. gamma and beta are trained on. After D. Page, "How to Train Your ResNet 7: Batch Norm" (frozen part-way).
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


def set_up_norms(network: nn.Module, seeds: Sequence[int], freeze_at: int) -> None:
    """What is not in the norms' config: a seed for each run's noise, and the step from which statistics are frozen."""
    for place, layer in enumerate(_counted(network)):
        if isinstance(layer, NoisyBatchNorm):
            layer.seeds, layer.place = tuple(seeds), place
        elif isinstance(layer, FrozenBatchNorm):
            layer.freeze_at = freeze_at


def batches_tracked(network: nn.Module, step: int) -> int:
    """How many batches are in a run's running statistics after its `step`: all, unless they were frozen before."""
    return min([step, *(layer.batches for layer in _counted(network) if isinstance(layer, FrozenBatchNorm))])


def affine(norm: _BatchNorm) -> tuple[Tensor, Tensor]:
    """gamma and beta, [R*C]; 1 and 0 where the norm has none."""
    if norm.affine:
        return norm.weight.detach(), norm.bias.detach()
    assert norm.running_mean is not None
    return torch.ones_like(norm.running_mean), torch.zeros_like(norm.running_mean)


def is_frozen(layer: nn.Module) -> bool:
    """Whether a norm's statistics stay as they are from here on."""
    return isinstance(layer, FrozenBatchNorm) and layer.frozen


def copy_counts(network: nn.Module, copy: nn.Module) -> None:
    """Gives the norms of a copy the batch counts of those of the network."""
    for layer, copied in zip(_counted(network), _counted(copy), strict=True):
        copied.batches = layer.batches


def draw_noise_anew(network: nn.Module) -> None:
    """Lets norms with noise draw the next step's from here on, until `copy_counts`."""
    for layer in _counted(network):
        if isinstance(layer, NoisyBatchNorm):
            layer.batches += 1


def _counted(network: nn.Module) -> list[CountedBatchNorm]:
    return [module for module in network.modules() if isinstance(module, CountedBatchNorm)]
