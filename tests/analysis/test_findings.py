"""The sentences of figures, and the numbers beside an answer."""

import math

import pytest

from bnexp.analysis.findings import change, each, in_percent


def test_a_change_says_where_it_begins_and_ends() -> None:
    text = change("the spread at block3.conv2", [("without BN", 1.0, 9.0), ("with BN", 2.4, 2.4)])
    assert text == "Without BN, the spread at block3.conv2 rises from 1 to 9; with BN, it stays at 2.4."
    assert (
        change("validation accuracy", [("with BN", 0.1, 0.975)], in_percent) == "With BN, validation accuracy rises from 10.0 % to 97.5 %."
    )
    assert change("the loss", [("with BN", 2.3, 0.01)]) == "With BN, the loss falls from 2.3 to 0.01."


@pytest.mark.parametrize(
    ("first", "last", "said"),
    [
        (2.0, 2.1, "stays about the same (2 to 2.1)"),
        (-1.0, 1.0, "rises from -1 to 1"),
        (0.0, 0.0, "stays at 0"),
        (1.0, math.inf, "rises from 1 to infinite"),
        (12345.0, 1.0, "falls from 12,345 to 1"),
        (2.0, 9.46e16, "rises from 2 to 9.46e+16"),
    ],
)
def test_how_far_it_moves(first: float, last: float, said: str) -> None:
    assert change("it", [("with BN", first, last)]) == f"With BN, it {said}."


def test_arms_in_turn() -> None:
    text = each("half of the runs have reached the target", [("with BN", "after 66 steps"), ("without BN", "never")])
    assert text == "Half of the runs have reached the target: after 66 steps with BN; never without BN."
