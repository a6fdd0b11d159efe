"""What the tables say at any width: whole numbers, intervals of what they stand beside, and every note that weakens them."""

from __future__ import annotations

import base64
import math
import random
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console, Group, RenderableType
from rich.table import Table
from support import NUMBER, make_result, with_values

from bnexp.analysis import NORM, Arms, Audit, Paired, Part, StepTime, Study, analyse, fairness_audit, ratio_to_target, with_step_times
from bnexp.storage.result import RunResult
from bnexp.storage.run import Run
from bnexp.tables import study_summary, study_tables
from bnexp.tables.compare import headline
from bnexp.tables.study import audit_table
from bnexp.tables.text import Whole, difference, picks, times_faster

WIDTHS = (40, 60, 80, 200)
MS = {"batch": (2.71, 2.62, 2.84), "noisy": (3.05, 2.97, 3.31), "none": (2.02, 1.93, 2.11)}
"""Of three turns."""


def study(arms: tuple[str, ...] = ("batch", "none"), sizes: tuple[int, ...] = (32,), n: int = 6, **more: Any) -> list[RunResult]:
    """Runs as noisy as they can be, some diverged, some without the target: long numbers in every column."""
    rng = random.Random(0)
    rows = []
    for arm in arms:
        for size in sizes:
            for lr in (0.003, 0.03):
                for seed in range(n):
                    reached = rng.choice([None, 1234, 872, 5610])
                    status = "diverged" if rng.random() < 0.1 else "finished"
                    made = make_result(arm, lr, seed, size, acc=rng.uniform(0.4, 0.99), status=status, target__reached_step=reached, **more)
                    rows.append(with_values(made, train__accuracy=0.998, budget__steps=12800, parameters=72442))
    return rows


def printed(table: RenderableType, width: int = 200) -> str:
    console = Console(width=width, highlight=False)
    with console.capture() as capture:
        console.print(table)
    return capture.get()


def said(table: RenderableType, width: int = 200) -> str:
    """All in one line: where lines break does not matter."""
    return " ".join(printed(table, width).split())


def study_of(kind: str, rows: list[RunResult]) -> Study:
    """As the commands make it, of runs that ended with these results."""
    runs = [Run(Path("runs"), row.id) for row in rows]
    arms = Arms(NORM, tuple(dict.fromkeys(row.norm for row in rows)), "none") if kind == "compare" else None
    return analyse(kind, runs, {row.id: row for row in rows}, {"10 epochs": runs}, arms=arms)


def timed(rows: list[RunResult]) -> Study:
    times = {arm: StepTime(*ms, 1.02, 1.21, 0.44, 200, 1, "cpu", turns_ms=ms) for arm, ms in MS.items()}
    return with_step_times(study_of("compare", rows), times)


def compared(rows: list[RunResult]) -> Part:
    return timed(rows).parts[0]


def cells_of(tables: RenderableType) -> list[str]:
    """The text of every cell of the tables, before it is laid out."""
    parts = [inner for part in getattr(tables, "renderables", [tables]) for inner in getattr(part, "renderables", [part])]
    found = [part.table for part in parts if isinstance(part, Whole)]
    assert found
    return [str(cell) for table in found for column in table.columns for cell in (column.header, *column.cells)]


def sweep_of(kind: str, rows: list[RunResult]) -> Group:
    tables = study_tables(study_of(f"sweep {kind}", rows))
    assert isinstance(tables, Group)
    return tables


TABLES = {
    "batch sizes": lambda: sweep_of("batch-size", study(sizes=(2, 8, 32, 128, 512))),
    "learning rates": lambda: sweep_of("lr", study()),
    "grid": lambda: sweep_of("grid", study(sizes=(8, 32))),
    "comparison": lambda: study_tables(timed(study())),
    "three arms": lambda: study_tables(timed(study(("batch", "noisy", "none")))),
    **{
        f"{kind}, in short": lambda kind=kind: study_summary(study_of(f"sweep {kind}", study(sizes=(8, 32))))
        for kind in ("batch-size", "grid")
    },
    **{f"{kind}, in short": lambda kind=kind: study_summary(study_of(kind, study())) for kind in ("compare", "sweep lr", "sweep norm")},
}


def test_two_budgets_of_batch_sizes_share_a_screen() -> None:
    rows = study(sizes=(4, 16, 32, 64, 256), n=12)
    runs = [Run(Path("runs"), row.id) for row in rows]
    budgets = {"equal epochs (10 epochs)": runs, "equal steps (400 steps)": runs}
    found = analyse("sweep batch-size", runs, {row.id: row for row in rows}, budgets)
    lines = printed(study_summary(found), 80).splitlines()
    assert len(lines) <= 25
    text = " ".join(" ".join(lines).split())
    for part in found.parts:
        for sentence, cost in zip(part.answer, part.small_batches, strict=True):
            assert (sentence in text) is (cost.stats == "running")
    whole = " ".join(printed(study_tables(found), 80).split())
    assert all(number in whole for line in lines for number in NUMBER.findall(line))


