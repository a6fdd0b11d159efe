"""Histograms of activations as figures show them, and the sentence on them."""

import math
import random

import pytest

from bnexp.analysis.histograms import Histogram, activations, activations_finding, layers

KEY = "percentiles/block1.conv1/histogram/"


def recorded(std: float) -> list[float]:
    """4,000 normal values in 40 bins, as a metric records them."""
    draw = random.Random(0)
    values = [draw.gauss(1.0, std) for _ in range(4000)]
    low, high = min(values), max(values)
    counts = [0.0] * 40
    for value in values:
        counts[min(39, int(40 * (value - low) / (high - low)))] += 1
    return [low, high, *counts]


def test_a_histogram_keeps_area_and_spread_of_its_values() -> None:
    made = Histogram.of(recorded(3.0))
    assert made is not None
    width = (made.high - made.low) / 40
    assert sum(made.density) * width == pytest.approx(1)
    assert made.std == pytest.approx(3.0, rel=0.05)
    low, high = made.central
    assert (low, high) == pytest.approx((1 - 2.58 * 3, 1 + 2.58 * 3), abs=2 * width)
    assert made.low < low < high < made.high


@pytest.mark.parametrize(
    "numbers", [[], [0.0, 1.0], [1.0, 1.0, 5.0], [0.0, 1.0, 0.0], [0.0, math.nan, 3.0], [0.0, 1.0, -1.0], [-1e308, 1e308, 1.0]]
)
def test_what_is_no_histogram_is_none(numbers: list[float]) -> None:
    assert Histogram.of(numbers) is None


def test_the_sentence_on_activations_compares_both_ends_of_each_arm() -> None:
    without = activations("none", "without BN", {f"{KEY}before": [(0, recorded(1)), (400, recorded(9))]}, "block1.conv1")
    both = {f"{KEY}before": [(0, recorded(5)), (400, recorded(7))], f"{KEY}after": [(0, recorded(2)), (400, recorded(2))]}
    normed = activations("batch", "with BN", both, "block1.conv1")
    assert without is not None
    assert normed is not None
    assert layers(both) == ["block1.conv1"]
    text = activations_finding("block1.conv1", [without, normed])
    begin = "Without BN, the standard deviation at block1.conv1 (after the norm, if any) rises from "
    assert text.startswith(begin)
    first, last = (float(number) for number in text.removeprefix(begin).split(";")[0].split(" to "))
    assert (first, last) == pytest.approx((1, 9), rel=0.05)
    assert "; with BN, it stays at " in text


def test_one_end_alone_is_no_figure() -> None:
    assert activations("batch", "with BN", {f"{KEY}before": [(0, recorded(1))]}, "block1.conv1") is None
    assert activations("batch", "with BN", {}, "block1.conv1") is None
