"""Curves in a few characters, against a slow obvious twin, and with what breaks such things: NaN, infinity, constants, one value."""

import math
import random

import pytest

from bnexp.base.sparkline import BLOCKS, LOST, drawable, sparkline

Curve = list[tuple[int, float]]
NAN = math.nan


def twin(curve: Curve, width: int) -> str:
    """Column by column, and for each column value by value."""
    width = min(width, len(curve))
    low, high = math.log(curve[0][0]), math.log(curve[-1][0])
    means: list[float] = []
    for column in range(width):
        inside = []
        for step, value in curve:
            place = width * (math.log(step) - low) / (high - low)
            if column <= place < column + 1 or (column == width - 1 and place >= width):
                inside.append(value)
        means.append(sum(inside) / len(inside) if inside else means[-1])
    text = ""
    for mean in means:
        height = 8 * (math.log(mean) - math.log(min(means))) / (math.log(max(means)) - math.log(min(means)))
        for block in range(8):
            if block <= height < block + 1 or (block == 7 and height >= 8):
                text += BLOCKS[block]
    return text


def test_it_is_what_its_twin_draws() -> None:
    rng = random.Random(0)
    for _ in range(200):
        steps = sorted(rng.sample(range(1, 5000), rng.randint(2, 60)))
        curve = [(step, math.exp(rng.gauss(0, 2))) for step in steps]
        width = rng.randint(2, 14)
        assert sparkline(curve, width) == twin(curve, width)


def test_a_falling_loss_falls_and_most_of_it_is_seen_early() -> None:
    curve = [(step, 2.3 / step) for step in range(1, 1001)]
    drawn = sparkline(curve)
    assert drawn[0] == "█"
    assert drawn[-1] == "▁"
    assert list(drawn) == sorted(drawn, reverse=True)
    assert len(set(drawn)) == 8  # a line in log-log; in linear steps all but the first would be alike


def test_a_diverged_run_ends_with_a_cross() -> None:
    falling: Curve = [(1, 2.0), (2, 1.0), (4, 0.5)]
    assert sparkline([*falling, (8, NAN)]) == "█▅▁✕"
    assert sparkline([*falling, (8, math.inf)]) == sparkline(falling) + LOST
    assert sparkline(falling, diverged=True) == sparkline(falling) + LOST
    assert sparkline([(1, NAN), (2, NAN)]) == LOST
    assert sparkline([], diverged=True) == LOST
    assert len(sparkline([(step, 1.0 / step) for step in range(1, 100)] + [(100, NAN)], 8)) == 8
    assert LOST not in sparkline([(1, 2.0), (2, NAN), (4, 0.5)])  # it came back


@pytest.mark.parametrize(
    ("curve", "drawn"),
    [
        ([], ""),
        ([(5, 0.3)], "▄"),
        ([(1, 0.3), (9, 0.3)], "▄▄"),
        ([(1, 0.0), (9, 1.0)], "▁█"),  # no logarithm of 0
        ([(1, -1.0), (9, 1.0)], "▁█"),
        ([(0, 1.0), (9, 2.0)], "▁█"),
        ([(3, 1.0), (3, 3.0)], "▄▄"),  # one step: one column has both, and the next what was before
        ([(1, 1e308), (9, -1e308)], "█▁"),
        ([(1, 5e-324), (9, 1e308)], "▁█"),
    ],
)
def test_odd_curves(curve: Curve, drawn: str) -> None:
    assert sparkline(curve) == drawn


def test_accuracies_are_drawn_as_they_are() -> None:
    curve = [(1, 0.1), (2, 0.5), (4, 0.9)]
    assert sparkline(curve, log=False) == "▁▅█"
    assert sparkline(curve)[1] > sparkline(curve, log=False)[1]  # a logarithm lifts the middle


def test_who_can_show_it() -> None:
    assert drawable("utf-8")
    assert not drawable("ascii")
    assert not drawable("latin-1")
    assert not drawable("no such encoding")
    assert not drawable(None)
