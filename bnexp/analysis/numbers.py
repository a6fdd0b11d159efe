"""The few numbers with intervals that stand beside a part's answer."""

from __future__ import annotations

from dataclasses import dataclass

from bnexp.analysis.pairs import Estimate
from bnexp.analysis.part import Part
from bnexp.analysis.results import Comparison, Versus
from bnexp.analysis.target import Ratio
from bnexp.analysis.wording import bracket, interval, label, points, seeds, times

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
    (only,) = found.values()
    steps = only.steps
    target = "unknown" if steps.median is None else f"{steps.median:,.0f}"
    return [
        *scored,
        Number(target, "steps to the target, median", f"{steps.reached} of {seeds(steps.n)} reach it"),
        _scored(only.gap, "generalization gap (training minus test accuracy)"),
    ]


def _differences(part: Part, comparison: Comparison, versus: Versus) -> list[Number]:
    arm, baseline = versus.arm, versus.baseline
    sides = f"{label(arm)} - {label(baseline)}"
    accuracy, stable = versus.headline, comparison.stable_lr
    found = []
    if accuracy.difference is not None:
        found.append(
            Number(f"{points(accuracy.difference)} points", f"test accuracy, {sides}", f"{interval(accuracy)}, {seeds(accuracy.n)}")
        )
    if versus.speedup.factor is not None:
        found.append(Number(times(versus.speedup.factor), f"fewer steps to the target {label(arm)}", _between(versus.speedup)))
    if (lrs := [stable[name].lr for name in (arm, baseline)]) and all(lrs):
        span = f"{bracket(stable[arm])} {label(arm)}, {bracket(stable[baseline])} {label(baseline)}"
        found.append(Number(times((lrs[0] or 0.0) / (lrs[1] or 1.0)), f"largest stable learning rate {label(arm)}", span))
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


def _between(ratio: Ratio) -> str:
    if ratio.low is None or ratio.high is None:
        return seeds(ratio.n)
    return f"95 % interval {times(ratio.low)} to {times(ratio.high)}, {seeds(ratio.n)}"
