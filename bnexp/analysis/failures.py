"""Runs that did not train, as rates: an interval for each arm, and an exact test between two."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from bnexp.analysis.pairs import LEVEL, Tested
from bnexp.analysis.rows import Row, is_diverged, is_failure


@dataclass(frozen=True)
class FailureRate:
    """k of n runs did not train: they diverged, or ended at chance. `low` and `high` are the 95 % interval of the rate; None without
    runs."""

    n: int
    diverged: int
    at_chance: int
    low: float | None
    high: float | None

    @property
    def failed(self) -> int:
        return self.diverged + self.at_chance


@dataclass(frozen=True)
class FailureTest(Tested):
    """Fisher's exact test of two rates of failure; `n` is the smaller number of runs."""

    rate: float = 0.0
    baseline_rate: float = 0.0


def failure_rate(rows: Sequence[Row]) -> FailureRate:
    """Failures among results, with the interval of Clopper and Pearson (1934, Biometrika 26): at least 95 % coverage at every rate."""
    n, diverged = len(rows), sum(map(is_diverged, rows))
    failed = sum(map(is_failure, rows))
    low, high = clopper_pearson(failed, n) if n else (None, None)
    return FailureRate(n, diverged, failed - diverged, low, high)


def clopper_pearson(k: int, n: int) -> tuple[float, float]:
    """The 95 % interval of a rate of which k of n were seen: beta quantiles."""
    from scipy.special import betaincinv

    low = 0.0 if k == 0 else float(betaincinv(k, n - k + 1, LEVEL / 2))
    high = 1.0 if k == n else float(betaincinv(k + 1, n - k, 1 - LEVEL / 2))
    return low, high


def compare_failures(a: FailureRate, b: FailureRate) -> FailureTest:
    """Fisher's two-sided exact test, arm a against baseline b: the tables of the same margins that are no more likely than this one."""
    if not a.n or not b.n:
        return FailureTest(min(a.n, b.n), None)
    total = a.failed + b.failed
    weights = [math.comb(a.n, k) * math.comb(b.n, total - k) for k in range(total + 1)]
    own = weights[a.failed]
    p = sum(weight for weight in weights if weight <= own) / sum(weights)
    return FailureTest(min(a.n, b.n), p, rate=a.failed / a.n, baseline_rate=b.failed / b.n)
