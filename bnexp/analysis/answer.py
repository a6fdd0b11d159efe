"""The answer of a part in short sentences with their numbers, what changes most first; `sentences.answers` has the tests behind them.

Whether a difference is stated is decided by its test alone. How much it is, for the order, is the logarithm of a ratio: of learning rates,
of steps, of shares of wrong answers, of failures.
"""

from __future__ import annotations

import math
from dataclasses import replace

from bnexp.analysis.pairs import ENOUGH_SEEDS
from bnexp.analysis.part import Part
from bnexp.analysis.rates import StableLr
from bnexp.analysis.results import BatchCost, Comparison, SmallBatchCost, Versus
from bnexp.analysis.sentences import answers, small_batches, verdict
from bnexp.analysis.wording import count, in_points, interval, inverse, label, listed, points, seeds

Sentence = tuple[float, str]
"""How much changes (0: no difference is shown), and the sentence."""


def answer(part: Part) -> list[str]:
    """What the part shows, in the order of how much it is; where there is nothing to compare, the one sentence that there is."""
    if part.by_size:
        return [_small_batches(cost) for cost in part.small_batches]
    comparison = part.comparison
    if part.grid is not None or comparison is None or len(part.arms.labels) == 1:
        return answers(part)
    if comparison.baseline not in comparison.headline.arms:
        return verdict(comparison)
    found: list[Sentence] = []
    for arm in comparison.arms[1:]:
        if (versus := comparison.headline.versus.get(arm)) is None:
            found.append((0.0, f"No run {label(arm)} has a result yet."))
        else:
            found += [
                *_stable(comparison, arm),
                _accuracy(comparison, versus),
                _steps(part, comparison, versus),
                *_failures(comparison, versus),
            ]
    return [text for _, text in sorted(found, key=lambda sentence: -sentence[0])]


def _stable(comparison: Comparison, arm: str) -> list[Sentence]:
    """How much larger the learning rates are that work; nothing where one rate was tried."""
    a, b, ratio = comparison.stable_lr[arm], comparison.stable_lr[comparison.baseline], comparison.stable_factor[arm]
    if a.lr is None or b.lr is None or len(comparison.best_lr[arm].by_lr) < 2:
        return []
    if ratio.shown and ratio.low is not None and a.lr != b.lr:
        (more, high), (other, low) = ((arm, a), (comparison.baseline, b)) if ratio.low > 1 else ((comparison.baseline, b), (arm, a))
        assert high.lr is not None
        if not low.lr:
            most = "" if all(not rate for rate, _ in low.by_seed.values()) else "for most seeds "
            text = f"Training works at learning rates up to {high.lr:g} {label(more)}, and {most}at none of those tried {label(other)}."
            return [(math.inf, text)]
        least = ratio.low if more == arm else inverse(ratio.high or math.inf)
        amount = f"at least {least:.3g}" if high.at_edge else f"up to {high.lr / low.lr:.3g}"
        sides = f"{high.lr:g} against {low.lr:g}{_than(comparison, other, ' ')}"
        return [(math.log(high.lr / low.lr), f"{_begin(more)}, training works at learning rates {amount} times larger ({sides}).")]
    if a.at_edge and b.at_edge:
        return [(0.0, f"Training works {label(arm)} and {label(comparison.baseline)} up to the largest learning rate tried ({a.lr:g}).")]
    sides = f"{_works(a)} {label(arm)}, {_works(b)} {label(comparison.baseline)}"
    return [(0.0, f"Largest learning rate that works: no difference shown ({sides}).")]


def _works(found: StableLr) -> str:
    """The largest learning rate that works, of those tried."""
    return "none of those tried" if not found.lr else f"{'at least ' * found.at_edge}{found.lr:g}"


def _accuracy(comparison: Comparison, versus: Versus) -> Sentence:
    """Test accuracy at the end of training, each seed at the rate that it chose."""
    pairs, here = versus.headline, versus.accuracy["running"]
    a, b = versus.arm, versus.baseline
    if pairs.difference is None:
        return 0.0, f"Final accuracy: no seed trained both {label(a)} and {label(b)}."
    arms = len(comparison.headline.versus) if pairs.primary else 1
    turned = replace(pairs, low=_minus(pairs.high), high=_minus(pairs.low))
    span = f"{interval(pairs if pairs.difference > 0 else turned, arms)}, {seeds(pairs.n)}"  # of the arm that is ahead
    found = f"{points(pairs.difference)} points {label(a)}, {interval(pairs, arms)}, {seeds(pairs.n)}"
    ahead, behind = (a, b) if pairs.difference > 0 else (b, a)
    more = f"{_size(pairs.difference)} points higher {label(ahead)}{_than(comparison, behind, ' than ')}"
    where = " on these test images" if pairs.n_images is None else ""
    equal = versus.equivalence
    if pairs.n < ENOUGH_SEEDS:
        few = f"{seeds(pairs.n)} {'is' if pairs.n == 1 else 'are'} too few for a statement"
        return 0.0, f"Final accuracy: {few} ({points(pairs.difference)} points {label(a)})."
    wrong = [1 - (comparison.headline.arms[arm].accuracy["running"].mean or 0.0) for arm in (a, b)]
    size = abs(math.log(wrong[0] / wrong[1])) if all(wrong) else math.inf
    if pairs.shown:
        within = f", which is within the margin of {in_points(equal.margin)}" if equal is not None and equal.shown else ""
        return size, f"Final accuracy{where} is {more} ({span}){within}."
    if equal is not None and equal.shown:
        return 0.0, f"Final accuracy{where} is equivalent within {in_points(equal.margin)} ({found})."
    if here.shown:
        return size, f"Final accuracy is {more} on these {pairs.n_images:,} test images; for others no difference is shown ({found})."
    most = None if pairs.low is None or pairs.high is None else max(abs(pairs.low), abs(pairs.high))
    beyond = "" if most is None else f"; the data cannot exclude a difference of {_size(most)} points"
    return 0.0, f"Final accuracy{where}: no difference shown ({found}){beyond}."


