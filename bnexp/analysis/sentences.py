"""The sentences about results: what may be stated, and what is not shown. Everything here is computed from the data.

A difference is stated only where its test shows it (`pairs.Tested.shown`). Everything else is "no difference shown", with the difference
that so many seeds could have shown: absence of evidence is no evidence of absence.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from bnexp.analysis.failures import FailureRate
from bnexp.analysis.pairs import ENOUGH_SEEDS, Paired, Tested
from bnexp.analysis.part import Part
from bnexp.analysis.rates import StableLr
from bnexp.analysis.results import Aggregate, BatchCost, Comparison, Grid, InSeconds, SmallBatchCost, Versus
from bnexp.analysis.target import Ratio
from bnexp.analysis.wording import (
    bracket,
    count,
    decisive,
    evidence,
    factor,
    failed,
    in_points,
    interval,
    inverse,
    label,
    listed,
    mean_std,
    p_value,
    points,
    seeds,
)
from bnexp.config.fields import show


def question(part: Part) -> str:
    """What the part asks."""
    if part.grid is not None:
        return f"What does each of {count(len(part.grid.cells), 'setting')} score?"
    data, *others, baseline = part.runs[0].config.data.name, *map(label, part.arms.labels)
    sizes = listed(part.batch_sizes)
    if part.by_size:
        return f"What do small batches cost on {data}? Batch sizes {sizes}."
    if not others:
        return f"How does training {baseline} proceed on {data} at batch size {sizes}?"
    return f"Training {' and '.join(others)} against {baseline} on {data}, batch size {sizes}: which is better, and by how much?"


def answers(part: Part) -> list[str]:
    """What its runs say, a sentence each."""
    if part.grid is not None:
        return [_overview(part.grid)]
    if part.by_size:
        return [small_batches(cost)[0] for cost in part.small_batches]
    if part.comparison is None or len(part.arms.labels) == 1:
        return [_one_arm(part)]
    timed = part.seconds.versus.values() if part.seconds is not None else ()
    return [*verdict(part.comparison), *map(in_seconds, timed)]


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
        return text + (f" The difference is within the margin of {in_points(equal.margin)}." if equal is not None and equal.shown else "")
    if equal is not None and equal.shown:
        return (
            f"Test accuracy {a} and {b} is equivalent within the margin of {in_points(equal.margin)}{over} "
            f"(two one-sided tests, {p_value(equal.p)}): the difference is {points(pairs.difference)} points ({detail}){tuned}."
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
            first, low, value, high = b, *map(inverse, (ratio.high, ratio.factor, ratio.low))
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
    low, high, more = (ratio.low, ratio.high, arm) if ratio.low > 1 else (inverse(ratio.high), inverse(ratio.low), baseline)
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


def _one_arm(part: Part) -> str:
    """Of one arm at one batch size: what it scored at its best learning rate."""
    (arm,) = part.arms.labels
    tried = next(iter((part.tried or {}).values()))
    if tried.best.lr is None:
        return "No run has a result yet."
    one = next(one for one in tried.by_lr if one.lr == tried.best.lr)
    lost = f"; failed to train: {failed(one.failures)}" if one.failures.failed else ""
    return f"Training {label(arm)} gives {_score(one)} with running statistics at learning rate {one.lr:g}, n = {seeds(one.n)}{lost}."


def _score(one: Aggregate) -> str:
    found = one.accuracy["running"]
    if found.mean is None:
        return "no test accuracy"
    span = "" if found.low is None or found.high is None else f" (95 % interval {100 * found.low:.2f} to {100 * found.high:.2f})"
    return f"{100 * found.mean:.2f} % test accuracy{span}"


def _overview(found: Grid) -> str:
    """Which setting has the lowest validation loss, where the data are the same."""
    known = [one for one in found.cells if one.n and one.val_loss.mean is not None]
    if not known:
        return "No run has a result yet."
    if any(key.startswith("config.data.") for key in found.keys):
        return "They are on several data, and no one of them is the best."
    best = min(known, key=lambda one: math.inf if one.val_loss.mean is None else one.val_loss.mean)
    setting = ", ".join(f"{key.removeprefix('config.')}={show(value)}" for key, value in zip(found.keys, best.values, strict=True))
    accuracy = f"test accuracy {mean_std(best.accuracy['running'])} %, n = {seeds(best.n)}"
    name = f"The lowest mean validation loss has {setting}" if setting else "Mean validation loss"
    return f"{name}: {best.val_loss.mean:.4g}, {accuracy}."
