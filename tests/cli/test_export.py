"""`bnexp export` on the command line: where things go, what it says, and every mistake in one sentence with the line to type instead."""

import json
import shutil
import sqlite3
import sys
from pathlib import Path

import pytest
from support import bn_in, with_values
from typer.testing import Result

from bnexp.storage.folder import list_runs
from bnexp.storage.run import Run, locked

TINY = ["model.widths=[4]", "train.steps=8", "train.eval_every=4", "device=cpu", "--quiet"]


@pytest.fixture(scope="module")
def runs_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cli") / "runs"
    bn_in(folder, "train", *TINY)
    return folder


@pytest.fixture
def own(runs_dir: Path, tmp_path: Path) -> Run:
    """A copy of the run that a test may change."""
    (run,) = list_runs(runs_dir)
    shutil.copytree(run.folder, tmp_path / "runs" / run.id)
    return Run(tmp_path / "runs", run.id)


def refused(result: Result, *words: str) -> None:
    """One sentence, with all the words; and nothing on stdout."""
    assert result.stdout == ""
    said = result.stderr.strip().splitlines()
    assert said[-1].startswith("Error: ")
    for word in words:
        assert word in said[-1], said


def test_json_is_one_document_that_names_the_files(runs_dir: Path) -> None:
    (run,) = list_runs(runs_dir)
    found = json.loads(bn_in(runs_dir, "export", "last", "--to", "csv", "--json").stdout)
    assert found["to"] == "csv"
    assert found["runs"] == [run.id]
    assert found["export"] == str(runs_dir / "exports" / run.id)
    assert sorted(found["files"]) == [f"{found['export']}/{name}.csv" for name in ("estimates", "runs")]
    assert all(Path(path).is_file() for path in found["files"])


def test_an_export_is_no_run(runs_dir: Path) -> None:
    before = list_runs(runs_dir)
    bn_in(runs_dir, "export", "last", "--to", "markdown", "--quiet")
    assert list_runs(runs_dir) == before


def test_quiet_says_only_where_it_is(runs_dir: Path) -> None:
    result = bn_in(runs_dir, "export", "last", "--to", "markdown", "--quiet")
    assert result.stderr == ""
    assert Path(result.stdout.strip()).is_dir()


def test_the_target_is_one_of_six(runs_dir: Path) -> None:
    for typed, meant in (("excel", "csv"), ("tex", "latex"), ("MLflow", "mlflow"), ("markdwon", "markdown")):
        result = bn_in(runs_dir, "export", "last", "--to", typed, code=2)
        refused(result, f"'{typed}'", "choose csv, parquet, latex, markdown, mlflow or wandb", f"Did you mean '{meant}'?")
    refused(bn_in(runs_dir, "export", "last", code=2), "--to")
    refused(bn_in(runs_dir, "export", "--to", "csv", code=2), "RUN|STUDY")


def test_what_is_exported_is_there(runs_dir: Path, tmp_path: Path) -> None:
    refused(bn_in(runs_dir, "export", "nothing", "--to", "csv", code=2), "There is no run 'nothing'", "8 hex digits")
    refused(bn_in(tmp_path / "empty", "export", "last", "--to", "csv", code=2), "There are no runs", "bnexp train")


@pytest.mark.parametrize(("to", "packages"), [("parquet", "pyarrow"), ("mlflow", "mlflow"), ("mlflow", "alembic"), ("wandb", "wandb")])
def test_an_extra_that_is_not_installed(runs_dir: Path, to: str, packages: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, packages, None)
    refused(bn_in(runs_dir, "export", "last", "--to", to, code=2), f"pip install 'bnexp[{to}]'")
    assert not (runs_dir / "exports" / "mlflow.db").exists()


