"""Seconds to target: steps to target times the time of a step. The two answer different questions, as a BN step costs more.

The step time is that of a run alone on the machine, measured in turns that alternate between the arms: runs that share a stack or a machine
slow each other down, and a machine has better and worse minutes.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace

from bnexp.analysis.pairs import from_t
from bnexp.analysis.results import Comparison, InSeconds, Seconds, StepCost, StepMs
from bnexp.analysis.target import Quartiles, Ratio, ratio

RESAMPLES = 10_000


def seconds_to_target(comparison: Comparison, step_ms: Mapping[str, StepMs]) -> Seconds:
    """s = steps to target x median step time / 1000, for the arms that have results.

    Args:
        step_ms: of each arm, the median step of each turn, at the comparison's batch size.

    Raises:
        ValueError: an arm with results has no step times, one that is not above 0, or another number of turns than the baseline.
    """
    headline = comparison.headline
    for arm in headline.arms:
        if not step_ms.get(arm):
            raise ValueError(f"no step time of the arm '{arm}'")
        if not all(0 < ms < math.inf for ms in step_ms[arm]):
            raise ValueError(f"step_ms['{arm}'] = {step_ms[arm]}: step times are above 0")
    median = {arm: statistics.median(step_ms[arm]) for arm in headline.arms}
    versus = {}
    for arm, found in headline.versus.items():
        cost = step_cost(step_ms[arm], step_ms[comparison.baseline])
        versus[arm] = InSeconds(arm, comparison.baseline, cost, in_seconds(found.speedup, cost))
    to_target = {arm: _in_seconds(result.steps, median[arm]) for arm, result in headline.arms.items()}
    return Seconds(comparison.baseline, median, to_target, versus)


def step_cost(arm: Sequence[float], baseline: Sequence[float]) -> StepCost:
    """The ratio of two arms' step times over turns that were measured side by side: their geometric mean with a 95 % bootstrap interval,
    the same numbers each time (a fixed generator).

    Percentiles are expanded to those that make the interval as wide as Student's t would (Hesterberg 2015, The American Statistician 69):
    the plain ones are too narrow by sqrt((n - 1) / n) and by the normal in t's place.

    Raises:
        ValueError: the arms have different numbers of turns.
    """
    import numpy as np
    from scipy.special import ndtr, stdtrit

    if len(arm) != len(baseline):
        raise ValueError(f"{len(arm)} turns of the arm and {len(baseline)} of the baseline: turns are paired")
    logs = np.log(np.asarray(arm) / np.asarray(baseline))
    means = np.random.default_rng(0).choice(logs, (RESAMPLES, len(logs))).mean(1)
    n = len(logs)
    tail = float(ndtr(-math.sqrt(n / (n - 1)) * stdtrit(n - 1, 0.975))) if n > 1 else 0.025
    low, high = np.quantile(means, (tail, 1 - tail))
    return StepCost(math.exp(logs.mean()), math.exp(low), math.exp(high), len(logs))


def in_seconds(steps: Ratio, cost: StepCost) -> Ratio:
    """The ratio of seconds: that of the steps over the step's cost, with both uncertainties, on logarithms.

    Method `t`: the distances of both intervals from their estimates add in squares (MOVER, Zou and Donner 2008, Statistics in Medicine 27),
    and p is that of the t test whose interval ends there. Method `sign`: the seeds' brackets grow by the cost's interval.
    """
    logs = tuple((mid - math.log(cost.factor), least - math.log(cost.high), most - math.log(cost.low)) for mid, least, most in steps.logs)
    if steps.method != "t":
        return replace(ratio(logs, by_sign=steps.method == "sign"), misses=steps.misses, dropped=steps.dropped)
    assert steps.factor is not None
    assert steps.low is not None
    assert steps.high is not None
    estimate, center = math.log(steps.factor / cost.factor), math.log(steps.factor)
    low = estimate - math.hypot(center - math.log(steps.low), math.log(cost.high / cost.factor))
    high = estimate + math.hypot(math.log(steps.high) - center, math.log(cost.factor / cost.low))
    toward_one = estimate - low if estimate > 0 else high - estimate
    unit = from_t(
        steps.n, 0.0, 1.0, steps.n - 1
    )  # the quantile of the interval, and the smallest detectable difference, in standard errors
    assert unit.high is not None
    assert unit.detectable is not None
    se = toward_one / unit.high
    test = from_t(steps.n, estimate, se, steps.n - 1)
    found = math.exp(unit.detectable * se)
    return replace(
        steps, p=test.p, factor=math.exp(estimate), low=math.exp(low), high=math.exp(high), detectable=found, logs=logs, p_holm=None
    )


def _in_seconds(steps: Quartiles, ms: float) -> Quartiles:
    low, median, high = (None if x is None else x * ms / 1000 for x in (steps.low, steps.median, steps.high))
    return replace(steps, low=low, median=median, high=high)
