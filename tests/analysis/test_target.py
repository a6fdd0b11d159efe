"""Steps to target between two evaluations and with misses: Turnbull's estimate, quartiles, ratios, and what the sign test allows."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize, stats

from bnexp.analysis import quartiles_to_target, ratio_to_target, survival, turnbull
from bnexp.analysis.target import Interval, ratio

INF = math.inf
MISS = (INF, INF)
STEPS = st.one_of(st.integers(1, 500).map(float), st.just(INF))
BRACKETS = st.tuples(st.integers(0, 8), st.integers(1, 8)).map(lambda pair: (float(min(pair)), float(max(pair)))) | st.just(MISS)


def exact(*steps: float) -> list[Interval]:
    return [(step, step) for step in steps]


def by_seed(*intervals: Interval) -> dict[int, Interval]:
    return dict(enumerate(intervals))


def covered(interval: Interval, steps: Sequence[float]) -> list[bool]:
    """Which half steps lie in (before, reached]; an exact step lies in itself alone."""
    before, reached = interval
    return [step == reached if before == reached else before < step <= reached for step in steps]


HALVES = [half / 2 for half in range(17)] + [INF]
"""Every place where mass could make a difference to brackets of whole steps up to 8."""


def likelihood(intervals: Sequence[Interval], mass: Sequence[float]) -> float:
    """Of the runs' brackets, for mass at HALVES."""
    inside = [sum(m for m, yes in zip(mass, covered(one, HALVES), strict=True) if yes) for one in intervals]
    return sum(math.log(max(share, 1e-300)) for share in inside)


def found_mass(intervals: Sequence[Interval]) -> list[float]:
    """Turnbull's shares at HALVES: what stands at a step lies in (the step before, the step], so half a step before it counts as well."""
    mass = dict.fromkeys(HALVES, 0.0)
    ends = {reached for before, reached in intervals if before == reached}
    for step, share in turnbull(intervals):
        mass[step if step in ends else step - 0.5 if step - 0.5 in mass else step] += share
    mass[INF] = sum(one == MISS for one in intervals) / len(intervals)
    return list(mass.values())


@given(st.lists(BRACKETS, min_size=1, max_size=7))
@settings(deadline=None, max_examples=100)
def test_turnbulls_shares_have_no_direction_in_which_likelihood_grows(intervals: list[Interval]) -> None:
    """The log likelihood is concave, so that this is the global maximum: moving mass to any place gains nothing."""
    mass = found_mass(intervals)
    assert sum(mass) == pytest.approx(1)
    inside = [sum(m for m, yes in zip(mass, covered(one, HALVES), strict=True) if yes) for one in intervals]
    for place in HALVES:
        gain = sum(covered(one, [place])[0] / share for one, share in zip(intervals, inside, strict=True)) / len(intervals)
        assert gain <= 1.01


@pytest.mark.parametrize("seed", range(6))
def test_turnbull_is_a_brute_force_maximum_of_the_likelihood(seed: int) -> None:
    rng = np.random.default_rng(seed)
    ends = [sorted(rng.integers(0, 9, 2)) for _ in range(5)]
    intervals = [(float(low), float(high)) for low, high in ends] + [MISS] * (seed % 2)

    def loss(x: np.ndarray) -> float:
        share = np.exp(x - x.max())
        return -likelihood(intervals, list(share / share.sum()))

    best = min(float(optimize.minimize(loss, rng.normal(size=len(HALVES))).fun) for _ in range(3))
    assert -likelihood(intervals, found_mass(intervals)) <= best + 1e-3


@given(st.lists(STEPS, min_size=1, max_size=15))
@settings(deadline=None)
def test_exact_steps_give_the_empirical_distribution(steps: list[float]) -> None:
    finite = sorted({step for step in steps if step < INF})
    assert [step for step, _ in turnbull(exact(*steps))] == finite
    assert [share for _, share in turnbull(exact(*steps))] == pytest.approx([steps.count(step) / len(steps) for step in finite])


def test_turnbull_by_hand() -> None:
    assert turnbull([]) == turnbull([MISS]) == []
    assert turnbull([(0.0, 10.0), (5.0, 15.0)]) == [(10.0, pytest.approx(1))]  # both can have arrived between 5 and 10
    apart = turnbull([(0.0, 10.0), (10.0, 20.0), MISS, MISS])
    assert apart == [(10.0, pytest.approx(0.25)), (20.0, pytest.approx(0.25))]