@pytest.mark.parametrize("to", ["csv", "latex", "markdown", "wandb"])
def test_a_file_in_the_place_of_the_folder_is_left_alone(runs_dir: Path, to: str, tmp_path: Path) -> None:
    there = tmp_path / "notes"
    there.write_text("mine")
    refused(bn_in(runs_dir, "export", "last", "--to", to, "--out", str(there), code=2), "--out", "cannot be a folder")
    assert there.read_text() == "mine"


@pytest.mark.parametrize(("to", "name"), [("csv", "runs.csv"), ("markdown", "notes.md"), ("latex", "paper/table.tex")])
def test_the_name_of_a_file_is_answered_with_a_folder(runs_dir: Path, to: str, name: str, tmp_path: Path) -> None:
    result = bn_in(runs_dir, "export", "last", "--to", to, "--out", str(tmp_path / name), code=2)
    refused(result, f"Write: --out {tmp_path / name.partition('.')[0]}")
    assert list(tmp_path.iterdir()) == []


def test_mlflow_changes_no_file_of_others(runs_dir: Path, tmp_path: Path) -> None:
    text, other = tmp_path / "notes.txt", tmp_path / "other.db"
    text.write_text("mine")
    with sqlite3.connect(other) as database:
        database.execute("CREATE TABLE mine (x)")
    database.close()
    before = other.read_bytes()
    damaged = tmp_path / "damaged.db"
    damaged.write_bytes(before[:100] + b"x" * len(before))
    for path in (text, other, damaged):
        refused(bn_in(runs_dir, "export", "last", "--to", "mlflow", "--out", str(path), code=2), "no database of MLflow")
    refused(bn_in(runs_dir, "export", "last", "--to", "mlflow", "--out", str(tmp_path), code=2), f"Write: --out {tmp_path}/mlflow.db")
    refused(bn_in(runs_dir, "export", "last", "--to", "mlflow", "--out", str(tmp_path / "a%b.db"), code=2), "name another with --out")
    assert text.read_text() == "mine"
    assert other.read_bytes() == before


def test_a_run_without_a_result_is_not_exported(own: Run) -> None:
    whole = own.result()
    for status in ("failed", "interrupted", "running"):  # nobody works on the last one: it is taken for interrupted
        own.write_result(with_values(whole, status=status))
        known = "failed" if status == "failed" else "interrupted"
        refused(bn_in(own.runs_dir, "export", "last", "--to", "csv", code=2), f"is {known}", f"bnexp resume {own.id}")
    (own.runs_dir / ".locks").mkdir(exist_ok=True)
    with locked([own], None):
        refused(bn_in(own.runs_dir, "export", "last", "--to", "csv", code=2), "is still being trained")
    assert not (own.runs_dir / "exports").exists()


def test_a_damaged_run_is_named(own: Run) -> None:
    (own.metrics_jsonl).write_text('{"step": 4, "val/loss": 1.0}\n')
    result = bn_in(own.runs_dir, "export", "last", "--to", "latex")
    assert f"damaged or changed: {own.id}" in result.stderr
    own.summary_json.write_text("{")
    refused(bn_in(own.runs_dir, "export", own.id, "--to", "csv", code=2), "None of these runs can be read")


def test_of_a_study_what_has_a_result_is_exported(tmp_path: Path) -> None:
    runs_dir = tmp_path / "runs"
    bn_in(runs_dir, "train", "--seeds", "2", *TINY)
    first, second = list_runs(runs_dir)
    from bnexp.storage.group import group_of

    group = group_of([first, second])
    group.store_members("sweep lr", {"": [first, second]})
    first.write_result(with_values(first.result(), status="failed"))
    result = bn_in(runs_dir, "export", group.id, "--to", "csv")
    assert f"1 of 2 runs have no result and are counted as missing: {first.id}" in result.stderr
    assert (runs_dir / "exports" / f"sweep-lr-digits-{group.id}" / "runs.csv").read_text().count("\n") == 3
    second.write_result(with_values(second.result(), status="failed"))
    refused(bn_in(runs_dir, "export", group.id, "--to", "csv", code=2), "None of the 2 runs has a result")
