"""Curves of several seeds as one, against the definitions."""

import math

import numpy as np
import pytest
from scipy import stats

from bnexp.analysis.bands import RunCurves, band


def test_a_band_is_the_mean_with_students_interval() -> None:
    values = np.random.default_rng(0).normal(size=(5, 3))
    found = band([RunCurves(seed, {"a/b": list(zip((0, 4, 9), row, strict=True))}) for seed, row in enumerate(values.tolist())], "a/b")
    assert found is not None
    assert found.steps == (0, 4, 9)
    assert found.n == (5, 5, 5)
    assert (found.runs, found.whole, found.ends) == (5, 3, ())
    half = stats.t.ppf(0.975, 4) * values.std(axis=0, ddof=1) / math.sqrt(5)
    np.testing.assert_allclose(found.mean, values.mean(axis=0))
    np.testing.assert_allclose(found.low, values.mean(axis=0) - half)
    np.testing.assert_allclose(found.high, values.mean(axis=0) + half)


def test_a_logarithmic_band_is_that_of_the_logarithms() -> None:
    values = np.random.default_rng(1).lognormal(size=(4, 2))
    tracks = [RunCurves(seed, {"a/b": [(1, row[0]), (2, row[1]), (3, 0.0)]}) for seed, row in enumerate(values.tolist())]
    found = band(tracks, "a/b", log=True)
    assert found is not None
    assert found.steps == (1, 2)  # zero has no logarithm
    logs = np.log(values)
    half = stats.t.ppf(0.975, 3) * logs.std(axis=0, ddof=1) / 2
    np.testing.assert_allclose(found.mean, np.exp(logs.mean(axis=0)))
    np.testing.assert_allclose(found.low, np.exp(logs.mean(axis=0) - half))
    np.testing.assert_allclose(found.high, np.exp(logs.mean(axis=0) + half))


def test_a_diverged_run_ends_at_its_last_finite_value_and_is_not_dropped_before() -> None:
    tracks = [
        RunCurves(0, {"a/b": [(1, 1.0), (2, 2.0), (3, 3.0)]}),
        RunCurves(1, {"a/b": [(1, 3.0), (2, math.nan)]}, diverged_at_step=2),
        RunCurves(2, {"a/b": [(1, math.inf)]}, diverged_at_step=1),
        RunCurves(3, {"other": [(1, 5.0)]}),
    ]
    found = band(tracks, "a/b")
    assert found is not None
    assert found.steps == (1, 2, 3)
    assert found.mean == (2.0, 2.0, 3.0)
    assert found.n == (2, 1, 1)
    assert found.runs == 3
    assert found.whole == 0  # one never had a finite value
    assert found.ends[0] == (1, 3.0)
    assert found.ends[1][0] == 1
    assert math.isnan(found.ends[1][1])
    assert band(tracks[:2], "a/b").whole == 1  # type: ignore[union-attr]
    assert band(tracks, "nothing") is None


def test_records_of_one_step_count_once_and_one_run_has_no_interval() -> None:
    found = band([RunCurves(0, {"a/b": [(8, 1.0), (8, 2.0)]})], "a/b")
    assert found is not None
    assert (found.steps, found.mean, found.low, found.high) == ((8,), (2.0,), (2.0,), (2.0,))


def test_a_run_that_stopped_keeps_its_last_value() -> None:
    tracks = [RunCurves(0, {"a/b": [(1, 1.0), (2, 2.0)]}, stopped=True), RunCurves(1, {"a/b": [(1, 3.0), (2, 4.0), (4, 8.0)]})]
    found = band(tracks, "a/b")
    assert found is not None
    assert (found.steps, found.mean, found.n, found.whole) == ((1, 2, 4), (2.0, 3.0, 5.0), (2, 2, 2), 3)


def test_an_interval_that_no_float_holds_is_infinite() -> None:
    found = band([RunCurves(0, {"a/b": [(1, 1e-9)]}), RunCurves(1, {"a/b": [(1, 1e38)]})], "a/b", log=True)
    assert found is not None
    assert found.low[0] < 1e-200
    assert found.high[0] == math.inf


@pytest.mark.parametrize(("values", "last"), [([1.0, 2.0, math.nan], 2.0), ([math.nan], None), ([], None)])
def test_the_last_value_of_a_track_is_finite(values: list[float], last: float | None) -> None:
    assert RunCurves(0, {"a/b": list(enumerate(values))}).last("a/b") == last
