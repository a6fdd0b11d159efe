"""Activation drift: how far the distribution of each layer's pre-activations moves, a direct reading of "internal covariate shift".

Ioffe and Szegedy 2015, section 1, mean by it the change of the distribution of network activations; no formula is given there. Here, per
channel and over the fixed probe batch, with the mean m, standard deviation s and distribution F now, and m', s', F' before:
|m - m'| / s0, |s - s'| / s0 and the 1-Wasserstein distance W1(F, F') / s0 = (integral of |F^-1 - F'^-1|) / s0, where s0 is the channel's
standard deviation at initialization (Villani 2009, Optimal Transport, remark 6.6, for W1). `init` compares with initialization, `last`
with the measurement before.

W1 is taken between 256 quantiles, which is exact where the probe has so many values a channel, or a divisor of it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from bnexp.metrics.declaration import Keys, Metric
from bnexp.metrics.probe import QUANTILES, ProbePass
from bnexp.storage.saved_state import group, tensor

Snapshots = dict[str, dict[str, Tensor]]
"""The fields of the snapshots `init` and `last`, as a checkpoint has them; empty before the first measurement."""


@dataclass(frozen=True)
class Snapshot:
    """Mean and standard deviation [R, T] and quantiles [R, T, Q] of every channel."""

    mean: Tensor
    std: Tensor
    quantiles: Tensor


@dataclass
class Drift:
    """Remembers initialization and the last measurement; both must survive a resume."""

    snapshots: dict[str, Snapshot] = field(default_factory=dict)
    channels: dict[str, Tensor] = field(default_factory=dict)
    """Of the last measurement: `drift/<layer>/init/w1` -> [R, C], channel by channel."""

    def measure(self, probe: ProbePass) -> dict[str, Tensor]:
        """`drift/<layer>/{init,last}/{mean,std,w1}` -> [R]; nothing the first time, when there is nothing to compare with."""
        self.channels = {}
        now = Snapshot(probe.moments.mean_RT, probe.moments.var_RT.sqrt(), probe.quantiles_RTQ)
        found: dict[str, Tensor] = {}
        if self.snapshots:
            std = self.snapshots["init"].std
            relative = {
                f"{name}/{what}": moved_RT / std
                for name, before in self.snapshots.items()
                for what, moved_RT in zip(("mean", "std", "w1"), moved(before, now), strict=True)
            }
            found = probe.layout.named("drift", probe.layout.means(relative, std > 0))
            parts = zip(probe.layers, probe.layout.split(relative["init/w1"]), strict=True)
            self.channels = {f"drift/{layer.name}/init/w1": part for layer, part in parts}
        self.snapshots = {"init": self.snapshots.get("init", now), "last": now}
        return found

    def state_dict(self) -> Snapshots:
        return {name: dict(vars(snapshot)) for name, snapshot in self.snapshots.items()}

    def load_state_dict(self, state: Snapshots, device: torch.device) -> None:
        self.snapshots = {name: Snapshot(**{key: value.to(device) for key, value in snapshot.items()}) for name, snapshot in state.items()}


def check_snapshots(state: Snapshots, shape_RT: tuple[int, int], dtype: torch.dtype) -> None:
    """Raises ValueError, TypeError, KeyError or AttributeError where `Drift.load_state_dict` should not take this."""
    if group(state, "drift").keys() and state.keys() != {"init", "last"}:
        raise ValueError("it remembers other measurements")
    for saved in state.values():
        snapshot = Snapshot(**saved)
        tensor(snapshot.mean, shape_RT, dtype, "mean")
        tensor(snapshot.std, shape_RT, dtype, "std")
        tensor(snapshot.quantiles, (*shape_RT, QUANTILES), dtype, "quantiles")


def moved(before: Snapshot, now: Snapshot) -> tuple[Tensor, Tensor, Tensor]:
    """Absolute change of mean and standard deviation, and W1, each [R, T], in the units of the pre-activation."""
    return (now.mean - before.mean).abs(), (now.std - before.std).abs(), wasserstein(now.quantiles, before.quantiles)


def wasserstein(a: Tensor, b: Tensor) -> Tensor:
    """W1 of two distributions given as equally many quantiles in ascending order, [..., Q] -> [...]."""
    return (a - b).abs().mean(-1)


METRIC = Metric(
    summary="how far the distribution of each layer's pre-activations moves",
    on=True,
    kind="probed",
    keys=(
        Keys(
            "<layer>/{init,last}/{mean,std,w1}",
            "how far the distribution of what enters the nonlinearity has moved since initialization, and since the last measurement: "
            "|change of mean|, |change of std|, 1-Wasserstein distance; mean over channels",
            "standard deviations at initialization",
            "the idea: Ioffe and Szegedy 2015, section 1",
        ),
    ),
)
