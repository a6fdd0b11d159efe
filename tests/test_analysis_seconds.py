"""Seconds to target: steps times step time, the cost of a step, and the sentence."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from statistics import median
from typing import Any

import numpy as np
import pytest
from scipy.stats import bootstrap
from test_analysis_rows import make_row

from bnexp.analysis import Seconds, StepMs, compare_arms, seconds_to_target

MS = {"batch": StepMs(2.7, 2.6, 2.8, (2.7, 2.565, 2.7)), "none": StepMs(2.0, 1.9, 2.1, (2.0, 1.9, 2.0))}


def study(batch: list[int | None], none: list[int | None]) -> list[dict[str, Any]]:
    """Steps to target by seed; None is a miss."""
    return [
        make_row(norm, seed=seed, target__reached_step=steps, budget__steps=400)
        for norm, reached in (("batch", batch), ("none", none))
        for seed, steps in enumerate(reached)
    ]


def in_seconds(batch: list[int | None], none: list[int | None], ms: dict[str, StepMs] = MS) -> Seconds:
    return seconds_to_target(compare_arms(study(batch, none), "none"), ms)


def test_seconds_are_steps_times_the_median_step() -> None:
    batch, none = [40, 42, 44, 46, 48], [80, 85, 90, 95, 100]
    found = in_seconds([*batch], [*none])
    assert found.to_target["batch"].median == pytest.approx(44 * 0.0027)
    assert found.to_target["none"].high == pytest.approx(95 * 0.002)
    versus = found.versus["batch"]
    assert versus.steps.factor == pytest.approx(90 / 44)
    assert versus.seconds.factor == pytest.approx(90 * 2.0 / (44 * 2.7))
    twin = math.exp(statistics.fmean(math.log(2.0 * n / (2.7 * b)) for b, n in zip(batch, none, strict=True)))
    assert versus.seconds.mean == pytest.approx(twin)
    assert versus.steps.low is not None
    assert versus.seconds.low == pytest.approx(versus.steps.low * 2.0 / 2.7)
    assert (versus.seconds.p, versus.seconds.bound) == (versus.steps.p, "exact")
    cost = versus.step_cost
    assert (cost.factor, cost.low, cost.high, cost.turns) == pytest.approx((1.35, 1.35, 1.35, 3))
    assert versus.sentence == (
        "a step of batch takes 1.35 times one of none (3 alternating turns; 95 % interval 1.35 to 1.35); "
        "to the target, by medians, batch is 2.05 times faster in steps and 1.52 times in seconds."
    )
    assert "does not include" in found.note


def turns(batch: Sequence[float], none: Sequence[float]) -> dict[str, StepMs]:
    return {arm: StepMs(median(ms), min(ms), max(ms), tuple(ms)) for arm, ms in (("batch", batch), ("none", none))}


def test_the_interval_of_a_steps_cost_against_scipys_bootstrap() -> None:
    generator = np.random.default_rng(3)
    none = generator.lognormal(0.7, 0.2, 25)
    batch = none * generator.lognormal(0.3, 0.05, 25)
    cost = in_seconds([50], [50], turns(batch.tolist(), none.tolist())).versus["batch"].step_cost
    logs = np.log(batch / none)
    twin = bootstrap((logs,), np.mean, n_resamples=20_000, method="percentile", rng=generator).confidence_interval
    assert cost.factor == pytest.approx(math.exp(logs.mean()))
    assert cost.low is not None
    assert cost.high is not None
    assert math.log(cost.low) == pytest.approx(twin.low, abs=0.001)
    assert math.log(cost.high) == pytest.approx(twin.high, abs=0.001)
    assert cost.low < math.exp(0.3) < cost.high


def test_the_interval_holds_the_true_cost_as_often_as_it_says() -> None:
    """Whatever slows the machine down slows both arms' turns down; each also has noise of its own. 20 turns are the fewest there are."""
    generator, held = np.random.default_rng(0), 0
    for _ in range(200):
        machine = np.exp(np.cumsum(generator.normal(0, 0.2, 20)))
        none, batch = (true * machine * generator.lognormal(0, 0.05, 20) for true in (2.0, 2.2))
        cost = in_seconds([50], [50], turns(batch.tolist(), none.tolist())).versus["batch"].step_cost
        assert cost.low is not None
        assert cost.high is not None
        held += cost.low <= 1.1 <= cost.high
    assert 0.88 <= held / 200 <= 0.98


def test_a_measurement_from_before_there_were_turns_has_no_interval() -> None:
    old = {"batch": StepMs(2.7, 2.6, 2.8), "none": StepMs(2.0, 1.9, 2.1)}
    versus = in_seconds([50], [50], old).versus["batch"]
    assert (versus.step_cost.factor, versus.step_cost.low, versus.step_cost.high) == (1.35, None, None)
    assert "takes 1.35 times one of none (medians of solo steps)" in versus.sentence


def test_misses_stay_infinite() -> None:
    found = in_seconds([40, 41, 42], [None, None, 300])
    assert found.to_target["none"].median == math.inf
    assert (found.versus["batch"].seconds.bound, found.versus["batch"].seconds.low) == ("at_least", None)
    assert found.versus["batch"].seconds.factor == pytest.approx(400 * 2.0 / (41 * 2.7))


@pytest.mark.parametrize(
    ("batch", "none", "end"),
    [
        ([50], [55], "to the target, by medians, batch is 1.1 times faster in steps, but none 1.23 times faster in seconds."),
        ([55], [50], "to the target, by medians, none is 1.1 times faster in steps and 1.49 times in seconds."),
        ([50], [50], "to the target, by medians, both need as many steps, but none is 1.35 times faster in seconds."),
        ([200], [270], "to the target, by medians, batch is 1.35 times faster in steps, but both need as many seconds."),
        ([None], [None], "; neither reaches the target in the median run."),
        (
            [100],
            [None],
            "only batch reaches the target in the median run, which makes it at least 4 times as fast in steps and at least 2.96 times in "
            "seconds.",
        ),
        (
            [None],
            [100],
            "only none reaches the target in the median run, which makes it at least 4 times as fast in steps and at least 5.4 times in "
            "seconds.",
        ),
    ],
)
def test_the_sentence_says_who_is_sooner(batch: list[int | None], none: list[int | None], end: str) -> None:
    assert in_seconds(batch, none).versus["batch"].sentence.endswith(end)


def test_equal_steps_and_times_are_said_to_be_equal() -> None:
    sentence = in_seconds([50], [50], {"batch": MS["none"], "none": MS["none"]}).versus["batch"].sentence
    assert sentence.endswith("to the target, by medians, both need as many steps, and as many seconds.")


def test_a_step_time_must_be_there_and_make_sense() -> None:
    with pytest.raises(ValueError, match="no step time of the arm 'none'"):
        in_seconds([1], [1], {"batch": MS["batch"]})
    with pytest.raises(ValueError, match="wanted are median, lower and upper quartile"):
        in_seconds([1], [1], {**MS, "none": StepMs(1.0, 2.0, 3.0)})


def test_an_arm_without_results_needs_no_step_time() -> None:
    rows = [{**row, "status": "failed"} if row["config.model.norm"] == "batch" else row for row in study([1], [1])]
    found = seconds_to_target(compare_arms(rows, "none"), {"none": MS["none"]})
    assert (list(found.to_target), found.versus) == (["none"], {})
