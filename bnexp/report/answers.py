"""The question, the answer with its interval, and the numbers that it rests on."""

from __future__ import annotations

import math

from bnexp.analysis import Comparison, cells, select_lr, sentences
from bnexp.analysis.sentences import count
from bnexp.report.content import Section, Table
from bnexp.report.view import View
from bnexp.storage.result import STATS
from bnexp.tables.text import difference, mean_std, picks, quartiles, times_faster

Answer = tuple[str, list[str], list[str]]
"""Question, answers, and what weakens them."""


def answer(view: View) -> Answer:
    """What the chapter asks, and what its runs say."""
    if view.by_size is not None:
        return _batch_sizes(view)
    if view.comparison is not None:
        return _comparison(view, view.comparison)
    return _one_arm(view)


def _batch_sizes(view: View) -> Answer:
    question = f"What do small batches cost on {view.chapter.data}? Batch sizes {', '.join(map(str, view.sizes))}."
    return question, [sentences.small_batches(cost)[0] for cost in view.costs], [note for cost in view.costs for note in cost.warnings]


def _comparison(view: View, found: Comparison) -> Answer:
    others = " and ".join(sentences.label(arm) for arm in view.arms if arm != found.baseline)
    timed = () if view.seconds is None else view.seconds.versus.values()
    answers = [*sentences.verdict(found), *map(sentences.in_seconds, timed)]
    against = sentences.label(found.baseline)
    question = f"Training {others} against {against} on {view.chapter.data}, batch size {view.focus}: which is better, and by how much?"
    return question, answers, list(found.warnings)


def _one_arm(view: View) -> Answer:
    arm, lr = view.arms[0], view.best.get((view.arms[0], view.focus))
    question = f"How does training {sentences.label(arm)} proceed on {view.chapter.data} at batch size {view.focus}?"
    if lr is None:
        return question, ["No run has a result yet."], []
    (one,) = cells(view.runs(arm, view.focus, lr), ["optim.lr"]).cells
    mean = one.accuracy["running"]
    interval = ""
    if mean.low is not None and mean.high is not None:
        interval = f" (95 % interval {100 * mean.low:.2f} to {100 * mean.high:.2f})"
    score = "no test accuracy" if mean.mean is None else f"{100 * mean.mean:.2f} % test accuracy{interval}"
    lost = f"; failed to train: {sentences.failed(one.failures)}" if one.failures.failed else ""
    text = (
        f"Training {sentences.label(arm)} gives {score} with running statistics at learning rate {lr:g}, n = {count(one.n, 'seed')}{lost}."
    )
    return question, [text], list(select_lr(view.runs(arm, view.focus)).warnings)


def numbers(view: View) -> Section:
    """Each seed at the learning rate that it chose, a row an arm and batch size."""
    matchups = [(found.batch_sizes, found.headline) for found in view.by_size.comparisons] if view.by_size else []
    matchups += [(view.comparison.batch_sizes, view.comparison.headline)] if view.comparison else []
    columns = ("arm", "batch", "lr (seeds)", "n", "running", "precise", "batch stat.", "steps to target", "difference, running", "faster")
    rows = []
    for sizes, matchup in matchups:
        for arm in view.arms:
            if arm not in matchup.arms:
                continue
            result, versus = matchup.arms[arm], matchup.versus.get(arm)
            n = f"{result.n}" + f" ({result.failures.failed} failed)" * bool(result.failures.failed)
            scores = [mean_std(result.accuracy[stats]) for stats in STATS]
            gap, fast = ("", "") if versus is None else (difference(versus.headline), times_faster(versus.speedup))
            rows.append(
                (sentences.label(arm), ", ".join(map(str, sizes)), picks(result.picked), n, *scores, quartiles(result.steps), gap, fast)
            )
    caption = (
        "Test accuracy in % ± standard deviation over seeds, each seed at the learning rate that it chose by validation loss; runs that "
        "failed to train (diverged, or at chance) are counted beside n and have no accuracy. Differences are from the arm "
        f"{sentences.label(view.chapter.baseline)}, paired by seed, in points with the 95 % interval and p; where it was recorded which "
        "test images were right, their sampling error is in the interval. Steps: medians (quartiles), each seed at its fastest learning "
        "rate. Faster: the geometric mean of the seeds' ratios, their median where runs miss the target."
    )
    return Section("In numbers", table=Table(columns, tuple(rows), caption) if rows else None)


def all_runs(view: View) -> Section:
    """Every run in a row."""
    columns = ("run", "status", "arm", "batch", "lr", "seed", "test %", "val %", "steps to target")
    arm_of = view.chapter.arm_of
    rows = []
    for run in sorted(view.chapter.runs, key=lambda run: (view.arms.index(arm_of(run)), run.batch_size, run.lr, run.seed)):
        step = run.steps_to_target
        reached = "" if not run.is_result else "inf" if math.isinf(step) else f"{step:,.0f}"
        scores = [run.test.running.accuracy, run.val.accuracy]
        what = (
            run.id,
            run.status,
            sentences.label(arm_of(run)),
            str(run.batch_size),
            f"{run.lr:g}",
            str(run.seed),
        )
        rows.append((*what, *("" if value is None else f"{100 * value:.2f}" for value in scores), reached))
    return Section("Every run", table=Table(columns, tuple(rows)), folded=True)
