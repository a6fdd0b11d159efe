"""Steps to target with misses: medians, quartiles, shares reached, ratios and their bounds."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from bnexp.analysis import median_to_target, quartiles_to_target, ratio_to_target, survival

INF = math.inf
STEPS = st.one_of(st.integers(1, 500).map(float), st.just(INF))


def by_seed(*steps: float) -> dict[int, float]:
    return dict(enumerate(steps))


@pytest.mark.parametrize(
    ("steps", "median"),
    [([10], 10), ([INF], INF), ([10, INF], INF), ([10, 20], 15), ([10, 30, INF], 30), ([10, 20, INF, INF], INF), ([10, 20, 30, INF], 25)],
)
def test_a_miss_counts_as_infinity_in_the_median(steps: list[float], median: float) -> None:
    assert median_to_target(steps) == median


@given(st.lists(STEPS, min_size=1, max_size=15))
@settings(deadline=None)
def test_quartiles_are_numpys_wherever_numpy_has_them(steps: list[float]) -> None:
    found = quartiles_to_target(steps)
    large = [min(step, 1e9) for step in steps]  # numpy's own takes no infinities
    twin = np.quantile(large, [0.25, 0.5, 0.75], method="averaged_inverted_cdf")
    for mine, theirs in zip((found.low, found.median, found.high), twin, strict=True):
        assert mine == (INF if theirs > 1e8 else theirs)
    assert found.reached == sum(step < INF for step in steps)


def test_no_runs_no_quartiles() -> None:
    assert quartiles_to_target([]).median is None
    assert math.isnan(median_to_target([]))


@given(st.lists(STEPS, min_size=1, max_size=15))
@settings(deadline=None)
def test_survival_is_kaplan_and_meiers(steps: list[float]) -> None:
    times, shares = survival(steps)
    budget = 500  # the misses are censored there
    data = stats.CensoredData(uncensored=[step for step in steps if step < INF], right=[budget] * sum(step == INF for step in steps))
    twin = stats.ecdf(data).cdf
    assert times[0] == 0
    assert shares[0] == 0
    assert list(times) == sorted(set(times))
    assert list(shares) == pytest.approx([float(twin.evaluate(time)) for time in times])
    assert shares[-1] == pytest.approx(sum(step < INF for step in steps) / len(steps))


def test_the_ratio_of_finite_steps() -> None:
    a, b = by_seed(100, 220, 390), by_seed(50, 100, 200)
    found = ratio_to_target(a, b)
    logs = np.log([2, 2.2, 1.95])
    low, high = stats.t.interval(0.95, 2, loc=logs.mean(), scale=stats.sem(logs))
    assert (found.n, found.bound, found.factor, found.method) == (3, "exact", 2.2, "t")
    assert found.mean == pytest.approx(math.exp(logs.mean()))
    assert (found.low, found.high) == (pytest.approx(math.exp(low)), pytest.approx(math.exp(high)))
    assert found.p == 0.25


def test_a_missed_target_makes_a_bound() -> None:
    few, many = by_seed(50, 100, 200), by_seed(100, INF, INF)
    found = ratio_to_target(many, few, 400)
    assert (found.bound, found.factor, found.mean, found.low, found.method) == ("at_least", 4, None, None, "sign")
    assert found.p == 0.25
    found = ratio_to_target(few, many, 400)
    assert (found.bound, found.factor) == ("at_most", 0.25)
    assert ratio_to_target(many, few).factor is None
    assert ratio_to_target(many, few).bound == "at_least"
    even = ratio_to_target(by_seed(100, INF), by_seed(50, 50), 400)
    assert (even.bound, even.factor) == ("at_least", 5)  # (100 + 400) / 2 over 50: the budget stands for the miss alone
    shorter = ratio_to_target(by_seed(INF, INF, INF), by_seed(100, 200, INF), 150)
    assert (shorter.bound, shorter.factor) == ("at_least", 0.75)


def test_no_ratio_where_both_miss_or_nobody_is_there() -> None:
    assert ratio_to_target(by_seed(INF), by_seed(INF), 400).bound == "unknown"
    assert ratio_to_target({}, by_seed(5), 400).bound == "unknown"
    assert ratio_to_target({}, {}).factor is None
    one_pair = ratio_to_target({0: 10.0}, {0: 5.0, 1: 5.0})
    assert (one_pair.factor, one_pair.mean, one_pair.low, one_pair.dropped) == (2, pytest.approx(2), None, (1,))


@given(st.lists(st.tuples(STEPS, STEPS), min_size=1, max_size=12))
@settings(deadline=None, max_examples=50)
def test_the_factor_turned_round_is_its_inverse(pairs: list[tuple[float, float]]) -> None:
    a, b = by_seed(*(x for x, _ in pairs)), by_seed(*(y for _, y in pairs))
    there, back = ratio_to_target(a, b, 500), ratio_to_target(b, a, 500)
    assert {there.bound, back.bound} in ({"exact"}, {"unknown"}, {"at_least", "at_most"})
    if there.factor is not None and back.factor is not None:
        assert there.factor * back.factor == pytest.approx(1)
    assert there.p == pytest.approx(back.p)
