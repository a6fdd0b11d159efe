"""Runs that did not train, as rates: an interval for each arm, and an exact test between two."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from bnexp.analysis.pairs import LEVEL, POWER, Tested
from bnexp.storage.result import RunResult


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
    detectable: float | None = None
    """The smallest rate that is found with 80 % power against the lower of the two; None where so few runs can show none."""


def failure_rate(runs: Sequence[RunResult]) -> FailureRate:
    """Failures among results, with the interval of Clopper and Pearson (1934, Biometrika 26): at least 95 % coverage at every rate."""
    n, diverged = len(runs), sum(run.is_diverged for run in runs)
    failed = sum(run.is_failure for run in runs)
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
    low, other = (a, b) if a.failed * b.n <= b.failed * a.n else (b, a)
    return FailureTest(
        n=min(a.n, b.n),
        p=fisher(a.failed, a.n, b.failed, b.n),
        rate=a.failed / a.n,
        baseline_rate=b.failed / b.n,
        detectable=_detectable(low.failed, low.n, other.n),
    )


def fisher(k: int, n: int, other_k: int, other_n: int) -> float:
    """Two-sided p that k of n and other_k of other_n have one rate, in whole numbers."""
    total = k + other_k
    weights = [math.comb(n, index) * math.comb(other_n, total - index) for index in range(total + 1)]
    return sum(weight for weight in weights if weight <= weights[k]) / sum(weights)


def _detectable(low_k: int, low_n: int, n: int) -> float | None:
    """The rate at which, with 80 % chance, enough of n runs fail to differ from low_k of low_n."""
    from scipy.special import betaincinv

    more = range(low_k * n // low_n + 1, n + 1)
    needed = next((k for k in more if fisher(k, n, low_k, low_n) <= LEVEL), None)
    return None if needed is None else float(betaincinv(needed, n - needed + 1, POWER))
