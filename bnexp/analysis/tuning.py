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
from bnexp.analysis.rows import Row, is_result, lr_of, seed_of, target_interval, val_loss


@dataclass(frozen=True)
class Tuned:
    """An arm in which each seed chose for itself among the same learning rates."""

    lrs: tuple[float, ...]
    """The learning rates that every seed chose from."""
    runs: Mapping[int, Row]
    """By seed, the run with the lowest validation loss: a diverged run has an infinite one; ties go to the smaller learning rate."""
    steps: Mapping[int, tuple[float, float]]
    """By seed, when its fastest learning rate reached the target: `rows.target_interval`, the smallest of each end."""
    fastest: Mapping[int, float]
    """By seed, the learning rate that reached the target first; not there where none did."""

    def picked(self) -> dict[float, int]:
        """How many seeds chose each learning rate by validation loss."""
        return _counts(lr_of(row) for row in self.runs.values())

    def picked_fastest(self) -> dict[float, int]:
        """How many seeds were fastest at each learning rate."""
        return _counts(self.fastest.values())


def tune(rows: Sequence[Row], best: BestLr) -> Tuned:
    """Lets each seed choose among the learning rates and seeds that `best` compared: equal trials for every seed. Test results are never
    read."""
    lrs = tuple(score.lr for score in best.by_lr if score.compared)
    by_seed: dict[int, dict[float, Row]] = {seed: {} for seed in best.seeds}
    for row in rows:
        if is_result(row) and seed_of(row) in by_seed and lr_of(row) in lrs:
            by_seed[seed_of(row)][lr_of(row)] = row
    runs, steps, fastest = {}, {}, {}
    for seed, own in by_seed.items():
        runs[seed] = min(own.values(), key=lambda row: (val_loss(row), lr_of(row)))
        ends = {lr: target_interval(row) for lr, row in own.items()}
        steps[seed] = (min(before for before, _ in ends.values()), min(reached for _, reached in ends.values()))
        if math.isfinite(steps[seed][1]):
            fastest[seed] = min(ends, key=lambda lr: (ends[lr][1], lr))
    return Tuned(lrs, runs, steps, fastest)


def _counts(lrs: Iterable[float]) -> dict[float, int]:
    return dict(sorted(Counter(lrs).items()))
