"""What the metrics of a training step get: the network before and after it, the batch that it was made on, and the learning rate."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

from bnexp.metrics.network_copy import NetworkCopy


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
