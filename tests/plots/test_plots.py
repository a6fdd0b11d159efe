"""Figures: what they show is what the data say, in colours that stay an arm's own."""

import math
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from matplotlib.colors import to_hex
from PIL import Image
from support import make_result, some

from bnexp.analysis import aggregate, by_batch_size, largest_stable_lr
from bnexp.analysis.bands import RunCurves
from bnexp.analysis.law import LayerLaw, Line, NoiseLaw
from bnexp.analysis.parts import MAX_ARMS
from bnexp.config import Config
from bnexp.norms import NORMS
from bnexp.plots.curves import Arm, Curve, between, by_learning_rate, over_steps, percentiles
from bnexp.plots.grids import accuracy_by_batch_size, accuracy_by_lr, reached, stable_range, steps_heat_map
from bnexp.plots.inside import by_layer, noise_law, observed_and_predicted
from bnexp.plots.style import INK, Picture, colours
from bnexp.storage.facts import Environment
from bnexp.storage.result import RunResult

ARMS = ("batch", "none")


def track(seed: int, values: list[float], key: str = "val/accuracy", diverged: int | None = None) -> RunCurves:
    return RunCurves(seed, {key: [(8 * (index + 1), value) for index, value in enumerate(values)]}, diverged)


def row(lr: float, seed: int, accuracy: float, steps: int | None, status: str = "finished") -> RunResult:
    return make_result("batch", lr, seed, acc=accuracy, status=status, target__reached_step=steps, target__accuracy=0.95)


def test_an_arm_keeps_its_colour_whoever_is_beside_it() -> None:
    assert colours(["none"])["none"] == colours(["batch", "none"])["none"] == NORMS["none"].colour
    many = colours(["batch", "none", *(f"momentum={i}" for i in range(MAX_ARMS - 2))])
    assert len(set(many.values())) == MAX_ARMS
    with pytest.raises(ValueError, match=f"{MAX_ARMS + 1} arms"):
        colours([str(index) for index in range(MAX_ARMS + 1)])


def test_curves_have_labels_units_n_and_both_arms_in_their_colours() -> None:
    arms = [
        Arm("batch", "batch, lr 0.3", (track(0, [0.5, 0.9]), track(1, [0.6, 0.8]))),
        Arm("none", "none", (track(0, [0.2, 0.4]), track(1, [0.1, math.nan], diverged=16))),
    ]
    picture = some(
        over_steps(Curve("accuracy", "Accuracy", "validation accuracy (%)", {"val/accuracy": ""}, "the measure", percent=True), arms, ARMS)
    )
    (axes,) = picture.figure.axes
    assert axes.get_xlabel() == "training steps"
    assert axes.get_ylabel() == "validation accuracy (%)"
    assert [text.get_text() for text in picture.figure.legends[0].get_texts()] == ["batch, lr 0.3 (n = 2)", "none (n = 2)"]
    drawn = {to_hex(line.get_color()) for line in axes.lines}
    assert drawn == {NORMS["batch"].colour, NORMS["none"].colour}
    means = {tuple(line.get_ydata()) for line in axes.lines}
    assert any(values == pytest.approx((0.55, 0.85)) for values in means)
    crosses = [line for line in axes.lines if line.get_marker() == "X"]
    assert [(line.get_xdata()[0], line.get_ydata()[0]) for line in crosses] == [(8, 0.1)]  # its last finite value
    assert "A cross marks where a run diverged" in picture.caption
    assert "85 %" in picture.alt
    assert picture.finding.count("the measure") == 1
    assert re.search(r"(rises|falls) from [\d.]+ % to [\d.]+ %|stays", picture.finding)
    assert "1 of 2 diverged" in picture.alt


