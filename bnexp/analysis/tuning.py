"""Each seed tunes itself: the learning rate is chosen inside the unit of replication, so that the interval knows of the choice.

One learning rate chosen by the mean over seeds, and then reported on the same seeds, calls an arm different from itself in 25 % (n = 5) to
57 % (n = 10) of comparisons on digits. Source: Bouthillier et al. 2021, "Accounting for Variance in Machine Learning Benchmarks".
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from bnexp.analysis.rates import BestLr
from bnexp.storage.result import RunResult


@dataclass(frozen=True)
class Tuned:
    """An arm in which each seed chose for itself among the same learning rates."""

    lrs: tuple[float, ...]
    """The learning rates that every seed chose from."""
    runs: Mapping[int, RunResult]
    """By seed, the run with the lowest validation loss: a diverged run has an infinite one; ties go to the smaller learning rate."""
    steps: Mapping[int, tuple[float, float]]
    """By seed, when its fastest learning rate reached the target: `RunResult.target_interval`, the smallest of each end."""
    fastest: Mapping[int, float]
    """By seed, the learning rate that reached the target first; not there where none did."""

    def picked(self) -> dict[float, int]:
        """How many seeds chose each learning rate by validation loss."""
        return _counts(run.lr for run in self.runs.values())

    def picked_fastest(self) -> dict[float, int]:
        """How many seeds were fastest at each learning rate."""
        return _counts(self.fastest.values())


def tune(rows: Sequence[RunResult], best: BestLr) -> Tuned:
    """Lets each seed choose among the learning rates and seeds that `best` compared: equal trials for every seed. Test results are never
    read."""
    lrs = tuple(score.lr for score in best.by_lr if score.compared)
    by_seed: dict[int, dict[float, RunResult]] = {seed: {} for seed in best.seeds}
    for run in rows:
        if run.is_result and run.seed in by_seed and run.lr in lrs:
            by_seed[run.seed][run.lr] = run
    runs, steps, fastest = {}, {}, {}
    for seed, own in by_seed.items():
        runs[seed] = min(own.values(), key=lambda run: (run.val_loss, run.lr))
        ends = {lr: run.target_interval for lr, run in own.items()}
        steps[seed] = (min(before for before, _ in ends.values()), min(reached for _, reached in ends.values()))
        if math.isfinite(steps[seed][1]):
            fastest[seed] = min(ends, key=lambda lr: (ends[lr][1], lr))
    return Tuned(lrs, runs, steps, fastest)


def _counts(lrs: Iterable[float]) -> dict[float, int]:
    return dict(sorted(Counter(lrs).items()))
