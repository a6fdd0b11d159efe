"""Seconds to target: steps to target times the time of a step. The two answer different questions, as a BN step costs more.

The step time is that of a run alone on the machine, measured elsewhere: runs that share a stack or a machine slow each other down.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from bnexp.analysis import words
from bnexp.analysis.compare import Comparison
from bnexp.analysis.target import Quartiles, Ratio

NOTE = "The interval of a ratio in seconds is that of the ratio in steps: it does not include the uncertainty of the step times."

StepMs = tuple[float, float, float]
"""Median, lower and upper quartile of an arm's step, in ms."""


@dataclass(frozen=True)
class StepCost:
    """An arm's step time over the baseline's. `factor` is the quotient of the medians."""

    factor: float
    low: float
    """The arm's lower quartile over the baseline's upper one; `high` the other way round: the widest that the quartiles allow."""
    high: float


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
        step_ms: of each arm, the median, lower and upper quartile of its solo step in ms, at the comparison's batch size.

    Raises:
        ValueError: an arm with results has no step time, or one that is not 0 < lower quartile <= median <= upper quartile.
    """
    headline = comparison.headline
    for arm in headline.arms:
        if arm not in step_ms:
            raise ValueError(f"no step time of the arm '{arm}'")
        median, low, high = step_ms[arm]
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
    return StepCost(arm[0] / baseline[0], arm[1] / baseline[2], arm[2] / baseline[1])


def _scaled(ratio: Ratio, scale: float) -> Ratio:
    factor, mean, low, high = (None if x is None else x * scale for x in (ratio.factor, ratio.mean, ratio.low, ratio.high))
    return replace(ratio, factor=factor, mean=mean, low=low, high=high)


def _in_seconds(steps: Quartiles, ms: float) -> Quartiles:
    low, median, high = (None if x is None else x * ms / 1000 for x in (steps.low, steps.median, steps.high))
    return replace(steps, low=low, median=median, high=high)
