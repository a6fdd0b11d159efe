"""A comparison as Rich tables: what it states, the arms with each seed tuned, the arms at the same learning rates, and the audit."""

from __future__ import annotations

from collections.abc import Iterable, Set
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from bnexp.analysis import Audit, Comparison, Ratio
from bnexp.analysis.sentences import bracket, decisive, failed, label, times
from bnexp.tables.marks import BETTER, LOWEST, MARK, better, lowest, marked
from bnexp.tables.text import FASTER, LOST, Whole, difference, mean_std, picks, quartiles, times_faster

if TYPE_CHECKING:
    from bnexp.execution.step_times import StepTime
    from bnexp.studies.compare import Compared

STATS = {"running": "running statistics", "precise": "precise statistics", "batch": "batch statistics"}
SIGN = {True: ("ok", "green"), False: ("NO", "red"), None: ("?", "yellow")}


def comparison_tables(found: Compared) -> RenderableType:
    """Everything that `bnexp compare` says: the answer first."""
    comparison = found.comparison
    parts: list[RenderableType] = [Text("\n".join(found.sentences)), Text(), headline(found)]
    if comparison.same_lr:
        parts += [Text(), same_lr(comparison)]
    return Group(*parts, Text(), audit_table(found.audit), Text(), *notes(comparison.warnings))


def headline(found: Compared) -> RenderableType:
    """Each seed at the learning rate that it chose: one column an arm, one for each difference from the baseline."""
    comparison, seconds = found.comparison, found.seconds
    matchup, baseline = comparison.headline, comparison.baseline
    arms = [arm for arm in comparison.arms if arm in matchup.arms]
    others = [arm for arm in arms if arm in matchup.versus]
    order = [*others, *([baseline] if baseline in arms else [])]
    n = max((result.n for result in matchup.arms.values()), default=0)
    sizes = ", ".join(map(str, comparison.batch_sizes))
    tuned = any(len(best.by_lr) > 1 for best in comparison.best_lr.values())
    what = "Each seed at the learning rate that it chose" if tuned else "The arms side by side"
    title = f"{what} (batch {sizes}, n = {n} seeds; ± std, [95 % interval])"
    table = Table(title=Text(title, style="bold"), title_justify="left")
    table.add_column("")
    for arm in order:
        table.add_column(Text(label(arm)), justify="right", overflow="fold")
    for arm in others:
        table.add_column(Text(f"{label(arm)} - {label(baseline)}"), justify="right", overflow="fold")

    marks: set[str] = set()

    def row(name: str, cells: dict[str, str], versus: dict[str, str] | None = None, best: Set[str] = frozenset()) -> None:
        marks.update(best)
        arms = [marked(cells.get(arm, ""), arm in best) for arm in order]
        table.add_row(name, *arms, *[(versus or {}).get(arm, "") for arm in others])

    results, versus = matchup.arms, matchup.versus
    row("learning rates chosen (seeds)", {arm: picks(results[arm].picked) for arm in arms})
    for stats, name in STATS.items():
        if stats != "running" and all(results[arm].accuracy[stats] == results[arm].accuracy["running"] for arm in arms):
            continue  # no arm has batch statistics
        pairs = {arm: versus[arm].accuracy[stats] for arm in others}
        here = stats == "running" and any(one.over_images for one in versus.values())
        row(
            f"test accuracy %, {name}" + ", on these images" * here,
            {arm: mean_std(results[arm].accuracy[stats]) for arm in arms},
            {arm: difference(one) for arm, one in pairs.items()},
            frozenset() if here else better(comparison, pairs),
        )
        if here:
            over = {arm: versus[arm].headline for arm in others}
            row("  over seeds and test images", {}, {arm: difference(one) for arm, one in over.items()}, better(comparison, over))
    if any(result.failures.failed for result in results.values()):
        row(
            "runs that failed to train",
            {arm: failed(results[arm].failures) for arm in arms},
            {arm: decisive(versus[arm].failures) for arm in others},
        )
    row(
        "generalization gap (train - test) %",
        {arm: mean_std(results[arm].gap) for arm in arms},
        {arm: difference(versus[arm].gap) for arm in others},
    )
    row("fastest learning rates (seeds)", {arm: picks(results[arm].fastest) for arm in arms})
    row(
        "steps to target (quartiles)",
        {arm: quartiles(results[arm].steps) for arm in arms},
        {arm: f"faster {times_faster(versus[arm].speedup)}" for arm in others},
        better(comparison, {arm: versus[arm].speedup for arm in others}),
    )
    if seconds is not None:
        row(
            "seconds to target",
            {arm: quartiles(seconds.to_target[arm], 2) for arm in arms if arm in seconds.to_target},
            {arm: f"faster {times_faster(one.seconds)}" for arm, one in seconds.versus.items()},
            better(comparison, {arm: one.seconds for arm, one in seconds.versus.items()}),
        )
        row(
            "ms a step alone, median of the turns",
            {arm: f"{ms:.2f}" for arm, ms in seconds.step_ms.items()},
            {
                arm: f"cost {one.step_cost.factor:.3g}x [{one.step_cost.low:.3g}x, {one.step_cost.high:.3g}x]"
                for arm, one in seconds.versus.items()
            },
        )
        row(
            "  forward + backward + optimizer",
            {arm: _parts(time) for arm, time in found.step_times.items()},
        )
    row(
        "largest stable learning rate",
        {arm: bracket(comparison.stable_lr[arm]) for arm in arms},
        {arm: _stable_factor(comparison.stable_factor[arm]) for arm in others},
    )
    row("diverged runs (all learning rates)", {arm: _diverged(comparison, arm) for arm in arms})
    row("parameters", {arm: "n/a" if results[arm].parameters is None else f"{results[arm].parameters:,}" for arm in arms})
    said = [f"{MARK} better: {BETTER.format(label(baseline))}"] * bool(marks) + [LOST, FASTER]
    table.caption = Text("; ".join(said))
    return Whole(table)


