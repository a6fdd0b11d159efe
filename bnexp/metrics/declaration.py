"""What a metric declares: how it is measured, and its keys with meaning, unit and source, of which `scripts/reference` makes a page.

A metric is a file with the name of its switch under `metrics` and one of these as `METRIC`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from bnexp.metrics.probe import ProbePass
from bnexp.metrics.sample import Sample


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


@dataclass(frozen=True)
class Metric:
    """One that the observer calls in its own way: it remembers earlier measurements, or needs the data."""

    keys: tuple[Keys, ...]


@dataclass(frozen=True)
class ProbeMetric(Metric):
    """Measured on a pass of the probe batch: `name/...` -> [R]."""

    measure: Callable[[ProbePass], dict[str, Tensor]]


@dataclass(frozen=True)
class SampledMetric(Metric):
    """Measured at a training step, on copies of the network before and after it: `name/...` -> [R]."""

    measure: Callable[[Sample], dict[str, Tensor]]
    cost: Callable[[int], float]
    """In training steps, for so many layers."""
