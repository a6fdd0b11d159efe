"""`bnexp runs` filtered and sorted, `bnexp runs diff`, and what a beginning of several ids is answered with: on runs that were trained."""

import json
from pathlib import Path

import pytest
from support import bn, bn_in, make_result, write_summary

from bnexp.base.files import read_checked_json
from bnexp.storage.run import FORMAT, Run

TINY = ["model.widths=[4,4]", "train.steps=12", "train.eval_every=6"]


@pytest.fixture(scope="module")
def runs_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two norms, each at two learning rates and with two seeds, one of which diverges without batch norm."""
    folder = tmp_path_factory.mktemp("list") / "runs"
    for norm in ("batch", "none"):
        for lr in ("0.1", "1e20" if norm == "none" else "0.3"):
            bn_in(folder, "train", *TINY, f"model.norm={norm}", f"optim.lr={lr}", "--seeds", "2", "--quiet")
    return folder


def listed(runs_dir: Path, *args: str) -> list[str]:
    """The names of the runs, without the hash, in the order of the list; that of --json must be the same."""
    rows = json.loads(bn_in(runs_dir, "runs", *args, "--json").stdout)["runs"]
    lines = bn_in(runs_dir, "runs", *args).stdout.splitlines()
    assert [line.split()[0] for line in lines if line.startswith(("batch-", "none-"))] == [row["id"] for row in rows]
    return [row["id"][:-9].replace("-bs32", "") for row in rows]


def test_filters_are_overrides(runs_dir: Path) -> None:
    assert len(listed(runs_dir)) == 8
    assert listed(runs_dir, "model.norm=none", "optim.lr=0.1") == ["none-lr0.1-s0", "none-lr0.1-s1"]
    assert listed(runs_dir, "optim.lr=1e-1,3e-1", "seed=1") == ["batch-lr0.1-s1", "batch-lr0.3-s1", "none-lr0.1-s1"]
    assert listed(runs_dir, "optim.lr=0.3", "seed=range(2)", "model.widths=[4,4]") == ["batch-lr0.3-s0", "batch-lr0.3-s1"]
    assert len(listed(runs_dir, "data=digits", "optim=sgd", "train.epochs=null", "optim.nesterov=false")) == 8
    assert listed(runs_dir, "status=diverged") == ["none-lr1e20-s0", "none-lr1e20-s1"]
    assert listed(runs_dir, "--limit", "3") == ["none-lr0.1-s1", "none-lr1e20-s0", "none-lr1e20-s1"]  # the newest


def test_list_and_ls_are_the_list(runs_dir: Path) -> None:
    assert listed(runs_dir, "ls", "optim.lr=0.3") == listed(runs_dir, "list", "optim.lr=0.3") == listed(runs_dir, "optim.lr=0.3")
    assert len(listed(runs_dir, "ls")) == 8


def test_sorting(runs_dir: Path) -> None:
    rows = json.loads(bn_in(runs_dir, "runs", "--sort", "accuracy", "--json").stdout)["runs"]
    accuracies = [row["test.running.accuracy"] for row in rows]
    assert accuracies[:6] == sorted(accuracies[:6], reverse=True)
    assert accuracies[6:] == [None, None]  # those that diverged come last
    assert [row["id"] for row in rows[:2]] == [
        row["id"] for row in json.loads(bn_in(runs_dir, "runs", "--sort", "accuracy", "--limit", "2", "--json").stdout)["runs"]
    ]
    losses = [row["val.loss"] for row in json.loads(bn_in(runs_dir, "runs", "--sort=loss", "seed=0", "--json").stdout)["runs"]]
    assert losses[:3] == sorted(losses[:3])
    assert listed(runs_dir, "--sort", "optim.lr", "seed=0") == ["batch-lr0.1-s0", "none-lr0.1-s0", "batch-lr0.3-s0", "none-lr1e20-s0"]
    newest = json.loads(bn_in(runs_dir, "runs", "--sort", "written", "--json").stdout)["runs"]
    assert newest[0]["written_at"] == max(row["written_at"] for row in newest)


def test_the_list_says_how_many_it_leaves_out_and_what_no_run_has(runs_dir: Path) -> None:
    assert "2 of 8 runs" in bn_in(runs_dir, "runs", "optim.lr=0.3").stdout
    assert "of 8 runs" not in bn_in(runs_dir, "runs").stdout
    none = bn_in(runs_dir, "runs", "optim.lr=7", "seed=0")
    assert none.stdout == ""
    assert "No run of 8" in none.stderr
    assert "The runs there have optim.lr=0.1, 0.3, 1e+20." in none.stderr
    assert "status=diverged, finished" in bn_in(runs_dir, "runs", "status=failed").stderr
    assert json.loads(bn_in(runs_dir, "runs", "optim.lr=7", "--json").stdout) == {"runs": []}


def test_damaged_and_strange_runs_do_not_keep_others_from_being_filtered(tmp_path: Path) -> None:
    (tmp_path / "early-s0").mkdir()
    write_summary(Run(tmp_path, "early-s0"), {**make_result().tree(), "id": "early-s0", "config": {"model": {"norm": "none"}}})
    for name, lr in (("list-s0", [1]), ("tree-s0", {"a": 1}), ("word-s0", "x"), ("null-s0", None)):
        (tmp_path / name).mkdir()
        write_summary(Run(tmp_path, name), {**make_result().tree(), "id": name, "config": {"optim": {"lr": lr}}})
    (tmp_path / "torn-s0").mkdir()
    (tmp_path / "torn-s0" / "summary.json").write_text("{")
    assert "early-s0" in bn_in(tmp_path, "runs", "optim.lr=0.1", "model.norm=none").stdout  # it lacks the key, so it had the default
    assert "early-s0" not in bn_in(tmp_path, "runs", "model.norm=batch").stdout
    by_lr = bn_in(tmp_path, "runs", "--sort", "optim.lr").stdout
    assert all(name in by_lr for name in ("early-s0", "list-s0", "tree-s0", "word-s0", "null-s0", "torn-s0"))
    assert "torn-s0" not in bn_in(tmp_path, "runs", "optim.lr=0.1").stdout
    assert "torn-s0" in bn_in(tmp_path, "runs", "status=unreadable").stdout


def test_a_filter_is_not_for_the_commands(runs_dir: Path) -> None:
    assert "optim.lr=0.1 is for the list of runs" in bn_in(runs_dir, "runs", "optim.lr=0.1", "show", "last", code=2).stderr
    assert "--sort is for the list of runs" in bn("runs", "--sort", "loss", "rm", "last", "--runs-dir", str(runs_dir), code=2).stderr


def test_diff_shows_what_two_runs_differ_in(runs_dir: Path) -> None:
    found = json.loads(bn_in(runs_dir, "runs", "diff", "batch-bs32-lr0.1-s0", "none-bs32-lr0.1-s1", "--json").stdout)
    assert found["config"] == {"model.norm": ["batch", "none"], "seed": [0, 1]}
    assert [name[:-9] for name in found["runs"]] == ["batch-bs32-lr0.1-s0", "none-bs32-lr0.1-s1"]
    summaries = [read_checked_json(Run(runs_dir, name).summary_json, FORMAT) for name in found["runs"]]
    assert found["results"]["test.running.loss"] == [summary["test"]["running"]["loss"] for summary in summaries]
    assert found["results"]["parameters"] == [summary["parameters"] for summary in summaries]
    assert not {"id", "seed", "checksum", "written_at", "test.correct", "config.seed"} & set(found["results"])
    text = bn_in(runs_dir, "runs", "diff", "batch-bs32-lr0.1-s0", "none-bs32-lr0.1-s1").stdout
    assert "model.norm" in text
    assert "val.loss" in text
    assert "audit" not in text
    assert "audit.batch_order" in bn_in(runs_dir, "runs", "diff", "batch-bs32-lr0.1-s0", "none-bs32-lr0.1-s1", "--verbose").stdout


def test_diff_of_runs_that_are_the_same_or_not_there(runs_dir: Path) -> None:
    assert "name the same run" in bn_in(runs_dir, "runs", "diff", "last", "none-bs32-lr1e20-s1", code=2).stderr
    assert "There is no run" in bn_in(runs_dir, "runs", "diff", "last", "nothing", code=2).stderr
    assert "Missing argument 'B'" in bn_in(runs_dir, "runs", "diff", "last", code=2).stderr


def test_a_beginning_of_several_ids_is_answered_with_what_they_differ_in(runs_dir: Path) -> None:
    said = bn_in(runs_dir, "runs", "show", "none-bs32", code=2).stderr
    assert "'none-bs32' is the beginning of 4 runs: none-bs32-lr0.1-s0-" in said
    assert "(optim.lr=0.1, seed=0)" in said
    assert "(optim.lr=1e+20, seed=1)" in said
    many = bn_in(runs_dir, "runs", "show", "n", code=2).stderr
    assert many.count("(") == 4
    assert "(seed=1)" in bn_in(runs_dir, "runs", "show", "batch-bs32-lr0.1", code=2).stderr


@pytest.mark.parametrize("columns", [40, 80, 120])
def test_the_list_fits_the_terminal(runs_dir: Path, columns: int) -> None:
    from io import StringIO

    from rich.console import Console

    from bnexp.storage.folder import listed as listed_runs
    from bnexp.storage.labels import Labels
    from bnexp.tables import list_table

    runs = listed_runs(runs_dir)
    console = Console(file=StringIO(), width=columns)
    console.print(list_table(runs, {}, {runs[0].id: Labels(("paper", "figure-2"), "a long note " * 20)}, 9))
    assert isinstance(console.file, StringIO)
    lines = console.file.getvalue().splitlines()
    assert max(map(len, lines)) <= columns
    assert any("paper,figure-2" in line for line in lines)