def _steps(part: Part, comparison: Comparison, versus: Versus) -> Sentence:
    """Steps to target, each seed at its fastest learning rate, and what a step costs where that was measured."""
    goal = "the target" if part.target is None else f"{100 * part.target:g} % validation accuracy"
    ratio, a, b = versus.speedup, versus.arm, versus.baseline
    median = {arm: comparison.headline.arms[arm].steps.median for arm in (a, b)}
    seconds = None if part.seconds is None else part.seconds.versus.get(a)
    cost = ""
    if seconds is not None:
        step = seconds.step_cost
        cost = f" A step takes {step.factor:.3g} times as long {label(a)}." if step.shown else " The time of a step: no difference shown."
    if ratio.factor is None:
        return 0.0, f"Steps to {goal}: no seed has runs both {label(a)} and {label(b)}.{cost}"
    if ratio.misses == (ratio.n, ratio.n):
        return 0.0, f"No run reaches {goal} {label(a)} or {label(b)}.{cost}"
    if not ratio.shown or ratio.low is None:
        word = "too few seeds for a statement" if ratio.n < ENOUGH_SEEDS else "no difference shown"
        sides = ", ".join(f"{_number(median[arm])} {label(arm)}" for arm in (a, b))
        return 0.0, f"Steps to {goal}: {word} ({sides}).{cost}"
    first, last = (a, b) if ratio.low > 1 else (b, a)
    size = ratio.factor if ratio.low > 1 else inverse(ratio.factor)
    text = f"{_begin(first)}, {goal} is reached after {_number(median[first])}"
    if math.isinf(median[last] or 0.0):
        missed = ratio.misses[0] if last == b else ratio.misses[1]
        text += f" steps; {label(last)}, {missed} of {seeds(ratio.n)} never reach it."
    else:
        text += f" instead of {_number(median[last])} steps{_than(comparison, last, ' ')}."
    return math.log(size), text + cost


def _failures(comparison: Comparison, versus: Versus) -> list[Sentence]:
    sides = [comparison.headline.arms[arm].failures for arm in (versus.arm, versus.baseline)]
    if not any(side.failed for side in sides):
        return []
    (a, b), names = (f"{side.failed} of {count(side.n, 'run')}" for side in sides), (label(versus.arm), label(versus.baseline))
    if not versus.failures.shown:
        return [(0.0, f"Runs that fail to train: no difference shown ({a} {names[0]}, {b} {names[1]}).")]
    rates = [(side.failed + 0.5) / (side.n + 1) for side in sides]
    text = f"{a} fail to train {names[0]}, {b} {names[1]}."
    return [(abs(math.log(rates[0] / rates[1])), text)]


def _small_batches(cost: SmallBatchCost) -> str:
    """What small batches cost an arm, each seed at the learning rate that it chose."""
    worse, better = ([one for one in cost.of("tuned") if one.pairs.shown and sign * (one.pairs.difference or 0.0) > 0] for sign in (-1, 1))
    known = [one.pairs for one in cost.of("tuned") if one.pairs.low is not None and one.pairs.high is not None]
    fails = any(one.failures.shown for one in cost.of("tuned"))
    if cost.reference is None or cost.stopped or fails or not known or max(one.n for one in known) < ENOUGH_SEEDS:
        return small_batches(cost)[0]
    begin, against = f"{_begin(cost.arm)}, {cost.stats} statistics:", f"against batch {cost.reference}"
    if worse or better:
        said = [f"small batches cost accuracy ({', '.join(map(_one, worse))} {against})"] * bool(worse)
        said += [f"accuracy is better {'' if worse else 'in smaller batches '}({', '.join(map(_one, better))} {against})"] * bool(better)
        return f"{begin} {', and '.join(said)}."
    sizes = listed(sorted({one.batch_size for one in cost.of("tuned") if one.pairs.low is not None}))
    most = max(max(abs(one.low or 0.0), abs(one.high or 0.0)) for one in known)
    return (
        f"{begin} no difference in accuracy is shown between batch {sizes} and {cost.reference}; "
        f"the data cannot exclude one of {_size(most)} points."
    )


def _one(cost: BatchCost) -> str:
    """`batch 4 by -0.90 points, 95 % interval -1.20 to -0.60`."""
    return f"batch {cost.batch_size} by {points(cost.pairs.difference or 0.0)} points, {interval(cost.pairs)}"


def _than(comparison: Comparison, arm: str, begin: str) -> str:
    """Which arm is behind, where there are more than two."""
    return f"{begin}{label(arm)}" if len(comparison.arms) > 2 else ""


def _size(difference: float) -> str:
    """A difference without its sign, in points."""
    return points(abs(difference)).lstrip("+")


def _minus(value: float | None) -> float | None:
    return None if value is None else -value


def _begin(arm: str) -> str:
    """An arm at the beginning of a sentence."""
    text = label(arm)
    return text[0].upper() + text[1:]


def _number(steps: float | None) -> str:
    return "unknown" if steps is None else "never" if math.isinf(steps) else f"{steps:,.0f}"
