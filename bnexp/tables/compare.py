"""A comparison as Rich tables: the arms at their best learning rates, at the same ones, the audit, and the verdict."""

from __future__ import annotations

from collections.abc import Iterable, Set
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from bnexp.analysis import Audit, Comparison, Factor, StableLr, StepCost
from bnexp.tables.marks import BETTER, LOWEST, MARK, better, lowest, marked
from bnexp.tables.text import FASTER, LOST, Whole, difference, mean_std, quartiles, times_faster

if TYPE_CHECKING:
    from bnexp.compare import Compared
    from bnexp.timing import StepTime

STATS = {"running": "running statistics", "precise": "precise statistics", "batch": "batch statistics"}
SIGN = {True: ("ok", "green"), False: ("NO", "red"), None: ("?", "yellow")}


def comparison_tables(found: Compared) -> RenderableType:
    """Everything that `bnexp compare` says."""
    comparison = found.comparison
    parts: list[RenderableType] = [headline(found)]
    if comparison.same_lr:
        parts += [Text(), same_lr(comparison)]
    timed = [] if found.seconds is None else [found.seconds.note]
    parts += [Text(), audit_table(found.audit), Text(), verdict(found), *notes([*comparison.warnings, *timed])]
    return Group(*parts)


def headline(found: Compared) -> RenderableType:
    """Each arm at its own best learning rate: one column an arm, one for each difference from the baseline."""
    comparison, seconds = found.comparison, found.seconds
    matchup, baseline = comparison.headline, comparison.baseline
    arms = [arm for arm in comparison.arms if arm in matchup.arms]
    others = [arm for arm in arms if arm in matchup.versus]
    order = [*others, *([baseline] if baseline in arms else [])]
    n = max((result.n for result in matchup.arms.values()), default=0)
    sizes = ", ".join(map(str, comparison.batch_sizes))
    title = f"Each arm at its own best learning rate (batch {sizes}, n = {n} seeds; ± std, [95 % interval])"
    table = Table(title=Text(title, style="bold"), title_justify="left")
    table.add_column("")
    for arm in order:
        table.add_column(Text(arm), justify="right", overflow="fold")
    for arm in others:
        table.add_column(Text(f"{arm} - {baseline}"), justify="right", overflow="fold")

    marks: set[str] = set()

    def row(name: str, cells: dict[str, str], versus: dict[str, str] | None = None, best: Set[str] = frozenset()) -> None:
        marks.update(best)
        arms = [marked(cells.get(arm, ""), arm in best) for arm in order]
        table.add_row(name, *arms, *[(versus or {}).get(arm, "") for arm in others])

    results, versus = matchup.arms, matchup.versus
    row("learning rate, best by validation loss", {arm: f"{results[arm].lr:g}" for arm in arms})
    for stats, name in STATS.items():
        holm = {arm: versus[arm].p_holm if stats == "running" and len(others) > 1 else None for arm in others}
        row(
            f"test accuracy %, {name}",
            {arm: mean_std(results[arm].accuracy[stats]) for arm in arms},
            {arm: difference(versus[arm].accuracy[stats], holm[arm]) for arm in others},
            better(comparison, {arm: versus[arm].accuracy[stats] for arm in others}),
        )
    row(
        "generalization gap (train - test) %",
        {arm: mean_std(results[arm].gap) for arm in arms},
        {arm: difference(versus[arm].gap) for arm in others},
    )
    row(
        "steps to target (quartiles)",
        {arm: quartiles(results[arm].steps) for arm in arms},
        {arm: f"faster {times_faster(versus[arm].speedup)}" for arm in others},
        better(comparison, {arm: versus[arm].speedup for arm in others}),
    )  # the seconds below have no mark: their interval leaves out how uncertain a step's time is
    if seconds is not None:
        row(
            "seconds to target",
            {arm: quartiles(seconds.to_target[arm], 2) for arm in arms if arm in seconds.to_target},
            {arm: f"faster {times_faster(one.seconds)}" for arm, one in seconds.versus.items()},
        )
        row(
            "ms a step alone, median (quartiles)",
            {arm: f"{time.median_ms:.2f} ({time.low_ms:.2f} to {time.high_ms:.2f})" for arm, time in found.step_times.items()},
            {arm: _cost(one.step_cost) for arm, one in seconds.versus.items()},
        )
        row(
            "  forward + backward + optimizer",
            {arm: _parts(time) for arm, time in found.step_times.items()},
        )
    row(
        "largest stable learning rate",
        {arm: _stable(comparison.stable_lr[arm]) for arm in arms},
        {arm: _factor(comparison.stable_factor[arm]) for arm in others},
    )
    row("diverged runs (all learning rates)", {arm: _diverged(comparison, arm) for arm in arms})
    row("parameters", {arm: "n/a" if results[arm].parameters is None else f"{results[arm].parameters:,}" for arm in arms})
    said = [f"{MARK} better: {BETTER.format(baseline)}"] * bool(marks) + [LOST, FASTER]
    said += ["cost: mean ratio of alternating turns [95 % interval]"] * bool(seconds)
    table.caption = Text("; ".join(said))
    return Whole(table)