def test_a_mean_over_fewer_runs_is_dotted_and_says_of_how_many() -> None:
    arm = Arm("none", "none", (track(0, [1.0, 2.0, 4.0]), track(1, [1.0, 2.0, math.nan])))
    picture = some(over_steps(Curve("a", "a", "y", {"val/accuracy": ""}, "the measure"), [arm], ARMS))
    dotted = [list(line.get_xdata()) for line in picture.figure.axes[0].lines if line.get_linestyle() == ":"]
    assert dotted == [[16, 24]]
    assert "Dotted" in picture.caption
    assert "A cross" not in picture.caption
    assert "4 (n = 1) at step 24" in picture.alt


def test_a_cross_beyond_the_drawing_is_moved_to_its_edge() -> None:
    others = tuple(track(seed, [1.5, 1.5]) for seed in range(4))
    arm = Arm("none", "none", (*others, track(4, [300.0, math.nan], diverged=16)))
    picture = some(over_steps(Curve("a", "a", "y", {"val/accuracy": ""}, "the measure", log_y=True), [arm], ARMS))
    (axes,) = picture.figure.axes
    (cross,) = [line for line in axes.lines if line.get_marker() == "X"]
    assert axes.get_ylim()[1] < 300
    assert cross.get_ydata()[0] == pytest.approx(axes.get_ylim()[1])


def test_the_landscape_marks_diverged_runs_and_tells_its_means() -> None:
    def pair(seed: int, low: list[float], diverged: int | None = None) -> RunCurves:
        return RunCurves(seed, {"l": [(1, low[0]), (9, low[1])], "h": [(1, 4 * low[0]), (9, 4 * low[1])]}, diverged)

    arms = [Arm("none", "none", (pair(0, [1.0, 2.0]), pair(1, [4.0, math.nan], diverged=9)))]
    picture = some(between("b", arms, ARMS, "l", "h", "loss", "t", "c."))
    (axes,) = picture.figure.axes
    assert [list(line.get_ydata()) for line in axes.lines if line.get_marker() == "X"] == [[4.0], [16.0]]
    means = [list(line.get_ydata()) for line in axes.lines if line.get_linestyle() == "-"]
    assert means == [pytest.approx([2.0]), pytest.approx([8.0])]  # geometric: the axis is logarithmic
    assert "geometric means" in picture.caption
    assert "Dotted" in picture.caption
    assert "from 2 to 8 at step 9 (n = 1 of 2)" in picture.alt
    assert between("b", arms, ARMS, "l", "nothing", "loss", "t", "c.") is None


def test_a_diverged_run_has_no_end_of_training() -> None:
    def end(seed: int, share: float, diverged: int | None = None) -> RunCurves:
        keys = {"relu_balance/a/positive": [(0, share)], "relu_balance/a/predicted": [(0, 0.5)]}
        return RunCurves(seed, keys, diverged)  # type: ignore[arg-type]

    arms = [Arm("batch", "batch", (end(0, 0.4), end(1, 0.2))), Arm("none", "none", (end(0, 0.9, diverged=3),))]
    picture = some(by_layer("p", arms, ARMS, {"a": "relu_balance/a/positive"}, "positive values (%)", "t", "c.", 0.5, percent=True))
    assert "batch: a 30" in picture.alt
    assert "none" not in picture.alt
    assert "1 diverged run left out" in picture.caption
    scatter = some(observed_and_predicted("o", arms, ARMS, ["a"], "t"))
    assert "none" not in scatter.alt
    assert by_layer("p", arms[1:], ARMS, {"a": "relu_balance/a/positive"}, "y", "t", "c.", None) is None


def test_a_run_that_never_had_a_value_is_marked_at_the_foot() -> None:
    arm = Arm("none", "none", (track(0, [0.5, 0.6]), track(1, [math.nan], diverged=3)))
    picture = some(over_steps(Curve("a", "a", "a", {"val/accuracy": ""}, "the measure"), [arm], ARMS))
    (cross,) = [line for line in picture.figure.axes[0].lines if line.get_marker() == "X"]
    assert cross.get_transform() != picture.figure.axes[0].transData
    assert cross.get_xdata()[0] == 3


