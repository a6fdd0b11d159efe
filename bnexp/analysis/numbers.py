"""The few numbers with intervals that stand beside a part's answer."""

from __future__ import annotations

import math
from dataclasses import dataclass

from bnexp.analysis.pairs import Estimate, Tested
from bnexp.analysis.part import Part
from bnexp.analysis.results import Comparison, Versus
from bnexp.analysis.target import Ratio
from bnexp.analysis.wording import interval, inverse, label, points, seeds, times

MOST = 4


@dataclass(frozen=True)
class Number:
    """A number, what it is, and how certain it is; all of them as text."""

    value: str
    name: str
    span: str


def numbers(part: Part) -> list[Number]:
    """At most `MOST`: of two arms their differences; of one or several arms, and of batch sizes, what each arm scored."""
    if part.by_size:
        return [number for cost in part.small_batches if cost.stats == "running" for number in _costs(part, cost.arm)][:MOST]
    if part.comparison is None:
        return []
    comparison = part.comparison
    others = [arm for arm in comparison.arms[1:] if arm in comparison.headline.versus]
    if len(others) == 1:
        return _differences(part, comparison, comparison.headline.versus[others[0]])[:MOST]
    found = comparison.headline.arms
    scored = [_scored(found[arm].accuracy["running"], f"test accuracy {label(arm)}") for arm in part.arms.labels if arm in found]
    if len(found) > 1:
        return scored[:MOST]
    if not found:
        return []
    (arm,) = found
    at_best = [one for (name, _), tried in (part.tried or {}).items() for one in tried.by_lr if name == arm and one.lr == tried.best.lr]
    only = at_best[0] if len(at_best) == 1 else found[arm]  # as the answer: at the best learning rate
    steps = only.steps
    target = "unknown" if steps.median is None else "never" if math.isinf(steps.median) else f"{steps.median:,.0f}"
    return [
        _scored(only.accuracy["running"], f"test accuracy {label(arm)}"),
        Number(target, "steps to the target, median", f"reached by {steps.reached} of {seeds(steps.n)}"),
        _scored(only.gap, "generalization gap (training minus test accuracy)"),
    ]


def _differences(part: Part, comparison: Comparison, versus: Versus) -> list[Number]:
    arm, baseline = versus.arm, versus.baseline
    sides = f"{label(arm)} - {label(baseline)}"
    accuracy, stable = versus.headline, comparison.stable_lr
    found = []
    if accuracy.difference is not None:
        found.append(
            Number(
                f"{points(accuracy.difference)} points",
                f"test accuracy, {sides}",
                f"{interval(accuracy)}, {seeds(accuracy.n)}{_undecided(accuracy)}",
            )
        )
    if (number := _ratio(versus.speedup, "fewer steps to the target", "more steps to the target", label(arm))) is not None:
        found.append(number)
    larger = comparison.stable_factor[arm]
    if larger.low is not None and larger.high is not None and (lrs := [stable[name].lr for name in (arm, baseline)]) and all(lrs):
        span = f"interval {times(larger.low)} to {times(larger.high)}{_undecided(larger)}"
        found.append(
            Number(times((lrs[0] or 0.0) / (lrs[1] or 1.0)), f"largest stable learning rate, {label(arm)} over {label(baseline)}", span)
        )
    if part.seconds is not None and arm in part.seconds.versus:
        cost = part.seconds.versus[arm].step_cost
        found.append(Number(times(cost.factor), f"time of a step {label(arm)}", f"95 % interval {times(cost.low)} to {times(cost.high)}"))
    if versus.gap.difference is not None:
        found.append(Number(f"{points(versus.gap.difference)} points", f"generalization gap, {sides}", interval(versus.gap)))
    return found


def _costs(part: Part, arm: str) -> list[Number]:
    """The test accuracy of an arm at its smallest and its largest batch size."""
    having = [one for one in part.by_size if arm in one.headline.arms]
    ends = list(dict.fromkeys((having[0].batch_sizes[0], having[-1].batch_sizes[0]))) if having else []
    cells = {one.batch_sizes[0]: one.headline.arms[arm].accuracy["running"] for one in having}
    return [_scored(cells[size], f"test accuracy {label(arm)}, batch {size}") for size in ends]


def _scored(found: Estimate, name: str) -> Number:
    """The mean of shares over seeds, in percent."""
    if found.mean is None:
        return Number("n/a", name, seeds(found.n))
    span = "" if found.low is None or found.high is None else f"95 % interval {100 * found.low:.2f} to {100 * found.high:.2f} %, "
    return Number(f"{100 * found.mean:.2f} %", name, f"{span}{seeds(found.n)}")


def _ratio(ratio: Ratio, fewer: str, more: str, arm: str) -> Number | None:
    """A ratio that is above 1 where the arm needs fewer, turned where it needs more; None without a finite factor and interval."""
    if ratio.factor is None or ratio.low is None or ratio.high is None or not 0 < ratio.factor < math.inf:
        return None
    factor, low, high, name = ratio.factor, ratio.low, ratio.high, fewer
    if factor < 1:
        factor, low, high, name = 1 / factor, inverse(high), inverse(low), more
    span = f"95 % interval {times(low)} to {times(high)}, {seeds(ratio.n)}{_undecided(ratio)}"
    return Number(times(factor), f"{name} {arm}", span)


def _undecided(test: Tested) -> str:
    """What the answer says of a test that shows nothing."""
    return "" if test.shown else "; no difference shown"
