"""What the tables say at any width: whole numbers, intervals of what they stand beside, and every note that weakens them."""

from __future__ import annotations

import random
import re
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from rich.console import Console, Group, RenderableType
from rich.table import Table
from test_analysis_rows import make_row

from bnexp.analysis import (
    Audit,
    Paired,
    Ratio,
    StepMs,
    by_batch_size,
    cells,
    compare_arms,
    fairness_audit,
    ratio_to_target,
    seconds_to_target,
    small_batch_cost,
)
from bnexp.compare import Compared
from bnexp.sweep import Result
from bnexp.tables import comparison_tables, sweep_tables
from bnexp.tables.compare import audit_table
from bnexp.tables.text import Whole, difference, times_faster
from bnexp.timing import StepTime

WIDTHS = (40, 60, 80, 200)
MS = {
    "batch": StepMs(2.71, 2.62, 2.84, (2.6, 2.7, 2.9)),
    "group": StepMs(3.05, 2.97, 3.31, (3.0, 3.1, 3.3)),
    "none": StepMs(2.02, 1.93, 2.11, (2.0, 2.0, 2.1)),
}
NUMBER = re.compile(r"[-+]?\d[\d.,]*\d|\d")


def study(arms: tuple[str, ...] = ("batch", "none"), sizes: tuple[int, ...] = (32,), n: int = 6, **more: Any) -> list[dict[str, Any]]:
    """Runs as noisy as they can be, some diverged, some without the target: long numbers in every column."""
    rng = random.Random(0)
    rows = []
    for arm in arms:
        for size in sizes:
            for lr in (0.003, 0.03):
                for seed in range(n):
                    reached = rng.choice([None, 1234, 872, 5610])
                    status = "diverged" if rng.random() < 0.1 else "finished"
                    made = make_row(arm, lr, seed, size, acc=rng.uniform(0.4, 0.99), status=status, target__reached_step=reached, **more)
                    rows.append({**made, "train.accuracy": 0.998, "budget.steps": 12800, "parameters": 72442})
    return rows


def printed(table: RenderableType, width: int = 200) -> str:
    console = Console(width=width, highlight=False)
    with console.capture() as capture:
        console.print(table)
    return capture.get()


def said(table: RenderableType, width: int = 200) -> str:
    """All in one line: where lines break does not matter."""
    return " ".join(printed(table, width).split())


def compared(rows: list[dict[str, Any]]) -> Compared:
    comparison = compare_arms(rows, "none")
    ms = {arm: MS[arm] for arm in comparison.headline.arms}
    times = {arm: StepTime(*ms[arm][:3], 1.02, 1.21, 0.44, 200, 1, "cpu", ms[arm].turns) for arm in ms}
    return Compared(comparison, fairness_audit(rows, "none"), times, seconds_to_target(comparison, ms))


def cells_of(tables: RenderableType) -> list[str]:
    """The text of every cell of the tables, before it is laid out."""
    parts = getattr(tables, "renderables", [tables])
    found = [part.table for part in parts if isinstance(part, Whole)]
    assert found
    return [str(cell) for table in found for column in table.columns for cell in (column.header, *column.cells)]


def result_of(kind: str, rows: list[dict[str, Any]]) -> Result:
    """As the sweeps make it."""
    if kind == "grid":
        return Result("10 epochs", {}, cells=cells(rows))
    if kind == "lr":
        return Result("10 epochs", {}, comparison=compare_arms(rows, "none"))
    small = tuple(
        small_batch_cost(rows, arm, stats=stats) for arm, stats in (("batch", "running"), ("batch", "batch"), ("none", "running"))
    )
    return Result("10 epochs", {}, batch_sizes=by_batch_size(rows), small_batches=small)


def sweep_of(kind: str, rows: list[dict[str, Any]]) -> Group:
    tables = sweep_tables([result_of(kind, rows)])
    assert isinstance(tables, Group)
    return tables


TABLES = {
    "batch sizes": lambda: sweep_of("batch-size", study(sizes=(2, 8, 32, 128, 512))),
    "learning rates": lambda: sweep_of("lr", study()),
    "grid": lambda: sweep_of("grid", study(sizes=(8, 32))),
    "comparison": lambda: comparison_tables(compared(study())),
    "three arms": lambda: comparison_tables(compared(study(("batch", "group", "none")))),
}


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", TABLES)
def test_no_number_and_no_word_is_broken(name: str, width: int) -> None:
    """At 60 columns rich broke `[-15.03,` in two and cut `generalization`."""
    tables = TABLES[name]()
    text = printed(tables, width)
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    words = Counter(word.rstrip(":") for word in re.split(r"[\s│┃]+", text))
    numbers = Counter(NUMBER.findall(text))
    cells = cells_of(tables)
    assert Counter(word for cell in cells for word in cell.split()) <= words
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