def _parts(time: StepTime) -> str:
    if time.forward_ms is None or time.backward_ms is None or time.optimizer_ms is None:
        return "one CUDA graph"
    return f"{time.forward_ms:.2f} + {time.backward_ms:.2f} + {time.optimizer_ms:.2f}"


def same_lr(comparison: Comparison, choose: bool = False) -> RenderableType:
    """Test accuracy (running statistics) of all arms at each learning rate that they were all tried with, the best one of each arm marked.

    With `choose`, where no arm has several, the arm with the lowest mean validation loss is marked; a comparison asks for a test instead.
    """
    baseline = comparison.baseline
    others = [arm for arm in comparison.arms if arm != baseline]
    table = Table(title=Text("All arms at the same learning rate: test accuracy %, running statistics", style="bold"), title_justify="left")
    table.add_column("lr", justify="right")
    for arm in [*others, baseline]:
        table.add_column(Text(label(arm)), justify="right", overflow="fold")
    for arm in others:
        table.add_column(Text(f"{label(arm)} - {label(baseline)}"), justify="right", overflow="fold")
    tuned = {arm for arm, best in comparison.best_lr.items() if len(best.by_lr) > 1}
    chosen = _lowest_arm(comparison) if choose and not tuned else set()
    for matchup in comparison.same_lr:
        cells = []
        for arm in [*others, baseline]:
            result = matchup.arms[arm]
            best = arm in chosen or (arm in tuned and comparison.best_lr[arm].lr == matchup.lr)
            lost = f", {result.failures.failed} of {result.n} failed" if result.failures.failed else ""
            cells.append(marked(f"{mean_std(result.accuracy['running'])}{lost}", best))
        gaps = [difference(matchup.versus[arm].accuracy["running"]) if arm in matchup.versus else "" for arm in others]
        table.add_row(f"{matchup.lr:g}", *cells, *gaps)
    said = [f"{MARK} the arm's lowest mean validation loss"] * bool(tuned) + [f"{MARK} {LOWEST}"] * bool(chosen)
    said += [LOST, "differences have intervals and are not tested"]
    table.caption = Text("; ".join(said))
    return Whole(table)


def _lowest_arm(comparison: Comparison) -> set[str]:
    """Of the arms that have most results at the only learning rate."""
    (matchup,) = comparison.same_lr or (comparison.headline,)
    most = max((result.n for result in matchup.arms.values()), default=0)
    return lowest({arm: result.val_loss.mean for arm, result in matchup.arms.items() if result.n == most})


def audit_table(audit: Audit) -> Table:
    """The fairness audit, one check a row."""
    failed = sum(check.passed is False for check in audit.checks)
    unknown = sum(check.passed is None for check in audit.checks)
    word = ", ".join([f"{failed} failed"] * bool(failed) + [f"{unknown} unknown"] * bool(unknown)) or "passed"
    table = Table(
        title=Text(f"Fairness audit: {word}", style="bold"), title_justify="left", show_header=False, box=None, padding=(0, 1, 0, 0)
    )
    table.add_column()
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for check in audit.checks:
        mark, style = SIGN[check.passed]
        table.add_row(Text(mark, style=style), Text(check.name), Text(check.detail))
    return table


def notes(texts: Iterable[str]) -> list[RenderableType]:
    """What makes the numbers weaker than they look."""
    return [Text(f"Note: {text}", style="yellow") for text in texts]


def _stable_factor(found: Ratio) -> str:
    if found.low is None or found.high is None:
        return "n/a"
    return f"factor {times(found.low)} to {times(found.high)}, {decisive(found)}"


def _diverged(comparison: Comparison, arm: str) -> str:
    scores = comparison.best_lr[arm].by_lr
    return f"{sum(score.n_diverged for score in scores)} of {sum(score.n for score in scores)}"
