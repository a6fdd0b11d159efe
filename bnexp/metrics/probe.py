"""One pass of the probe batch through the network in train mode: what every metric of activations and gradients is computed from.

Shapes: N images of the probe, R runs, L layers, T the channels of all layers side by side, Q quantiles.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from bnexp.metrics.network_copy import NetworkCopy
from bnexp.models import Layer
from bnexp.norms import NORMS

QUANTILES = 256
"""A channel's distribution is kept as so many of its quantiles, at (k + 1/2) / QUANTILES."""


class Layout:
    """Which of T channels belong to which of L layers; `pixels_T` is the size of each channel's map."""

    def __init__(self, names: tuple[str, ...], channels: tuple[int, ...], pixels: tuple[int, ...], device: torch.device) -> None:
        self.names, self.channels, self.pixels = names, channels, pixels
        self.counts_L = torch.tensor(channels, device=device)
        self.index_T = torch.arange(len(names), device=device).repeat_interleave(self.counts_L)
        self.pixels_T = torch.tensor(pixels, device=device).repeat_interleave(self.counts_L)

    def means(self, values_RT: Mapping[str, Tensor], counted_RT: Tensor | None = None) -> dict[str, Tensor]:
        """The mean over each layer's channels, [L, R], of all values in one pass; over those that are `counted`, or NaN where none is."""
        values_KRT = torch.stack(list(values_RT.values()))
        zeros = values_KRT.new_zeros(*values_KRT.shape[:2], len(self.names))
        if counted_RT is None:
            count = self.counts_L
        else:
            values_KRT = values_KRT.where(counted_RT, 0.0)
            count = zeros[0].index_add(1, self.index_T, counted_RT.to(values_KRT.dtype))
        means_KLR = (zeros.index_add(2, self.index_T, values_KRT) / count).transpose(1, 2)
        return dict(zip(values_RT, means_KLR, strict=True))

    def named(self, metric: str, values_LR: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """`metric/<layer>/<what>` -> [R]."""
        return {
            f"{metric}/{name}/{what}": values_R
            for what, values in values_LR.items()
            for name, values_R in zip(self.names, values.unbind(0), strict=True)
        }

    def split(self, values_RT: Tensor) -> list[Tensor]:
        """[R, C, ...] a layer."""
        return list(values_RT.split(list(self.channels), dim=1))


def layout_of(layers: Sequence[Layer], tensors: Sequence[Tensor], runs: int) -> Layout:
    """The layout of a tensor a layer, x_[N, R*C, *map]; made once."""
    channels, pixels = tuple(x.shape[1] // runs for x in tensors), tuple(math.prod(x.shape[2:]) for x in tensors)
    return _layout(tuple(layer.name for layer in layers), channels, pixels, tensors[0].device)


_layout = functools.lru_cache(64)(Layout)


@dataclass(frozen=True)
class Moments:
    """Of a tensor a layer, x_[N, R*C, *map]: the mean and the biased variance over images and pixels, [R, T]."""

    mean_RT: Tensor
    var_RT: Tensor


@dataclass(frozen=True)
class ImageMoments(Moments):
    """The same with the mean of each image's map."""

    image_mean_NRT: Tensor


def moments_of_rows(rows: Sequence[Tensor], runs: int) -> Moments:
    """From each channel's values, [R*C, n] a layer. The variance is taken about the mean, so that a large mean costs no digits; two means
    are far quicker than torch.var_mean."""
    means = [part.mean(1) for part in rows]
    variances = [(part - mean.unsqueeze(1)).square().mean(1) for part, mean in zip(rows, means, strict=True)]
    mean_RT, var_RT = (torch.cat([value.unflatten(0, (runs, -1)) for value in values], dim=1) for values in (means, variances))
    return Moments(mean_RT, var_RT)


def image_moments(tensors: Sequence[Tensor], runs: int) -> ImageMoments:
    """From x_[N, R*C, *map] a layer, in two passes as `moments_of_rows`."""
    image_means, variances = [], []
    for x in tensors:
        x_NCP = x.flatten(2) if x.dim() > 2 else x.unsqueeze(2)
        image_mean = x_NCP.mean(2)
        centred = x_NCP - image_mean.mean(0).unsqueeze(1)
        image_means.append(image_mean.unflatten(1, (runs, -1)))
        variances.append((centred * centred).mean(2).mean(0).unflatten(0, (runs, -1)))
    image_mean_NRT = torch.cat(image_means, dim=2)
    return ImageMoments(image_mean_NRT.mean(0), torch.cat(variances, dim=1), image_mean_NRT)


@dataclass(frozen=True)
class ProbePass:
    """What the network did with the probe batch at one step. Lists have an item for each hidden layer, in order."""

    step: int
    clone: NetworkCopy
    lr_R: Tensor
    batch_size: int
    """Of the training."""
    batches: int
    """That are in the running statistics."""
    layers: tuple[Layer, ...]
    sites: list[Tensor]
    """What each norm normalizes, or would: [N, R*C, *map]."""
    preactivations: list[Tensor]
    """What enters each nonlinearity."""
    outputs: list[Tensor] | None
    """What each norm gives, gamma x-hat + beta; None without batch statistics, and where noise comes on top."""
    step_gradients: list[Tensor] | None
    """Of each layer's weights, the head's included, on the last training step's batch; None before the first."""
    preactivation_gradients: list[Tensor] | None
    """On the probe batch; at initialization only."""

    @property
    def runs(self) -> int:
        return self.clone.runs

    @cached_property
    def site_layout(self) -> Layout:
        return layout_of(self.layers, self.sites, self.runs)

    @cached_property
    def layout(self) -> Layout:
        """Of the pre-activations."""
        return layout_of(self.layers, self.preactivations, self.runs)

    @cached_property
    def site_moments(self) -> ImageMoments:
        return image_moments(self.sites, self.runs)

    @cached_property
    def moments(self) -> Moments:
        """Of the pre-activations."""
        same = all(a is b for a, b in zip(self.sites, self.preactivations, strict=True))
        return self.site_moments if same else moments_of_rows(self.sorted_rows, self.runs)

    @cached_property
    def output_moments(self) -> Moments | None:
        if self.outputs is None:
            return None
        same = all(a is b for a, b in zip(self.outputs, self.preactivations, strict=True))
        return self.moments if same else moments_of_rows([rows_of(x) for x in self.outputs], self.runs)

    @cached_property
    def sorted_rows(self) -> list[Tensor]:
        """Each channel's pre-activations in ascending order, [R*C, N*P] a layer."""
        return [sort_rows(rows_of(x)) for x in self.preactivations]

    @cached_property
    def quantiles_RTQ(self) -> Tensor:
        """Each channel's quantiles at (k + 1/2) / Q."""
        return torch.cat([quantiles(rows).unflatten(0, (self.runs, -1)) for rows in self.sorted_rows], dim=1)


def probe_pass(
    clone: NetworkCopy,
    images: tuple[Tensor, Tensor],
    *,
    step: int,
    lr_R: Tensor,
    batch_size: int,
    batches: int,
    step_gradients: list[Tensor] | None,
    back: bool,
) -> ProbePass:
    """The images x_[N, R*C, *map], y_[R, N] through the copy in train mode, and with `back` also back to the pre-activations."""
    hidden = clone.layer_map.hidden
    with torch.set_grad_enabled(back):
        inputs = clone.trace(images[0])
    entering = [layer.activation for layer in hidden if layer.activation is not None]
    gradients = None
    if back:
        losses_R = clone.losses(inputs[-1], images[1], start=len(clone.layer_map.chain))
        gradients = list(torch.autograd.grad(losses_R.sum(), [inputs[place] for place in entering]))
    known: dict[int, Tensor] = {}

    def entered(place: int) -> Tensor:
        return known.setdefault(place, inputs[place].detach().to(clone.params[0].dtype))  # bf16 is measured in fp32

    norm = NORMS[clone.config.model.norm]
    readable = norm.batch_statistics and not norm.adds_noise
    return ProbePass(
        step,
        clone,
        lr_R,
        batch_size,
        batches,
        hidden,
        sites=[entered(layer.site) for layer in hidden],
        preactivations=[entered(place) for place in entering],
        outputs=[entered(layer.norm + 1) for layer in hidden if layer.norm is not None] if readable else None,
        step_gradients=step_gradients,
        preactivation_gradients=gradients,
    )


def rows_of(x: Tensor) -> Tensor:
    """Each channel's values, [N, R*C, *map] -> [R*C, N*P]."""
    return x.transpose(0, 1).flatten(1)


def sort_rows(rows: Tensor) -> Tensor:
    """Each row in ascending order. On a CPU by numpy, which sorts floats many times faster than torch does."""
    if rows.device.type == "cpu":
        return torch.from_numpy(np.sort(rows.contiguous().numpy(), axis=1))
    return rows.sort(dim=1).values


def quantiles(sorted_rows: Tensor) -> Tensor:
    """[rows, n] in order -> [rows, QUANTILES]: the empirical distribution's inverse at (k + 1/2) / QUANTILES."""
    return sorted_rows[:, _midpoints(sorted_rows.shape[1], sorted_rows.device)]


@functools.lru_cache(64)
def _midpoints(count: int, device: torch.device) -> Tensor:
    return ((torch.arange(QUANTILES) + 0.5) / QUANTILES * count).long().to(device)