@pytest.mark.parametrize("kind", ["compare", "sweep lr", "sweep norm", "sweep grid"])
def test_without_verbose_a_result_fits_a_small_screen(kind: str) -> None:
    """25 lines of 80 columns, of which the command's own messages take two: the answer first, the hint at all the rest last."""
    rows = study(n=12)
    found = study_of(kind, rows) if kind != "compare" else timed(rows)
    lines = printed(study_summary(found), 80).splitlines()
    assert len(lines) <= 23
    assert " ".join(" ".join(lines).split()).startswith(" ".join(found.parts[0].answer))
    assert lines[-1] == "--verbose: every table, the tests behind the answer, the audit, all notes."
    whole = " ".join(printed(study_tables(found), 80).split())
    assert all(number in whole for line in lines for number in NUMBER.findall(line))
    assert all(note in whole for note in found.parts[0].notes)
    if kind == "compare":
        assert "Fairness audit: " in " ".join(lines)


def test_a_failed_check_of_the_audit_is_told_in_short_too() -> None:
    rows = [with_values(row, parameters=90000) if row.norm == "none" else row for row in study()]
    audit = timed(rows).parts[0].audit
    assert audit is not None
    failed = [check for check in audit.checks if check.passed is False]
    assert failed
    text = said(study_summary(timed(rows)))
    assert all(check.detail in text for check in failed)


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", TABLES)
def test_no_number_and_no_word_is_broken(name: str, width: int) -> None:
    """At 60 columns rich broke `[-15.03,` in two and cut `generalization`."""
    tables = TABLES[name]()
    text = printed(tables, width)
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    sentences = Counter(word.rstrip(":") for word in re.split(r"[\s│┃]+", text))
    numbers = Counter(NUMBER.findall(text))
    cells = cells_of(tables)
    assert Counter(word for cell in cells for word in cell.split()) <= sentences
    assert Counter(number for cell in cells for number in NUMBER.findall(cell)) <= numbers


def test_a_table_that_fits_nowhere_becomes_lines() -> None:
    table = Table(title="t")
    for name in ("batch", "difference"):
        table.add_column(name)
    table.add_row("2", "-15.03 [-30.12, +0.06]")
    table.add_row("8", "")
    assert printed(Whole(table), 40).count("-15.03 [-30.12, +0.06]") == 1
    assert "batch: 2" not in printed(Whole(table), 40)
    assert "│" in printed(Whole(table), 22)
    assert "│" not in printed(Whole(table), 17)
    assert [line.rstrip() for line in printed(Whole(table), 15).splitlines()] == [
        "t",
        "batch: 2",
        "difference:",
        "-15.03 [-30.12,",
        "+0.06]",
        "",
        "batch: 8",
        "",
    ]


def test_a_factor_stands_with_the_interval_of_the_same_statistic_and_its_p() -> None:
    base, arm = ([(step, step) for step in steps] for steps in ([100.0, 110.0, 400.0, 410.0, 420.0], [90.0, 95.0, 100.0, 105.0, 100.0]))
    found = ratio_to_target(dict(enumerate(base)), dict(enumerate(arm)))
    assert found.factor is not None
    assert found.low is not None
    assert found.high is not None
    assert found.low < found.factor < found.high
    assert times_faster(found) == f"{found.factor:.3g}x [{found.low:.3g}x, {found.high:.3g}x], p = {found.p:.3g}"
    assert times_faster(replace(found, low=None, high=None, p=None)) == f"{found.factor:.3g}x"
    assert times_faster(replace(found, p_holm=0.5)).endswith(", Holm's p = 0.5")  # Holm's decides
    assert times_faster(replace(found, high=math.inf)).endswith(f", inf], p = {found.p:.3g}")
    assert times_faster(ratio_to_target({}, {})) == "n/a"
    never = dict(enumerate([(math.inf, math.inf)] * 6))
    assert times_faster(ratio_to_target(never, never)) == "n/a"


def test_a_difference_is_made_of_short_words() -> None:
    found = Paired(5, 0.0625, difference=-0.1503, low=-0.3012, high=0.0006)
    assert difference(found).split() == ["-15.03", "[-30.12,", "+0.06],", "p", "=", "0.0625"]
    assert difference(replace(found, p=1e-7)).endswith(" p < 0.0001")
    assert difference(replace(found, difference=None)) == "n/a"


def test_learning_rates_stand_with_how_many_seeds_chose_them() -> None:
    assert picks({0.03: 4, 0.1: 6, 0.3: 4}) == "0.1 (6), 0.03 (4), 0.3 (4)"
    assert picks({}) == "n/a"
    text = said(study_tables(timed(study())))
    assert "learning rates chosen (seeds)" in text
    assert "fastest learning rates (seeds)" in text


