"""Means with intervals, paired differences with the p of the same test, what n seeds can show, and Holm's correction.

Student's t at every number of seeds: a bootstrap of the mean covers 83 % at n = 5, 90 % at 10 and 93.5 % at 20 where 95 % is asked.
Interval and p come from one test, so they cannot contradict each other; Holm's p stands beside them where many questions are asked at once.
"""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

LEVEL = 0.05
"""The chance of a false statement that every test allows."""
POWER = 0.8
"""The power at which `detectable` is given."""
ENOUGH_SEEDS = 5
"""Pairs from which a difference may be called shown: below, one unusual seed decides."""
RECOMMENDED_SEEDS = 10
"""Pairs that a comparison should have: half a point of accuracy on digits is found with 62 % power at 10, with 25 % at 5."""
Tree = TypeVar("Tree")


@dataclass(frozen=True)
class Estimate:
    """n values: mean, sample standard deviation (ddof 1) and the 95 % Student-t interval of the mean. None: not defined."""

    n: int
    mean: float | None
    std: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Tested:
    """What every test gives: its two-sided p, Holm's p over the other tests of the command, and whether that shows a difference."""

    n: int
    """Pairs."""
    p: float | None
    primary: bool = dataclasses.field(default=False, kw_only=True)
    """The one question that was asked in advance: it is not corrected for the others."""
    p_holm: float | None = dataclasses.field(default=None, kw_only=True)

    @property
    def decisive_p(self) -> float | None:
        """The p that decides: the primary test's own, else Holm's where there is one."""
        return self.p if self.primary or self.p_holm is None else self.p_holm

    @property
    def shown(self) -> bool:
        """Whether a difference may be stated."""
        return self.decisive_p is not None and self.decisive_p <= LEVEL and self.n >= ENOUGH_SEEDS


@dataclass(frozen=True)
class Paired(Tested):
    """The mean of a - b over the seeds that both have. None: not defined."""

    difference: float | None = None
    se: float | None = None
    """Standard error of the difference."""
    df: float | None = None
    """Degrees of freedom of its t distribution."""
    low: float | None = None
    high: float | None = None
    """The interval: 95 %, or wider where the primary question is asked of several arms (`tests`)."""
    detectable: float | None = None
    """The smallest true difference that a test with this standard error finds with 80 % power."""
    n_images: int | None = None
    """Test images that the interval was taken over, beside the seeds; None: over the seeds alone, so on these images."""
    dropped: tuple[int, ...] = ()
    """Seeds that only one side has a value of."""


@dataclass(frozen=True)
class Equivalence:
    """Two one-sided tests against a margin that was stated in advance (Schuirmann 1987, J. Pharmacokinetics and Biopharmaceutics 15)."""

    margin: float
    p: float
    """The larger of the two one-sided p; where the question is asked of several arms, times their number (Bonferroni)."""

    @property
    def shown(self) -> bool:
        return self.p <= LEVEL


def estimate(values: Sequence[float], bounds: tuple[float, float] = (-math.inf, math.inf), *, resolution: float = 0.0) -> Estimate:
    """mean, s = sqrt(sum (x - mean)^2 / (n - 1)), and mean -+ t_{0.975, n-1} s / sqrt(n), in the unit of the values.

    One value has a mean only; infinite values make the mean infinite and the rest undefined.

    Args:
        bounds: what a mean cannot lie beyond (0 and 1 for shares): the interval is cut there.
        resolution: the smallest step between two different values: the interval takes no s below that of one rounding,
            resolution / sqrt(12).
    """
    n = len(values)
    mean = math.nan if not n or (math.inf in values and -math.inf in values) else statistics.fmean(values)
    if not math.isfinite(mean):
        return Estimate(n, None if math.isnan(mean) else mean, None, None, None)
    if n == 1:
        return Estimate(n, mean, None, None, None)
    std = spread(values)
    half = _quantile(n - 1) * max(std, resolution / math.sqrt(12)) / math.sqrt(n)
    return Estimate(n, mean, std, max(bounds[0], mean - half), min(bounds[1], mean + half))


