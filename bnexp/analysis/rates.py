"""The learning rate of an arm: the one with the lowest mean validation loss, and the largest stable one of each seed, with its bracket."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from bnexp.analysis.target import Ratio, ratio
from bnexp.storage.result import RunResult

STABLE_ACCURACY = 0.8
"""A run is stable at a learning rate when it ends with this share of its seed's best validation accuracy."""


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
    """The learning rate with the lowest mean validation loss; None where there are no results. It describes an arm; what arms are compared
    by is chosen by each seed for itself (`tuning`)."""

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
    """How many of a learning rate's n runs were stable."""

    lr: float
    n: int
    reached: int

    @property
    def stable(self) -> bool:
        """At least half of the runs were."""
        return 2 * self.reached >= self.n


@dataclass(frozen=True)
class StableLr:
    """The bracket of the median seed's largest stable learning rate: stable at `lr`, no longer at `unstable_lr`. Both None without
    results."""

    lr: float | None
    """0 where the smallest learning rate tried is unstable."""
    unstable_lr: float | None
    """Infinite where the largest learning rate tried is stable: the truth lies beyond it."""
    by_seed: dict[int, tuple[float, float]]
    """The bracket of each seed."""
    by_lr: tuple[LrReach, ...]

    @property
    def at_edge(self) -> bool:
        return self.unstable_lr is not None and math.isinf(self.unstable_lr)


def select_lr(runs: Sequence[RunResult]) -> BestLr:
    """The lr with the lowest mean validation loss over seeds, a diverged or non-finite run counting as infinity.

    Only equal trials compare: the means are taken over the seeds that as many learning rates as possible share, as long as that leaves
    at least half of the fullest one's; where this drops anything, `warnings` says so. Ties go to the smaller lr. Between infinite means,
    fewer infinite runs go first, then the mean of the others. Test results are never used.
    """
    by_lr: dict[float, dict[int, float]] = {}
    diverged: dict[float, int] = {}
    for run in runs:
        if run.is_result:
            by_lr.setdefault(run.lr, {})[run.seed] = run.val_loss
            diverged[run.lr] = diverged.get(run.lr, 0) + run.is_diverged
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


def largest_stable_lr(runs: Sequence[RunResult]) -> StableLr:
    """Each seed's largest lr such that it, and every one tried between the seed's best lr and it, is stable, with the next one tried.

    A run is stable when its validation accuracy at the end of training is at least 0.8 of the seed's best: the best validation accuracy of
    its run with the lowest validation loss. A diverged run is not. Beyond a hole in the grid nothing counts: a lucky lr after an unstable
    one is no margin. Seeds and learning rates are those that `select_lr` compares.
    """
    best = select_lr(runs)
    lrs = [score.lr for score in best.by_lr if score.compared]
    cells = {(run.seed, run.lr): run for run in runs if run.is_result}
    by_seed: dict[int, tuple[float, float]] = {}
    reached = dict.fromkeys(lrs, 0)
    for seed in best.seeds:
        own = {lr: cells[seed, lr] for lr in lrs}
        at = min(own, key=lambda lr: (own[lr].val_loss, lr))
        threshold = math.inf if own[at].is_diverged or own[at].is_at_chance else STABLE_ACCURACY * (own[at].val.best_accuracy or math.inf)
        stable = {lr: (run.val_accuracy or 0.0) >= threshold for lr, run in own.items()}
        beyond = next((lr for lr in lrs if lr >= at and not stable[lr]), math.inf)
        by_seed[seed] = (max((lr for lr in lrs if lr < beyond and stable[lr]), default=0.0), beyond if math.isfinite(threshold) else lrs[0])
        for lr in lrs:
            reached[lr] += stable[lr]
    if not by_seed:
        return StableLr(None, None, {}, ())
    middle = sorted(by_seed.values())[(len(by_seed) - 1) // 2]
    return StableLr(*middle, by_seed, tuple(LrReach(lr, len(by_seed), n) for lr, n in reached.items()))


def stable_factor(arm: StableLr, baseline: StableLr) -> Ratio:
    """The largest stable lr of the arm over the baseline's, by seed: at its least the stable rate over the other's unstable one. Grids are
    coarse, so that all seeds may share a bracket: the sign test's interval, with the brackets' ends."""
    seeds = sorted(arm.by_seed.keys() & baseline.by_seed.keys())
    logs = []
    for seed in seeds:
        (low, high), (base_low, base_high) = arm.by_seed[seed], baseline.by_seed[seed]
        least, most = _log(low) - _log(base_high), _log(high) - _log(base_low)
        logs.append((_middle(low, high) - _middle(base_low, base_high), least, most))
    return ratio(tuple(logs), by_sign=True)


def _middle(low: float, high: float) -> float:
    """ln of the geometric middle of a bracket; of an open one its end."""
    return _log(high) if low == 0 else _log(low) if math.isinf(high) else (_log(low) + _log(high)) / 2


def _log(value: float) -> float:
    return -math.inf if value == 0 else math.log(value) if math.isfinite(value) else math.inf


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
