"""The question, the answer with its interval, and the numbers that it rests on."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

from bnexp.analysis import StepMs, cells, seconds_to_target, select_lr, small_batch_cost, words
from bnexp.analysis.rows import STATS, batch_size_of, is_result, lr_of, number, seed_of, steps_to_target
from bnexp.analysis.words import count
from bnexp.report.content import Section, Table
from bnexp.report.view import View
from bnexp.tables.text import difference, mean_std, quartiles, times_faster

Answer = tuple[str, list[str], list[str]]
"""Question, answers, and what weakens them."""


def answer(view: View, step_ms: Mapping[str, StepMs]) -> Answer:
    """What the chapter asks, and what its runs say."""
    if view.by_size is not None:
        return _batch_sizes(view)
    if view.comparison is not None:
        return _comparison(view, step_ms)
    return _one_arm(view)


def _batch_sizes(view: View) -> Answer:
    costs = [
        small_batch_cost(view.chapter.rows, arm, stats=stats, arm_of=view.chapter.arm_of)
        for arm in view.arms
        for stats in (("running", "batch") if view.normed(arm) else ("running",))
    ]
    question = f"What do small batches cost on {view.chapter.data}? Batch sizes {', '.join(map(str, view.sizes))}."
    return question, [cost.answer for cost in costs], [note for cost in costs for note in cost.warnings]


def _comparison(view: View, step_ms: Mapping[str, StepMs]) -> Answer:
    found = view.comparison
    assert found is not None
    others = " and ".join(arm for arm in view.arms if arm != found.baseline)
    answers = [words.verdict(replace(found, arms=(found.baseline, arm))) for arm in found.arms if arm != found.baseline]
    notes = list(found.warnings)
    timed = [arm for arm in found.headline.arms if arm in step_ms]
    if len(timed) > 1 and len(timed) == len(found.headline.arms):
        seconds = seconds_to_target(found, step_ms)
        answers += [one.sentence[:1].upper() + one.sentence[1:] for one in seconds.versus.values()]
        notes.append(seconds.note)
    for arm, factor in found.stable_factor.items():
        if factor.value is not None and factor.bound != "unknown":
            sign = {"at_least": "at least ", "at_most": "at most "}.get(factor.bound, "")
            answers.append(f"The largest stable learning rate of {arm} is {sign}{factor.value:.3g} times that of {found.baseline}.")
    question = f"{others} against {found.baseline} on {view.chapter.data}, batch size {view.focus}: which is better, and by how much?"
    return question, answers, notes


def _one_arm(view: View) -> Answer:
    arm, lr = view.arms[0], view.best.get((view.arms[0], view.focus))
    question = f"How does {arm} train on {view.chapter.data} at batch size {view.focus}?"
    if lr is None:
        return question, ["No run has a result yet."], []
    rows = view.rows(arm, view.focus, lr)
    (one,) = cells(rows, ["optim.lr"]).cells
    mean = one.accuracy["running"]
    interval = ""
    if mean.low is not None and mean.high is not None:
        interval = f" (95 % interval {100 * mean.low:.2f} to {100 * mean.high:.2f})"
    score = "no test accuracy" if mean.mean is None else f"{100 * mean.mean:.2f} % test accuracy{interval}"
    lost = f"; {one.n_diverged} diverged" if one.n_diverged else ""
    text = f"{arm} has {score} with running statistics at learning rate {lr:g}, n = {count(one.n, 'seed')}{lost}."
    return question, [text], list(select_lr(view.rows(arm, view.focus)).warnings)


def numbers(view: View) -> Section:
    """Each arm at its best learning rate, a row an arm and batch size."""
    matchups = [(found.batch_sizes, found.headline) for found in view.by_size.comparisons] if view.by_size else []
    matchups += [(view.comparison.batch_sizes, view.comparison.headline)] if view.comparison else []
    columns = ("arm", "batch", "lr", "n", "running", "precise", "batch stat.", "steps to target", "difference, running", "faster")
    rows = []
    for sizes, matchup in matchups:
        for arm in view.arms:
            if arm not in matchup.arms:
                continue
            result, versus = matchup.arms[arm], matchup.versus.get(arm)
            n = f"{result.n}" + f" ({result.n_diverged} diverged)" * bool(result.n_diverged)
            scores = [mean_std(result.accuracy[stats]) for stats in STATS]
            gap, fast = ("", "") if versus is None else (difference(versus.accuracy["running"]), times_faster(versus.speedup))
            rows.append((arm, ", ".join(map(str, sizes)), f"{result.lr:g}", n, *scores, quartiles(result.steps), gap, fast))
    caption = (
        "Test accuracy in % ± standard deviation over seeds, each arm at its own best learning rate by validation loss. Differences are "
        f"from {view.chapter.baseline}, paired by seed, in points with the 95 % interval and p. Steps are medians (quartiles). "
        "Faster: ratio of the medians; paired: geometric mean of the ratios by seed. "
        "A diverged run counts as accuracy 0 and never reaches the target."
    )
    return Section("In numbers", table=Table(columns, tuple(rows), caption) if rows else None)


def all_runs(view: View) -> Section:
    """Every run in a row."""
    columns = ("run", "status", "arm", "batch", "lr", "seed", "test %", "val %", "steps to target")
    arm_of = view.chapter.arm_of
    rows = []
    for row in sorted(view.chapter.rows, key=lambda row: (view.arms.index(arm_of(row)), batch_size_of(row), lr_of(row), seed_of(row))):
        step = steps_to_target(row)
        reached = "" if not is_result(row) else "inf" if math.isinf(step) else f"{step:,.0f}"
        scores = [number(row, "test.running.accuracy"), number(row, "val.accuracy")]
        what = (str(row["id"]), str(row["status"]), arm_of(row), str(batch_size_of(row)), f"{lr_of(row):g}", str(seed_of(row)))
        rows.append((*what, *("" if value is None else f"{100 * value:.2f}" for value in scores), reached))
    return Section("Every run", table=Table(columns, tuple(rows)), folded=True)