def paired(a: Mapping[int, float], b: Mapping[int, float], *, resolution: float = 0.0, tests: int = 1, primary: bool = False) -> Paired:
    """a - b over the seeds that both have: the t interval of the mean difference, and the t test's p.

    Args:
        resolution: the smallest step between two different values (1/N for accuracies on N images). Each value is rounded to it, so
            that the standard deviation of a difference is not taken below that of two roundings, resolution / sqrt(6).
        tests: how often the primary question is asked (arms against one baseline): p and interval are Bonferroni's.
    """
    common = sorted(a.keys() & b.keys())
    dropped = tuple(sorted(a.keys() ^ b.keys()))
    differences = [a[seed] - b[seed] for seed in common]
    n = len(differences)
    if n < 2:
        return Paired(n, None, difference=differences[0] if n else None, dropped=dropped, primary=primary)
    std = max(spread(differences), resolution / math.sqrt(6))
    found = from_t(n, statistics.fmean(differences), std / math.sqrt(n), n - 1, tests)
    return replace(found, dropped=dropped, primary=primary)


def from_t(n: int, difference: float, se: float, df: float, tests: int = 1) -> Paired:
    """The interval, p and smallest detectable difference of an estimate with a t distribution. Without any spread there is no test."""
    if se == 0:
        return Paired(n, None, difference=difference)
    from scipy.special import stdtr

    p = min(1.0, tests * 2 * float(stdtr(df, -abs(difference) / se)))
    half = _quantile(df, tests) * se
    return Paired(
        n, p, difference=difference, se=se, df=df, low=difference - half, high=difference + half, detectable=detectable(se, df, tests)
    )


def detectable(se: float, df: float, tests: int = 1) -> float:
    """The true difference that a two-sided t test with this standard error finds with 80 % power: the noncentral t's, in units of se."""
    from scipy.special import nctdtrinc

    return float(nctdtrinc(df, 1 - POWER, _quantile(df, tests))) * se


def equivalence(found: Paired, margin: float, tests: int = 1) -> Equivalence | None:
    """Whether the difference lies within -+margin: two one-sided t tests. None where there is no standard error; `tests` as in `paired`.

    Raises:
        ValueError: the margin is not above 0.
    """
    if not margin > 0:
        raise ValueError(f"margin = {margin} is not above 0")
    if found.difference is None or found.se is None or found.df is None:
        return None
    from scipy.special import stdtr

    return Equivalence(margin, min(1.0, tests * float(stdtr(found.df, (abs(found.difference) - margin) / found.se))))


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


def with_holm(tree: Tree) -> Tree:
    """The same results (dataclasses, mappings, tuples, lists), with Holm's p over all the tests in them that are not primary."""
    found: list[Tested] = []

    def collect(test: Tested) -> Tested:
        found.append(test)
        return test

    _replaced(tree, collect)
    secondary = [test.p for test in found if test.p is not None and not test.primary]
    adjusted = iter(holm(secondary))
    corrected: Tree = _replaced(tree, lambda test: test if test.p is None or test.primary else replace(test, p_holm=next(adjusted)))
    return corrected


def described(tree: Tree) -> Tree:
    """The same results without p: they describe, decide nothing, and are no part of what Holm's correction is over."""
    found: Tree = _replaced(tree, lambda test: replace(test, p=None))
    return found


def _replaced(tree: Any, change: Any) -> Any:
    """The tree with `change` applied to each test, in one fixed order."""
    if isinstance(tree, Tested):
        return change(tree)
    if dataclasses.is_dataclass(tree) and not isinstance(tree, type):
        old = {field.name: getattr(tree, field.name) for field in dataclasses.fields(tree) if field.init}
        new = {name: _replaced(value, change) for name, value in old.items()}
        return tree if all(new[name] is old[name] for name in old) else replace(tree, **new)
    if isinstance(tree, dict):
        return {key: _replaced(value, change) for key, value in tree.items()}
    if isinstance(tree, (list, tuple)):
        return type(tree)(_replaced(value, change) for value in tree)
    return tree


def spread(values: Sequence[float]) -> float:
    """The sample standard deviation (ddof 1): `statistics.stdev`, which computes with fractions, in a hundredth of its time."""
    if min(values) == max(values):
        return 0.0
    mean = statistics.fmean(values)
    return math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1))


def _quantile(df: float, tests: int = 1) -> float:
    """The t quantile of a two-sided interval at 1 - 0.05 / tests."""
    from scipy.special import stdtrit  # the quantile alone: scipy.stats takes most of a second to import

    return float(stdtrit(df, 1 - LEVEL / (2 * tests)))
