"""Every kind of study is exported: its tables as LaTeX and Markdown, and its estimates recomputed from the runs."""

import itertools
import statistics
from pathlib import Path

import pytest
from latex_reader import plain, read
from support import make_result, some

from bnexp.analysis import Study, analyse
from bnexp.export.estimates import COLUMNS, estimates
from bnexp.export.latex import as_latex
from bnexp.export.markdown import as_markdown
from bnexp.storage.run import Run
from bnexp.tables.study import tables

KINDS = ("sweep lr", "sweep norm", "sweep batch-size", "sweep grid", "report")


def study(kind: str) -> Study:
    """Runs of two norms, two learning rates, five seeds, and where these are asked for three batch sizes; each has its own accuracy."""
    sizes = (4, 32, 256) if kind in ("sweep batch-size", "sweep grid") else (32,)
    runs = [
        make_result(norm, lr, seed, size, acc=0.8 + 0.02 * (norm == "batch") + 0.004 * (seed * 7 % 5) + 0.01 * lr + 0.0001 * size)
        for norm, size, lr, seed in itertools.product(("batch", "none"), sizes, (0.01, 0.1), range(5))
    ]
    own = [Run(Path("runs"), run.id) for run in runs]
    return analyse(kind, own, {run.id: run for run in runs}, {"equal epochs": own})


@pytest.mark.parametrize("kind", KINDS)
def test_tables_of_every_kind_are_latex_and_markdown(kind: str) -> None:
    found = study(kind)
    shown = [table for part in found.parts for table in tables(part, kind)]
    assert shown
    for table in shown:
        cells = [[cell.strip() for cell in row] for row in (table.columns, *table.rows)]
        (rows,) = read(as_latex(table, "tab:x"))
        assert [[plain(cell) for cell in row] for row in rows] == cells
        lines = [line for line in as_markdown(table).splitlines() if line.startswith("|")]
        assert [line.count("|") for line in lines] == [len(table.columns) + 1] * (len(table.rows) + 2)


@pytest.mark.parametrize("kind", KINDS)
def test_means_of_every_kind_are_those_of_the_runs(kind: str) -> None:
    found = study(kind)
    rows = estimates(found)
    assert all(tuple(row) == COLUMNS for row in rows)
    means = [row for row in rows if (row["measure"], row["statistic"]) == ("test.running.accuracy", "mean") and row["at"] != "tuned"]
    assert means
    for row in means:
        setting = str(row["setting"])
        own = [
            some(run.accuracy())
            for run in found.results.values()
            if (row["arm"] == run.norm and row["lr"] == run.lr and row["batch"] == str(run.batch_size))
            or (row["at"] == "setting" and setting == _setting_of(run.norm, run.batch_size, run.lr))
        ]
        assert len(own) == row["n"] == 5
        assert row["value"] == pytest.approx(statistics.fmean(own), rel=1e-12)
        assert row["std"] == pytest.approx(statistics.stdev(own), rel=1e-9)


def _setting_of(norm: str, size: int, lr: float) -> str:
    return f"model.norm={norm}, optim.lr={lr:g}, train.batch_size={size}"


def test_small_batches_are_estimates_against_a_larger_one() -> None:
    found = study("sweep batch-size")
    (row,) = [
        row
        for row in estimates(found)
        if [row[key] for key in ("against", "arm", "batch", "at", "measure")]
        == ["batch 32", "batch", "4", "same-lr", "test.running.accuracy"]
    ]
    own = {(run.batch_size, run.seed): some(run.accuracy()) for run in found.results.values() if (run.norm, run.lr) == ("batch", row["lr"])}
    assert row["value"] == pytest.approx(statistics.fmean(own[4, seed] - own[32, seed] for seed in range(5)), rel=1e-9)
