"""Curves of several seeds as one: mean and interval at each step, and where runs diverged."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bnexp.analysis.pairs import estimate
from bnexp.storage.result import RunResult

LARGEST_LOG = 700.0
"""exp of more is no float."""


@dataclass(frozen=True)
class RunCurves:
    """One run's recorded curves: under each slashed key (step, value), NaN where it was not finite."""

    seed: int
    curves: Mapping[str, Sequence[tuple[int, float]]]
    diverged_at_step: int | None = None
    stopped: bool = False
    """It stopped at its target, with the network that it had: from its last step on it keeps its last values."""

    @classmethod
    def of(cls, run: RunResult, curves: Mapping[str, Sequence[tuple[int, float]]]) -> RunCurves:
        stopped = run.status == "finished" and run.until_target and run.target.reached_step is not None
        return cls(run.seed, curves, run.diverged_at_step if run.is_diverged else None, stopped)

    def last(self, key: str) -> float | None:
        """The last finite value of a key, or None."""
        return next((value for _, value in reversed(self.curves.get(key, ())) if math.isfinite(value)), None)


@dataclass(frozen=True)
class Band:
    """Mean of the runs at each step, with its 95 % Student-t interval (the mean itself where one run is left)."""

    steps: tuple[int, ...]
    mean: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    n: tuple[int, ...]
    """Runs that have a finite value at each step."""
    runs: int
    """Runs that have the key at all."""
    whole: int
    """So many leading steps have a value of every run; from there on the mean is that of those that have one, and may flatter."""
    ends: tuple[tuple[int, float], ...]
    """Of each diverged run: the step of its last finite value, and that value (the step it diverged at, where it had none)."""

    @property
    def span(self) -> tuple[float, float]:
        """The first mean, and the last that is one of all runs."""
        return self.mean[0], self.mean[self.whole - 1 if self.whole > 1 else -1]


def band(tracks: Sequence[RunCurves], key: str, *, log: bool = False) -> Band | None:
    """The band of a key over the runs that recorded it; None where none did. Records that share a step count once: the last wins.

    Args:
        log: geometric means with intervals of the logarithms, as a logarithmic axis wants them; values that are not positive have no place.
    """
    having = [track for track in tracks if key in track.curves]
    if not having:
        return None
    at: dict[int, list[float]] = {}
    every = sorted({step for track in having for step, _ in track.curves[key]})
    for track in having:
        for step, value in _kept(track, key, every).items():
            at.setdefault(step, [])
            if math.isfinite(value) and (value > 0 or not log):
                at[step].append(math.log(value) if log else value)
    steps = [step for step in sorted(at) if at[step]]
    cells = [estimate(at[step]) for step in steps]
    whole = next((index for index, found in enumerate(cells) if found.n < len(having)), len(cells))

    def back(value: float | None, instead: float | None) -> float:
        value = instead if value is None else value
        if value is None:
            return math.nan
        return (math.inf if value > LARGEST_LOG else math.exp(value)) if log else value

    return Band(
        tuple(steps),
        tuple(back(found.mean, None) for found in cells),
        tuple(back(found.low, found.mean) for found in cells),
        tuple(back(found.high, found.mean) for found in cells),
        tuple(found.n for found in cells),
        len(having),
        whole,
        tuple(_end(track, key) for track in having if track.diverged_at_step is not None),
    )


def _kept(track: RunCurves, key: str, every: Sequence[int]) -> dict[int, float]:
    """The track's values by step; of one that stopped, its last one at every later step too."""
    values = dict(track.curves[key])
    if track.stopped and values:
        end = max(values)
        values |= {step: values[end] for step in every if step > end}
    return values


def _end(track: RunCurves, key: str) -> tuple[int, float]:
    finite = [(step, value) for step, value in track.curves[key] if math.isfinite(value)]
    return finite[-1] if finite else (track.diverged_at_step or 0, math.nan)
