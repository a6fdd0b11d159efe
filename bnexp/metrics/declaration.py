"""What a metric declares: how it is measured, its switch in the config, and its keys with meaning, unit and source.

A metric is a file with one of these as `METRIC`. Its name is that of the switch under `metrics`, which `scripts/reference` writes into the
config with the documentation.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from bnexp.metrics.network_copy import Sample
from bnexp.metrics.probe import ProbePass


@dataclass(frozen=True)
class Keys:
    """Keys that are explained together: a row of the page. Markdown, with `|` as it is."""

    pattern: str
    """All of them, without the metric's name: `<layer>/{unit,mean}/{p15,p50,p85}`."""
    meaning: str
    """Formula included."""
    unit: str = ""
    """Empty for pure numbers."""
    source: str = ""


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One that the observer calls in its own way: it remembers earlier measurements, or needs the data."""

    summary: str
    """The help of its switch."""
    on: bool = False
    """Whether it is measured by default."""
    kind: Literal["probed", "sampled", "evaluated"] = "evaluated"
    """When it is measured: on a pass of the probe batch, at a sampled step, or at evaluations."""
    keys: tuple[Keys, ...]


@dataclass(frozen=True, kw_only=True)
class ProbeMetric(Metric):
    """Measured on a pass of the probe batch: `name/...` -> [R]."""

    kind: Literal["probed", "sampled", "evaluated"] = "probed"
    measure: Callable[[ProbePass], dict[str, Tensor]]


@dataclass(frozen=True, kw_only=True)
class SampledMetric(Metric):
    """Measured at a training step, on copies of the network before and after it: `name/...` -> [R]."""

    kind: Literal["probed", "sampled", "evaluated"] = "sampled"
    measure: Callable[[Sample], dict[str, Tensor]]
    cost: Callable[[int], float]
    """In training steps, for so many layers."""
