"""Runs that did not train: who counts as one, the rate's interval, the test between two rates, against scipy."""

from __future__ import annotations

import pytest
from scipy import stats
from support import make_result, with_values

from bnexp.analysis import FailureRate, compare_failures, failure_rate
from bnexp.analysis.failures import clopper_pearson, fisher

CASES = [(k, n) for n in (1, 2, 5, 10, 40) for k in sorted({0, 1, n // 2, n - 1, n})]


@pytest.mark.parametrize(("k", "n"), CASES)
def test_the_interval_of_a_rate_is_clopper_and_pearsons(k: int, n: int) -> None:
    twin = stats.binomtest(k, n).proportion_ci(method="exact")
    low, high = clopper_pearson(k, n)
    assert (low, high) == (pytest.approx(twin.low), pytest.approx(twin.high))
    assert 0 <= low <= k / n <= high <= 1


@pytest.mark.parametrize(("n", "m"), [(1, 1), (5, 5), (10, 10), (10, 7), (3, 12)])
def test_the_test_between_two_rates_is_fishers(n: int, m: int) -> None:
    for k in range(n + 1):
        for other in range(m + 1):
            twin = stats.fisher_exact([[k, n - k], [other, m - other]]).pvalue
            found = compare_failures(FailureRate(n, k, 0, 0.0, 1.0), FailureRate(m, other, 0, 0.0, 1.0))
            assert found.p == pytest.approx(twin)
            assert (found.n, found.rate, found.baseline_rate) == (min(n, m), k / n, other / m)


def test_the_detectable_rate_is_found_in_80_percent() -> None:
    """By enumeration: the arm with fewer failures stays as it is, the other's are binomial."""
    for low, n in ((0, 5), (0, 10), (2, 10), (1, 20)):
        found = compare_failures(FailureRate(n, low, 0, 0.0, 1.0), FailureRate(n, low, 0, 0.0, 1.0))
        assert found.detectable is not None
        chances = stats.binom.pmf(range(n + 1), n, found.detectable)
        power = sum(chance for k, chance in enumerate(chances) if k > low and fisher(k, n, low, n) <= 0.05)
        assert power == pytest.approx(0.8)
    assert compare_failures(FailureRate(3, 0, 0, 0.0, 1.0), FailureRate(3, 0, 0, 0.0, 1.0)).detectable is None  # 0 against 3 of 3 has p 0.1
    assert compare_failures(FailureRate(0, 0, 0, None, None), FailureRate(3, 0, 0, 0.0, 1.0)).p is None


def test_diverged_runs_and_runs_at_chance_are_counted_apart() -> None:
    digits = {"data__test": 360, "test__chance": 0.1, "train__images": 1293, "train__accuracy": 0.11}
    rows = [
        make_result(seed=0, acc=0.1, status="diverged", **digits),
        make_result(seed=1, acc=0.125, **digits),
        *[make_result(seed=seed, **digits) for seed in range(2, 10)],
    ]
    found = failure_rate(rows)
    assert (found.n, found.diverged, found.at_chance, found.failed) == (10, 1, 1, 2)
    assert (found.low, found.high) == clopper_pearson(2, 10)
    assert failure_rate([]) == FailureRate(0, 0, 0, None, None)


def test_at_chance_is_within_three_standard_errors_of_the_largest_class() -> None:
    limit = 0.1 + 3 * (0.1 * 0.9 / 360) ** 0.5  # 14.7 % of 360 images
    untrained = {"train__images": 360, "data__test": 360}
    for accuracy, fails in ((0.0, True), (0.1, True), (limit - 0.001, True), (limit + 0.001, False)):
        assert make_result(acc=accuracy, train__accuracy=accuracy, test__chance=0.1, **untrained).is_failure is fails
        assert make_result(acc=accuracy, train__accuracy=accuracy, data__classes=list("0123456789"), **untrained).is_failure is fails
    uneven = make_result(acc=0.8, train__accuracy=0.78, train__images=100, data__test=100, test__chance=0.75)
    assert uneven.is_failure  # always naming the largest class is as good
    assert not with_values(uneven, test__batch__accuracy=0.95).is_failure  # running statistics that mislead are no failure to train
    assert not make_result(acc=0.0, train__accuracy=0.0).is_failure  # nothing says what chance is
    assert not make_result(acc=0.0, status="failed", train__accuracy=0.0, test__chance=0.1, **untrained).is_failure  # no result at all


def test_a_run_that_learned_its_training_images_did_train() -> None:
    """On 12 test images of two classes, 11 right are within three standard errors of chance; that says nothing of the training."""
    few = {"data__test": 12, "test__chance": 0.5, "train__images": 64}
    assert not make_result(acc=11 / 12, train__accuracy=1.0, **few).is_failure
    assert make_result(acc=0.5, train__accuracy=0.5, **few).is_failure
