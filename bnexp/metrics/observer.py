"""The values of the metrics that are due. `training.fit` asks for them; nothing here touches the run.

Metrics of activations and gradients are *probed*: one pass of the probe batch feeds all. Those that take several passes are *sampled*: at a
training step, from the network before and after it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import TypedDict

import torch
from torch import Tensor, nn

from bnexp.base.seeds import derive
from bnexp.config import METRICS as NAMES
from bnexp.config import MODELS, Config
from bnexp.data import Dataset
from bnexp.evaluate import shared_inputs
from bnexp.metrics import batch_noise, percentiles, relu_balance, test_curve
from bnexp.metrics.declaration import Metric, ProbeMetric, SampledMetric
from bnexp.metrics.drift import Drift, Snapshots, check_snapshots
from bnexp.metrics.network_copy import NetworkCopy, Sample
from bnexp.metrics.probe import ProbePass, probe_pass
from bnexp.metrics.schedule import curve_due, probe_due, sampled_steps
from bnexp.models import layer_map, runs_in
from bnexp.norms.modules import batches_tracked
from bnexp.storage.saved_state import group, whole

METRICS: Mapping[str, Metric] = {name: import_module(f"bnexp.metrics.{name}").METRIC for name in NAMES}
"""The `METRIC` of the file that each switch under `metrics` names."""
PROBE_METRICS = {name: metric for name, metric in METRICS.items() if isinstance(metric, ProbeMetric)}
"""What one pass feeds; `drift`, which remembers, comes beside them."""
SAMPLED = {name: metric for name, metric in METRICS.items() if isinstance(metric, SampledMetric)}


def sampling_note(config: Config, total: int) -> str | None:
    """How often the sampled metrics are measured in a budget of `total` steps, and what share of the training's time they add at most; None
    where none is on."""
    layers = (2 if MODELS[config.model.name].convolutional else 1) * len(config.model.widths) + 1
    costs = {name: SAMPLED[name].cost(layers) for name in config.metrics.on if name in SAMPLED}
    times = {name: len(sampled_steps(config.metrics.log_spaced, cost, total)) for name, cost in costs.items()}
    if not times:
        return None
    share = sum(count * costs[name] for name, count in times.items()) / total
    often = ", ".join(f"{name} {'once' if count == 1 else f'{count} times'}" for name, count in times.items())
    return f"Metrics that take several passes: {often}; together at most about {100 * share:.0f} % of the training's time."


@dataclass(frozen=True)
class Measured:
    """Values by slashed key, [R] each; where TensorBoard's histograms are due, distributions, and at both ends of the training histograms
    for the report, [R, n] each."""

    values: dict[str, Tensor]
    distributions: dict[str, Tensor]
    histograms: dict[str, Tensor] = field(default_factory=dict)

    def by_run(self) -> list[dict[str, float]]:
        """Each run's values, in the seven digits that float32 has; one transfer from the device for all."""
        if not self.values:
            return []
        table = torch.stack(list(self.values.values()), 1).tolist()
        return [{key: float(f"{value:.7g}") for key, value in zip(self.values, row, strict=True)} for row in table]


class ObserverState(TypedDict):
    """What later measurements need of earlier ones: drift's snapshots, and the step of the last probe pass."""

    drift: Snapshots
    looked_at: int


