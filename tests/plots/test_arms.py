"""Figures of arms beside each other: confusion matrices, histograms of activations."""

import math

from matplotlib.patches import Rectangle

from bnexp.analysis.confusion import Confusion
from bnexp.analysis.histograms import Activations, ArmActivations, Histogram
from bnexp.plots import activations, arms
from bnexp.plots.style import GRID

PALETTE = ["batch", "none"]
NARROW, WIDE = (Histogram(-half, half, tuple(math.exp(-(((k - 19.5) / 8) ** 2)) for k in range(40))) for half in (2.0, 20.0))


def of(arm: str, label: str, counts: tuple[tuple[int, ...], ...]) -> Confusion:
    return Confusion(arm, label, tuple(f"c{k}" for k in range(len(counts))), counts, runs=2)


def test_errors_have_the_arms_colour_and_their_number() -> None:
    found = [of("batch", "with BN", ((9, 1), (0, 10))), of("none", "without BN", ((7, 3), (2, 8)))]
    picture = arms.confusion("confusion", "Confusion matrix", found, PALETTE)
    assert picture is not None
    first, second = picture.figure.axes
    assert [text.get_text() for text in first.texts] == ["1"]  # nothing where there is no error, nor on the diagonal
    assert [text.get_text() for text in second.texts] == ["3", "2"]
    boxes = [patch for patch in second.patches if isinstance(patch, Rectangle)]
    assert len({box.get_facecolor() for box in boxes}) == 3  # the diagonal, and two numbers of errors
    assert picture.finding == (
        "With BN, 5.0 % of the test images are misclassified, most often c0 taken for c1; without BN, 25.0 %, most often c0 taken for c1."
    )
    assert "2" in first.get_title(loc="left")
    svg = picture.svg()
    assert GRID in svg
    assert "#0072b2" in svg
    assert "#d55e00" in svg


def test_no_matrix_is_no_figure() -> None:
    assert arms.confusion("confusion", "Confusion matrix", [], PALETTE) is None


def test_an_arms_histograms_share_their_range_and_say_their_spread() -> None:
    normed = ArmActivations("batch", "with BN", Activations(0, WIDE, NARROW), Activations(400, WIDE, NARROW))
    without = ArmActivations("none", "without BN", Activations(0, NARROW, None), Activations(400, WIDE, None))
    picture = activations.histograms("activations", "Activations", "block1.conv1", [normed, without], PALETTE)
    assert picture is not None
    panels = picture.figure.axes
    assert len(panels) == 4
    assert [axes.get_title(loc="left") for axes in panels] == [
        "with BN, step 0",
        "with BN, step 400",
        "without BN, step 0",
        "without BN, step 400",
    ]
    assert panels[2].get_xlim() == panels[3].get_xlim()
    assert [len(axes.patches) for axes in panels] == [2, 2, 1, 1]
    assert f"std before {WIDE.std:.3g}" in panels[0].texts[0].get_text()
    assert f"std {NARROW.std:.3g}" in panels[2].texts[0].get_text()
    assert "; without BN, it rises from" in picture.finding
    assert activations.histograms("activations", "Activations", "block1.conv1", [], PALETTE) is None