def test_a_measure_that_nobody_recorded_has_no_picture() -> None:
    arms = [Arm("batch", "batch", (track(0, [0.5]),))]
    assert over_steps(Curve("a", "a", "a", {"landscape/smoothness": ""}, "the measure"), arms, ARMS) is None
    assert percentiles("p", arms, ARMS, "head", "mean", "t", "c") is None
    assert by_learning_rate("b", {0.1: arms}, ARMS, None, "t") is None
    assert observed_and_predicted("o", arms, ARMS, ["head"], "t") is None
    assert reached("r", {"batch": []}, 10, ARMS, "t", "c", "at lr 1") is None


def test_intervals_do_not_leave_what_accuracies_can_be() -> None:
    arms = [Arm("batch", "batch", (track(0, [0.2, 1.0]), track(1, [0.99, 0.1])))]
    curve = Curve("a", "a", "a", {"val/accuracy": ""}, "the measure", percent=True, limits=(-0.02, 1.02))
    picture = some(over_steps(curve, arms, ARMS))
    low, high = picture.figure.axes[0].get_ylim()
    assert -0.02 <= low < high <= 1.02


def test_infinite_cells_of_the_heat_map_are_hatched_and_the_others_say_their_median() -> None:
    fast = aggregate([row(0.1, 0, 0.99, 40), row(0.1, 1, 0.99, 60)], lr=0.1)
    never = aggregate([row(1.0, 0, 0.3, None), row(1.0, 1, 0.99, 60), row(1.0, 2, 0.1, None)], lr=1.0)
    picture = some(steps_heat_map("h", "batch", {4: [fast, never], 8: [replace(never, lr=0.1)]}, (50, 50), "t"))
    (axes,) = picture.figure.axes
    hatched = [patch for patch in axes.patches if patch.get_hatch()]
    assert [(patch.get_x(), patch.get_y()) for patch in hatched] == [(0.5, -0.5), (-0.5, 0.5)]
    assert sorted(text.get_text() for text in axes.texts) == ["50", "∞", "∞"]
    assert "2 cells are infinite" in picture.alt
    assert steps_heat_map("h", "batch", {4: [fast, never]}, (50, 50), "t") is None  # one batch size is no map


def test_no_result_at_any_batch_size_is_no_picture() -> None:
    failed = [make_result("batch", seed=seed, size=size, status="failed") for seed in range(2) for size in (8, 32)]
    assert accuracy_by_batch_size("a", by_batch_size(failed, "batch"), ARMS, "t") is None


def test_the_stable_range_is_shaded_and_ends_at_the_largest_stable_lr() -> None:
    rows = [row(lr, seed, 0.9 if lr <= 1 else 0.1, 40) for lr in (0.01, 0.1, 1.0, 10.0) for seed in range(2)]
    stable = largest_stable_lr(rows)
    assert stable_range(stable) == (0.01, 1.0)
    own = [aggregate([one for one in rows if one.lr == lr], lr=lr) for lr in (0.01, 0.1, 1.0, 10.0)]
    picture = some(accuracy_by_lr("a", {"batch": own}, {"batch": stable}, ("batch",), "t"))
    (span,) = picture.figure.axes[0].patches
    low, high = span.get_x(), span.get_x() + span.get_width()
    assert 0.001 < low < 0.01
    assert 1.0 < high < 10.0
    assert "with BN from 0.01 to 1" in picture.caption
    assert stable_range(None) == (None, None)
    none = largest_stable_lr([])
    picture = some(accuracy_by_lr("a", {"batch": own, "none": own}, {"batch": none}, ("batch", "none"), "t"))
    assert not picture.figure.axes[0].patches
    assert "with BN none; without BN none" in picture.caption
    alone = largest_stable_lr([row(lr, seed, 0.9 if lr == 0.1 else 0.2, 40) for lr in (0.1, 1.0) for seed in range(2)])
    picture = some(accuracy_by_lr("a", {"batch": own}, {"batch": alone}, ("batch",), "t"))
    assert "with BN 0.1 alone" in picture.caption