@given(st.lists(STEPS, min_size=1, max_size=15))
@settings(deadline=None)
def test_quartiles_are_numpys_wherever_numpy_has_them(steps: list[float]) -> None:
    found = quartiles_to_target(exact(*steps))
    large = [min(step, 1e9) for step in steps]  # numpy's own takes no infinities
    twin = np.quantile(large, [0.25, 0.5, 0.75], method="averaged_inverted_cdf")
    for mine, theirs in zip((found.low, found.median, found.high), twin, strict=True):
        assert mine == (INF if theirs > 1e8 else theirs)
    assert (found.n, found.reached) == (len(steps), sum(step < INF for step in steps))


def test_no_runs_no_quartiles() -> None:
    assert quartiles_to_target([]).median is None
    never = quartiles_to_target([MISS, MISS])
    assert (never.low, never.median, never.high, never.reached) == (INF, INF, INF, 0)


@given(st.lists(STEPS, min_size=1, max_size=15))
@settings(deadline=None)
def test_survival_is_kaplan_and_meiers(steps: list[float]) -> None:
    times, shares = survival(exact(*steps))
    budget = 500  # the misses are censored there
    data = stats.CensoredData(uncensored=[step for step in steps if step < INF], right=[budget] * sum(step == INF for step in steps))
    twin = stats.ecdf(data).cdf
    assert (times[0], shares[0]) == (0, 0)
    assert list(times) == sorted(set(times))
    assert list(shares) == pytest.approx([float(twin.evaluate(time)) for time in times])
    assert shares[-1] == pytest.approx(sum(step < INF for step in steps) / len(steps))


def test_the_ratio_of_exact_steps_is_a_t_interval_on_logarithms() -> None:
    found = ratio_to_target(by_seed(*exact(100, 220, 390)), by_seed(*exact(50, 100, 200)))
    logs = np.log([2, 2.2, 1.95])
    twin = stats.ttest_1samp(logs, 0)
    low, high = twin.confidence_interval()
    assert (found.n, found.method, found.misses) == (3, "t", (0, 0))
    assert found.factor == pytest.approx(math.exp(logs.mean()))
    assert (found.low, found.high, found.p) == (
        pytest.approx(math.exp(low)),
        pytest.approx(math.exp(high)),
        pytest.approx(twin.pvalue),
    )
    assert found.detectable is not None
    assert found.detectable > 1
    assert not found.shown  # three pairs


def test_what_lies_between_two_evaluations_widens_the_interval() -> None:
    base, arm = [100, 220, 390, 250, 310], [50, 100, 200, 120, 160]
    sharp = ratio_to_target(by_seed(*exact(*base)), by_seed(*exact(*arm)))
    coarse = ratio_to_target(by_seed(*[(s - 40.0, s + 40.0) for s in base]), by_seed(*[(s - 40.0, s + 40.0) for s in arm]))
    assert sharp.low is not None
    assert sharp.high is not None
    assert coarse.low is not None
    assert coarse.high is not None
    assert coarse.low < sharp.low < sharp.high < coarse.high
    assert sharp.shown
    assert not coarse.shown
    assert coarse.factor == pytest.approx(sharp.factor)  # the middles of the brackets are the exact steps
    assert (coarse.detectable or 0) > (sharp.detectable or 0)
    steps = ratio_to_target(by_seed(*[(30.0, 40.0)] * 6), by_seed(*[(30.0, 40.0)] * 6))
    assert steps.p == 1.0  # the same brackets: nothing is known of who was first
    assert steps.low is not None
    assert steps.high is not None
    assert steps.low < 0.75 < 4 / 3 < steps.high


@pytest.mark.parametrize("truth", [1.0, 1.5])
def test_the_interval_of_a_censored_ratio_covers_the_truth(truth: float) -> None:
    """Log-normal steps, evaluated every 10: never below 95 %, and where there is no difference it is stated in at most 5 %."""
    rng, repetitions, hits, said = np.random.default_rng(0), 600, 0, 0
    for _ in range(repetitions):
        base, arm = (np.exp(rng.normal(math.log(mean), 0.25, 10)) for mean in (100 * truth, 100))
        sides = [by_seed(*[(10.0 * math.floor(s / 10), 10.0 * math.floor(s / 10) + 10) for s in side]) for side in (base, arm)]
        found = ratio_to_target(*sides)
        assert found.low is not None
        assert found.high is not None
        hits += found.low <= truth <= found.high
        said += found.shown
    assert hits / repetitions > 0.95 - 3 * math.sqrt(0.95 * 0.05 / repetitions)
    assert said / repetitions <= 0.06 if truth == 1 else said / repetitions > 0.5


