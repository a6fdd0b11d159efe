"""A training's clock, against one that keeps every step's time."""

import math
import random
from statistics import median_high

import pytest
import torch

from bnexp.training import clock as clocks
from bnexp.training.clock import WARMUP_STEPS, Clock

CPU = torch.device("cpu")


def ticked(laps: list[float]) -> Clock:
    clock = Clock(CPU)
    for seconds in laps:
        clock.lap(seconds)
    return clock


@pytest.mark.parametrize("steps", [0, 1, 5, 19, 20, 63, 64, 65, 127, 128, 1000, 5000])
def test_bounded_laps_count_all_steps_and_keep_the_median(steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clocks, "KEPT_LAPS", 64)
    generator = random.Random(steps)
    laps = [generator.uniform(1, 3) + 100 * (step < WARMUP_STEPS) for step in range(steps)]
    clock = ticked(laps)
    assert len(clock.laps) <= 64
    assert clock.train_s == pytest.approx(sum(laps))
    warm = laps[min(WARMUP_STEPS, steps // 2) :]
    count, seconds, median = clock.after_warmup()
    assert count == len(warm)
    assert seconds == pytest.approx(sum(warm))
    if steps < 64:
        assert median == median_high(warm) if warm else math.isnan(median)
    else:
        assert sum(lap < median for lap in warm) / len(warm) == pytest.approx(0.5, abs=0.2)  # 32 to 64 of them are a sample
    assert list(clock.laps) == laps[:: clock.every]


def test_a_stretch_is_evened_out_where_laps_are_left() -> None:
    clock = ticked([1.0, 1.0, 5.0, 7.0, 3.0])
    clock.even_out(3, 5.0)
    assert list(clock.laps) == [1, 1, 5, 5, 5]
    assert clock.train_s == 17
    clock.every, clock.laps = 2, clock.laps[::2]  # of the steps 0, 2, 4
    clock.even_out(3, 6.0)
    assert list(clock.laps) == [1, 6, 6]
    clock.even_out(0, 9.0)
    assert list(clock.laps) == [1, 6, 6]


def test_a_clock_goes_on_from_its_state(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clocks, "KEPT_LAPS", 16)
    laps = [float(step) for step in range(100)]
    half = ticked(laps[:41])
    half.recorded_s = 7.0
    again = Clock.restored(CPU, half.state_dict())
    assert again == half
    for seconds in laps[41:]:
        again.lap(seconds)
    again.recorded_s = 0.0
    assert again == ticked(laps)
