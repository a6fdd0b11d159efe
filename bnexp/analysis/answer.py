"""The answer of a part in short sentences with their numbers, what changes most first; `sentences.answers` has the tests behind them.

Whether a difference is stated is decided by its test alone. How much it is, for the order, is the logarithm of a ratio: of learning rates,
of steps, of shares of wrong answers, of failures.
"""

from __future__ import annotations

import math
from dataclasses import replace

from bnexp.analysis.pairs import ENOUGH_SEEDS
from bnexp.analysis.part import Part
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
    if not comparison.headline.versus:
        return verdict(comparison)
    found: list[str] = []
    for arm in (arm for arm in comparison.arms if arm in comparison.headline.versus):
        versus = comparison.headline.versus[arm]
        own = [*_stable(comparison, arm), _accuracy(comparison, versus), _steps(part, comparison, versus), *_failures(comparison, versus)]
        found += [text for _, text in sorted(own, key=lambda sentence: -sentence[0])]
    return found


def _stable(comparison: Comparison, arm: str) -> list[Sentence]:
    """How much larger the learning rates are that work; nothing where one rate was tried."""
    a, b, ratio = comparison.stable_lr[arm], comparison.stable_lr[comparison.baseline], comparison.stable_factor[arm]
    if a.lr is None or b.lr is None or len(comparison.best_lr[arm].by_lr) < 2:
        return []
    if ratio.shown and ratio.low is not None and a.lr != b.lr:
        (more, high), (other, low) = ((arm, a), (comparison.baseline, b)) if ratio.low > 1 else ((comparison.baseline, b), (arm, a))
        assert high.lr is not None
        if not low.lr:
            return [
                (math.inf, f"Training works at learning rates up to {high.lr:g} {label(more)}, and at none of those tried {label(other)}.")
            ]
        amount = f"{'at least' if high.at_edge else 'up to'} {high.lr / low.lr:.3g} times larger"
        return [
            (math.log(high.lr / low.lr), f"{_begin(more)}, training works at learning rates {amount} ({high.lr:g} against {low.lr:g}).")
        ]
    if a.at_edge and b.at_edge:
        return [(0.0, f"Training works {label(arm)} and {label(comparison.baseline)} up to the largest learning rate tried ({a.lr:g}).")]
    return [(0.0, f"Largest learning rate that works: no difference shown ({a.lr:g} {label(arm)}, {b.lr:g} {label(comparison.baseline)}).")]


def _accuracy(comparison: Comparison, versus: Versus) -> Sentence:
    """Test accuracy at the end of training, each seed at the rate that it chose."""
    pairs, here = versus.headline, versus.accuracy["running"]
    a, b = versus.arm, versus.baseline
    if pairs.difference is None:
        return 0.0, f"Final accuracy: no seed trained both {label(a)} and {label(b)}."
    arms, turned = len(comparison.headline.versus), replace(pairs, low=_minus(pairs.high), high=_minus(pairs.low))
    span = f"{interval(pairs if pairs.difference > 0 else turned, arms)}, {seeds(pairs.n)}"  # of the arm that is ahead
    found = f"{points(pairs.difference)} points {label(a)}, {interval(pairs, arms)}, {seeds(pairs.n)}"
    more = f"{_size(pairs.difference)} points higher {label(a if pairs.difference > 0 else b)}"
    equal = versus.equivalence
    if pairs.n < ENOUGH_SEEDS:
        few = f"{seeds(pairs.n)} {'is' if pairs.n == 1 else 'are'} too few for a statement"
        return 0.0, f"Final accuracy: {few} ({points(pairs.difference)} points {label(a)})."
    wrong = [1 - (comparison.headline.arms[arm].accuracy["running"].mean or 0.0) for arm in (a, b)]
    size = abs(math.log(wrong[0] / wrong[1])) if all(wrong) else math.inf
    if pairs.shown:
        return size, f"Final accuracy is {more} ({span})."
    if equal is not None and equal.shown:
        return 0.0, f"Final accuracy is equivalent within {in_points(equal.margin)} ({found})."
    if here.shown:
        return size, f"Final accuracy is {more} on these {pairs.n_images:,} test images; for others no difference is shown ({found})."
    most = None if pairs.low is None or pairs.high is None else max(abs(pairs.low), abs(pairs.high))
    beyond = "" if most is None else f"; the data cannot exclude a difference of {_size(most)} points"
    return 0.0, f"Final accuracy: no difference shown ({found}){beyond}."


def _steps(part: Part, comparison: Comparison, versus: Versus) -> Sentence:
    """Steps to target, each seed at its fastest learning rate, and what a step costs where that was measured."""
    goal = "the target" if part.target is None else f"{100 * part.target:g} % validation accuracy"
    ratio, a, b = versus.speedup, versus.arm, versus.baseline
    median = {arm: comparison.headline.arms[arm].steps.median for arm in (a, b)}
    seconds = None if part.seconds is None else part.seconds.versus.get(a)
    cost = ""
    if seconds is not None:
        step = seconds.step_cost
        cost = (
            f" A step takes {step.factor:.3g} times as long {label(a)}."
            if step.shown
            else " A step takes equally long, as far as is shown."
        )
    if ratio.factor is None or ratio.misses == (ratio.n, ratio.n):
        return 0.0, f"No run reaches {goal} {label(a)} or {label(b)}.{cost}"
    if not ratio.shown or ratio.low is None:
        word = "too few seeds for a statement" if ratio.n < ENOUGH_SEEDS else "no difference shown"
        sides = ", ".join(f"{_number(median[arm])} {label(arm)}" for arm in (a, b))
        return 0.0, f"Steps to {goal}: {word} ({sides}).{cost}"
    first, last = (a, b) if ratio.low > 1 else (b, a)
    size = ratio.factor if ratio.low > 1 else inverse(ratio.factor)
    if math.isinf(median[last] or 0.0):
        text = f"{_begin(first)}, {goal} is reached after {_number(median[first])} steps; {label(last)} most seeds never reach it."
    else:
        text = f"{_begin(first)}, {goal} is reached after {_number(median[first])} instead of {_number(median[last])} steps."
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
    sizes = listed(sorted({one.batch_size for one in cost.of("tuned")}))
    most = max(max(abs(one.low or 0.0), abs(one.high or 0.0)) for one in known)
    return (
        f"{begin} no difference in accuracy is shown between batch {sizes} and {cost.reference}; "
        f"the data cannot exclude one of {_size(most)} points."
    )


def _one(cost: BatchCost) -> str:
    """`batch 4 by -0.90 points, 95 % interval -1.20 to -0.60`."""
    return f"batch {cost.batch_size} by {points(cost.pairs.difference or 0.0)} points, {interval(cost.pairs)}"


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