def test_a_factor_stands_outside_the_interval_of_another_statistic() -> None:
    """The ratio of the medians was printed with the interval of the geometric mean, in which it need not lie."""
    found = ratio_to_target(dict(enumerate([100.0, 100.0, 400.0, 410.0, 420.0])), dict(enumerate([90.0, 95.0, 100.0, 105.0, 100.0])))
    assert found.factor == 4
    assert found.mean is not None
    assert found.low is not None
    assert found.high is not None
    assert found.low < found.mean < found.high
    assert times_faster(found) == f"4x; paired {found.mean:.3g}x [{found.low:.3g}, {found.high:.3g}]"
    outside = Ratio(5, 1.21, "exact", 3.0, 2.0, 4.5, "t", 0.06, ())
    assert times_faster(outside) == "1.21x; paired 3x [2, 4.5]"
    alone = replace(outside, mean=None, low=None, high=None)
    assert times_faster(alone) == "1.21x"
    assert times_faster(replace(alone, bound="at_least")) == "≥ 1.21x"
    assert times_faster(replace(alone, factor=None, bound="at_most")) == "only the baseline arrives"


def test_a_difference_is_made_of_short_words() -> None:
    found = Paired(5, -0.1503, -0.3012, 0.0006, "t", 0.0625, 1, 0, 4, ())
    assert difference(found).split() == ["-15.03", "[-30.12,", "+0.06]", "p", "0.0625"]


def test_the_cost_of_a_step_has_the_interval_over_turns() -> None:
    """What the quartiles of single steps allow was once printed for one."""
    found = compared(study())
    text = said(comparison_tables(found))
    assert found.seconds is not None
    cost = found.seconds.versus["batch"].step_cost
    assert cost.low is not None
    assert cost.high is not None
    assert 1.3 <= cost.low < cost.factor < cost.high <= 2.9 / 2.1
    assert f"cost {cost.factor:.3g}x [{cost.low:.3g}, {cost.high:.3g}]" in text
    assert "cost: mean ratio of alternating turns [95 % interval]" in text
    assert "Note: The interval of a ratio in seconds is that of the ratio in steps" in text
    bare = replace(compared(study()), seconds=None, step_times={})
    assert "ratio in seconds" not in said(comparison_tables(bare))


def test_captions_tell_a_miss_from_a_divergence() -> None:
    text = said(comparison_tables(compared(study())))
    assert "a diverged run counts as accuracy 0 and never reaches the target; one that misses it keeps its accuracy" in text
    assert "a diverged run counts as accuracy 0, one that misses the target keeps its own" in text


def cold(rows: list[dict[str, Any]], *sizes: int) -> list[dict[str, Any]]:
    """The rows with cold running statistics in batch norm at these batch sizes."""
    hit = [row["config.model.norm"] == "batch" and row["config.train.batch_size"] in sizes for row in rows]
    return [{**row, "running_statistics.warm": not here} for row, here in zip(rows, hit, strict=True)]


NOTE = "their initial (0, 1) still weighs more than 1 %; see the precise or batch ones."


def test_batch_sizes_with_cold_statistics_or_few_seeds_have_a_note() -> None:
    rows = study(sizes=(2, 32, 256, 512))
    text = said(sweep_of("batch-size", cold(rows, 256, 512)))
    assert text.count(f"Note: batch: running statistics are cold at batch 256, 512: {NOTE}") == 1
    assert "n < 5" not in text
    assert "cold" not in said(sweep_of("batch-size", rows))
    alone = said(sweep_of("batch-size", cold(study(sizes=(512,)), 512)))  # no small batches to warn of it
    assert f"Note: batch: running statistics are cold at batch 512: {NOTE}" in alone
    few = said(sweep_of("batch-size", [row for row in rows if row["seed"] < 3 or row["config.train.batch_size"] == 2]))
    assert "Note: 6 of 8 rows: n < 5 (at the least 3); a comparison wants 5 or more." in few


def test_cells_with_cold_statistics_or_few_seeds_have_a_note() -> None:
    rows = study(sizes=(8, 32))
    assert "Note:" not in said(sweep_of("grid", rows))
    text = said(sweep_of("grid", cold(rows, 32)))
    which = "norm=batch, lr=0.003, batch_size=32; norm=batch, lr=0.03, batch_size=32"
    assert f"Note: running statistics are cold in 2 of 8 cells ({which}): {NOTE}" in text
    many = said(sweep_of("grid", cold(rows, 8, 32)))
    assert f"Note: running statistics are cold in 4 of 8 cells: {NOTE}" in many
    few = said(sweep_of("grid", [row for row in rows if row["seed"] < 4 or row["config.train.batch_size"] == 8]))
    assert "Note: 4 of 8 cells: n < 5 (at the least 4); a comparison wants 5 or more." in few
    result = result_of("grid", rows)
    assert result.cells is not None
    unreadable = replace(result, cells=replace(result.cells, n_unreadable=2))
    assert "Note: 2 runs cannot be read and stand in no cell." in said(sweep_tables([unreadable]))


def test_notes_are_yellow_lines() -> None:
    parts = sweep_of("grid", study(n=2)).renderables
    assert [str(part.style) for part in parts if str(part).startswith("Note: ")] == ["yellow"]


def test_runs_that_stopped_at_their_target_keep_their_table_and_get_no_verdict() -> None:
    text = said(sweep_of("batch-size", study(sizes=(2, 8, 32), budget__until_target=True)))
    assert "accuracy minus that of batch" in text
    assert "At best lr: Accuracies of runs that stopped at their target do not tell what small batches cost" in text
    assert "Note: batch: train.until_target: each run stopped where it reached the target" in text


def test_an_audit_of_nothing_has_not_passed() -> None:
    rows = [{**row, "status": "failed"} for row in study()]
    audit: Audit = fairness_audit(rows, "none")
    assert said(audit_table(audit)).startswith("Fairness audit: 9 cannot be told ?")
