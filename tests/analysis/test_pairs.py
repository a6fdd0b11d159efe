"""Means, paired t tests, what n can show, equivalence and Holm, against scipy, simulations and slow, obvious twins."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from bnexp.analysis import Paired, equivalence, estimate, holm, paired, pairs, with_holm
from bnexp.analysis.pairs import from_t

INF = math.inf
NS = [2, 3, 5, 10, 20]
ACCURACIES = st.integers(0, 360).map(lambda count: count / 360)


def draw(n: int, seed: int = 0) -> list[float]:
    return [float(x) for x in np.random.default_rng(seed).normal(0.5, 1, n)]


def by_seed(values: Sequence[float]) -> dict[int, float]:
    return dict(enumerate(values))


def against_zero(differences: Sequence[float], **options: Any) -> Paired:
    return paired(by_seed(differences), by_seed([0.0] * len(differences)), **options)


def naive_holm(ps: Sequence[float]) -> list[float]:
    """The smallest level at which the step-down test rejects p_i: every p up to it, times the number of those not below it."""
    return [max(min(1.0, p * sum(q >= p for q in ps)) for p in ps if p <= own) for own in ps]


@pytest.mark.parametrize("n", NS)
def test_cell_is_students_interval(n: int) -> None:
    values = draw(n)
    found = estimate(values)
    low, high = stats.t.interval(0.95, n - 1, loc=np.mean(values), scale=stats.sem(values))
    assert (found.n, found.mean, found.std) == (n, pytest.approx(np.mean(values)), pytest.approx(np.std(values, ddof=1)))
    assert (found.low, found.high) == (pytest.approx(low), pytest.approx(high))


def test_cell_of_few_equal_or_infinite_values() -> None:
    assert (estimate([]).n, estimate([]).mean) == (0, None)
    one = estimate([0.9])
    assert (one.n, one.mean, one.std, one.low, one.high) == (1, 0.9, None, None, None)
    assert (estimate([1.0, INF]).mean, estimate([1.0, INF]).low) == (INF, None)
    assert estimate([-INF, INF]).mean is None


def test_equal_accuracies_are_known_to_one_rounding() -> None:
    """All runs right on 351 of 360 images: the next run need not be, so the interval has a width."""
    found = estimate([0.975] * 5, (0.0, 1.0), resolution=1 / 360)
    low, high = stats.t.interval(0.95, 4, loc=0.975, scale=1 / 360 / math.sqrt(12 * 5))
    assert (found.std, found.low, found.high) == (0, pytest.approx(low), pytest.approx(high))
    values = [0.9, 0.95, 0.92]
    assert estimate(values, resolution=1e-9) == estimate(values)


@given(st.lists(ACCURACIES, min_size=2, max_size=12))
@settings(deadline=None)
def test_intervals_of_shares_stay_between_0_and_1(values: list[float]) -> None:
    found = estimate(values, (0.0, 1.0), resolution=1 / 360)
    assert found.low is not None
    assert found.high is not None
    assert found.mean is not None
    assert 0 <= found.low <= found.mean + 1e-12
    assert found.mean - 1e-12 <= found.high <= 1


@pytest.mark.parametrize("n", NS)
def test_paired_is_scipys_paired_t_test(n: int) -> None:
    a, b = draw(n, 1), draw(n, 2)
    found = paired(by_seed(a), by_seed(b))
    twin = stats.ttest_rel(a, b)
    low, high = twin.confidence_interval()
    assert (found.n, found.difference, found.df) == (n, pytest.approx(np.mean(np.subtract(a, b))), n - 1)
    assert (found.p, found.low, found.high) == (pytest.approx(twin.pvalue), pytest.approx(low), pytest.approx(high))
    assert (found.dropped, found.n_images) == ((), None)


@given(st.dictionaries(st.integers(0, 15), ACCURACIES), st.dictionaries(st.integers(0, 15), ACCURACIES), st.integers(1, 4))
@settings(deadline=None, max_examples=60)
def test_interval_and_p_never_contradict_each_other(a: dict[int, float], b: dict[int, float], tests: int) -> None:
    found = paired(a, b, resolution=1 / 360, tests=tests, primary=True)
    assert found == paired(dict(reversed(a.items())), dict(reversed(b.items())), resolution=1 / 360, tests=tests, primary=True)
    assert found.n + len(found.dropped) == len(a.keys() | b.keys())
    if found.n < 2:
        assert (found.p, found.low, found.high, found.detectable) == (None, None, None, None)
        return
    assert found.p is not None
    assert found.low is not None
    assert found.high is not None
    if abs(found.p - 0.05) > 1e-9:
        assert (found.p < 0.05) == (found.low > 0 or found.high < 0)
    other = paired(b, a, resolution=1 / 360, tests=tests, primary=True)
    assert (other.p, other.low, other.high) == (pytest.approx(found.p), pytest.approx(-found.high), pytest.approx(-found.low))


@pytest.mark.parametrize("n", [5, 10, 20])
def test_the_interval_covers_95_percent_at_every_n(n: int) -> None:
    repetitions, hits = 2000, 0
    for values in np.random.default_rng(n).normal(0.3, 1, (repetitions, n)).tolist():
        found = against_zero(values)
        assert found.low is not None
        assert found.high is not None
        hits += found.low <= 0.3 <= found.high
    assert abs(hits / repetitions - 0.95) < 3 * math.sqrt(0.95 * 0.05 / repetitions)


def test_intervals_of_several_arms_hold_for_all_at_once() -> None:
    values = draw(10)
    one, three = against_zero(values), against_zero(values, tests=3)
    assert one.p is not None
    assert three.p == pytest.approx(min(1, 3 * one.p))
    low, high = stats.t.interval(1 - 0.05 / 3, 9, loc=np.mean(values), scale=stats.sem(values))
    assert (three.low, three.high) == (pytest.approx(low), pytest.approx(high))


def test_equal_differences_are_known_to_two_roundings() -> None:
    a, b = {seed: 0.3 + seed / 360 for seed in range(5)}, {seed: seed / 360 for seed in range(5)}
    found = paired(a, b, resolution=1 / 360)
    se = 1 / 360 / math.sqrt(6 * 5)
    low, high = stats.t.interval(0.95, 4, loc=0.3, scale=se)
    assert (found.se, found.low, found.high) == (pytest.approx(se), pytest.approx(low), pytest.approx(high))
    same = paired(dict.fromkeys(range(5), 0.5), dict.fromkeys(range(5), 0.5), resolution=1 / 360)
    assert (same.difference, same.p, same.shown) == (0, 1.0, False)
    assert same.high == pytest.approx(stats.t.ppf(0.975, 4) * se)
    noisy = draw(5)
    assert against_zero(noisy, resolution=1e-6) == against_zero(noisy)


def test_roundings_have_the_spread_that_is_assumed() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.uniform(0, 1, (2, 100_000))
    errors = (np.round(360 * x) - np.round(360 * y)) / 360 - (x - y)
    assert errors.std() == pytest.approx(1 / 360 / math.sqrt(6), rel=0.01)


def test_without_any_spread_there_is_no_test() -> None:
    found = paired(dict.fromkeys(range(5), 0.5), dict.fromkeys(range(5), 0.25), primary=True)
    assert (found.difference, found.p, found.low, found.shown, found.primary) == (0.25, None, None, False, True)
    nothing = paired({0: 1.0}, {1: 1.0})
    assert (nothing.n, nothing.difference, nothing.p, nothing.dropped) == (0, None, None, (0, 1))
    one = paired({0: 1.0, 1: 2.0}, {0: 0.5})
    assert (one.n, one.difference, one.p, one.dropped) == (1, 0.5, None, (1,))


def test_fewer_than_five_pairs_show_nothing() -> None:
    values = [0.10, 0.11, 0.09, 0.10, 0.12]
    assert against_zero(values).shown
    four = against_zero(values[:4])
    assert four.p is not None
    assert four.p < 0.05
    assert not four.shown


@pytest.mark.parametrize("n", [5, 10, 20])
@pytest.mark.parametrize("tests", [1, 3])
def test_a_difference_as_small_as_detectable_is_found_in_80_percent(n: int, tests: int) -> None:
    """With the true standard error: an estimated one varies about it."""
    repetitions, se = 4000, 1 / math.sqrt(n)
    smallest = from_t(n, 0.0, se, n - 1, tests).detectable
    assert smallest is not None
    draws = np.random.default_rng([n, tests]).normal(smallest, 1, (repetitions, n))
    found = stats.ttest_1samp(draws, 0, axis=1)
    power = float(np.mean((found.pvalue * tests <= 0.05) & (found.statistic > 0)))
    assert abs(power - 0.8) < 3 * math.sqrt(0.8 * 0.2 / repetitions)


@pytest.mark.parametrize("margin", [0.1, 0.5, 1.0, 3.0])
@pytest.mark.parametrize("n", [2, 5, 20])
def test_equivalence_is_two_one_sided_tests(n: int, margin: float) -> None:
    values = draw(n, 3)
    above = stats.ttest_1samp(values, -margin, alternative="greater").pvalue
    below = stats.ttest_1samp(values, margin, alternative="less").pvalue
    found = equivalence(against_zero(values), margin)
    assert found is not None
    assert found.p == pytest.approx(max(above, below))
    assert found.shown == (max(above, below) <= 0.05)
    of_three = equivalence(against_zero(values, tests=3), margin, 3)
    assert of_three is not None
    assert of_three.p == pytest.approx(min(1, 3 * found.p))


def test_equivalence_needs_a_margin_and_a_spread() -> None:
    assert equivalence(against_zero([0.5] * 5), 0.1) is None
    assert equivalence(against_zero([0.5]), 0.1) is None
    for margin in (0.0, -1.0, math.nan):
        with pytest.raises(ValueError, match="is not above 0"):
            equivalence(against_zero(draw(5)), margin)


@given(st.lists(st.floats(0, 1), max_size=12))
@settings(deadline=None)
def test_holm_is_its_definition(ps: list[float]) -> None:
    adjusted = holm(ps)
    assert adjusted == pytest.approx(naive_holm(ps))
    assert all(p <= q <= 1 for p, q in zip(ps, adjusted, strict=True))


def test_holm_by_hand() -> None:
    assert holm([0.04, 0.01, 0.03]) == pytest.approx([0.06, 0.03, 0.06])
    assert holm([]) == []


@dataclass(frozen=True)
class Branch:
    """A result with tests at several depths."""

    name: str
    first: pairs.Tested | None
    others: dict[str, Any]
    more: tuple[Any, ...] = ()


@given(st.lists(st.one_of(st.none(), st.floats(0, 1)), min_size=5, max_size=5))
@settings(deadline=None)
def test_holm_over_a_tree_is_holm_over_its_tests(ps: list[float | None]) -> None:
    a, b, c, d, e = (Paired(7, p, difference=0.1) for p in ps)
    primary = pairs.Tested(7, 0.04, primary=True)
    tree = Branch("root", a, {"x": b, "deep": Branch("leaf", primary, {"y": [c, 3, "text"]}, (d,))}, ((e, None), 5))
    found = with_holm(tree)
    deep = found.others["deep"]
    corrected = [found.first, found.others["x"], deep.others["y"][0], deep.more[0], found.more[0][0]]
    twins = iter(holm([p for p in ps if p is not None]))
    assert corrected == [replace(old, p_holm=None if old.p is None else next(twins)) for old in (a, b, c, d, e)]
    assert deep.first == primary
    assert (found.name, deep.others["y"][1:], found.more[1], found.more[0][1]) == ("root", [3, "text"], 5, None)


def test_what_decides_is_the_primary_questions_own_p_and_holms_elsewhere() -> None:
    alone, primary = pairs.Tested(10, 0.04), pairs.Tested(10, 0.04, primary=True)
    assert alone.shown
    _, first, second = with_holm((primary, alone, alone))
    assert (primary.decisive_p, primary.shown) == (0.04, True)
    assert (first.p, first.decisive_p, first.shown) == (0.04, pytest.approx(0.08), False)
    assert second == first
