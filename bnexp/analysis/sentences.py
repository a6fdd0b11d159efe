"""The sentences about results: what may be stated, and what is not shown. Everything here is computed from the data.

A difference is stated only where its test shows it (`pairs.Tested.shown`). Everything else is "no difference shown", with the difference
that so many seeds could have shown: absence of evidence is no evidence of absence.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from bnexp.analysis.pairs import ENOUGH_SEEDS
from bnexp.norms import NORMS

if TYPE_CHECKING:
    from bnexp.analysis.batch_size import BatchCost, SmallBatchCost
    from bnexp.analysis.compare import Comparison, Versus
    from bnexp.analysis.failures import FailureRate
    from bnexp.analysis.pairs import Paired, Tested
    from bnexp.analysis.rates import StableLr
    from bnexp.analysis.seconds import InSeconds
    from bnexp.analysis.target import Ratio

HOLM = "Holm's p"


def label(arm: str) -> str:
    """An arm as a reader knows it: `with BN`, `without BN`, `with group`."""
    return NORMS[arm].label if arm in NORMS else f"with {arm}"


def verdict(comparison: Comparison) -> list[str]:
    """What the comparison states of each arm: test accuracy, failures, steps to target, largest stable learning rate; a sentence each."""
    headline, baseline = comparison.headline, comparison.baseline
    if len(comparison.arms) == 1:
        return [f"There is one arm only ({label(baseline)}): nothing to compare."]
    if baseline not in headline.arms:
        return [f"No run {label(baseline)} has a result yet: nothing to compare with."]
    said = []
    for arm in comparison.arms[1:]:
        if arm not in headline.versus:
            said.append(f"No run {label(arm)} has a result yet.")
            continue
        versus = headline.versus[arm]
        a, b = headline.arms[arm], headline.arms[baseline]
        said += [about_accuracy(versus, len(headline.versus), _tuned(comparison, arm)), *_about_failures(versus, a.failures, b.failures)]
        said += [_about_ratio(arm, baseline, versus.speedup, "steps")]
        if len(comparison.best_lr[arm].by_lr) > 1:
            said += _about_stable(arm, baseline, comparison.stable_lr[arm], comparison.stable_lr[baseline], comparison.stable_factor[arm])
    return said


def about_accuracy(versus: Versus, arms: int = 1, tuned: str = "") -> str:
    """The headline: the difference in test accuracy for images of this kind, on these images, equivalent, or not shown."""
    pairs, here = versus.headline, versus.accuracy["running"]
    a, b = label(versus.arm), label(versus.baseline)
    if pairs.difference is None:
        return f"No seed trained both {a} and {b}: there is no accuracy to compare."
    over, amount = _over(pairs), f"{points(abs(pairs.difference)).lstrip('+')} points {'above' if pairs.difference > 0 else 'below'}"
    detail, only_here = evidence(pairs, arms), "" if pairs is here else f"; on these images alone {interval(here, arms)}"
    equal = versus.equivalence
    if pairs.n < ENOUGH_SEEDS:
        difference = f"test accuracy {a} minus {b} is {points(pairs.difference)} points ({detail}){tuned}"
        return f"n = {seeds(pairs.n)}: too few for a statement; {difference}."
    if pairs.shown:
        text = f"Test accuracy {a} is {amount} that {b}{over} ({detail}{only_here}){tuned}."
        return text + (f" The difference is within the margin of {_margin(equal.margin)}." if equal is not None and equal.shown else "")
    if equal is not None and equal.shown:
        return (
            f"Test accuracy {a} and {b} is equivalent within the margin of {_margin(equal.margin)}{over} "
            f"(two one-sided tests, {_p(equal.p)}): the difference is {points(pairs.difference)} points ({detail}){tuned}."
        )
    if here.shown:
        return (
            f"On these {pairs.n_images:,} test images, test accuracy {a} is {amount} that {b} ({evidence(here, arms)}){tuned}; "
            f"for other images of this kind no difference is shown ({interval(pairs, arms)}, {decisive(pairs)}); "
            f"{seeds(pairs.n)} on so many images can show {_can(pairs)}."
        )
    return (
        f"No difference in test accuracy is shown {a} against {b}{over}: {points(pairs.difference)} points ({detail}{only_here}){tuned}; "
        f"{seeds(pairs.n)} can show {_can(pairs)}."
    )


def in_seconds(found: InSeconds) -> str:
    """What a step of the arm costs, and which arm is at the target sooner in seconds."""
    cost, a, b = found.step_cost, label(found.arm), label(found.baseline)
    evidence = f"95 % interval {cost.low:.3g} to {cost.high:.3g}, {count(cost.turns, 'turn')}"
    if cost.shown:
        text = f"A step {a} takes {cost.factor:.3g} times as long as one {b} ({evidence})"
    else:
        text = f"No difference in the time of a step is shown {a} against {b} ({cost.factor:.3g} times; {evidence})"
    return f"{text}. {_about_ratio(found.arm, found.baseline, found.seconds, 'seconds')}"


def small_batches(cost: SmallBatchCost) -> tuple[str, str]:
    """Do small batches cost accuracy here: each seed at its own learning rates, and all at the reference's best one?"""
    if cost.reference is None:
        nothing = f"There are fewer than two batch sizes {label(cost.arm)}: nothing to compare."
        return nothing, nothing
    tuned = _cost(cost, cost.of("tuned"), "each seed at the learning rate that it chose")
    same = _cost(cost, cost.of("same-lr"), f"all at its best learning rate {cost.same_lr:g}")
    if cost.absent and cost.of("same-lr"):
        same += f" Batch {listed(cost.absent)} has no result at it."
    return tuned, same


