"""Steps to target: interval-censored between two evaluations, and infinite for a run that misses.

Leaving misses out, or averaging only those that arrive, would make the worse arm look faster (AlgoPerf, Dahl et al. 2023). An evaluation
that finds the target reached says that it was reached since the evaluation before: medians are those of Turnbull's estimate (1976, J. Royal
Statistical Society B 38), and a ratio of two arms counts the whole bracket as possible.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from bnexp.analysis.pairs import LEVEL, POWER, Tested, from_t, spread

Interval = tuple[float, float]
"""The target was reached after the first step and by the second, which is infinite for a miss."""
ITERATIONS, CONVERGED = 2000, 1e-9


@dataclass(frozen=True)
class Quartiles:
    """Steps by which a quarter, half and three quarters of all runs have reached the target; infinite where that never happened."""

    n: int
    reached: int
    low: float | None
    median: float | None
    high: float | None


@dataclass(frozen=True)
class Ratio(Tested):
    """How many times as much (steps, seconds) the baseline needs as the arm, seed by seed: above 1 the arm is faster."""

    factor: float | None = None
    """Method `t`: geometric mean of the seeds' ratios. Method `sign`: their median, which may be 0 or infinite. None without pairs."""
    low: float | None = None
    high: float | None = None
    """95 % interval, widened by what lies between two evaluations; None where n is too small for one."""
    method: str = "none"
    """`t` on the logarithms; `sign`, the order statistics that belong to the sign test, where a run missed the target; else `none`."""
    detectable: float | None = None
    """The smallest true factor that is found with 80 % power (method `t`)."""
    detectable_share: float | None = None
    """Method `sign`: the smallest share of seeds with one arm ahead that is found with 80 % power; None where n is too small for any."""
    logs: tuple[tuple[float, float, float], ...] = ()
    """Of each seed ln(baseline / arm): with the middle of the brackets, at its least, at its most."""
    misses: tuple[int, int] = (0, 0)
    """Of the n seeds, how many never reached the target as the baseline and as the arm."""
    dropped: tuple[int, ...] = ()


def turnbull(intervals: Sequence[Interval]) -> list[tuple[float, float]]:
    """The nonparametric maximum likelihood estimate of when the target is reached: (step, share of the runs that reach it by then but not
    by the one before), in order; misses have no share. A share that lies between two steps stands at the later one.

    Mass can only lie in the innermost intervals: from a left end to a right end with no other end between. The shares are found by
    self-consistency: each run spreads over the innermost intervals in its own, in proportion to their shares.
    """
    import numpy as np  # only here: lists of runs need no library of numbers

    finite = [_half_open(one) for one in intervals if math.isfinite(one[1])]
    if not finite:
        return []
    ends = sorted({(left, 1) for left, _ in finite} | {(right, 0) for _, right in finite})  # at one step: the right end first
    inner = [(left, right) for (left, kind), (right, other) in pairwise(ends) if kind == 1 and other == 0]
    alike, count = np.unique(np.array(finite), axis=0, return_counts=True)
    covers = ((alike[:, :1] <= np.array(inner)[:, 0]) & (np.array(inner)[:, 1] <= alike[:, 1:])).astype(float)
    shares = np.full(len(inner), 1 / len(inner))
    for _ in range(ITERATIONS):
        before = shares
        shares = shares * (count / (covers @ shares) @ covers) / len(finite)
        if np.abs(shares - before).max() < CONVERGED:
            break
    return [(right, float(share) * len(finite) / len(intervals)) for (_, right), share in zip(inner, shares, strict=True)]


def quartiles_to_target(intervals: Sequence[Interval]) -> Quartiles:
    """Quartiles of Turnbull's estimate: the step by which the share is passed, or the mean of two neighbours where it is met exactly.

    No other interpolation: between a finite and an infinite value there is nothing to interpolate.
    """
    if not intervals:
        return Quartiles(0, 0, None, None, None)
    mass = [*turnbull(intervals), (math.inf, 1.0)]

    def quantile(share: float) -> float:
        total = 0.0
        for index, (step, own) in enumerate(mass):
            total += own
            if total > share + 1e-7:
                return step
            if total > share - 1e-7 and own > 1e-7:
                return (step + next(later for later, more in mass[index + 1 :] if more > 1e-7)) / 2
        return math.inf

    return Quartiles(len(intervals), sum(math.isfinite(reached) for _, reached in intervals), quantile(0.25), quantile(0.5), quantile(0.75))