def _cost(cost: StepCost) -> str:
    interval = "" if cost.low is None or cost.high is None else f" [{cost.low:.3g}, {cost.high:.3g}]"
    return f"cost {cost.factor:.3g}x{interval}"


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
        table.add_column(Text(arm), justify="right", overflow="fold")
    for arm in others:
        table.add_column(Text(f"{arm} - {baseline}"), justify="right", overflow="fold")
    tuned = {arm for arm, best in comparison.best_lr.items() if len(best.by_lr) > 1}
    chosen = _lowest_arm(comparison) if choose and not tuned else set()
    for matchup in comparison.same_lr:
        cells = []
        for arm in [*others, baseline]:
            result = matchup.arms[arm]
            best = arm in chosen or (arm in tuned and comparison.best_lr[arm].lr == matchup.lr)
            lost = f", {result.n_diverged} of {result.n} diverged" if result.n_diverged else ""
            cells.append(marked(f"{mean_std(result.accuracy['running'])}{lost}", best))
        gaps = [difference(matchup.versus[arm].accuracy["running"]) if arm in matchup.versus else "" for arm in others]
        table.add_row(f"{matchup.lr:g}", *cells, *gaps)
    said = [f"{MARK} the arm's best learning rate"] * bool(tuned) + [f"{MARK} {LOWEST}"] * bool(chosen)
    said.append("a diverged run counts as accuracy 0, one that misses the target keeps its own")
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
    word = ", ".join([f"{failed} failed"] * bool(failed) + [f"{unknown} cannot be told"] * bool(unknown)) or "passed"
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


def verdict(found: Compared) -> Text:
    """What a reader should take home, in sentences."""
    sentences = [found.comparison.verdict]
    if found.seconds is not None:
        sentences += [one.sentence[:1].upper() + one.sentence[1:] for one in found.seconds.versus.values()]
    for arm, factor in found.comparison.stable_factor.items():
        if factor.value is not None and factor.bound != "unknown":
            text = f"The largest stable learning rate of {arm} is {_factor(factor)} that of {found.comparison.baseline}."
            sentences.append(text.replace("≥ ", "at least ").replace("≤ ", "at most ").replace("x that", " times that"))
    return Text("\n".join(sentences))


def notes(texts: Iterable[str]) -> list[RenderableType]:
    """What makes the numbers weaker than they look."""
    return [Text(f"Note: {text}", style="yellow") for text in texts]


def _stable(found: StableLr) -> str:
    return "none" if found.lr is None else f"{'≥ ' if found.at_edge else ''}{found.lr:g}"


def _factor(found: Factor) -> str:
    if found.value is None:
        return "n/a"
    if found.bound == "unknown":
        return "unknown (both at the grid's edge)"
    sign = {"at_least": "≥ ", "at_most": "≤ "}.get(found.bound, "")
    return f"{sign}{found.value:.3g}x"


def _diverged(comparison: Comparison, arm: str) -> str:
    scores = comparison.best_lr[arm].by_lr
    return f"{sum(score.n_diverged for score in scores)} of {sum(score.n for score in scores)}"
