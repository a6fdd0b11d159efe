"""The learning rate of an arm: the best one, chosen on validation data alone, and the largest stable one."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from bnexp.analysis.rows import Row, is_diverged, is_result, lr_of, number, seed_of, val_accuracy, val_loss

STABLE_ACCURACY = 0.8
"""A run is stable at a learning rate when it reaches this share of its arm's best validation accuracy."""
STABLE_SHARE = 0.8
"""A learning rate is stable when this share of its runs is."""


@dataclass(frozen=True)
class LrScore:
    """One learning rate of an arm. `mean_val_loss` (nats an example) is infinite as soon as one run's is."""

    lr: float
    n: int
    n_diverged: int
    mean_val_loss: float
    compared: bool
    """False: it has too few seeds in common with the others, and was left out."""


@dataclass(frozen=True)
class BestLr:
    """The learning rate with the lowest mean validation loss; None where there are no results."""

    lr: float | None
    on_edge: bool
    """It is the smallest or the largest of several: the best may lie beyond."""
    mean_val_loss: float | None
    by_lr: tuple[LrScore, ...]
    seeds: tuple[int, ...]
    """The seeds that the choice was made on."""
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class LrReach:
    """How many of a learning rate's n runs reached the threshold of `StableLr`."""

    lr: float
    n: int
    reached: int
    stable: bool


@dataclass(frozen=True)
class StableLr:
    """The largest stable learning rate of an arm; None where not even the best one is stable."""

    lr: float | None
    at_edge: bool
    """It is the grid's largest: the truth is at least this."""
    best_accuracy: float | None
    threshold: float | None
    by_lr: tuple[LrReach, ...]


@dataclass(frozen=True)
class Factor:
    """A ratio of two numbers of which one may be a lower bound: `exact`, `at_least`, `at_most`, or `unknown`."""

    value: float | None
    bound: str


def select_lr(rows: Sequence[Row]) -> BestLr:
    """The lr with the lowest mean validation loss over seeds, a diverged or non-finite run counting as infinity.

    Only equal trials compare: the means are taken over the seeds that as many learning rates as possible share, as long as that leaves
    at least half of the fullest one's; where this drops anything, `warnings` says so. Ties go to the smaller lr. Between infinite means,
    fewer infinite runs go first, then the mean of the others. Test results are never looked at.
    """
    by_lr: dict[float, dict[int, float]] = {}
    diverged: dict[float, int] = {}
    for row in rows:
        if is_result(row):
            by_lr.setdefault(lr_of(row), {})[seed_of(row)] = val_loss(row)
            diverged[lr_of(row)] = diverged.get(lr_of(row), 0) + is_diverged(row)
    if not by_lr:
        return BestLr(None, False, None, (), (), ("no run has a result",))
    seeds = _shared_seeds([frozenset(losses) for _, losses in sorted(by_lr.items())])
    grid = [lr for lr in sorted(by_lr) if seeds <= by_lr[lr].keys()]
    best = min(grid, key=lambda lr: (*_rank([by_lr[lr][seed] for seed in sorted(seeds)]), lr))
    scores = tuple(
        LrScore(lr, len(losses), diverged[lr], _mean([losses[seed] for seed in sorted(seeds if lr in grid else losses)]), lr in grid)
        for lr, losses in sorted(by_lr.items())
    )
    warnings = []
    left_out = [lr for lr in sorted(by_lr) if lr not in grid]
    if left_out:
        warnings.append(f"lr {_list(left_out)} left out of the choice: not the same seeds as the others")
    unused = set().union(*(by_lr[lr] for lr in grid)) - seeds
    if unused:
        warnings.append(f"the choice of lr leaves out seed {_list(sorted(unused))}: not every lr has a result there")
    mean = next(score.mean_val_loss for score in scores if score.lr == best)
    if math.isinf(mean):
        warnings.append("every lr has a run with an infinite validation loss; the one with the fewest was chosen")
    on_edge = len(grid) > 1 and best in (grid[0], grid[-1])
    return BestLr(best, on_edge, mean, scores, tuple(sorted(seeds)), tuple(warnings))


def largest_stable_lr(rows: Sequence[Row]) -> StableLr:
    """The largest lr of the grid such that it, and every one between the arm's best lr and it, is stable.

    A run is stable when its validation accuracy at the end of training is at least 0.8 of the arm's best: the mean, over the runs that
    finished at the best lr (`select_lr`), of their best validation accuracy. A learning rate is stable when 80 % of its runs are; a
    diverged one is not. Beyond a hole in the grid nothing counts: a lucky lr after an unstable one is no margin.
    """
    best = select_lr(rows).lr
    results = [row for row in rows if is_result(row)]
    at_best = [number(row, "val.best_accuracy") for row in results if lr_of(row) == best and not is_diverged(row)]
    accuracies = sorted(accuracy for accuracy in at_best if accuracy is not None)
    accuracy = statistics.fmean(accuracies) if accuracies else None
    threshold = None if accuracy is None else STABLE_ACCURACY * accuracy
    grid = sorted({lr_of(row) for row in results})
    reaches = []
    for lr in grid:
        ends = [None if is_diverged(row) else val_accuracy(row) for row in results if lr_of(row) == lr]
        reached = sum(end is not None and threshold is not None and end >= threshold for end in ends)
        reaches.append(LrReach(lr, len(ends), reached, reached >= STABLE_SHARE * len(ends) - 1e-9))
    largest = None
    for reach in reaches:
        if best is not None and reach.lr >= best:
            if not reach.stable:
                break
            largest = reach.lr
    return StableLr(largest, largest is not None and largest == grid[-1], accuracy, threshold, tuple(reaches))


def stable_factor(a: StableLr, b: StableLr) -> Factor:
    """Largest stable lr of a over that of b. At the edge of its grid the one is only known to be at least so large."""
    if a.lr is None or b.lr is None or (a.at_edge and b.at_edge):
        return Factor(None if a.lr is None or b.lr is None else a.lr / b.lr, "unknown")
    return Factor(a.lr / b.lr, "at_least" if a.at_edge else "at_most" if b.at_edge else "exact")


def _shared_seeds(seed_sets: Sequence[frozenset[int]]) -> frozenset[int]:
    """The seeds to compare learning rates on: shared by as many as possible, then as many as possible, then those that sort first."""
    fullest = max(map(len, seed_sets))
    large = [seeds for seeds in seed_sets if 2 * len(seeds) >= fullest]
    candidates = {*large, frozenset.intersection(*large)}
    enough = [seeds for seeds in candidates if 2 * len(seeds) >= fullest]
    return min(enough, key=lambda seeds: (-sum(seeds <= other for other in seed_sets), -len(seeds), sorted(seeds)))


def _rank(losses: Sequence[float]) -> tuple[int, float]:
    finite = [loss for loss in losses if math.isfinite(loss)]
    return len(losses) - len(finite), statistics.fmean(finite) if finite else math.inf


def _mean(losses: Sequence[float]) -> float:
    return math.inf if math.inf in losses else statistics.fmean(losses)


def _list(values: Sequence[float]) -> str:
    return ", ".join(f"{value:g}" for value in values)
