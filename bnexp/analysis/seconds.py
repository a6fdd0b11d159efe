"""Seconds to target: steps to target times the time of a step. The two answer different questions, as a BN step costs more.

The step time is that of a run alone on the machine, measured elsewhere: runs that share a stack or a machine slow each other down.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

from bnexp.analysis import words
from bnexp.analysis.compare import Comparison
from bnexp.analysis.target import Quartiles, Ratio

NOTE = "The interval of a ratio in seconds is that of the ratio in steps: it does not include the uncertainty of the step times."

RESAMPLES = 10_000


class StepMs(NamedTuple):
    """Median, lower and upper quartile of an arm's step, in ms, and the median step of each of its turns: turn i of every arm was measured
    at about the same time. An older measurement has no turns."""

    median: float
    low: float
    high: float
    turns: tuple[float, ...] = ()


@dataclass(frozen=True)
class StepCost:
    """An arm's step time over the baseline's: the geometric mean of the ratio over the paired turns (of the medians, where there are no
    turns), with its 95 % interval over `turns` of them; None with fewer than two."""

    factor: float
    low: float | None
    high: float | None
    turns: int


@dataclass(frozen=True)
class InSeconds:
    """An arm against the baseline."""

    arm: str
    baseline: str
    step_cost: StepCost
    steps: Ratio
    """Steps to target of the baseline over those of the arm (`Versus.speedup`): above 1 the arm is faster."""
    seconds: Ratio
    """The same in seconds: `factor`, `mean`, `low` and `high` divided by the step cost; bound and p are those of the steps."""
    sentence: str


@dataclass(frozen=True)
class Seconds:
    """Each arm at its own best learning rate."""

    baseline: str
    step_ms: dict[str, StepMs]
    to_target: dict[str, Quartiles]
    """Seconds of training, infinite where the run missed the target."""
    versus: dict[str, InSeconds]
    note: str


def seconds_to_target(comparison: Comparison, step_ms: Mapping[str, StepMs]) -> Seconds:
    """s = steps to target x median step time / 1000, for the arms that have results.

    Args:
        step_ms: of each arm, its solo step in ms, at the comparison's batch size.

    Raises:
        ValueError: an arm with results has no step time, or one that is not 0 < lower quartile <= median <= upper quartile.
    """
    headline = comparison.headline
    for arm in headline.arms:
        if arm not in step_ms:
            raise ValueError(f"no step time of the arm '{arm}'")
        median, low, high, _ = step_ms[arm]
        if not 0 < low <= median <= high < math.inf:
            raise ValueError(f"step_ms['{arm}'] = {step_ms[arm]}: wanted are median, lower and upper quartile, all above 0")
    versus = {}
    for arm, found in headline.versus.items():
        cost = _cost(step_ms[arm], step_ms[comparison.baseline])
        ratio = _scaled(found.speedup, 1 / cost.factor)
        versus[arm] = InSeconds(arm, comparison.baseline, cost, found.speedup, ratio, "")
        versus[arm] = replace(versus[arm], sentence=words.in_seconds(versus[arm]))
    return Seconds(
        baseline=comparison.baseline,
        step_ms={arm: step_ms[arm] for arm in headline.arms},
        to_target={arm: _in_seconds(result.steps, step_ms[arm][0]) for arm, result in headline.arms.items()},
        versus=versus,
        note=NOTE,
    )


def _cost(arm: StepMs, baseline: StepMs) -> StepCost:
    """The interval is the percentile bootstrap's over turns, whose ratios hardly depend on each other: what slows the machine down for a
    while is in both arms' turns (Efron and Tibshirani 1993, chapter 13)."""
    import numpy as np  # a list of runs need not wait for it

    logs = np.log([a / b for a, b in zip(arm.turns, baseline.turns, strict=True)])
    if len(logs) < 2:
        return StepCost(arm.median / baseline.median, None, None, len(logs))
    generator = np.random.default_rng(0)
    means = np.concatenate([generator.choice(logs, (RESAMPLES // 10, len(logs))).mean(1) for _ in range(10)])  # few at once, for memory
    low, high = np.quantile(means, (0.025, 0.975))
    return StepCost(math.exp(logs.mean()), math.exp(low), math.exp(high), len(logs))


def _scaled(ratio: Ratio, scale: float) -> Ratio:
    factor, mean, low, high = (None if x is None else x * scale for x in (ratio.factor, ratio.mean, ratio.low, ratio.high))
    return replace(ratio, factor=factor, mean=mean, low=low, high=high)


def _in_seconds(steps: Quartiles, ms: float) -> Quartiles:
    low, median, high = (None if x is None else x * ms / 1000 for x in (steps.low, steps.median, steps.high))
    return replace(steps, low=low, median=median, high=high)