def test_a_hole_in_the_stable_range_ends_it() -> None:
    rows = [row(lr, seed, {0.01: 0.1, 0.1: 0.95}.get(lr, 0.9), 40) for lr in (0.001, 0.01, 0.1, 1.0) for seed in range(2)]
    assert stable_range(largest_stable_lr(rows)) == (0.1, 1.0)


def test_reached_steps_up_where_runs_arrive_and_misses_never_do() -> None:
    steps = {"batch": [(10.0, 10.0), (12.0, 20.0), (math.inf, math.inf), (15.0, 20.0)]}
    picture = some(reached("r", steps, 100, ("batch",), "t", "c", "at lr 1"))
    (line,) = picture.figure.axes[0].lines
    assert list(zip(line.get_xdata(), line.get_ydata(), strict=True)) == [(0.0, 0.0), (10.0, 0.25), (20.0, 0.75), (100, 0.75)]
    assert "3 of 4 reach it" in picture.alt


def test_the_noise_law_is_log_log_with_a_theory_line_a_layer() -> None:
    lines = tuple(Line(b, 7, 1.1 / b, 1 / b, b / 1.1, b, 1.0, None, None, None, None) for b in (1, 2, 4))
    layers = tuple(LayerLaw(f"layer{i}", 16, 4, 4, 0.1, -1.0, 0.1, -1.0, lines) for i in range(2))
    law = NoiseLaw("fresh", "batch", "train", "", "", "digits", 100, 7, 50, layers, Config(), Environment())
    picture = some(noise_law("n", law, "mean_variance", "Var", "t", "c"))
    (axes,) = picture.figure.axes
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
    theory = [list(line.get_ydata()) for line in axes.lines if line.get_linestyle() == "-" and len(line.get_ydata())]
    measured = [list(line.get_ydata()) for line in axes.lines if line.get_marker() != "None" and line.get_linestyle() == "None"]
    assert theory == [[1.0, 0.5, 0.25]] * 2
    assert measured == [[1.1, 0.55, 0.275]] * 2
    assert noise_law("n", law, "outlier_sensitivity", "y", "t", "c") is None


def test_a_picture_becomes_svg_and_png_and_a_themed_drawing(tmp_path: Path) -> None:
    arms = [Arm("<b>&$x_1$", "<b>&$x_1$", (track(0, [0.5, 0.9]), track(1, [0.4, 0.8])))]
    picture = over_steps(Curve("one", "A <title>", "y", {"val/accuracy": ""}, "the measure"), arms, ("<b>&$x_1$",))
    assert isinstance(picture, Picture)
    themed = picture.save(tmp_path)
    with Image.open(tmp_path / "one.png") as image:
        assert image.width == 768
        assert image.text["Description"] == picture.alt  # type: ignore[attr-defined]
    file = (tmp_path / "one.svg").read_text()
    assert file.startswith("<?xml")
    assert 'aria-label="y against training steps' in file
    assert "<b>" not in file
    assert "$x_1$" in themed  # words, not formulas
    assert "var(--ink)" in themed
    assert "var(--arm0)" in themed
    assert INK not in themed
    assert "<style" not in themed
    assert not re.search(r"<svg[^>]* width=", themed)
    ids, uses = set(re.findall(r'id="([^"]+)"', themed)), re.findall(r'(?:href="|url\()#([^")]+)', themed)
    assert all(name.startswith("one-") for name in ids)
    assert uses
    assert set(uses) <= ids
    assert picture.svg() == picture.svg() == file  # the same bytes each time


def test_a_pipe_called_matplotlibrc_is_never_read(tmp_path: Path) -> None:
    """matplotlib reads a file of that name in the working folder while it is imported."""
    os.mkfifo(tmp_path / "matplotlibrc")
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "matplotlibrc").write_bytes(b"\xff\xfe")
    for folder in (tmp_path, tmp_path / "text"):
        script = "import os, bnexp.plots.curves; print(os.getcwd())"
        result = subprocess.run([sys.executable, "-P", "-c", script], cwd=folder, capture_output=True, text=True, timeout=60, check=False)
        assert (result.returncode, result.stdout.strip(), result.stderr) == (0, str(folder), "")
