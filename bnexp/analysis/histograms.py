"""Histograms of a layer's activations before and after its norm, as runs recorded them (`storage.curves.lists`)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from bnexp.analysis import findings
from bnexp.storage.curves import Lists

MOST_NUMBERS, LARGEST = 1000, 1e30
"""Of a histogram that is drawn: its numbers come from a file that anybody may have written."""
LEFT_OUT = 0.005
"""The share of the values at either end that a figure's range leaves out."""


@dataclass(frozen=True)
class Histogram:
    """Counts in bins of one width."""

    low: float
    high: float
    counts: tuple[float, ...]

    @classmethod
    def of(cls, numbers: Sequence[float]) -> Histogram | None:
        """What `metrics.percentiles.histograms` gave; None where it is something else."""
        if not 2 < len(numbers) <= MOST_NUMBERS or not all(abs(number) <= LARGEST for number in numbers):
            return None
        low, high, *counts = numbers
        return cls(low, high, tuple(counts)) if low < high and min(counts) >= 0 and sum(counts) > 0 else None

    @property
    def edges(self) -> list[float]:
        width = (self.high - self.low) / len(self.counts)
        return [self.low + index * width for index in range(len(self.counts) + 1)]

    @property
    def density(self) -> list[float]:
        """Of unit area."""
        area = sum(self.counts) * (self.high - self.low) / len(self.counts)
        return [count / area for count in self.counts]

    @property
    def std(self) -> float:
        """The standard deviation, as if all values of a bin were in its middle."""
        middles = [(a + b) / 2 for a, b in zip(self.edges, self.edges[1:], strict=False)]
        total = sum(self.counts)
        mean = sum(middle * count for middle, count in zip(middles, self.counts, strict=True)) / total
        return math.sqrt(sum((middle - mean) ** 2 * count for middle, count in zip(middles, self.counts, strict=True)) / total)

    @property
    def central(self) -> tuple[float, float]:
        """The range without the bins that hold the outermost values."""
        total, reached = sum(self.counts), list(accumulate(self.counts))
        first = next(index for index, count in enumerate(reached) if count > LEFT_OUT * total)
        last = next(index for index, count in enumerate(reached) if count >= (1 - LEFT_OUT) * total)
        return self.edges[first], self.edges[last + 1]


@dataclass(frozen=True)
class Activations:
    """A layer's activations at one step: what its norm gets, or would get, and what it gives."""

    step: int
    before: Histogram
    after: Histogram | None

    @property
    def last(self) -> Histogram:
        """What comes after the norm, where there is one."""
        return self.after or self.before


@dataclass(frozen=True)
class ArmActivations:
    """Those of one run of an arm, at the first and at the last step that recorded them."""

    arm: str
    label: str
    early: Activations
    late: Activations


def layers(recorded: Lists) -> list[str]:
    """Those with histograms, in the network's order."""
    return [key.split("/")[1] for key in recorded if key.startswith("percentiles/") and key.endswith("/histogram/before")]


def activations(arm: str, label: str, recorded: Lists, layer: str) -> ArmActivations | None:
    """A run's histograms of a layer at the first and at the last step; None where fewer than two were recorded."""
    befores, afters = (dict(recorded.get(f"percentiles/{layer}/histogram/{when}", ())) for when in ("before", "after"))
    found = []
    for step in sorted(befores):
        if (before := Histogram.of(befores[step])) is not None:
            found.append(Activations(step, before, Histogram.of(afters[step]) if step in afters else None))
    return ArmActivations(arm, label, found[0], found[-1]) if len(found) > 1 else None


def activations_finding(layer: str, arms: Sequence[ArmActivations]) -> str:
    """`Without BN, the standard deviation at block3.conv2 (after the norm, if any) rises from 1 to 9; with BN, it stays at 2.4.`"""
    place = " (after the norm, if any)" if any(arm.early.after for arm in arms) else ""
    noun = f"the standard deviation at {layer}{place}"
    return findings.change(noun, [(arm.label, arm.early.last.std, arm.late.last.std) for arm in arms])
