"""The sentences about a comparison: the verdict, and what weakens it. Everything here is computed from the data, nothing is assumed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from bnexp.analysis.rows import Row, budget_kind, budget_of, number

if TYPE_CHECKING:
    from bnexp.analysis.compare import Comparison, Versus
    from bnexp.analysis.pairs import Paired
    from bnexp.analysis.seconds import InSeconds
    from bnexp.analysis.target import Ratio

ENOUGH_SEEDS = 5
"""Pairs from which a comparison says more than "too few"."""
STOPPED = "train.until_target: each run stopped where it reached the target, so final accuracies are those of unequal budgets."
BATCH_GAP = 0.02
"""Test accuracy under batch statistics that differs by more than this from that under running ones is worth a look."""
COLD = "their initial (0, 1) still weighs more than 1 %; see the precise or batch ones"
PARAMETER_GAP = 0.05
"""Arms that differ by more than this share of their parameters are not at parity."""


def verdict(comparison: Comparison) -> str:
    """One sentence an arm: the difference in test accuracy, its interval, whether that excludes 0, and what else a listener must know."""
    headline, baseline = comparison.headline, comparison.baseline
    if len(comparison.arms) == 1:
        return f"There is one arm only ({baseline}): nothing to compare."
    if baseline not in headline.arms:
        return f"No run of {baseline} has a result yet: nothing to compare with."
    return " ".join(
        _against(comparison, headline.versus[arm]) if arm in headline.versus else f"No run of {arm} has a result yet."
        for arm in comparison.arms[1:]
    )


def warnings(
    comparison: Comparison, differing: Sequence[str], missing: Mapping[str, Sequence[float]], budget: str | None = None
) -> list[str]:
    """What makes the comparison weaker than it looks.

    Args:
        differing: config keys in which the runs differ unasked.
        missing: of each arm, the learning rate of every run that has no result.
        budget: what to say of it, where there is something to say.
    """
    found = [] if budget is None else [budget]
    if differing:
        keys = ", ".join(key.removeprefix("config.") for key in differing)
        found.append(f"the runs also differ in {keys}: a difference between arms may be due to that.")
    trials = {arm: len(best.by_lr) for arm, best in comparison.best_lr.items()}
    if len(set(trials.values())) > 1:
        counts = ", ".join(f"{arm} {number}" for arm, number in trials.items())
        found.append(f"unequal trials: learning rates tried are {counts}; tune each arm with as many.")
    elif set(trials.values()) == {1}:
        found.append("one learning rate an arm: nothing was tuned, and a rate that suits one arm may not suit the other.")
    for arm, best in comparison.best_lr.items():
        found += [f"{arm}: {text}." for text in best.warnings]
        if best.on_edge and best.lr is not None:
            largest = best.lr == max(score.lr for score in best.by_lr)
            edge = "largest" if largest else "smallest"
            found.append(f"{arm}: the best lr {best.lr:g} is the {edge} tried; a {'larger' if largest else 'smaller'} one may be better.")
    for arm, lrs in missing.items():
        if lrs:
            where = ", ".join(f"{lrs.count(lr)} at lr {lr:g}" for lr in sorted(set(lrs)))
            found.append(f"{arm}: runs without a result (failed, interrupted or still running): {where}; they are left out.")
    found += _about_arms(comparison)
    for arm, versus in comparison.headline.versus.items():
        pairs = versus.accuracy["running"]
        if pairs.n < ENOUGH_SEEDS:
            found.append(f"{arm} against {comparison.baseline}: {seeds(pairs.n)} in common; a comparison wants {ENOUGH_SEEDS} or more.")
        if pairs.dropped:
            found.append(
                f"{arm} against {comparison.baseline}: seeds {_list(pairs.dropped)} have no partner and are left out of the pairs."
            )
    return found


def budget(rows: Sequence[Row]) -> str:
    """Which budget runs of several batch sizes have in common, and what that does to them."""
    kind = budget_kind(rows)
    if kind == "steps":
        return f"equal steps ({budget_of(rows[0]):,.0f}): smaller batches see fewer images in them."
    if kind == "epochs":
        return f"equal epochs ({number(rows[0], 'config.train.epochs'):,.0f}), not steps: smaller batches make more updates in them."
    return "unequal budgets: the runs were given neither equal steps nor equal epochs."


def cold_at(batch_sizes: Sequence[int]) -> str:
    """That the running statistics are cold at these batch sizes."""
    return f"running statistics are cold at batch {_list(batch_sizes)}: {COLD}."


def few_seeds(ns: Sequence[int], noun: str) -> str | None:
    """That some of these numbers of seeds are too small; `noun`: what each is the number of."""
    few = [n for n in ns if n < ENOUGH_SEEDS]
    if not few:
        return None
    return f"{len(few)} of {count(len(ns), noun)}: n < {ENOUGH_SEEDS} (at the least {min(few)}); a comparison wants {ENOUGH_SEEDS} or more."


def _about_arms(comparison: Comparison) -> list[str]:
    found = []
    for arm, best in comparison.best_lr.items():
        diverged = [f"{score.n_diverged} of {score.n} at lr {score.lr:g}" for score in best.by_lr if score.n_diverged]
        if diverged:
            found.append(f"{arm}: diverged runs: {', '.join(diverged)}; they count as accuracy 0 and infinite steps to target.")
    for arm, result in comparison.headline.arms.items():
        if not result.ema_warm:
            found.append(f"{arm}: running statistics are cold: {COLD}.")
        running, batch = (result.accuracy_finished[stats].mean for stats in ("running", "batch"))
        if running is not None and batch is not None and abs(batch - running) > BATCH_GAP:
            found.append(
                f"{arm}: test accuracy is {percent(running)} with running and {percent(batch)} with batch statistics: "
                "eval mode does not see the network that was trained."
            )
    sizes = {arm: result.parameters for arm, result in comparison.headline.arms.items() if result.parameters}
    if sizes and max(sizes.values()) > (1 + PARAMETER_GAP) * min(sizes.values()):
        found.append(f"parameters differ: {', '.join(f'{arm} {size:,}' for arm, size in sizes.items())}.")
    return found


def _against(comparison: Comparison, versus: Versus) -> str:
    headline, pairs = comparison.headline, versus.accuracy["running"]
    arm, baseline = versus.arm, versus.baseline
    if pairs.difference is None:
        return f"{arm} and {baseline} have no seed in common: nothing to compare."
    detail = evidence(pairs, versus.p_holm, len(headline.versus))
    if pairs.n < ENOUGH_SEEDS:
        text = (
            f"n = {seeds(pairs.n)}: too few to say; the difference {arm} - {baseline} is {points(pairs.difference)} points of "
            f"test accuracy ({detail})"
        )
    elif pairs.excludes_zero:
        amount, word = points(abs(pairs.difference)).lstrip("+"), "above" if pairs.difference > 0 else "below"
        text = f"{arm} is {amount} points of test accuracy {word} {baseline} ({detail}): the interval excludes 0"
    else:
        text = (
            f"{arm} and {baseline} cannot be told apart: the difference is {points(pairs.difference)} points of test accuracy "
            f"({detail}), and the interval includes 0"
        )
    a, b = headline.arms[arm], headline.arms[baseline]
    tuned = any(len(best.by_lr) > 1 for best in comparison.best_lr.values())
    if tuned:
        text += f"; each at its own best learning rate ({arm} {a.lr:g}, {baseline} {b.lr:g})"
    else:
        text += f"; at learning rate {a.lr:g}" if a.lr == b.lr else f"; at learning rates {a.lr:g} ({arm}) and {b.lr:g} ({baseline})"
    lost = [f"{side.n_diverged} of {side.n} {side.arm} runs" for side in (a, b) if side.n_diverged]
    if lost:
        text += f"; {' and '.join(lost)} diverged and count as accuracy 0"
    return f"{text}; {_to_target(arm, baseline, versus.speedup)}."


def _to_target(arm: str, baseline: str, speedup: Ratio) -> str:
    """`speedup` is the baseline's median steps over the arm's."""
    if speedup.bound == "unknown":
        return "neither reaches the target in the median run"
    if speedup.bound == "at_least":
        known = "" if speedup.factor is None else f", which makes it at least {speedup.factor:.3g} times faster"
        return f"only {arm} reaches the target in the median run{known}"
    if speedup.bound == "at_most":
        known = "" if speedup.factor is None else f", which makes it at least {1 / speedup.factor:.3g} times faster"
        return f"only {baseline} reaches the target in the median run{known}"
    assert speedup.factor is not None
    faster, factor = (arm, speedup.factor) if speedup.factor >= 1 else (baseline, 1 / speedup.factor)
    if f"{factor:.3g}" == "1":
        return "both reach the target in as many steps (medians)"
    return f"{faster} reaches the target in {factor:.3g} times fewer steps (medians)"


def in_seconds(found: InSeconds) -> str:
    """What a step of the arm costs, and who is at the target sooner, in steps and in seconds."""
    arm, baseline, cost = found.arm, found.baseline, found.step_cost
    interval = "no interval" if cost.low is None or cost.high is None else f"95 % interval {cost.low:.3g} to {cost.high:.3g}"
    how = f"{cost.turns} alternating turns; {interval}" if cost.turns else "medians of solo steps"
    text = f"a step of {arm} takes {cost.factor:.3g} times one of {baseline} ({how})"
    steps, seconds = found.steps.factor, found.seconds.factor
    if found.steps.bound == "unknown":
        return f"{text}; neither reaches the target in the median run."
    if found.steps.bound != "exact":
        winner = arm if found.steps.bound == "at_least" else baseline
        if steps is None or seconds is None:
            return f"{text}; only {winner} reaches the target in the median run."
        if winner == baseline:
            steps, seconds = 1 / steps, 1 / seconds
        fast = f"at least {steps:.3g} times as fast in steps and at least {seconds:.3g} times in seconds"
        return f"{text}; only {winner} reaches the target in the median run, which makes it {fast}."
    assert steps is not None
    assert seconds is not None
    (first, by_steps), (second, by_seconds) = (_faster(arm, baseline, factor) for factor in (steps, seconds))
    if first and first == second:
        return f"{text}; to the target, by medians, {first} is {by_steps} times faster in steps and {by_seconds} times in seconds."
    in_steps = f"{first} is {by_steps} times faster in steps" if first else "both need as many steps"
    joined = f"but {second} {'' if first else 'is '}{by_seconds} times faster in seconds" if second else "but both need as many seconds"
    if not first and not second:
        joined = "and as many seconds"
    return f"{text}; to the target, by medians, {in_steps}, {joined}."


def _faster(arm: str, baseline: str, factor: float) -> tuple[str, str]:
    """Who is faster and how many times; nobody where that rounds to 1."""
    winner, factor = (arm, factor) if factor >= 1 else (baseline, 1 / factor)
    return ("" if f"{factor:.3g}" == "1" else winner), f"{factor:.3g}"


def evidence(pairs: Paired, p_holm: float | None = None, tests: int = 1) -> str:
    """`95 % interval -0.4 to +1.2, n = 5 seeds, p = 0.0625, the smallest that 5 seeds allow`."""
    interval = "no interval" if pairs.low is None or pairs.high is None else f"95 % interval {points(pairs.low)} to {points(pairs.high)}"
    text = f"{interval}, n = {seeds(pairs.n)}"
    p, name = (p_holm, f"Holm's p over {tests} tests") if p_holm is not None and tests > 1 else (pairs.p, "p")
    if p is not None:
        text += f", {name} = {p:.3g}" if p >= 1e-4 else f", {name} < 0.0001"
        least = min(1.0, 2.0 ** (1 - pairs.n))
        if tests == 1 and least > 0.05 and math.isclose(p, least):
            text += f", the smallest that {seeds(pairs.n)} allow" + "s" * (pairs.n == 1)
    return text


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


def _list(values: Sequence[int]) -> str:
    return ", ".join(map(str, values))