class Observer:
    """The metrics of one stack."""

    def __init__(self, network: nn.Sequential, data: Dataset, configs: Sequence[Config], total: int) -> None:
        self.network, self.data, self.config, self.total = network, data, configs[0], total
        self.metrics, self.runs = configs[0].metrics, runs_in(network)
        self.on = self.metrics.on
        self.layer_map = layer_map(network, self.config.model.placement)
        layers = len(self.layer_map.layers)
        self.due_at = {
            name: frozenset(sampled_steps(self.metrics.log_spaced, SAMPLED[name].cost(layers), total))
            for name in self.on
            if name in SAMPLED
        }
        self.sampled = frozenset[int]().union(*self.due_at.values())
        self.drift = Drift()
        self.probed_at = -1
        self._before: NetworkCopy | None = None
        self._after: NetworkCopy | None = None
        self._probe: tuple[Tensor, Tensor] | None = None

    def measure(self, step: int, lr_R: Tensor, evaluated: bool) -> Measured:
        """The metrics of activations and gradients, now; `test_curve` where the network was evaluated or has just begun."""
        values: dict[str, Tensor] = {}
        distributions: dict[str, Tensor] = {}
        histograms: dict[str, Tensor] = {}
        if step == 0:  # a run that was interrupted here begins anew
            self.drift, self.probed_at = Drift(), -1
        if probe_due(self.metrics, step, self.total, evaluated):
            last, previous = step == self.total, max(0, self.probed_at)
            probe = probe_pass(
                self._clone(before=True),
                self.probe,
                step=step,
                lr_R=lr_R,
                batch_size=self.config.train.batch_size,
                batches=batches_tracked(self.network, step),
                step_gradients=self._step_gradients(),
                back=step == 0 and "gradients" in self.on,
            )
            for name, metric in PROBE_METRICS.items():
                if name in self.on:
                    values |= metric.measure(probe)
            if "drift" in self.on:
                values |= self.drift.measure(probe)
            if "batch_stats" in self.on and (last or step // batch_noise.MEASURE_EVERY > previous // batch_noise.MEASURE_EVERY):
                values |= batch_noise.measure(probe.clone, self.data, step)
            if last or step.bit_length() > previous.bit_length() or self.probed_at < 0:
                distributions = self._distributions(probe)
            if (last or step == 0) and "percentiles" in self.on:
                histograms = percentiles.histograms(probe)
            self.probed_at = step
        if curve_due(self.metrics, step, evaluated):
            values |= test_curve.measure(self.network, self.data, self.config)
        return Measured(values, distributions, histograms)

    def _step_gradients(self) -> list[Tensor] | None:
        """Of each layer's weights, as the last training step left them."""
        weights = [self.layer_map.weight(layer) for layer in self.layer_map.layers]
        found = [weight.grad for weight in weights if weight.grad is not None]
        return found if len(found) == len(weights) else None

    def _distributions(self, probe: ProbePass) -> dict[str, Tensor]:
        """For histograms, at the first pass of each doubling of the steps and at the last: pre-activations; at the last also what is known
        of single channels."""
        found: dict[str, Tensor] = {}
        if "percentiles" in self.on:
            found |= percentiles.distributions(probe)
        if probe.step == self.total:
            found |= self.drift.channels
            if "relu_balance" in self.on:
                found |= relu_balance.distributions(probe)
        return found

    def before_step(self) -> None:
        """Keeps the network as it is before a step that is sampled."""
        self._clone(before=True)

    def after_step(self, step: int, x: Tensor, y_RB: Tensor, lr_R: Tensor) -> Measured:
        """The sampled metrics of the step that was just made (its number from 1), on its batch."""
        before = self._before
        assert before is not None
        fresh = self._images(derive(0, "fresh", step)) if step in self.due_at.get("noise_scale", ()) else self.probe
        sample = Sample(step, before, self._clone(before=False), x, y_RB, lr_R, self.probe, fresh)
        values: dict[str, Tensor] = {}
        for name, steps in self.due_at.items():
            if step in steps:
                values |= SAMPLED[name].measure(sample)
        return Measured(values, {})

    def _clone(self, *, before: bool) -> NetworkCopy:
        """One of the two copies, made to follow the network: all of it before a step, and after it only the weights, so that both
        copies normalize, and draw noise, alike."""
        if self._before is None:
            self._before = NetworkCopy(self.network, self.config)
        if before:
            self._before.copy_from(self.network)
            return self._before
        if self._after is None:
            self._after = NetworkCopy(self.network, self.config)
        self._after.copy_from(self._before.network)
        self._after.copy_weights_from(self.network)
        return self._after

    @property
    def probe(self) -> tuple[Tensor, Tensor]:
        """x_[N, R*C, *map], y_[R, N]: fixed training images without augmentation, the same for all runs and arms."""
        if self._probe is None:
            self._probe = self._images(derive(0, "probe"))
        return self._probe

    def _images(self, seed: int) -> tuple[Tensor, Tensor]:
        train = self.data.train
        index = torch.randperm(len(train), generator=torch.Generator().manual_seed(seed))[: self.metrics.probe].to(train.x.device)
        return shared_inputs(self.network, self.data, train.x[index]), train.y[index].expand(self.runs, -1)

    def state_dict(self) -> ObserverState:
        return {"drift": self.drift.state_dict(), "looked_at": self.probed_at}

    def check_state(self, state: ObserverState, step: int) -> None:
        """Raises ValueError, TypeError, KeyError or AttributeError where no observer gave this after `step` steps."""
        whole(group(state, "metrics")["looked_at"], -1, step, "looked_at")
        channels = sum(len(self.layer_map.weight(layer)) for layer in self.layer_map.hidden) // self.runs
        check_snapshots(state["drift"], (self.runs, channels), next(self.network.parameters()).dtype)

    def load_state_dict(self, state: ObserverState) -> None:
        self.drift.load_state_dict(state["drift"], self.data.train.x.device)
        self.probed_at = state["looked_at"]
