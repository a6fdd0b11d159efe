"""What makes results weaker than they look: unequal trials, edges of the grid, missing runs, cold statistics, few seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bnexp.analysis.arms import short_key
from bnexp.analysis.grouping import budget_kind
from bnexp.analysis.pairs import RECOMMENDED_SEEDS
from bnexp.analysis.part import Part
from bnexp.analysis.results import Comparison, Grid
from bnexp.analysis.wording import count, label, listed, percent, seeds
from bnexp.config.fields import show
from bnexp.storage.result import RunResult

STOPPED = "train.until_target: each run stopped where it reached the target, so final accuracies are those of unequal budgets."
BATCH_GAP = 0.02
"""Test accuracy under batch statistics that differs by more than this from that under running ones is pointed out."""
COLD = "their initial (0, 1) still weighs more than 1 %; see the precise or batch ones"
LISTED = 3
"""Cells that a note names before it only counts them."""
PARAMETER_GAP = 0.05
"""Arms that differ by more than this share of their parameters are not at parity."""


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
        counts = ", ".join(f"{label(arm)} {number}" for arm, number in trials.items())
        found.append(f"unequal trials: learning rates tried are {counts}; tune each arm with as many.")
    elif len(trials) > 1 and set(trials.values()) == {1}:
        found.append("one learning rate an arm: nothing was tuned, and a rate that suits one arm may not suit the other.")
    for arm, best in comparison.best_lr.items():
        found += [f"{label(arm)}: {text}." for text in best.warnings]
        if best.on_edge and best.lr is not None:
            largest = best.lr == max(score.lr for score in best.by_lr)
            edge = "largest" if largest else "smallest"
            found.append(
                f"{label(arm)}: the best lr {best.lr:g} is the {edge} tried; a {'larger' if largest else 'smaller'} one may be better."
            )
    for arm, lrs in missing.items():
        if lrs:
            where = ", ".join(f"{lrs.count(lr)} at lr {lr:g}" for lr in sorted(set(lrs)))
            found.append(f"{label(arm)}: runs without a result (failed, interrupted or still running): {where}; they are left out.")
    found += _about_arms(comparison)
    for arm, versus in comparison.headline.versus.items():
        pairs = versus.accuracy["running"]
        both = f"{label(arm)} against {label(comparison.baseline)}"
        if pairs.n < RECOMMENDED_SEEDS:
            found.append(f"{both}: {seeds(pairs.n)} in the pairs; a comparison should have {RECOMMENDED_SEEDS} or more.")
        if pairs.dropped:
            found.append(f"{both}: seeds {listed(pairs.dropped)} have no partner and are left out of the pairs.")
    return found


def of_part(part: Part) -> list[str]:
    """What makes a part's answers weaker than they look, each sentence once."""
    if part.grid is not None:
        return _about_cells(part.grid)
    if part.comparison is not None:
        return list(part.comparison.warnings)
    found = [f"{label(cost.arm)}: {text}" for cost in part.small_batches for text in cost.warnings]
    rows = [(one.batch_sizes[0], arm, result) for one in part.by_size for arm, result in one.headline.arms.items()]
    for arm in part.arms.labels:
        cold = [size for size, name, result in rows if name == arm and not result.ema_warm]
        found += [f"{label(arm)}: {cold_at(cold)}"] * bool(cold)
    few = _few_seeds([result.n for _, _, result in rows], "row")
    return list(dict.fromkeys([*found, *few]))


def budget(runs: Sequence[RunResult]) -> str:
    """Which budget runs of several batch sizes have in common, and what that does to them."""
    kind = budget_kind(runs)
    if kind == "steps":
        return f"equal steps ({runs[0].budget_steps:,}): smaller batches see fewer images in them."
    if kind == "epochs":
        return f"equal epochs ({runs[0].config.train.epochs:,}), not steps: smaller batches make more updates in them."
    return "unequal budgets: the runs were given neither equal steps nor equal epochs."


def cold_at(batch_sizes: Sequence[int]) -> str:
    """That the running statistics are cold at these batch sizes."""
    return f"running statistics are cold at batch {listed(batch_sizes)}: {COLD}."


def _few_seeds(ns: Sequence[int], noun: str) -> list[str]:
    """That some of these numbers of seeds are too small; `noun`: what each is the number of."""
    few = [n for n in ns if n < RECOMMENDED_SEEDS]
    if not few:
        return []
    least = f"at the least {min(few)}"
    return [
        f"{len(few)} of {count(len(ns), noun)}: n < {RECOMMENDED_SEEDS} ({least}); a comparison should have {RECOMMENDED_SEEDS} or more."
    ]


def _about_cells(found: Grid) -> list[str]:
    said = []
    cold = [one for one in found.cells if not one.ema_warm]
    if cold:
        names = [*map(short_key, found.keys)]
        which = [", ".join(f"{name}={show(value)}" for name, value in zip(names, one.values, strict=True)) for one in cold]
        some = f" ({'; '.join(which)})" if found.keys and len(cold) <= LISTED else ""
        said.append(f"running statistics are cold in {len(cold)} of {count(len(found.cells), 'cell')}{some}: {COLD}.")
    return said + _few_seeds([one.n for one in found.cells], "cell")


def _about_arms(comparison: Comparison) -> list[str]:
    found = []
    for arm, best in comparison.best_lr.items():
        diverged = [f"{score.n_diverged} of {score.n} at lr {score.lr:g}" for score in best.by_lr if score.n_diverged]
        if diverged:
            found.append(f"{label(arm)}: diverged runs: {', '.join(diverged)}.")
    for arm, result in comparison.headline.arms.items():
        if not result.ema_warm:
            found.append(f"{label(arm)}: running statistics are cold: {COLD}.")
        running, batch = (result.accuracy[stats].mean for stats in ("running", "batch"))
        if running is not None and batch is not None and abs(batch - running) > BATCH_GAP:
            found.append(
                f"{label(arm)}: test accuracy is {percent(running)} with running and {percent(batch)} with batch statistics: "
                "eval mode does not see the network that was trained."
            )
    sizes = {arm: result.parameters for arm, result in comparison.headline.arms.items() if result.parameters}
    if sizes and max(sizes.values()) > (1 + PARAMETER_GAP) * min(sizes.values()):
        found.append(f"parameters differ: {', '.join(f'{label(arm)} {size:,}' for arm, size in sizes.items())}.")
    return found