def test_the_answer_comes_first_and_the_step_cost_has_its_interval() -> None:
    found = timed(study())
    text = said(study_tables(found))
    assert found.parts[0].seconds is not None
    cost = found.parts[0].seconds.versus["batch"].step_cost
    assert f"cost {cost.factor:.3g}x [{cost.low:.3g}x, {cost.high:.3g}x]" in text
    assert (
        f"A step with BN takes {cost.factor:.3g} times as long as one without BN (95 % interval {cost.low:.3g} to {cost.high:.3g}, 3 turns)"
        in text
    )
    answer = " ".join(found.parts[0].answer)
    assert f"A step takes {cost.factor:.3g} times as long with BN." in answer
    assert text.startswith(answer)
    assert text.index("learning rates chosen") < text.index("The tests behind the answer") < text.index("A step with BN takes")
    assert "between " in text[text.index("largest stable learning rate") :] or "at least" in text
    assert "ms a step" not in said(study_tables(study_of("compare", study())))


def test_over_images_stands_below_on_these_images() -> None:
    rows = [
        with_values(row, data__test=16, test__correct=base64.b64encode(bytes([255, 255 << row.seed % 4 & 255])).decode()) for row in study()
    ]
    text = printed(headline(compared(rows)).rich())
    assert "on these test images alone" in text
    assert "on these test images alone" not in printed(headline(compared(study())).rich())


def test_captions_say_whose_accuracy_it_is_and_failures_have_a_row() -> None:
    lost = [with_values(row, status="diverged") if row.seed < 2 and row.norm == "none" else row for row in study()]
    text = said(study_tables(timed(lost)))
    assert "accuracies are those of runs that trained; runs that diverged or ended at chance are counted as failures" in text
    assert re.search(r"runs that failed to train .*2 of 6 \(2 diverged", text)
    assert "2 of 6 failed" in text  # at the same learning rate
    whole = [with_values(row, status="finished") for row in study()]
    assert "runs that failed to train" not in said(headline(compared(whole)).rich())


def cold(rows: list[RunResult], *sizes: int) -> list[RunResult]:
    """The rows with cold running statistics in batch norm at these batch sizes."""
    hit = [row.norm == "batch" and row.batch_size in sizes for row in rows]
    return [with_values(row, running_statistics__warm=not here) for row, here in zip(rows, hit, strict=True)]


NOTE = "their initial (0, 1) still weighs more than 1 %; see the precise or batch ones."


def test_batch_sizes_with_cold_statistics_or_few_seeds_have_a_note() -> None:
    rows = study(sizes=(2, 32, 256, 512))
    text = said(sweep_of("batch-size", cold(rows, 256, 512)))
    assert text.count(f"Note: with BN: running statistics are cold at batch 256, 512: {NOTE}") == 1
    assert "n < 10" in text
    assert "n < 10" not in said(sweep_of("batch-size", study(sizes=(2, 32), n=10)))
    assert "cold" not in said(sweep_of("batch-size", rows))
    alone = said(sweep_of("batch-size", cold(study(sizes=(512,)), 512)))  # no small batches to warn of it
    assert f"Note: with BN: running statistics are cold at batch 512: {NOTE}" in alone
    few = said(sweep_of("batch-size", [row for row in rows if row.seed < 3 or row.batch_size == 2]))
    assert "Note: 8 of 8 rows: n < 10 (at the least 3); a comparison should have 10 or more." in few


def test_cells_with_cold_statistics_or_few_seeds_have_a_note() -> None:
    rows = study(sizes=(8, 32), n=10)
    assert "Note:" not in said(sweep_of("grid", rows))
    text = said(sweep_of("grid", cold(rows, 32)))
    which = "norm=batch, lr=0.003, batch_size=32; norm=batch, lr=0.03, batch_size=32"
    assert f"Note: running statistics are cold in 2 of 8 cells ({which}): {NOTE}" in text
    many = said(sweep_of("grid", cold(rows, 8, 32)))
    assert f"Note: running statistics are cold in 4 of 8 cells: {NOTE}" in many
    few = said(sweep_of("grid", [row for row in rows if row.seed < 4 or row.batch_size == 8]))
    assert "Note: 4 of 8 cells: n < 10 (at the least 4); a comparison should have 10 or more." in few


def test_notes_are_yellow_lines() -> None:
    parts = sweep_of("grid", study(n=2)).renderables
    assert [str(part.style) for part in parts if str(part).startswith("Note: ")] == ["yellow"]


def test_runs_that_stopped_at_their_target_keep_their_table_and_get_no_verdict() -> None:
    text = said(sweep_of("batch-size", study(sizes=(2, 8, 32), budget__until_target=True)))
    assert "accuracy minus that of batch" in text
    assert "Accuracies of runs that stopped at their target do not say what small batches cost" in text
    assert "Note: with BN: train.until_target: each run stopped where it reached the target" in text


def test_an_audit_of_nothing_has_not_passed() -> None:
    rows = [with_values(row, status="failed") for row in study()]
    audit: Audit = fairness_audit(rows, "none")
    assert said(audit_table(audit)).startswith("Fairness audit: 9 unknown ?")
