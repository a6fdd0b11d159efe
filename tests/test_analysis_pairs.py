"""Means, pairs, exact p-values and Holm, against scipy and slow, obvious twins."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from bnexp.analysis import cell, holm, paired, sign_flip_p

INF = math.inf
NS = [1, 2, 5, 9, 10, 12]
ACCURACIES = st.integers(0, 360).map(lambda count: count / 360)


def draw(n: int, seed: int = 0) -> list[float]:
    return [float(x) for x in np.random.default_rng(seed).normal(0.5, 1, n)]


def sides(differences: Sequence[float]) -> tuple[dict[int, float], dict[int, float]]:
    return dict(enumerate(differences)), dict.fromkeys(range(len(differences)), 0.0)


def naive_p(counts: Sequence[int]) -> Fraction:
    """Exact in whole numbers: no rounding can hide a tie."""
    hits = [
        abs(sum(s * c for s, c in zip(signs, counts, strict=True))) >= abs(sum(counts))
        for signs in itertools.product((1, -1), repeat=len(counts))
    ]
    return Fraction(sum(hits), len(hits))


def naive_holm(ps: Sequence[float]) -> list[float]:
    """The smallest level at which the step-down test rejects p_i: every p up to it, times the number of those not below it."""
    return [max(min(1.0, p * sum(q >= p for q in ps)) for p in ps if p <= own) for own in ps]


@pytest.mark.parametrize("n", [n for n in NS if n > 1])
def test_cell_is_students_interval(n: int) -> None:
    values = draw(n)
    found = cell(values)
    low, high = stats.t.interval(0.95, n - 1, loc=np.mean(values), scale=stats.sem(values))
    assert (found.n, found.mean, found.std) == (n, pytest.approx(np.mean(values)), pytest.approx(np.std(values, ddof=1)))
    assert (found.low, found.high) == (pytest.approx(low), pytest.approx(high))


def test_cell_of_few_equal_or_infinite_values() -> None:
    assert cell([]) == cell([math.nan][:0])
    assert (cell([]).n, cell([]).mean) == (0, None)
    one = cell([0.9])
    assert (one.n, one.mean, one.std, one.low, one.high) == (1, 0.9, None, None, None)
    same = cell([0.9] * 5)
    assert (same.std, same.low, same.high) == (0, pytest.approx(0.9), pytest.approx(0.9))
    assert (cell([1.0, INF]).mean, cell([1.0, INF]).low) == (INF, None)
    assert cell([-INF, INF]).mean is None


def test_the_t_interval_at_five_covers_95_percent() -> None:
    rng, repetitions = np.random.default_rng(0), 2000
    hits = 0
    for values in rng.normal(0.3, 1, (repetitions, 5)).tolist():
        found = paired(*sides(values))
        assert found.low is not None
        assert found.high is not None
        hits += found.low <= 0.3 <= found.high
    assert abs(hits / repetitions - 0.95) < 3 * math.sqrt(0.95 * 0.05 / repetitions)


@pytest.mark.parametrize("n", NS)
def test_paired_agrees_with_scipy(n: int) -> None:
    a, b = draw(n, 1), draw(n, 2)
    found = paired(dict(enumerate(a)), dict(enumerate(b)))
    d = np.subtract(a, b)
    assert found.difference == pytest.approx(d.mean())
    assert (found.n, found.higher + found.equal + found.lower, found.dropped) == (n, n, ())
    if n == 1:
        assert (found.low, found.high, found.method, found.p) == (None, None, "none", 1.0)
        assert not found.excludes_zero
        return
    twin = stats.permutation_test(
        (a, b), lambda x, y, axis: np.mean(x - y, axis=axis), permutation_type="samples", n_resamples=np.inf, vectorized=True
    )
    assert found.p == pytest.approx(twin.pvalue)
    if n < 10:
        low, high = stats.ttest_rel(a, b).confidence_interval()
        assert found.method == "t"
    else:
        rng = np.random.default_rng(0)
        low, high = stats.bootstrap((d,), np.mean, n_resamples=10_000, method="BCa", random_state=rng).confidence_interval
        assert found.method == "bootstrap"
    assert (found.low, found.high) == (pytest.approx(low), pytest.approx(high))


@given(st.lists(st.integers(-8, 8), max_size=9))
@settings(deadline=None)
def test_the_sign_flip_test_is_exact_with_ties_and_zeros(counts: list[int]) -> None:
    assert sign_flip_p([count / 360 for count in counts]) == float(naive_p(counts))


def test_the_smallest_p_is_two_in_two_to_the_n() -> None:
    for n in [2, 5, 9, 10, 12, 20]:
        assert sign_flip_p([0.1 + 0.01 * i for i in range(n)]) == 2 / 2**n
    assert 0 < sign_flip_p([0.1] * 21) < 1e-4  # above 20 at random, and never 0
    assert sign_flip_p([0.1, -0.1] * 12) == 1.0
    assert sign_flip_p([]) == sign_flip_p([0.0] * 5) == 1.0


@given(st.dictionaries(st.integers(0, 15), ACCURACIES), st.dictionaries(st.integers(0, 15), ACCURACIES))
@settings(deadline=None, max_examples=50)
def test_paired_goes_by_seed_only(a: dict[int, float], b: dict[int, float]) -> None:
    found = paired(a, b)
    assert found == paired(dict(reversed(a.items())), dict(reversed(b.items())))
    assert found.n + len(found.dropped) == len(a.keys() | b.keys())
    other = paired(b, a)
    assert (other.n, other.p, other.higher, other.equal) == (found.n, found.p, found.lower, found.equal)
    if found.low is not None and found.high is not None and found.difference is not None:
        assert found.low - 1e-12 <= found.difference <= found.high + 1e-12


def test_equal_differences_have_an_interval_without_width() -> None:
    for n in (5, 10):
        found = paired({seed: 0.3 + seed / 7 for seed in range(n)}, {seed: seed / 7 for seed in range(n)})
        assert (found.low, found.high) == (pytest.approx(0.3), pytest.approx(0.3))
        assert found.excludes_zero
        none = paired(dict.fromkeys(range(n), 0.5), dict.fromkeys(range(n), 0.5))
        assert (none.low, none.high, none.p, none.equal, none.excludes_zero) == (0, 0, 1.0, n, False)


def test_nothing_in_common() -> None:
    found = paired({0: 1.0}, {1: 1.0})
    assert (found.n, found.difference, found.p, found.method, found.dropped) == (0, None, None, "none", (0, 1))


@pytest.mark.parametrize(
    ("a", "b", "difference", "counts"),
    [
        ([INF, INF, 3, 5, 7], [1, 2, 1, 2, 3], 4, (5, 0, 0)),
        ([INF] * 5, [1, 2, 3, 4, 5], INF, (5, 0, 0)),
        ([1, 2, 3, 4, 5], [INF] * 5, -INF, (0, 0, 5)),
        ([INF] * 4, [INF] * 4, 0, (0, 4, 0)),
        ([INF, 1, INF], [INF, INF, 1], 0, (1, 1, 1)),
        ([INF, 1], [1, INF], None, (1, 0, 1)),
        ([INF], [1], INF, (1, 0, 0)),
    ],
)
def test_infinite_values_leave_signs_and_a_median(
    a: list[float], b: list[float], difference: float | None, counts: tuple[int, ...]
) -> None:
    found = paired(dict(enumerate(a)), dict(enumerate(b)))
    higher, equal, lower = counts
    twin = stats.binomtest(higher, higher + lower).pvalue if higher + lower else 1.0
    assert (found.method, found.low, found.high, found.difference) == ("sign", None, None, difference)
    assert (found.higher, found.equal, found.lower) == (higher, equal, lower)
    assert found.p == pytest.approx(twin)


@given(st.lists(st.floats(0, 1), max_size=12))
@settings(deadline=None)
def test_holm_is_its_definition(ps: list[float]) -> None:
    adjusted = holm(ps)
    assert adjusted == pytest.approx(naive_holm(ps))
    assert all(p <= q <= 1 for p, q in zip(ps, adjusted, strict=True))


def test_holm_by_hand() -> None:
    assert holm([0.04, 0.01, 0.03]) == pytest.approx([0.06, 0.03, 0.06])
    assert holm([]) == []