def survival(intervals: Sequence[Interval]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """(times, share of the runs that have reached the target by then): a step function from (0, 0) on, constant after each time."""
    times, shares = [0.0], [0.0]
    for step, share in turnbull(intervals):
        times.append(step)
        shares.append(shares[-1] + share)
    return tuple(times), tuple(shares)


def ratio_to_target(baseline: Mapping[int, Interval], arm: Mapping[int, Interval]) -> Ratio:
    """The steps that the baseline needs over those that the arm needs, by seed. Two misses are a ratio of 1 of which nothing is known."""
    common = sorted(baseline.keys() & arm.keys())
    logs = tuple(_logs(baseline[seed], arm[seed]) for seed in common)
    missed, missed_too = (sum(math.isinf(side[seed][1]) for seed in common) for side in (baseline, arm))
    return replace(ratio(logs), misses=(missed, missed_too), dropped=tuple(sorted(baseline.keys() ^ arm.keys())))


def ratio(logs: tuple[tuple[float, float, float], ...], *, by_sign: bool = False) -> Ratio:
    """The factor of the seeds' log ratios (middle, least, most).

    All finite: Student's t on the logarithms, the lower end from the least ratios, the upper end from the largest, so that what lies
    between two evaluations is inside the interval however all seeds share it. Else, and with `by_sign`: the median and the order
    statistics of the sign test, which need six seeds and know what infinity is.
    """
    n = len(logs)
    middle, least, most = ([log[index] for log in logs] for index in range(3))
    if n == 0:
        return Ratio(0, None)
    if by_sign or not all(math.isfinite(value) for log in logs for value in log):
        k = _order(n)
        low, high = (sorted(least)[k - 1], sorted(most)[n - k]) if k else (None, None)
        p = min(1.0, 2 * min(_tail(n, sum(value <= 0 for value in least)), _tail(n, sum(value >= 0 for value in most))))
        factor = _exp(_median(middle))
        share = _detectable_share(n, k) if k else None
        return Ratio(n, p, factor=factor, low=_exp(low), high=_exp(high), method="sign", detectable_share=share, logs=logs)
    mean = statistics.fmean(middle)
    if n == 1:
        return Ratio(1, None, factor=math.exp(mean), logs=logs)
    # Reached somewhere in a bracket: the spread of the ratios is not taken below that of two such brackets, as of rounded values.
    rounding = statistics.fmean([((high - low) ** 2) / 24 for _, low, high in logs])
    ses = [math.sqrt(max(spread(side) ** 2, rounding) / n) for side in (least, most)]
    if 0 in ses:
        return Ratio(n, None, factor=math.exp(mean), logs=logs)
    lower, upper = (from_t(n, statistics.fmean(side), se, n - 1) for side, se in zip((least, most), ses, strict=True))
    assert lower.low is not None
    assert upper.high is not None
    assert lower.p is not None
    assert upper.p is not None
    p = lower.p if (lower.difference or 0) > 0 else upper.p if (upper.difference or 0) < 0 else 1.0
    found = max(lower.detectable or 0.0, upper.detectable or 0.0) + statistics.fmean(most) - statistics.fmean(least)
    return Ratio(
        n,
        p,
        factor=math.exp(mean),
        low=math.exp(lower.low),
        high=math.exp(upper.high),
        method="t",
        detectable=math.exp(found),
        logs=logs,
    )


def _logs(above: Interval, below: Interval) -> tuple[float, float, float]:
    """ln(above / below) at the middle of the brackets, at its least and at its most. A miss is infinite at the middle and at its most; at
    its least it would have reached the target right after its budget."""
    least, most = _log(above[0]) - _log(below[1]), _log(above[1]) - _log(below[0])
    if math.isinf(above[1]) and math.isinf(below[1]):
        return 0.0, -math.inf, math.inf
    if math.isinf(above[1]):
        return math.inf, least, math.inf
    if math.isinf(below[1]):
        return -math.inf, -math.inf, most
    return math.log((above[0] + above[1]) / (below[0] + below[1])), least, most


def _half_open(interval: Interval) -> Interval:
    """A step that is known exactly lies in an interval that ends there and holds nothing else."""
    low, high = interval
    return (math.nextafter(high, -math.inf), high) if low == high else (low, high)


def _order(n: int) -> int:
    """The order statistic that ends the 95 % interval of a median from below: the largest k with 2 P(Bin(n, 1/2) <= k - 1) <= 0.05; 0:
    none."""
    k = 0
    while 2 * _tail(n, k) <= LEVEL:
        k += 1
    return k


def _detectable_share(n: int, k: int) -> float:
    """The q of P(Bin(n, q) >= n - k + 1) = 0.8: so many seeds must agree."""
    from scipy.special import betaincinv

    return float(betaincinv(n - k + 1, k, POWER))


def _tail(n: int, k: int) -> float:
    """P(Bin(n, 1/2) <= k)."""
    return sum(math.comb(n, index) for index in range(k + 1)) / (1 << n)


def _median(values: Sequence[float]) -> float:
    """The middle value; between infinities of both signs nothing is known, and 0 is the middle."""
    ordered, n = sorted(values), len(values)
    low, high = ordered[(n - 1) // 2], ordered[n // 2]
    return low if low == high else 0.0 if math.isinf(low) and math.isinf(high) else (low + high) / 2


def _log(step: float) -> float:
    return math.log(step) if 0 < step < math.inf else -math.inf if step <= 0 else math.inf


def _exp(log: float | None) -> float | None:
    return None if log is None else math.exp(log) if log < 700 else math.inf
