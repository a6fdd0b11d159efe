"""Means with intervals, paired differences, exact p-values, Holm's correction.

Below ten pairs Student's t, because a bootstrap 95 % interval of five values covers
about 83 %; from ten on the bootstrap, which needs no normality.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

BOOTSTRAP_FROM = 10
RESAMPLES = 10_000
EXACT_UP_TO = 20
"""Pairs up to which all 2^n sign flips are counted; above, `FLIPS` random ones."""
FLIPS = 100_000
ROUNDING = 1e-9
"""Relative size of what counts as rounding: accuracies are ratios of counts, and equal sums of them differ in their last bits."""


@dataclass(frozen=True)
class Cell:
    """n values: mean, sample standard deviation (ddof 1) and the 95 % Student-t interval of the mean. None: not defined."""

    n: int
    mean: float | None
    std: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Paired:
    """What a is above b, seed by seed. `difference` is the mean of a - b (method `sign`: the median); None: not defined."""

    n: int
    difference: float | None
    low: float | None
    high: float | None
    method: str
    """Of the 95 % interval: `t`, `bootstrap`, or, without one, `sign` (infinities) and `none` (fewer than two pairs)."""
    p: float | None
    """Two-sided: exact sign-flip test of the mean; method `sign`: sign test, infinities included. At least 2/2^n."""
    higher: int
    equal: int
    lower: int
    dropped: tuple[int, ...]
    """Seeds that only one side has."""

    @property
    def excludes_zero(self) -> bool:
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)


def cell(values: Sequence[float]) -> Cell:
    """mean, s = sqrt(sum (x - mean)^2 / (n - 1)), and mean -+ t_{0.975, n-1} s / sqrt(n), in the unit of the values.

    One value has a mean only; infinite values make the mean infinite and the rest undefined.
    """
    n = len(values)
    mean = statistics.fmean(values) if n and not _opposite(values) else math.nan
    if not math.isfinite(mean):
        return Cell(n, None if math.isnan(mean) else mean, None, None, None)
    if n == 1:
        return Cell(n, mean, None, None, None)
    low, high = _student(values)
    return Cell(n, mean, statistics.stdev(values), low, high)


def paired(a: Mapping[int, float], b: Mapping[int, float]) -> Paired:
    """a - b over the seeds that both have.

    The interval is Student's t on the differences below n = 10, from there on the bias-corrected and accelerated bootstrap of their mean
    (10,000 resamples, a fixed generator). Where a value is infinite (a run that missed), a mean means nothing: method `sign` gives the
    median difference (None where it lies between infinities), no interval, and the sign test's p; infinity against infinity is a tie.
    """
    common = sorted(a.keys() & b.keys())
    dropped = tuple(sorted(a.keys() ^ b.keys()))
    differences = [0.0 if a[seed] == b[seed] else a[seed] - b[seed] for seed in common]  # inf - inf is a tie
    higher, lower = sum(d > 0 for d in differences), sum(d < 0 for d in differences)
    counts = (higher, len(common) - higher - lower, lower)
    if not common:
        return Paired(0, None, None, None, "none", None, 0, 0, 0, dropped)
    if not all(map(math.isfinite, [*(a[seed] for seed in common), *(b[seed] for seed in common)])):
        middle = _median(differences)
        return Paired(len(common), middle, None, None, "sign", _sign_test(higher, lower), *counts, dropped)
    mean, p = statistics.fmean(differences), sign_flip_p(differences)
    if len(common) == 1:
        return Paired(1, mean, None, None, "none", p, *counts, dropped)
    method = "t" if len(common) < BOOTSTRAP_FROM else "bootstrap"
    low, high = _student(differences) if method == "t" else _bootstrap(differences)
    return Paired(len(common), mean, low, high, method, p, *counts, dropped)


def sign_flip_p(differences: Sequence[float]) -> float:
    """Two-sided p of the sign-flip (paired permutation) test: the share of sign patterns s with |sum s_i d_i| >= |sum d_i|.

    All 2^n patterns up to n = 20 non-zero differences, above that 100,000 random ones with (k + 1) / (N + 1). Exact in the presence of
    ties and zeros. (scipy.stats.permutation_test is the twin in the tests; it loops in Python, which takes seconds at n = 20.)
    """
    import numpy as np  # here and below, as scipy: a list of runs need not wait for it

    sizes = np.abs([d for d in differences if d != 0])
    reached = abs(math.fsum(differences)) - ROUNDING * float(sizes.sum())
    if len(sizes) <= EXACT_UP_TO:
        sums = np.zeros(1)
        for index, size in enumerate(sizes):  # the first sign is fixed: s and -s give the same |sum|
            sums = np.concatenate([sums + size, sums - size]) if index else sums + size
        return float(np.mean(np.abs(sums) >= reached))
    signs = np.random.default_rng(0).choice([-1.0, 1.0], size=(FLIPS, len(sizes)))
    return float((np.count_nonzero(np.abs(signs @ sizes) >= reached) + 1) / (FLIPS + 1))


def holm(ps: Sequence[float]) -> list[float]:
    """Holm's step-down adjusted p-values, in the order given: p_(i) -> max over j <= i of min(1, (m - j + 1) p_(j)).

    They bound the chance of any false rejection among the m. Source: Holm 1979, Scand. J. Statistics 6. (scipy's
    false_discovery_control bounds the share of false rejections instead, which is weaker.)
    """
    adjusted, worst = [0.0] * len(ps), 0.0
    for rank, index in enumerate(sorted(range(len(ps)), key=lambda index: ps[index])):
        worst = max(worst, min(1.0, (len(ps) - rank) * ps[index]))
        adjusted[index] = worst
    return adjusted


def _student(values: Sequence[float]) -> tuple[float, float]:
    from scipy.special import stdtrit  # the quantile alone: scipy.stats takes most of a second to import

    n, mean = len(values), statistics.fmean(values)
    half = float(stdtrit(n - 1, 0.975)) * statistics.stdev(values) / math.sqrt(n)
    return mean - half, mean + half


def _bootstrap(values: Sequence[float]) -> tuple[float, float]:
    import numpy as np
    from scipy.stats import bootstrap

    mean = statistics.fmean(values)
    if max(values) - min(values) <= ROUNDING * max(map(abs, values)):  # no spread: its acceleration would be 0/0
        return mean, mean
    generator = np.random.default_rng(0)  # `random_state`, not `rng`: that name is newer than the oldest scipy we take
    found = bootstrap((np.asarray(values),), np.mean, n_resamples=RESAMPLES, method="BCa", random_state=generator).confidence_interval
    return float(found.low), float(found.high)


def _sign_test(higher: int, lower: int) -> float:
    """Two-sided exact binomial p of `higher` against `lower`; ties carry no information and are left out."""
    m = higher + lower
    tail = sum(math.comb(m, k) for k in range(min(higher, lower) + 1))
    return min(1.0, 2 * tail / (1 << m))


def _median(values: Sequence[float]) -> float | None:
    ordered = sorted(values)
    low, high = ordered[(len(ordered) - 1) // 2], ordered[len(ordered) // 2]
    return low if low == high else None if _opposite((low, high)) else (low + high) / 2


def _opposite(values: Sequence[float]) -> bool:
    """Whether infinities of both signs are among the values."""
    return math.inf in values and -math.inf in values
