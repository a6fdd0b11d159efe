"""A comparison as tables: the arms with each seed tuned, all arms at the same learning rates, steps to target at each of these.

`COLUMNS` is the one list of what the first of them says of an arm and of a difference; a new one is one entry. The arms stand side by side,
so that what is a column of an arm's facts is a line there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bnexp.analysis import Aggregate, Comparison, Matchup, Paired, Part, Ratio, Seconds, Versus
from bnexp.analysis.best import better, lowest_arms
from bnexp.analysis.wording import bracket, decisive, failed, label, listed, mean_std, seeds, times
from bnexp.tables.marks import BETTER, LOWEST, MARK, mark
from bnexp.tables.table import Table
from bnexp.tables.text import FASTER, LOST, difference, picks, quartiles, times_faster

STATS = {"precise": "precise statistics", "batch": "batch statistics"}


@dataclass(frozen=True)
class Arm:
    """An arm of a part that has results."""

    part: Part
    name: str

    @property
    def comparison(self) -> Comparison:
        assert self.part.comparison is not None
        return self.part.comparison

    @property
    def result(self) -> Aggregate:
        return self.comparison.headline.arms[self.name]

    @property
    def versus(self) -> Versus:
        """Against the baseline; the arm is another one, and the baseline has results."""
        return self.comparison.headline.versus[self.name]


@dataclass(frozen=True)
class Column:
    """What is said of an arm, and of its difference from the baseline."""

    name: str
    cell: Callable[[Arm], str] = lambda arm: ""
    difference: Callable[[Arm], str] = lambda arm: ""
    test: Callable[[Arm], Paired | Ratio] | None = None
    """Marks the arm that it shows to be better."""
    needed: Callable[[Sequence[Arm]], bool] = lambda arms: True
    """Whether it tells anything of these arms."""
    brief: bool = False
    """Whether it is shown without --verbose."""


def _accuracy(stats: str, name: str) -> Column:
    """Under statistics that are not the running ones; where no arm has batch statistics, these are the same."""
    return Column(
        f"test accuracy %, {name}",
        lambda arm: mean_std(arm.result.accuracy[stats]),
        lambda arm: difference(arm.versus.accuracy[stats]),
        lambda arm: arm.versus.accuracy[stats],
        lambda arms: any(arm.result.accuracy[stats] != arm.result.accuracy["running"] for arm in arms),
    )


COLUMNS = (
    Column("learning rates chosen (seeds)", lambda arm: picks(arm.result.picked)),
    Column(
        "test accuracy %, running statistics",
        lambda arm: mean_std(arm.result.accuracy["running"]),
        lambda arm: difference(arm.versus.headline),
        lambda arm: arm.versus.headline,
        brief=True,
    ),
    Column(
        "  on these test images alone",
        difference=lambda arm: difference(arm.versus.accuracy["running"]),
        needed=lambda arms: any(versus.over_images for arm in arms for versus in arm.comparison.headline.versus.values()),
    ),
    *(_accuracy(stats, name) for stats, name in STATS.items()),
    Column(
        "runs that failed to train",
        lambda arm: failed(arm.result.failures),
        lambda arm: decisive(arm.versus.failures),
        needed=lambda arms: any(arm.result.failures.failed for arm in arms),
        brief=True,
    ),
    Column(
        "generalization gap (train - test) %",
        lambda arm: mean_std(arm.result.gap),
        lambda arm: difference(arm.versus.gap),
    ),
    Column("fastest learning rates (seeds)", lambda arm: picks(arm.result.fastest)),
    Column(
        "steps to target (quartiles)",
        lambda arm: quartiles(arm.result.steps),
        lambda arm: f"faster {times_faster(arm.versus.speedup)}",
        lambda arm: arm.versus.speedup,
        brief=True,
    ),
    Column(
        "seconds to target",
        lambda arm: quartiles(_seconds(arm).to_target[arm.name], 2),
        lambda arm: f"faster {times_faster(_seconds(arm).versus[arm.name].seconds)}",
        lambda arm: _seconds(arm).versus[arm.name].seconds,
        lambda arms: arms[0].part.seconds is not None,
        brief=True,
    ),
    Column(
        "ms a step alone, median of the turns",
        lambda arm: f"{_seconds(arm).step_ms[arm.name]:.2f}",
        lambda arm: "cost {0.factor:.3g}x [{0.low:.3g}x, {0.high:.3g}x]".format(_seconds(arm).versus[arm.name].step_cost),
        needed=lambda arms: arms[0].part.seconds is not None,
    ),
    Column("  forward + backward + optimizer", lambda arm: _step_parts(arm), needed=lambda arms: arms[0].part.seconds is not None),
    Column(
        "largest stable learning rate",
        lambda arm: bracket(arm.comparison.stable_lr[arm.name]),
        lambda arm: _stable_factor(arm.comparison.stable_factor[arm.name]),
        brief=True,
    ),
    Column("diverged runs (all learning rates)", lambda arm: _diverged(arm)),
    Column("parameters", lambda arm: "n/a" if arm.result.parameters is None else f"{arm.result.parameters:,}"),
)


def headline(part: Part, brief: bool = False) -> Table:
    """Each seed at the learning rate that it chose: one column an arm, one for each difference from the baseline, which `brief` omits."""
    comparison = part.comparison
    assert comparison is not None
    matchup, baseline = comparison.headline, label(comparison.baseline)
    arms = [Arm(part, name) for name in part.arms.labels if name in matchup.arms]
    others = [arm for arm in arms if arm.name in matchup.versus]
    rows, any_mark = [], False
    for column in COLUMNS if arms else ():
        if column.needed(arms) and (column.brief or not brief):
            best = better(comparison, {arm.name: column.test(arm) for arm in others}) if column.test is not None else set()
            any_mark |= bool(best)
            cells = [mark(column.cell(arm), arm.name in best) for arm in arms]
            rows.append((column.name, *cells, *(column.difference(arm) for arm in others)))
    if brief:
        columns = ("", *(label(arm.name) for arm in arms))
        return Table(columns, tuple(row[: len(columns)] for row in rows), f"{MARK} shown to be better" if any_mark else "")
    tuned = any(len(best.by_lr) > 1 for best in comparison.best_lr.values())
    n = max((arm.result.n for arm in arms), default=0)
    images = {found.n_images for found in (versus.over_images for versus in matchup.versus.values()) if found is not None}
    over = [f"the difference under running statistics is over seeds and the {images.pop():,} test images"] if len(images) == 1 else []
    return Table(
        ("", *(label(arm.name) for arm in arms), *(f"{label(arm.name)} - {baseline}" for arm in others)),
        tuple(rows),
        "; ".join([f"{MARK} better: {BETTER.format(baseline)}"] * any_mark + [*over, LOST, FASTER]),
        f"{'Each seed at the learning rate that it chose' if tuned else 'The arms side by side'} "
        f"(batch {listed(comparison.batch_sizes)}, n = {seeds(n)}; ± std, [95 % interval])",
    )


def same_lr(part: Part, choose: bool = False) -> Table:
    """Test accuracy (running statistics) of all arms at each learning rate that they were all tried with, the best one of each arm marked.

    With `choose`, where no arm has several, the arm with the lowest mean validation loss is marked; a comparison asks for a test instead.
    """
    comparison = part.comparison
    assert comparison is not None
    tuned = {arm for arm, best in comparison.best_lr.items() if len(best.by_lr) > 1}
    chosen = lowest_arms(comparison) if choose and not tuned else set()

    def accuracy(matchup: Matchup, arm: str) -> str:
        result = matchup.arms[arm]
        lost = f", {result.failures.failed} of {result.n} failed" if result.failures.failed else ""
        best = arm in chosen or (arm in tuned and comparison.best_lr[arm].lr == matchup.lr)
        return mark(f"{mean_std(result.accuracy['running'])}{lost}", best)

    said = [f"{MARK} the arm's lowest mean validation loss"] * bool(tuned) + [f"{MARK} {LOWEST}"] * bool(chosen)
    return _by_lr(
        part,
        "All arms at the same learning rate: test accuracy %, running statistics",
        "; ".join([*said, LOST, "differences have intervals and are not tested"]),
        accuracy,
        "{} - " + label(comparison.baseline),
        lambda versus: difference(versus.accuracy["running"]),
    )


def targets(part: Part) -> Table:
    """Steps to target at each learning rate, and which of these suit an arm."""
    comparison = part.comparison
    assert comparison is not None
    suited = [
        f"{label(arm)}: lowest mean validation loss at {best.lr:g}{', on the edge of the grid' * best.on_edge}, largest stable one "
        f"{bracket(comparison.stable_lr[arm])}"
        for arm, best in comparison.best_lr.items()
        if len(best.by_lr) > 1 and best.lr is not None
    ]
    return _by_lr(
        part,
        "Steps to target: median (quartiles)",
        "; ".join([FASTER, *suited]),
        lambda matchup, arm: quartiles(matchup.arms[arm].steps),
        "faster {}",
        lambda versus: times_faster(versus.speedup),
    )


def _by_lr(part: Part, title: str, caption: str, cell: Callable[[Matchup, str], str], against: str, gap: Callable[[Versus], str]) -> Table:
    """A row a learning rate that all arms were tried with: each arm, then each difference from the baseline."""
    assert part.comparison is not None
    arms, others = part.arms.labels, part.arms.labels[:-1]
    rows = [
        (
            f"{matchup.lr:g}",
            *(cell(matchup, arm) for arm in arms),
            *(gap(matchup.versus[arm]) if arm in matchup.versus else "" for arm in others),
        )
        for matchup in part.comparison.same_lr
    ]
    return Table(("lr", *map(label, arms), *(against.format(label(arm)) for arm in others)), tuple(rows), caption, title)


def _seconds(arm: Arm) -> Seconds:
    assert arm.part.seconds is not None
    return arm.part.seconds


def _step_parts(arm: Arm) -> str:
    time = (arm.part.step_times or {})[arm.name]
    if time.forward_ms is None or time.backward_ms is None or time.optimizer_ms is None:
        return "one CUDA graph"
    return f"{time.forward_ms:.2f} + {time.backward_ms:.2f} + {time.optimizer_ms:.2f}"


def _stable_factor(found: Ratio) -> str:
    if found.low is None or found.high is None:
        return "n/a"
    return f"factor {times(found.low)} to {times(found.high)}, {decisive(found)}"


def _diverged(arm: Arm) -> str:
    scores = arm.comparison.best_lr[arm.name].by_lr
    return f"{sum(score.n_diverged for score in scores)} of {sum(score.n for score in scores)}"
