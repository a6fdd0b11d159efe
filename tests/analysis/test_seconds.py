"""Seconds to target: steps times step time, the cost of a step from turns, and both uncertainties in one interval."""

from __future__ import annotations

import math

import numpy as np
import pytest
from support import make_result, with_values

from bnexp.analysis import Seconds, StepMs, compare_arms, ratio_to_target, seconds_to_target, step_cost
from bnexp.analysis.seconds import StepCost, in_seconds
from bnexp.storage.result import RunResult

MS: dict[str, StepMs] = {"batch": (2.7, 2.6, 2.8), "none": (2.0, 1.9, 2.1)}


def study(batch: list[int | None], none: list[int | None]) -> list[RunResult]:
    """Steps to target by seed; None is a miss."""
    return [
        make_result(norm, seed=seed, target__reached_step=steps, budget__steps=400)
        for norm, reached in (("batch", batch), ("none", none))
        for seed, steps in enumerate(reached)
    ]


def found_of(batch: list[int | None], none: list[int | None], ms: dict[str, StepMs] = MS) -> Seconds:
    return seconds_to_target(compare_arms(study(batch, none), "none"), ms)


def test_seconds_are_steps_times_the_median_turn() -> None:
    found = found_of([40, 42, 44, 46, 48], [80, 85, 90, 95, 100])
    assert found.step_ms == {"none": 2.0, "batch": 2.7}
    assert found.to_target["batch"].median == pytest.approx(44 * 0.0027)
    assert found.to_target["none"].high == pytest.approx(95 * 0.002)
    versus = found.versus["batch"]
    steps = compare_arms(study([40, 42, 44, 46, 48], [80, 85, 90, 95, 100]), "none").headline.versus["batch"].speedup
    assert steps.factor is not None
    assert versus.seconds.factor == pytest.approx(steps.factor / versus.step_cost.factor)


def test_the_cost_of_a_step_is_a_bootstrap_over_paired_turns() -> None:
    rng = np.random.default_rng(3)
    minute = np.exp(rng.normal(0, 0.5, 25))  # the machine's better and worse minutes fall on both
    arm, base = (ms * minute * np.exp(rng.normal(0, 0.02, 25)) for ms in (2.6, 2.0))
    found = step_cost(list(arm), list(base))
    logs = np.log(arm / base)
    means = [rng.choice(logs, 25).mean() for _ in range(5000)]
    assert found.factor == pytest.approx(math.exp(logs.mean()))
    assert found.low == pytest.approx(math.exp(np.quantile(means, 0.025)), rel=0.002)
    assert found.high == pytest.approx(math.exp(np.quantile(means, 0.975)), rel=0.002)
    assert found.low < 1.3 < found.high
    assert found.turns == 25
    assert found == step_cost(list(arm), list(base))  # the same numbers each time
    assert found.high / found.low < 1.03  # although the turns themselves differ by far more
    with pytest.raises(ValueError, match="turns are paired"):
        step_cost([1.0, 2.0], [1.0])


def test_the_interval_in_seconds_covers_the_truth_as_simulated() -> None:
    """Steps and step times both uncertain: the true ratio of seconds lies in 95 % of the intervals, and p goes with them."""
    rng, repetitions, hits = np.random.default_rng(0), 400, 0
    truth = 2.0 / 1.3
    for _ in range(repetitions):
        steps = [dict(enumerate((float(s), float(s)) for s in np.exp(rng.normal(math.log(mean), 0.2, 10)))) for mean in (200, 100)]
        turns = [list(ms * np.exp(rng.normal(0, 0.15, 20))) for ms in (1.3, 1.0)]
        found = in_seconds(ratio_to_target(*steps), step_cost(*turns))
        assert found.low is not None
        assert found.high is not None
        assert found.p is not None
        hits += found.low <= truth <= found.high
        if abs(found.p - 0.05) > 1e-9:
            assert (found.low > 1 or found.high < 1) == (found.p < 0.05)
    assert abs(hits / repetitions - 0.95) < 3 * math.sqrt(0.95 * 0.05 / repetitions)


def test_a_step_cost_that_is_known_exactly_only_moves_the_ratio() -> None:
    steps = ratio_to_target(
        *[dict(enumerate((float(s), float(s)) for s in own)) for own in ([200, 240, 190, 260, 210], [100, 110, 90, 130, 100])]
    )
    found = in_seconds(steps, StepCost(1.25, 1.25, 1.25, 20))
    for mine, other in ((found.factor, steps.factor), (found.low, steps.low), (found.high, steps.high)):
        assert mine is not None
        assert other is not None
        assert mine == pytest.approx(other / 1.25)
    same = in_seconds(steps, StepCost(1.0, 1.0, 1.0, 20))
    assert (same.p, same.detectable) == (pytest.approx(steps.p), pytest.approx(steps.detectable))
    assert in_seconds(steps, StepCost(1.25, 1.0, 1.5, 20)).high == pytest.approx(
        math.exp(math.log((steps.factor or 0) / 1.25) + math.hypot(math.log((steps.high or 0) / (steps.factor or 1)), math.log(1.25)))
    )


def test_misses_stay_infinite() -> None:
    found = found_of([40] * 8, [None] * 6 + [300, 300])
    assert found.to_target["none"].median == math.inf
    seconds, cost = found.versus["batch"].seconds, found.versus["batch"].step_cost
    assert (seconds.method, seconds.misses, seconds.factor) == ("sign", (6, 0), math.inf)
    assert seconds.low == pytest.approx(300 / 40 / cost.high)
    assert seconds.p == pytest.approx(2 / 2**8)
    both = found_of([None] * 6, [None] * 6).versus["batch"].seconds
    assert (both.p, both.misses, both.shown) == (1.0, (6, 6), False)


def test_a_step_time_must_be_there_and_make_sense() -> None:
    with pytest.raises(ValueError, match="no step time of the arm 'none'"):
        found_of([1], [1], {"batch": MS["batch"]})
    for wrong in ((1.0, 0.0, 3.0), (1.0, math.inf, 1.0), (1.0, math.nan, 1.0)):
        with pytest.raises(ValueError, match="step times are above 0"):
            found_of([1], [1], {**MS, "none": wrong})
    with pytest.raises(ValueError, match="turns are paired"):
        found_of([1], [1], {**MS, "none": (2.0, 2.0)})


def test_an_arm_without_results_needs_no_step_time() -> None:
    rows = [with_values(row, status="failed") if row.norm == "batch" else row for row in study([1], [1])]
    found = seconds_to_target(compare_arms(rows, "none"), {"none": MS["none"]})
    assert (list(found.to_target), found.versus) == (["none"], {})
