"""The named sweeps: what they ask for, what they refuse, and what their runs say."""

import csv
import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra.core.override_parser.overrides_parser import OverridesParser
from support import bn
from typer.testing import Result

from bnexp.base.errors import UsageError
from bnexp.config.compose import expand
from bnexp.norms import NORMS
from bnexp.storage.folder import list_runs
from bnexp.studies.sweep import budget, equal_steps, request

TINY = ["model.widths=[4,4]", "train.steps=12"]


def sweep(runs_dir: Path, *args: str, code: int = 0) -> Result:
    return bn("sweep", *args, "--workers", "0", "--runs-dir", str(runs_dir), code=code)


def test_batch_size_crosses_both_arms_with_learning_rates_and_two_budgets() -> None:
    asked = request("batch-size")
    epochs, steps = asked.parts
    assert (epochs, steps) == ("equal epochs (10 epochs)", "equal steps (400 steps)")
    cells = itertools.product((2, 4, 8, 16, 32, 64, 128, 256, 512), ("batch", "none"), (0.003, 0.01, 0.03, 0.1), range(10))
    for part in asked.parts.values():
        assert sorted((c.train.batch_size, c.model.norm, c.optim.lr, c.seed) for c in part) == sorted(cells := list(cells))
    assert all(config.train.epochs == 10 for config in asked.parts[epochs])
    made = {c.train.batch_size: c.train.steps or (c.train.epochs or 0) * (1293 // c.train.batch_size) for c in asked.parts[steps]}
    assert set(made.values()) == {400}  # updates, the middle batch size's 10 epochs among them
    assert len(asked.configs) == 2 * len(asked.parts[epochs]) - 80  # those of the middle batch size are the same runs


def test_batch_sizes_stop_at_the_training_set() -> None:
    sizes = {config.train.batch_size for config in request("batch-size", ["data.subset=100"]).configs}
    assert sizes == {2, 4, 8, 16, 32, 64}
    with pytest.raises(UsageError, match="larger than the 90 training images"):
        request("batch-size", ["data.subset=100"], values=["4", "91"])


@pytest.mark.parametrize("overrides", [["train.steps=50"], ["train.steps=50", "train.until_target=true"], ["train.until_target=true"]])
def test_a_budget_that_says_itself_has_one_part(overrides: list[str]) -> None:
    (part,) = request("batch-size", overrides, values=["4", "32"]).parts
    assert part in ("50 steps", "until 95 %, at most 50 steps", "until 95 %, at most 10 epochs")


def test_lr_goes_through_half_decades_and_norm_through_all_norms() -> None:
    lrs = {config.optim.lr for config in request("lr").configs}
    assert sorted(lrs) == [0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10]
    assert {config.model.norm for config in request("lr").configs} == {"batch", "none"}
    assert {config.model.norm for config in request("lr", ["model.norm=none"]).configs} == {"none"}
    assert [config.model.norm for config in request("norm", seeds=1).configs] == list(NORMS)
    assert {config.seed for config in request("norm", ["seed=7"], seeds=3).configs} == {7, 8, 9}


def test_grid_is_hydras_own_expansion() -> None:
    overrides = ["optim.lr=0.01,0.1,1", "model.norm=batch,none", "seed=range(5)"]
    values = [list(OverridesParser.create().parse_override(text).sweep_iterator()) for text in overrides]
    expected = [(float(lr), norm, int(seed)) for lr, norm, seed in itertools.product(*values)]
    assert [(c.optim.lr, c.model.norm, c.seed) for c in request("grid", overrides).configs] == expected
    assert request("grid", overrides).configs == expand(overrides)


@pytest.mark.parametrize(
    ("kind", "overrides", "options", "message"),
    [
        ("lr", ["optim.lr=0.1"], {"values": ["1"]}, "--values and optim.lr=... both say"),
        ("grid", [], {"values": ["1"]}, "takes its values from OVERRIDES"),
        ("lr", [], {"values": []}, "the grid has no cell"),
        ("grid", ["seed=range(0)"], {}, "the grid has no cell"),
        ("lr", ["seed=1,2"], {"seeds": 2}, "--seeds and seed=... with several values both say"),
        ("lr", [], {"values": ["0.1", "abc"]}, "optim.lr=abc is not a number"),
        ("norm", [], {"values": ["bacth"]}, "Did you mean 'batch'"),
        ("batch-size", [], {"values": ["4", "0"]}, "train.batch_size=0 is out of range"),
        ("grid", ["train.batch_size=4,2000"], {}, "larger than the 1293 training images"),
    ],
)
def test_bad_grids_are_refused_before_anything_starts(kind: str, overrides: list[str], options: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        request(kind, overrides, **options)


def test_equal_steps_count_the_images_that_are_trained_on() -> None:
    configs = expand(["data.subset=100", "data.val_fraction=0.2", "train.epochs=3", "train.batch_size=8,16,32"])
    again = equal_steps(configs)
    assert [(c.train.steps, c.train.epochs) for c in again] == [(15, None), (None, 3), (15, None)]  # 80 images // 16 * 3
    assert budget(again) == "15 steps or 3 epochs"


def test_a_batch_larger_than_ones_own_data_is_named(tmp_path: Path) -> None:
    """It said that train.steps=0 is out of range, which nobody had set."""
    np.savez(tmp_path / "a.npz", x=np.random.default_rng(0).normal(size=(100, 2, 9)), y=np.arange(100) % 2)
    with pytest.raises(UsageError, match=r"train\.batch_size=80 is larger than the 72 training images"):
        request("batch-size", ["data=npz", f"data.root={tmp_path / 'a.npz'}"], values=["16", "80"])


def test_a_sweep_trains_reuses_writes_a_csv_and_says_it_as_json(tmp_path: Path) -> None:
    args = ["grid", *TINY, "optim.lr=0.01,0.1", "model.norm=batch,none", "--seeds", "2", "--out", str(tmp_path / "out"), "--json"]
    first = json.loads(sweep(tmp_path / "runs", *args).stdout)
    assert len(first["runs"]) == 8
    assert first["reused"] == []
    assert all(summary["status"] == "finished" for summary in first["runs"])
    with (tmp_path / "out" / "runs.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert sorted(row["id"] for row in rows) == sorted(summary["id"] for summary in first["runs"])
    by_id = {summary["id"]: summary for summary in first["runs"]}
    for row in rows:
        assert float(row["test.running.accuracy"]) == by_id[row["id"]]["test"]["running"]["accuracy"]
        assert row["steps_to_target"] == "inf"  # twelve steps reach nothing
    (group,) = (tmp_path / "runs" / "reports").iterdir()
    assert (group / "runs.csv").read_bytes() == (tmp_path / "out" / "runs.csv").read_bytes()
    cells, *_ = [result.get("cells") for result in json.loads((group / "sweep-grid.json").read_text())["results"]]
    assert [(cell["values"], cell["n"]) for cell in cells["cells"]] == [([n, lr], 2) for n in ("batch", "none") for lr in (0.01, 0.1)]
    models = {run.id: run.model_pt.stat().st_mtime_ns for run in list_runs(tmp_path / "runs")}
    second = json.loads(sweep(tmp_path / "runs", *args).stdout)
    assert sorted(second["reused"]) == sorted(models)
    assert {run.id: run.model_pt.stat().st_mtime_ns for run in list_runs(tmp_path / "runs")} == models
    assert second["runs"] == first["runs"]


def test_batch_size_reports_both_arms_at_equal_epochs_and_equal_steps(tmp_path: Path) -> None:
    result = sweep(
        tmp_path, "batch-size", "model.widths=[4]", "train.epochs=1", "optim.lr=0.03,0.1", "--values", "32,128", "--seeds", "2", "--verbose"
    )
    for text in (
        "equal epochs (1 epoch)",
        "equal steps (10 steps)",
        "batch stats",
        "At one learning rate: ",
        "too few to state",
    ):
        assert text in result.stdout, text
    runs = list_runs(tmp_path)
    assert len(runs) == 2 * 2 * 2 * 3  # arms, rates, seeds; batch 32 twice, batch 128 once


def test_lr_names_best_and_stable_rates_and_keeps_diverged_runs(tmp_path: Path) -> None:
    result = sweep(tmp_path, "lr", *TINY, "train.batch_size=128", "--values", "0.1,1e20", "--seeds", "2", "--json")
    (found,) = json.loads(result.stdout)["results"]
    assert {score["lr"]: score["n_diverged"] for score in found["comparison"]["best_lr"]["none"]["by_lr"]}[1e20] == 2
    assert json.loads(result.stdout)["failed"] == {}
    text = sweep(tmp_path, "lr", *TINY, "train.batch_size=128", "--values", "0.1,1e20", "--seeds", "2", "--verbose").stdout
    assert "2 of 2 failed" in text
    assert "lowest mean validation loss at 0.1, on the edge of the grid, largest stable one" in text
    assert "Note: " in text
    (sentences,) = [result["comparison"]["verdict"] for result in json.loads(result.stdout)["results"]]
    assert all(sentence in " ".join(text.split()) for sentence in sentences)


def test_other_keys_with_several_values_are_reported_apart(tmp_path: Path) -> None:
    overrides = [*TINY, "model.placement=conv-norm-relu,norm-conv-relu", "model.norm=batch"]
    found = json.loads(sweep(tmp_path, "lr", *overrides, "--values", "0.1", "--seeds", "1", "--json").stdout)["results"]
    assert [result["setting"] for result in found] == [{"model.placement": "conv-norm-relu"}, {"model.placement": "norm-conv-relu"}]


def test_several_budgets_are_reported_apart(tmp_path: Path) -> None:
    overrides = ["model.widths=[4]", "train.steps=5,10", "model.norm=batch"]
    found = json.loads(sweep(tmp_path, "lr", *overrides, "--values", "0.1", "--seeds", "1", "--json").stdout)["results"]
    assert [result["setting"] for result in found] == [{"train.steps": 5}, {"train.steps": 10}]


def test_a_run_that_does_not_read_a_key_stands_in_each_of_its_settings(tmp_path: Path) -> None:
    overrides = [*TINY, "model.bn_momentum=0.1,0.3"]
    found = json.loads(sweep(tmp_path, "lr", *overrides, "--values", "0.1", "--seeds", "2", "--json").stdout)["results"]
    assert [result["setting"] for result in found] == [{"model.bn_momentum": 0.1}, {"model.bn_momentum": 0.3}]
    for result in found:
        assert result["comparison"]["headline"]["versus"]["batch"]["accuracy"]["running"]["primary"] is False  # one of two
        arms = result["comparison"]["headline"]["arms"]
        assert {arm: arms[arm]["n"] for arm in arms} == {"batch": 2, "none": 2}
    assert len(list_runs(tmp_path)) == 6  # the runs without norm are the same in both


@pytest.mark.parametrize(
    ("scheduler", "message"),
    [("foo", "neither an address"), ("http://x:1", "neither an address"), ("", "not a scheduler file"), ("{}", "not a scheduler file")],
)
def test_what_is_no_scheduler_is_refused(scheduler: str, message: str, tmp_path: Path) -> None:
    if scheduler == "{}":
        scheduler = str(tmp_path / "file.json")
        Path(scheduler).write_text("{}")
    result = bn("sweep", "norm", *TINY, "--scheduler", scheduler, "--runs-dir", str(tmp_path / "runs"), code=2)
    assert message in result.stderr
    assert not (tmp_path / "runs").exists()


def test_results_that_cannot_be_written_are_still_shown(tmp_path: Path) -> None:
    sweep(tmp_path / "runs", "grid", *TINY, "--seeds", "1")
    (group,) = (tmp_path / "runs" / "reports").iterdir()
    (group / "runs.csv").unlink()
    (group / "runs.csv").mkdir()
    result = sweep(tmp_path / "runs", "grid", *TINY, "--seeds", "1", "--out", str(tmp_path / "out"))
    assert "could not be written" in result.stderr
    assert "test accuracy" in result.stdout
    assert (tmp_path / "out" / "runs.csv").exists()
    assert "test accuracy" in sweep(tmp_path / "runs", "grid", *TINY, "--seeds", "1", code=1).stdout


def test_dry_run_trains_nothing_and_says_what_it_would_take(tmp_path: Path) -> None:
    result = sweep(tmp_path / "runs", "batch-size", "--dry-run", "--json")
    plan = json.loads(result.stdout)
    assert plan["runs"] == 1360
    assert plan["reused"] == 0
    assert sum(len(stack["runs"]) for stack in plan["stacks"]) == 1360
    assert plan["steps"] == sum(stack["steps"] for stack in plan["stacks"])
    assert plan["estimate"]["minutes"] > 1
    assert plan["estimate"]["bytes"] > 1360 * 4 * 72_666
    assert not (tmp_path / "runs").exists()
    sweep(tmp_path / "runs", "grid", *TINY, "--seeds", "2")
    plan = json.loads(sweep(tmp_path / "runs", "grid", *TINY, "--seeds", "3", "--dry-run", "--json").stdout)
    assert (plan["runs"], plan["reused"], plan["estimate"]["calibrated_on_runs"]) == (3, 2, 2)
    assert "3 runs, 2 of them finished" in sweep(tmp_path / "runs", "grid", *TINY, "--seeds", "3", "--dry-run").stdout


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["lr", "--values", "0.1,,1"], "empty value"),
        (["lr", "--scheduler", "tcp://127.0.0.1:9"], "give one of them"),
        (["batch-size", "train.epochs=1,2", "--values", "32,64"], "one budget"),
        (["lr", "device=cuda"], "no" if torch.cuda.is_available() else "PyTorch sees none here"),
        (["grid", "optim.lrr=1"], "Did you mean"),
    ],
)
def test_bad_commands_exit_2_and_write_nothing(args: list[str], message: str, tmp_path: Path) -> None:
    result = sweep(tmp_path / "runs", *args, code=2)
    assert message in " ".join(result.stderr.split())
    assert not (tmp_path / "runs").exists()


def test_a_folder_for_results_that_cannot_be_is_refused_before_training(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    result = sweep(tmp_path / "runs", "norm", *TINY, "--out", str(tmp_path / "file"), code=2)
    assert "cannot be a folder" in result.stderr
    assert not (tmp_path / "runs").exists()
