"""Copies of a stack's network to measure on, so that nothing of the run is touched: weights, gradients, buffers, generators, mode."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from bnexp.config import Config
from bnexp.evaluate import autocast
from bnexp.models import layer_map, losses, runs_in, work_in_place
from bnexp.norms import modules


class NetworkCopy:
    """A stack's network, copied. In train mode its norms use batch statistics and store none, so that a pass changes nothing of it.

    `num_batches_tracked` is not followed: nothing is computed from it.
    """

    def __init__(self, network: nn.Sequential, config: Config) -> None:
        self.network, self.config, self.runs = copy.deepcopy(network).train(), config, runs_in(network)
        for module in self.network.modules():
            if isinstance(module, _BatchNorm):
                module.track_running_stats = False  # in train mode: neither stored nor counted; eval mode still uses the stored ones
        work_in_place(self.network, on=False)  # `trace` keeps what each module gives
        self.layer_map = layer_map(self.network, config.model.placement)
        self.params: list[Tensor] = list(self.network.parameters())
        self.views = [param.detach().unflatten(0, (self.runs, -1)) for param in self.params]
        """The weights themselves as [R, ...]."""

    def copy_from(self, network: nn.Module) -> None:
        """Takes the weights, buffers and counts that `network` has now."""
        self.copy_weights_from(network)
        statistics = [buffer for buffer in network.buffers() if buffer.dim() > 0]
        if statistics:
            torch._foreach_copy_([buffer for buffer in self.network.buffers() if buffer.dim() > 0], statistics)
        modules.copy_counts(network, self.network)

    def copy_weights_from(self, network: nn.Module) -> None:
        """Takes the weights alone."""
        with torch.no_grad():
            torch._foreach_copy_(self.params, list(network.parameters()))

    def run(self, x: Tensor, start: int = 0, end: int | None = None, *, training: bool = True, full: bool = False) -> Tensor:
        """x through the modules from `start` to before `end` of the chain, in the run's precision or in full."""
        return self.trace(x, start, end, training=training, full=full)[-1]

    def trace(self, x: Tensor, start: int = 0, end: int | None = None, *, training: bool = True, full: bool = False) -> list[Tensor]:
        """x and what each module makes of it."""
        if self.network.training != training:
            self.network.train(training)
        found = [x]
        with nullcontext() if full else autocast(self.config, x.device):
            for module in self.layer_map.chain[start:end]:
                found.append(module(found[-1]))
        return found

    def losses(self, x: Tensor, y_RB: Tensor, start: int = 0, *, training: bool = True, full: bool = False) -> Tensor:
        """Each run's mean cross-entropy, [R], of x_[B, R*C, *map] that enters the chain at `start`."""
        logits_RBK = self.run(x, start, training=training, full=full).unflatten(1, (self.runs, -1)).transpose(0, 1)
        return losses(logits_RBK.to(self.params[0].dtype), y_RB)

    def gradient(self, x: Tensor, y_RB: Tensor, of: Sequence[Tensor] | None = None, start: int = 0) -> tuple[Tensor, list[Tensor]]:
        """The losses [R] in train mode and their gradients with respect to `of` (all parameters by default); each run has its own."""
        losses_R = self.losses(x, y_RB, start)
        return losses_R.detach(), list(torch.autograd.grad(losses_R.sum(), list(of) if of is not None else self.params))


@dataclass(frozen=True)
class Sample:
    """A step from W^t to W^{t+1} by the run's own optimizer, on x_[B, R*C, *map] with y_[R, B]."""

    step: int
    """t + 1: the number of updates made."""
    before: NetworkCopy
    """The network with W^t."""
    after: NetworkCopy
    """The same with W^{t+1}."""
    x: Tensor
    y_RB: Tensor
    lr_R: Tensor
    """The learning rate in force at this step."""
    probe: tuple[Tensor, Tensor]
    """The fixed probe images, x_[N, R*C, *map] and y_[R, N]."""
    fresh: tuple[Tensor, Tensor]
    """For the noise scale: as many training images, drawn anew at each of its steps (at others the probe)."""

    @property
    def runs(self) -> int:
        return self.before.runs

    @cached_property
    def own(self) -> tuple[Tensor, list[Tensor]]:
        """The losses [R] on the step's batch and their gradients, one for each parameter, at W^t."""
        return self.before.gradient(self.x, self.y_RB)


def dots(a: Sequence[Tensor], b: Sequence[Tensor], runs: int) -> Tensor:
    """The inner product of two lists of tensors [R*..., ...] for each run, [R], in float64."""
    parts = [(x * y).unflatten(0, (runs, -1)).flatten(1).sum(1, dtype=torch.float64) for x, y in zip(a, b, strict=True)]
    return torch.stack(parts).sum(0)


def norms(tensors: Sequence[Tensor], runs: int) -> Tensor:
    """The Euclidean norm of a list of tensors for each run, [R]."""
    parts = [torch.linalg.vector_norm(x.unflatten(0, (runs, -1)).flatten(1), dim=1) for x in tensors]
    whole: Tensor = torch.linalg.vector_norm(torch.stack(parts), dim=0)
    return whole