def evidence(pairs: Paired, arms: int = 1) -> str:
    """`95 % interval -0.40 to +1.20, n = 10 seeds, p = 0.021`; of several arms the interval holds for all at once."""
    text = f"{interval(pairs, arms if pairs.primary else 1)}, n = {seeds(pairs.n)}"
    return text if pairs.p is None else f"{text}, {decisive(pairs)}"


def decisive(test: Tested) -> str:
    """`p = 0.021`; where Holm's p decides, `p = 0.021, Holm's p = 0.13`."""
    if test.p is None:
        return "no p"
    return _p(test.p) + ("" if test.primary or test.p_holm is None else f", {_p(test.p_holm, HOLM)}")


def interval(pairs: Paired, arms: int = 1) -> str:
    """`95 % interval -0.40 to +1.20`, in points."""
    if pairs.low is None or pairs.high is None:
        return "no interval"
    return f"{'95 % interval' if arms == 1 else f'simultaneous 95 % interval of {arms} arms'} {points(pairs.low)} to {points(pairs.high)}"


def factor(ratio: Ratio) -> str:
    """`1.8x, 0.9x to 4.8x`: a ratio with its interval."""
    if ratio.factor is None:
        return "n/a"
    span = "" if ratio.low is None or ratio.high is None else f", {times(ratio.low)} to {times(ratio.high)}"
    return f"{times(ratio.factor)}{span}"


def times(value: float) -> str:
    return "inf" if math.isinf(value) else f"{value:.3g}x"


def bracket(found: StableLr) -> str:
    """`between 1 and 3`, or an open end."""
    if found.lr is None or found.unstable_lr is None:
        return "unknown"
    if found.lr == 0:
        return f"below {found.unstable_lr:g}"
    return f"at least {found.lr:g}" if found.at_edge else f"between {found.lr:g} and {found.unstable_lr:g}"


def failed(rate: FailureRate) -> str:
    """`3 of 10 (2 diverged, 1 at chance; 95 % interval 7 to 65 %)`."""
    if rate.low is None or rate.high is None:
        return "no runs"
    kinds = [f"{rate.diverged} diverged"] * bool(rate.diverged) + [f"{rate.at_chance} at chance"] * bool(rate.at_chance)
    detail = ", ".join(kinds) + ("; " if kinds else "")
    return f"{rate.failed} of {rate.n} ({detail}95 % interval {100 * rate.low:.0f} to {100 * rate.high:.0f} %)"


def _tuned(comparison: Comparison, arm: str) -> str:
    """How the learning rates of the two arms were chosen."""
    sides = [comparison.headline.arms[name] for name in (arm, comparison.baseline)]
    if any(len(comparison.best_lr[side.arm].by_lr) > 1 for side in sides):
        return "; each seed at the learning rate that it chose by validation loss"
    a, b = ([f"{lr:g}" for lr in side.picked] or ["?"] for side in sides)
    return (
        f"; at learning rate {a[0]}" if a == b else f"; at learning rates {a[0]} ({label(arm)}) and {b[0]} ({label(comparison.baseline)})"
    )


