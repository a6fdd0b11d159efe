"""CSV, Parquet and Markdown: read back, they hold the runs' numbers and those of the tables."""

import csv
import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
from support import bn_in, make_result, some

from bnexp.analysis import Study, to_table
from bnexp.export import study_name
from bnexp.export.estimates import COLUMNS, estimates
from bnexp.export.markdown import as_markdown
from bnexp.export.rows import _one_type
from bnexp.storage.group import Group
from bnexp.studies.stored import stored_study
from bnexp.tables.study import tables
from bnexp.tables.table import Table


@pytest.fixture(scope="module")
def study(group: Group) -> Study:
    return stored_study([group.id], group.runs_dir)[0]


def exported(group: Group, to: str, *names: str) -> Path:
    """The folder that an export went to."""
    folder = Path(bn_in(group.runs_dir, "export", *(names or (group.id,)), "--to", to, "--quiet").stdout.strip())
    assert folder.is_dir()
    return folder


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


def equal(text: str, value: Any) -> bool:
    """Whether a cell of a CSV file is a value; an apostrophe leads text that a spreadsheet would compute, such as the command `-c`."""
    if value is None:
        return text == ""
    return float(text) == value if isinstance(value, (int, float)) and not isinstance(value, bool) else text.removeprefix("'") == str(value)


def test_csv_has_the_runs_and_every_estimate(group: Group, study: Study) -> None:
    folder = exported(group, "csv")
    assert folder == group.runs_dir / "exports" / f"compare-digits-bn-vs-none-{group.id}"
    for name, expected in (("runs", to_table(study.results.values())), ("estimates", estimates(study))):
        found = rows_of(folder / f"{name}.csv")
        assert len(found) == len(expected) > 4
        for row, original in zip(found, expected, strict=True):
            assert all(equal(row[key], value) for key, value in original.items())
    by_id = {row["id"]: row for row in rows_of(folder / "runs.csv")}
    for run in study.runs:
        summary = json.loads(run.summary_json.read_text())
        assert equal(by_id[run.id]["test.running.accuracy"], summary["test"]["running"]["accuracy"])
        assert by_id[run.id]["status"] == summary["status"]


def test_the_estimates_are_those_of_the_comparison(group: Group, study: Study) -> None:
    """Each number of the stored comparison, and a mean recomputed from the runs."""
    rows = estimates(study)
    assert all(tuple(row) == COLUMNS for row in rows)
    comparison = json.loads(group.stored("compare.json").read_text())["comparison"]
    versus = comparison["headline"]["versus"]["batch"]["accuracy"]["running"]
    (row,) = [
        row for row in rows if [row[key] for key in ("at", "measure", "statistic")] == ["tuned", "test.running.accuracy", "difference"]
    ]
    assert (row["arm"], row["against"], row["n"]) == ("batch", "none", versus["n"])
    assert [row[key] for key in ("value", "low", "high", "p")] == [versus[key] for key in ("difference", "low", "high", "p")]
    (row,) = [
        row
        for row in rows
        if [row[key] for key in ("at", "lr", "arm", "measure", "statistic")] == ["same-lr", 0.1, "batch", "val.loss", "mean"]
    ]
    losses = [some(run.val.loss) for run in study.results.values() if (run.norm, run.lr) == ("batch", 0.1)]
    assert row["n"] == 2
    assert row["value"] == pytest.approx(sum(losses) / 2, rel=1e-12)
    failed = {row["arm"]: row["value"] for row in rows if (row["at"], row["lr"], row["measure"]) == ("same-lr", 1e6, "failed")}
    assert failed["none"] == 1.0
    assert versus["difference"] is not None


def test_parquet_reads_back_with_its_types(group: Group, study: Study) -> None:
    pandas = pytest.importorskip("pandas")
    folder = exported(group, "parquet")
    for name, expected in (("runs", to_table(study.results.values())), ("estimates", estimates(study))):
        frame = pandas.read_parquet(folder / f"{name}.parquet")
        assert list(frame.columns) == list(expected[0])
        for column in frame.columns:
            for found, value in zip(frame[column], [row[column] for row in expected], strict=True):
                assert (value is None and pandas.isna(found)) or found == value, column
    frame = pandas.read_parquet(folder / "runs.parquet")
    assert frame["test.running.accuracy"].dtype == float
    assert frame["seed"].dtype == int
    assert frame["config.model.bn_affine"].dtype == bool


def test_a_column_of_a_parquet_file_has_one_type() -> None:
    assert _one_type([1, None, 0.5]) == [1.0, None, 0.5]
    assert _one_type(["auto", 2, None, True]) == ["auto", "2", None, "true"]
    assert _one_type([None, None]) == [None, None]


def test_one_run_is_exported_under_its_id(group: Group, study: Study) -> None:
    run = study.runs[0]
    folder = exported(group, "csv", run.id)
    assert folder.name == run.id
    (row,) = rows_of(folder / "runs.csv")
    assert row["id"] == run.id
    several, own = stored_study([one.id for one in study.runs[:2]], group.runs_dir)
    assert study_name(several, own) == f"report-digits-{own.id}"


def test_markdown_has_the_cells_of_the_terminal(group: Group, study: Study) -> None:
    text = (exported(group, "markdown") / "study.md").read_text()
    (part,) = study.parts
    for sentence in part.answer:
        assert sentence in re.sub(r"\\(.)", r"\1", text)
    cells = [_shown(cell) for line in text.splitlines() for cell in re.split(r"(?<!\\)\|", line)]
    for table in tables(part, study.kind):
        for cell in (cell.strip() for row in (table.columns, *table.rows) for cell in row):
            assert cell in cells
    assert "with BN" in text
    assert "without BN" in text


def _shown(cell: str) -> str:
    """A cell of Markdown as the terminal has it."""
    return re.sub(r"\\(.)|&emsp;", r"\1", re.sub(r"\*\*(.*)\*\* \\\*", r"*\1", cell)).strip()


def test_markdown_finds_no_markup_in_a_cell() -> None:
    """A name may hold anything: the table keeps its columns."""
    table = Table(("", "a|b"), (("x_y_", "*1 ± 2"), ("<b>`c`", "[d](e)")), "- no list", "# no heading")
    lines = as_markdown(table).splitlines()
    assert lines[0] == r"**\# no heading**"
    assert lines[2:6] == [r"|  | a\|b |", "| :-- | --: |", r"| x\_y\_ | **1 ± 2** \* |", r"| \<b\>\`c\` | \[d\](e) |"]
    assert lines[-1] == r"\- no list"


def test_what_is_not_known_stays_empty(tmp_path: Path) -> None:
    row = to_table([make_result(acc=None, status="failed")])[0]
    assert row["test.running.accuracy"] is None
    assert row["steps_to_target"] is None
    assert math.isinf(float(str(to_table([make_result(target__reached_step=None)])[0]["steps_to_target"])))