@pytest.mark.parametrize("n", [1, 5, 6, 8, 10])
def test_the_sign_interval_covers_what_its_level_says(n: int) -> None:
    """Every pattern of signs is as likely where the median is 0."""
    excluded = 0
    for signs in itertools.product((-1, 1), repeat=n):
        values = [sign * (index + 1.0) for index, sign in enumerate(signs)]
        found = ratio(tuple((value, value, value) for value in values), by_sign=True)
        twin = stats.binomtest(sum(value > 0 for value in values), n).pvalue
        assert found.p == pytest.approx(twin)
        outside = found.low is not None and found.high is not None and (found.low > 1 or found.high < 1)
        assert outside == (twin <= 0.05)
        excluded += outside
    most = max((2 * stats.binom.cdf(k, n, 0.5) for k in range(-1, n // 2) if 2 * stats.binom.cdf(k, n, 0.5) <= 0.05), default=0.0)
    assert excluded / 2**n == pytest.approx(most)  # the widest level below 5 % that n allows
    assert (found.low is None) == (n < 6)


@pytest.mark.parametrize("n", [6, 10, 15])
def test_the_detectable_share_of_seeds_is_found_in_80_percent(n: int) -> None:
    found = ratio(tuple((1.0, 1.0, 1.0) for _ in range(n)), by_sign=True)
    assert found.detectable_share is not None
    power = sum(
        stats.binom.pmf(ahead, n, found.detectable_share)
        for ahead in range(n + 1)
        if 2 * ahead > n and stats.binomtest(ahead, n).pvalue <= 0.05
    )
    assert power == pytest.approx(0.8)
    assert ratio(((1.0, 1.0, 1.0),) * 5, by_sign=True).detectable_share is None


def test_misses_go_by_sign_and_know_infinity() -> None:
    few, many = by_seed(*exact(*[50] * 8)), by_seed(*exact(100, 100, 100), *[MISS] * 5)
    found = ratio_to_target(many, few)
    assert (found.method, found.factor, found.low, found.misses) == ("sign", INF, pytest.approx(2), (5, 0))
    assert found.p == pytest.approx(2 / 2**8)
    back = ratio_to_target(few, many)
    assert (back.factor, back.high, back.misses) == (0, pytest.approx(0.5), (0, 5))
    assert back.p == found.p


def test_two_misses_count_against_both_sides() -> None:
    both = ratio_to_target(by_seed(*[MISS] * 6), by_seed(*[MISS] * 6))
    assert (both.p, both.low, both.high, both.shown, both.misses) == (1.0, 0, INF, False, (6, 6))
    sides = [by_seed(*exact(*[100] * 6), MISS, MISS, MISS), by_seed(*exact(*[50] * 6), MISS, MISS, MISS)]
    found = ratio_to_target(*sides)
    assert found.p == pytest.approx(min(1, 2 * stats.binom.cdf(3, 9, 0.5)))
    assert not found.shown


def test_a_target_reached_before_the_first_evaluation_has_no_ratio_in_logarithms() -> None:
    found = ratio_to_target(by_seed(*[(0.0, 8.0)] * 6), by_seed(*[(0.0, 8.0)] * 6))
    assert (found.method, found.low, found.high, found.p, found.misses) == ("sign", 0, INF, 1.0, (0, 0))


def test_nobody_in_common_and_one_pair() -> None:
    assert ratio_to_target({}, by_seed(*exact(5))).factor is None
    assert ratio_to_target({}, {}).n == 0
    one = ratio_to_target({0: (10.0, 10.0)}, {0: (5.0, 5.0), 1: (5.0, 5.0)})
    assert (one.factor, one.low, one.p, one.dropped) == (pytest.approx(2), None, None, (1,))


@given(st.lists(st.tuples(BRACKETS, BRACKETS), min_size=1, max_size=12))
@settings(deadline=None, max_examples=100)
def test_the_factor_turned_round_is_its_inverse(pairs: list[tuple[Interval, Interval]]) -> None:
    a, b = by_seed(*(x for x, _ in pairs)), by_seed(*(y for _, y in pairs))
    there, back = ratio_to_target(a, b), ratio_to_target(b, a)
    assert there.misses == back.misses[::-1]
    assert (there.method, there.p) == (back.method, pytest.approx(back.p) if back.p is not None else None)
    for mine, other in ((there.low, back.high), (there.high, back.low), (there.factor, back.factor)):
        if mine is None or other is None:
            assert mine is other
        elif mine in (0, INF):
            assert {mine, other} == {0, INF}
        else:
            assert mine * other == pytest.approx(1)
    if there.p is not None and there.low is not None and there.high is not None and abs(there.p - 0.05) > 1e-9:
        assert (there.low > 1 or there.high < 1) == (there.p < 0.05)