def _about_failures(versus: Versus, a: FailureRate, b: FailureRate) -> list[str]:
    if not a.failed and not b.failed:
        return []
    sides = f"{failed(a)} {label(versus.arm)}, {failed(b)} {label(versus.baseline)}; Fisher's exact test, {decisive(versus.failures)}"
    if versus.failures.shown:
        more = versus.arm if versus.failures.rate > versus.failures.baseline_rate else versus.baseline
        return [f"Training fails more often {label(more)}: {sides}."]
    can, rate = versus.failures.detectable, 100 * min(versus.failures.rate, versus.failures.baseline_rate)
    found = (
        "so few runs can show none"
        if can is None
        else f"so many runs can show {100 * can:.0f} % against {rate:.0f} % ({_power(versus.failures)})"
    )
    return [f"No difference in how often training fails is shown: {sides}; {found}."]


def _about_ratio(arm: str, baseline: str, ratio: Ratio, unit: str) -> str:
    a, b = label(arm), label(baseline)
    if ratio.factor is None:
        return f"No seed has runs both {a} and {b}: there are no {unit} to target to compare."
    if ratio.misses == (ratio.n, ratio.n):
        return f"No run reaches the target, neither {a} nor {b}: there are no {unit} to target to compare."
    missed = [f"{n} of {seeds(ratio.n)} never reach it {side}" for n, side in zip(ratio.misses, (b, a), strict=True) if n]
    detail = "; ".join([f"n = {seeds(ratio.n)}", *missed, decisive(ratio)])
    if ratio.shown and ratio.low is not None and ratio.high is not None:
        first, low, value, high = (a, ratio.low, ratio.factor, ratio.high)
        if ratio.high < 1:
            first, low, value, high = b, *map(_inverse, (ratio.high, ratio.factor, ratio.low))
        amount = f"at least {low:.3g}" if math.isinf(value) or math.isinf(high) else f"{value:.3g}"
        span = "" if math.isinf(value) or math.isinf(high) else f"95 % interval {low:.3g} to {high:.3g}, "
        return f"The target is reached in {amount} times fewer {unit} {first} ({span}{detail}), each seed at its fastest learning rate."
    few = "too few seeds for a statement" if ratio.n < ENOUGH_SEEDS else "no difference shown"
    return f"{unit.capitalize()} to target: {few} ({factor(ratio)}; {detail}); {_can_factor(ratio)}."


def _about_stable(arm: str, baseline: str, a: StableLr, b: StableLr, ratio: Ratio) -> list[str]:
    if a.lr is None or b.lr is None:
        return []
    text = f"The largest stable learning rate is {bracket(a)} {label(arm)} and {bracket(b)} {label(baseline)}"
    if a.at_edge and b.at_edge:
        return [f"{text}: the largest learning rate tried is stable in both arms, and larger ones would have to be tried to compare them."]
    if not ratio.shown or ratio.low is None or ratio.high is None:
        return [f"{text}: no difference shown ({decisive(ratio)}); {_can_factor(ratio)}."]
    low, high, more = (ratio.low, ratio.high, arm) if ratio.low > 1 else (_inverse(ratio.high), _inverse(ratio.low), baseline)
    amount = f"at least {low:.3g}" if math.isinf(high) else f"{low:.3g} to {high:.3g}"
    return [f"{text}: a factor of {amount} in favour of training {label(more)} ({decisive(ratio)})."]


