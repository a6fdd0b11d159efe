"""When a metric is due: a pure function of the config and the budget, so that a resumed run measures at the same steps."""

from __future__ import annotations

import math

from bnexp.config import PROBED, MetricsConfig

MAX_SAMPLES = 50
LAST = 0.9
"""The last sample comes at this share of the budget: at its very end an annealed learning rate moves nothing that could be measured."""
ALLOWANCE_STEPS, ALLOWANCE_SHARE = 35.0, 0.014
"""`metrics.log_spaced=auto`: each sampled metric may cost so many training steps, and so large a share of the training."""
LEAST, LEAST_COSTLY, COSTLY, DEFAULT_STEPS = 12, 5, 20.0, 400
"""In a budget of `DEFAULT_STEPS` or more it has at least so many samples, whatever they cost: curves need them. One whose sample costs more
than `COSTLY` training steps has the second number. Shorter budgets have fewer in proportion."""


def log_spaced(count: int, last: int) -> list[int]:
    """`count` steps from 1 to `last`, evenly spaced in their logarithm as far as whole numbers allow; all, where there are fewer.

    Early on, where even spacing would name a step twice, each step is named once, and the rest is spread anew. One step is the middle one.
    """
    if last < 1 or count < 1:
        return []
    if count == 1:
        return [(last + 1) // 2]
    steps = [1]
    while len(steps) < min(count, last):
        left = min(count, last) - len(steps)
        steps.append(max(steps[-1] + 1, round(steps[-1] * (last / steps[-1]) ** (1 / left))))
    return steps


def sampled_steps(asked: int | str, cost: float, total: int) -> list[int]:
    """The steps at which a metric that costs `cost` training steps is measured, in a budget of `total` steps."""
    if not isinstance(asked, int):
        least = (LEAST if cost <= COSTLY else LEAST_COSTLY) * min(total, DEFAULT_STEPS) // DEFAULT_STEPS
        asked = max(1, least, min(MAX_SAMPLES, int((ALLOWANCE_STEPS + ALLOWANCE_SHARE * total) / cost)))
    return log_spaced(asked, math.ceil(LAST * total))


def probe_due(metrics: MetricsConfig, step: int, total: int, evaluated: bool) -> bool:
    """Whether the light metrics' pass of the probe batch is due after `step`: at initialization, at the end, and every `metrics.every`
    steps, or at evaluations."""
    if set(metrics.on).isdisjoint(PROBED):
        return False
    return step in (0, total) or (evaluated if metrics.every == "auto" else step % metrics.every == 0)


def curve_due(metrics: MetricsConfig, step: int, evaluated: bool) -> bool:
    """Whether the test curve has a point after `step`: at initialization and at evaluations."""
    return "test_curve" in metrics.on and (evaluated or step == 0)


def probed_steps(metrics: MetricsConfig, start: int, total: int) -> range:
    """The steps after `start` at which `metrics.every` asks for a probe pass, apart from evaluations."""
    if metrics.every == "auto" or set(metrics.on).isdisjoint(PROBED):
        return range(0)
    return range((start // metrics.every + 1) * metrics.every, total + 1, metrics.every)
