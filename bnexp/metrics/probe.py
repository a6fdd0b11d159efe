"""One pass of the probe batch through the network in train mode: what every metric of activations and gradients is computed from.

Shapes: N images of the probe, R runs, L layers, T the channels of all layers side by side, Q quantiles.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from bnexp.metrics.twin import Twin
from bnexp.models import Layer

QUANTILES = 256
"""A channel's distribution is kept as so many of its quantiles, at (k + 1/2) / QUANTILES."""


class Layout:
    """Which of T channels belong to which of L layers; `pixels_T` is the size of each channel's map."""

    def __init__(self, layers: Sequence[Layer], tensors: Sequence[Tensor], runs: int) -> None:
        device = tensors[0].device
        self.names = [layer.name for layer in layers]
        self.channels = [tensor.shape[1] // runs for tensor in tensors]
        counts = torch.tensor(self.channels)
        self.index_T = torch.arange(len(layers)).repeat_interleave(counts).to(device)
        self.pixels_T = torch.tensor([tensor[0, 0].numel() for tensor in tensors]).repeat_interleave(counts).to(device)

    def means(self, values_RT: Tensor, counted_RT: Tensor | None = None) -> Tensor:
        """The mean over each layer's channels, [L, R]; over those that are `counted`, or NaN where none is."""
        counted_RT = torch.ones_like(values_RT, dtype=torch.bool) if counted_RT is None else counted_RT
        zeros = values_RT.new_zeros(len(values_RT), len(self.names))
        total = zeros.index_add(1, self.index_T, values_RT.where(counted_RT, 0.0))
        return (total / zeros.index_add(1, self.index_T, counted_RT.to(values_RT))).t()

    def named(self, metric: str, what: str, values_LR: Tensor) -> dict[str, Tensor]:
        """`metric/<layer>/what` -> [R]."""
        return {f"{metric}/{name}/{what}": values_R for name, values_R in zip(self.names, values_LR.unbind(0), strict=True)}

    def split(self, values_RT: Tensor) -> list[Tensor]:
        """[R, C, ...] a layer."""
        return list(values_RT.split(self.channels, dim=1))


@dataclass(frozen=True)
class Moments:
    """Of a tensor a layer, x_[N, R*C, *map]: image_mean_NRT of each image's map; mean_RT and biased var_RT over images and pixels."""

    image_mean_NRT: Tensor
    mean_RT: Tensor
    var_RT: Tensor


def moments(tensors: Sequence[Tensor], runs: int) -> Moments:
    """Two passes, the second about the mean, so that a large mean costs no digits; a mean is far quicker than torch.var_mean."""
    image_means, variances = [], []
    for x in tensors:
        x_NCP = x.flatten(2) if x.dim() > 2 else x.unsqueeze(2)
        image_mean = x_NCP.mean(2)
        centred = x_NCP - image_mean.mean(0).unsqueeze(1)
        image_means.append(image_mean.unflatten(1, (runs, -1)))
        variances.append((centred * centred).mean(2).mean(0).unflatten(0, (runs, -1)))
    image_mean_NRT = torch.cat(image_means, dim=2)
    return Moments(image_mean_NRT, image_mean_NRT.mean(0), torch.cat(variances, dim=1))


@dataclass(frozen=True)
class Seen:
    """What the network did with the probe batch at one step. Lists have an item for each hidden layer, in order."""

    step: int
    twin: Twin
    lr_R: Tensor
    batch_size: int
    """Of the training."""
    batches: int
    """That the running statistics have seen."""
    layers: tuple[Layer, ...]
    sites: list[Tensor]
    """What each norm normalizes, or would: [N, R*C, *map]."""
    preactivations: list[Tensor]
    """What enters each nonlinearity."""
    outputs: list[Tensor] | None
    """What each norm gives; None without norms."""
    losses_R: Tensor | None
    weight_gradients: list[Tensor] | None
    """One for each weighted layer, the head included; None where no gradient was asked for."""
    preactivation_gradients: list[Tensor] | None

    @property
    def runs(self) -> int:
        return self.twin.runs

    @cached_property
    def site_layout(self) -> Layout:
        return Layout(self.layers, self.sites, self.runs)

    @cached_property
    def layout(self) -> Layout:
        """Of the pre-activations."""
        return Layout(self.layers, self.preactivations, self.runs)

    @cached_property
    def site_moments(self) -> Moments:
        return moments(self.sites, self.runs)

    @cached_property
    def moments(self) -> Moments:
        """Of the pre-activations."""
        same = all(a is b for a, b in zip(self.sites, self.preactivations, strict=True))
        return self.site_moments if same else moments(self.preactivations, self.runs)

    @cached_property
    def output_moments(self) -> Moments | None:
        if self.outputs is None:
            return None
        same = all(a is b for a, b in zip(self.outputs, self.preactivations, strict=True))
        return self.moments if same else moments(self.outputs, self.runs)

    @cached_property
    def sorted_rows(self) -> list[Tensor]:
        """Each channel's pre-activations in ascending order, [R*C, N*P] a layer."""
        return [sort_rows(x.transpose(0, 1).flatten(1)) for x in self.preactivations]

    @cached_property
    def quantiles_RTQ(self) -> Tensor:
        """Each channel's quantiles at (k + 1/2) / Q."""
        return torch.cat([quantiles(rows).unflatten(0, (self.runs, -1)) for rows in self.sorted_rows], dim=1)


def look(twin: Twin, x: Tensor, y_RB: Tensor, *, step: int, lr_R: Tensor, batch_size: int, batches: int, gradients: bool) -> Seen:
    """The probe x_[N, R*C, *map] through the twin, in train mode; with `gradients` also back."""
    parts, inputs = twin.anatomy, []
    with torch.set_grad_enabled(gradients):
        h = x
        for place in range(len(parts.chain)):
            inputs.append(h)
            h = twin.run(h, place, place + 1)
        inputs.append(h)
    hidden = parts.hidden
    preactivations = [inputs[layer.activation] for layer in hidden if layer.activation is not None]
    losses_R = weight_gradients = preactivation_gradients = None
    if gradients:
        weights = [parts.weight(layer) for layer in parts.layers]
        losses_R = twin.losses(h, y_RB, len(parts.chain))
        found = torch.autograd.grad(losses_R.sum(), [*weights, *preactivations])
        weight_gradients, preactivation_gradients = list(found[: len(weights)]), list(found[len(weights) :])
        losses_R = losses_R.detach()
    normed = all(layer.norm is not None for layer in hidden)
    full = twin.params[0].dtype  # bf16 activations are measured in fp32

    known: dict[int, Tensor] = {}

    def seen(place: int) -> Tensor:
        return known.setdefault(place, inputs[place].detach().to(full))

    return Seen(
        step,
        twin,
        lr_R,
        batch_size,
        batches,
        hidden,
        [seen(layer.site) for layer in hidden],
        [seen(layer.activation) for layer in hidden if layer.activation is not None],
        [seen(layer.norm + 1) for layer in hidden if layer.norm is not None] if normed else None,
        losses_R,
        weight_gradients,
        preactivation_gradients,
    )


def sort_rows(rows: Tensor) -> Tensor:
    """Each row in ascending order. On a CPU by numpy, which sorts floats many times faster than torch does."""
    if rows.device.type == "cpu":
        return torch.from_numpy(np.sort(rows.numpy(), axis=1))
    return rows.sort(dim=1).values


def quantiles(sorted_rows: Tensor) -> Tensor:
    """[rows, n] in order -> [rows, QUANTILES]: the empirical distribution's inverse at (k + 1/2) / QUANTILES."""
    place = (torch.arange(QUANTILES, device=sorted_rows.device) + 0.5) / QUANTILES * sorted_rows.shape[1]
    return sorted_rows[:, place.long()]
