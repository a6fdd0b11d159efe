"""Which cells are marked as the best: chosen by validation loss, or shown by a test, and none where there is nothing to choose."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

import pytest
from msgspec import convert
from scipy.stats import ttest_1samp
from support import make_result, with_values
from test_tables import compared, printed, said, study_of, sweep_of, timed

from bnexp.analysis import compare_arms
from bnexp.analysis.best import lowest
from bnexp.storage.facts import ListedRun
from bnexp.storage.result import RunResult
from bnexp.tables import list_table, study_tables
from bnexp.tables.compare import headline, same_lr
from bnexp.tables.runs import best_runs

Rows = list[RunResult]


def arm(norm: str, accuracies: Sequence[float], lr: float = 0.1, size: int = 32, **more: Any) -> Rows:
    """One run a seed."""
    more = {"train__accuracy": 1.0, "data__test": 360, **more}
    return [make_result(norm, lr, seed, size, acc=acc, **more) for seed, acc in enumerate(accuracies)]


def marked_in(text: str) -> list[str]:
    """What stands behind each mark, captions left out."""
    return re.findall(r"\*([\d.]+)", text)


def row_of(text: str, name: str) -> str:
    return next(line for line in text.splitlines() if name in line)


HIGH, LOW, NOISY = (0.9901, 0.9912, 0.9923, 0.9934, 0.9945), (0.95, 0.951, 0.949, 0.95, 0.952), (0.999, 0.90, 0.995, 0.91, 0.99)


def test_the_lowest_of_losses() -> None:
    assert lowest({"a": 0.3, "b": 0.2, "c": None, "d": math.inf}) == {"b"}
    assert lowest({"a": 0.2, "b": 0.2, "c": 0.3}) == {"a", "b"}  # a tie: neither is better
    assert lowest({"a": 0.2, "b": 0.2}) == set()
    assert lowest({"a": 0.2}) == lowest({}) == lowest({"a": 0.2, "b": None}) == lowest({"a": math.inf, "b": math.inf}) == set()
    assert lowest({"a": math.nan, "b": 0.2, "c": math.inf}) == {"b"}


def test_an_arm_is_marked_where_a_difference_is_shown() -> None:
    text = printed(headline(compared([*arm("batch", HIGH), *arm("none", LOW)])).rich())
    assert marked_in(row_of(text, "running statistics")) == ["99.23"]
    assert "* better: a difference from without BN is shown" in text
    text = printed(headline(compared([*arm("batch", LOW), *arm("none", HIGH)])).rich())
    assert marked_in(row_of(text, "running statistics")) == ["99.23"]  # the baseline, which is better


def test_no_arm_is_marked_where_nothing_is_shown_or_seeds_are_few() -> None:
    for rows in (
        [*arm("batch", NOISY), *arm("none", LOW)],  # a larger mean, and an interval that includes 0
        [*arm("batch", HIGH), *arm("none", HIGH)],
        [*arm("batch", HIGH[:4]), *arm("none", LOW[:4])],
    ):
        text = printed(headline(study_of("compare", rows).parts[0]).rich())
        assert "*" not in text


def test_a_secondary_difference_is_marked_only_where_holm_leaves_it() -> None:
    """Precise statistics alone differ, with p between 0.01 and 0.05: one of several tests."""
    gains = [0.012, -0.001, 0.009, 0.011, -0.002]
    less = [with_values(row, test__precise__accuracy=row.test.precise.accuracy - gains[row.seed]) for row in arm("none", HIGH)]
    found = compare_arms([*arm("batch", HIGH), *less], "none")
    pairs = found.headline.versus["batch"].accuracy["precise"]
    gains_p = ttest_1samp(gains, 0).pvalue
    assert pairs.p == pytest.approx(gains_p)
    assert 0.04 < gains_p < 0.13
    clear = [
        with_values(row, test__precise__accuracy=row.test.precise.accuracy - 0.03 + gains[row.seed] / 50) for row in arm("batch", HIGH)
    ]
    text = printed(headline(compared([*clear, *arm("none", HIGH)])).rich())
    assert marked_in(row_of(text, "precise statistics")) == ["99.23"]
    assert marked_in(row_of(printed(headline(compared([*arm("batch", HIGH), *less])).rich()), "precise statistics")) == []


def test_of_three_arms_those_are_marked_that_beat_the_baseline() -> None:
    def running(batch: Sequence[float], group: Sequence[float], none: Sequence[float]) -> list[str]:
        rows = [*arm("batch", batch), *arm("noisy", group), *arm("none", none)]
        return marked_in(row_of(printed(headline(compared(rows)).rich(), 300), "running statistics"))

    middle = tuple(accuracy - 0.02 for accuracy in HIGH)
    assert running(HIGH, LOW, middle) == ["99.23"]
    assert running(HIGH, middle, LOW) == ["99.23", "97.23"]
    assert running(LOW, middle, HIGH) == ["99.23"]  # the baseline beats both
    assert running(LOW, NOISY, HIGH) == []  # it is not shown to beat both


def test_steps_to_target_are_marked_by_their_own_test() -> None:
    fast = [with_values(row, target__reached_step=40 + row.seed) for row in arm("batch", HIGH)]
    slow = [with_values(row, target__reached_step=90 + row.seed) for row in arm("none", HIGH)]
    text = printed(headline(compared([*fast, *slow])).rich())
    assert marked_in(row_of(text, "steps to target")) == ["42"]
    assert marked_in(row_of(text, "seconds to target")) == ["0.11"]
    assert marked_in(row_of(text, "running statistics")) == []
    slow[0] = with_values(slow[0], target__reached_step=None)
    assert marked_in(row_of(printed(headline(compared([*fast, *slow])).rich()), "steps to target")) == []  # five signs show nothing
    back = printed(headline(compared([*named(slow, "batch"), *named(fast, "none")])).rich())
    assert marked_in(row_of(back, "largest stable")) == []


def named(rows: Rows, norm: str) -> Rows:
    return [with_values(row, config__model__norm=norm, id=f"{norm}-{row.id}") for row in rows]


def test_each_arm_has_its_best_learning_rate_marked_where_it_was_tried_with_several() -> None:
    rows = [*arm("batch", HIGH, 0.1), *arm("batch", LOW, 0.01), *arm("none", LOW, 0.1), *arm("none", HIGH, 0.01)]
    text = printed(same_lr(compared(rows)).rich())
    assert marked_in(row_of(text, "│ 0.01")) == marked_in(row_of(text, "│  0.1")) == ["99.23"]
    assert "*" not in printed(same_lr(compared([*arm("batch", HIGH), *arm("none", LOW)])).rich())
    assert "learning rates chosen" in printed(study_tables(timed([*arm("batch", HIGH), *arm("none", LOW)])))


def test_a_sweep_over_norms_marks_the_lowest_validation_loss_whatever_the_test_says() -> None:
    liar = [with_values(row, val__loss=0.001) for row in arm("frozen", LOW)]
    rows = [*arm("batch", HIGH), *liar, *arm("none", LOW)]
    text = printed(sweep_of("norm", rows))
    assert marked_in(text) == ["95.04"]
    assert "* lowest mean validation loss: a choice, no test" in text
    fewer = [row for row in rows if row.norm != "frozen" or row.seed < 3]
    assert marked_in(printed(sweep_of("norm", fewer))) == ["99.23"]  # unequal trials
    assert "*" not in printed(sweep_of("norm", arm("batch", HIGH)))


def test_a_grid_marks_one_cell_of_each_data_set() -> None:
    liar = [with_values(row, val__loss=0.001) for row in arm("batch", LOW, 0.3)]
    rows = [*arm("batch", HIGH), *liar, *arm("batch", (0.2,) * 5, 1.0, status="diverged")]
    assert marked_in(printed(sweep_of("grid", rows))) == ["95.04"]
    other = [with_values(row, id=f"w{row.id}", config__data__name="waveforms") for row in [*arm("batch", HIGH), *arm("batch", LOW, 0.01)]]
    assert sorted(marked_in(printed(sweep_of("grid", [*rows, *other])))) == ["95.04", "99.23"]
    assert "*" not in printed(sweep_of("grid", arm("batch", HIGH)))
    missing = [row for row in rows if row.lr != 0.3 or row.seed < 4]
    assert marked_in(printed(sweep_of("grid", missing))) == ["99.23"]


def test_batch_sizes_mark_the_lowest_validation_loss_of_each_arm() -> None:
    rows = [*arm("batch", HIGH, size=32), *arm("batch", LOW, size=2), *arm("none", LOW, size=32), *arm("none", HIGH, size=2)]
    text = printed(sweep_of("batch-size", rows))
    assert marked_in(text) == ["99.23", "99.23"]
    assert "* the arm's lowest mean validation loss" in text
    alone = [row for row in rows if row.batch_size == 2]
    assert "*" not in printed(sweep_of("batch-size", alone))


def ids(rows: Rows) -> list[str]:
    return [row.id for row in rows]


def listed(rows: Rows) -> list[ListedRun]:
    return [convert(row.tree(), ListedRun) for row in rows]


def test_the_best_run_of_each_data_set() -> None:
    digits = arm("batch", (0.9, 0.95, 0.93))
    digits[2] = with_values(digits[2], test__running__accuracy=1.0)  # the test says nothing here
    other = [with_values(row, id=f"w{index}", config__data__name="waveforms") for index, row in enumerate(arm("batch", (0.99, 0.98)))]
    lost = [make_result("none", seed=7, acc=0.9999, status="diverged"), make_result("none", seed=8, status="running", val__loss=0.0001)]
    assert best_runs(listed([*digits, *other, *lost])) == {ids(digits)[1], "w0"}
    assert best_runs([*listed([*digits, *lost]), ListedRun("x", "unreadable")]) == {ids(digits)[1]}
    assert best_runs(listed([*digits[:1], *other[:1]])) == set()  # each is alone
    assert best_runs(listed([*digits[:1], lost[0]])) == {ids(digits)[0]}  # a diverged run is worse, and the other not alone
    split = [with_values(row, config__data__split_seed=index) for index, row in enumerate(digits)]
    assert best_runs(listed(split)) == set()  # other validation images
    tie = arm("batch", (0.95, 0.95, 0.9))
    assert best_runs(listed(tie)) == set(ids(tie)[:2])
    assert best_runs(listed(tie[:2])) == set()


def test_the_list_of_runs_explains_its_mark_and_has_none_for_one_run() -> None:
    rows = arm("batch", (0.9, 0.95))
    text = said(list_table(listed(rows), {}))
    assert f"finished 400 *{0.05:.4g} 95.00 %" in text
    assert "* lowest validation loss of the finished runs on the same data" in text
    assert "*" not in said(list_table(listed(rows[:1]), {}))


@pytest.mark.parametrize("width", [200, 100, 80, 60, 40])
def test_the_list_of_runs_cuts_nothing_at_any_width(width: int) -> None:
    rows = [with_values(row, written_at="2025-01-02T03:04:05+0000", id=f"{row.id}-01234567") for row in arm("batch", (0.9, 0.95))]
    curves = {name: [(1, 2.0), (2, 1.0), (400, 0.5)] for name in ids(rows)}
    text = printed(list_table(listed(rows), curves), width)
    assert max(map(len, text.splitlines())) <= width
    for row in rows:
        assert row.id in text
        assert "0.05" in text
        assert "95.00 %" in text
    shown = {name for name in ("steps", "curve", "target", "written") if re.search(rf"(^|\s){name}(\s|:\s.*\d|$)", text.split("\n")[0])}
    missing = {"steps", "curve", "target", "written"} - shown
    if "run: " in text:
        assert text.count("written: 01-02 03:04") == text.count("steps: 400") == 2  # lines, which have room for everything
    elif missing:
        said_ = " ".join(text.split()).partition("left out at this width: ")[2]
        assert set(said_.split(", ")) == missing
    assert ("written" in missing) == (width < 100)