def _cost(found: SmallBatchCost, costs: Sequence[BatchCost], rates: str) -> str:
    arm = label(found.arm)
    if not any(cost.pairs.n or cost.failures.n for cost in costs):
        return f"No batch size below the reference {found.reference} has runs {arm} to pair with it, {rates}: nothing to compare."
    if found.stopped:  # all end near the target, whatever the batch size did to them
        return (
            f"Accuracies of runs that stopped at their target do not say what small batches cost ({arm}, {rates}); see the steps to target."
        )

    worse, better = ([cost for cost in costs if cost.pairs.shown and sign * (cost.pairs.difference or 0.0) > 0] for sign in (-1, 1))
    fails = [cost for cost in costs if cost.failures.shown and cost.failures.rate > cost.failures.baseline_rate]
    said = [f"Small batches cost accuracy {arm}, at batch {_sizes(worse)}"] * bool(worse)
    said += [f"Training fails more often {arm} at batch {_sizes(fails)}"] * bool(fails)
    said += [f"Accuracy {arm} is better at batch {_sizes(better)}"] * bool(better)
    against = f"against batch {found.reference}, {rates}, test accuracy with {found.stats} statistics on these test images"
    detail = f"{against}: {', '.join(map(_one_cost, costs))}"
    if said:
        return f"{'. '.join(said)}; {detail}."
    if (most := max(cost.pairs.n for cost in costs)) < ENOUGH_SEEDS:
        return f"n = {seeds(most)}: too few to state whether small batches cost accuracy {arm}; {detail}."
    can = max(cost.pairs.detectable or math.inf for cost in costs)
    return (
        f"No difference between batch sizes is shown {arm}; {detail}; so many seeds can show "
        f"{'none' if math.isinf(can) else f'{100 * can:.2f} points ({_power(costs[0].pairs)})'}."
    )


def _one_cost(cost: BatchCost) -> str:
    """`batch 2: -5.10 points (95 % interval ..., 3 of 10 runs failed, p = 0.21)`."""
    failed, pairs = cost.failures, cost.pairs
    lost = f"{100 * failed.rate:.0f} % of its runs failed, {decisive(failed)}" if failed.rate > failed.baseline_rate else ""
    if pairs.difference is None:
        return f"batch {cost.batch_size}: no pairs" + f" ({lost})" * bool(lost)
    return f"batch {cost.batch_size}: {points(pairs.difference)} points ({evidence(pairs)}" + f"; {lost}" * bool(lost) + ")"


def _sizes(costs: Sequence[BatchCost]) -> str:
    return listed([cost.batch_size for cost in costs])


def _over(pairs: Paired) -> str:
    return " on these test images" if pairs.n_images is None else f", over seeds and the {pairs.n_images:,} test images"


def _can(pairs: Paired) -> str:
    """What difference so many seeds and images could have shown."""
    return "no difference" if pairs.detectable is None else f"{100 * pairs.detectable:.2f} points ({_power(pairs)})"


def _can_factor(ratio: Ratio) -> str:
    """What factor so many seeds could have shown; by signs, what share of the seeds must have one arm ahead."""
    if ratio.detectable is not None:
        return f"{seeds(ratio.n)} can show a factor of {ratio.detectable:.3g} ({_power(ratio)})"
    if ratio.detectable_share is None:
        return f"{seeds(ratio.n)} can show none"
    return f"{seeds(ratio.n)} can show that one arm is ahead at {100 * ratio.detectable_share:.0f} % of all seeds ({_power(ratio)})"


def _power(test: Tested) -> str:
    """Of which test the smallest detectable difference is: of this one alone, without the correction for the others."""
    return "with 80 % power" if test.primary or test.p_holm is None else "with 80 % power, before Holm's correction"


def _inverse(ratio: float) -> float:
    return 1 / ratio if ratio else math.inf


def _margin(share: float) -> str:
    return f"{100 * share:g} points"


def _p(p: float, name: str = "p") -> str:
    return f"{name} = {p:.3g}" if p >= 1e-4 else f"{name} < 0.0001"


def points(share: float) -> str:
    """A difference of accuracies in percentage points: `+1.23`."""
    text = f"{100 * share:+.2f}"
    return "0.00" if float(text) == 0 else text


def percent(share: float) -> str:
    return f"{100 * share:.2f} %"


def seeds(n: int) -> str:
    return count(n, "seed")


def count(n: int, noun: str, plural: str | None = None) -> str:
    """`1 seed`, `1,000 seeds`."""
    return f"{n:,} {noun if n == 1 else plural or noun + 's'}"


def listed(values: Sequence[int]) -> str:
    return ", ".join(map(str, values))


def beyond_fit(result: Mapping[str, Any]) -> str:
    """The sentence on batch sizes that were measured and are not in the slope; nothing where all are."""
    most = result["slope_up_to"]
    if most is None or not any(line["batch"] > most for layer in result["layers"] for line in layer["lines"]):
        return ""
    return (
        f" Sizes above {most:,}, half of the training images, are not in the slope: without replacement the variance falls to 0 at "
        f"{result['images']:,}."
    )
