"""Steps to target. A run that misses is infinite, so everything here is built on order: medians, quartiles, shares reached, ratios.

Leaving misses out, or averaging only those that arrive, would make the worse arm look faster (AlgoPerf, Dahl et al. 2023).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bnexp.analysis.pairs import paired


@dataclass(frozen=True)
class Quartiles:
    """Steps until a quarter, half and three quarters of all runs have reached the target; infinite where that never happened."""

    n: int
    reached: int
    low: float | None
    median: float | None
    high: float | None


@dataclass(frozen=True)
class Ratio:
    """How many times the steps of b a needs."""

    n: int
    factor: float | None
    """Median of a over median of b. With `at_least` and `at_most` a bound on it (None: no budget is known to make one of)."""
    bound: str
    """`exact`; `at_least`: the median of a is infinite; `at_most`: that of b is; `unknown`: both are, or a side has no runs."""
    mean: float | None
    """Geometric mean of a/b over the pairs; None unless all are finite. `low` and `high` are its 95 % interval."""
    low: float | None
    high: float | None
    method: str
    p: float | None
    dropped: tuple[int, ...]


def median_to_target(steps: Sequence[float]) -> float:
    """Median over all runs, misses as infinity: of an even number the mean of the middle two, infinite if one of them is. NaN for none."""
    found = quartiles_to_target(steps).median
    return math.nan if found is None else found


def quartiles_to_target(steps: Sequence[float]) -> Quartiles:
    """Quartiles as averaged inverses of the empirical distribution: an observed value, or the mean of two neighbours.

    No other interpolation: between a finite and an infinite value there is nothing to interpolate.
    """
    ordered, n = sorted(steps), len(steps)
    if not n:
        return Quartiles(0, 0, None, None, None)

    def quantile(quarters: int) -> float:
        rank, rest = divmod(n * quarters, 4)
        return ordered[rank] if rest else (ordered[rank - 1] + ordered[rank]) / 2

    return Quartiles(n, sum(map(math.isfinite, ordered)), quantile(1), quantile(2), quantile(3))


def survival(steps: Sequence[float]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """(times, share of the runs that have reached the target by then): a step function from (0, 0) on, constant after each time.

    It is one minus Kaplan and Meier's estimate, which without censoring before the budget's end is the plain share.
    """
    times = (0.0, *sorted({float(step) for step in steps if math.isfinite(step)}))
    return times, tuple(sum(step <= time for step in steps) / len(steps) if steps else 0.0 for time in times)


def ratio_to_target(a: Mapping[int, float], b: Mapping[int, float], budget: float | None = None) -> Ratio:
    """The steps that a needs over those that b needs, by seed.

    `factor` compares the medians over all runs. Where only one median is infinite it is a bound: the runs that missed would have needed
    more than `budget` steps, so the budget is put in their place. `mean` is exp(mean log(a/b)) over the pairs, with the interval of
    `paired` on the logarithms; it needs every pair finite. Otherwise p is the sign test's, misses included.
    """
    low, high = median_to_target(list(a.values())), median_to_target(list(b.values()))
    bound = "unknown"
    factor = None
    if a and b and not math.isinf(low + high):
        bound, factor = "exact", low / high
    elif a and b and low != high:
        bound = "at_least" if math.isinf(low) else "at_most"
        if budget is not None:
            a_low, b_low = (median_to_target([budget if math.isinf(x) else x for x in side.values()]) for side in (a, b))
            factor = a_low / high if bound == "at_least" else low / b_low
    logs = paired(*({seed: math.log(step) for seed, step in side.items()} for side in (a, b)))
    finite = logs.method != "sign"
    mean, start, end = (math.exp(x) if finite and x is not None else None for x in (logs.difference, logs.low, logs.high))
    return Ratio(logs.n, factor, bound, mean, start, end, logs.method, logs.p, logs.dropped)
