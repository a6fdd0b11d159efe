"""The command line in process: exit codes, JSON, messages, folders. What needs a process of its own is in test_process.py."""

import json
from pathlib import Path

import pytest
import yaml
from support import bn
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from typer.testing import Result

import bnexp
from bnexp.cli import COMMANDS
from bnexp.config import Config, from_mapping
from bnexp.storage.folder import list_runs
from bnexp.storage.run import Run, locked

TINY = ["model.widths=[4,4]", "train.steps=24", "train.eval_every=8"]


@pytest.fixture
def runs_dir(tmp_path: Path) -> Path:
    return tmp_path / "runs"


def train(runs_dir: Path, *args: str, code: int = 0) -> Result:
    return bn("train", *TINY, *args, "--runs-dir", str(runs_dir), code=code)


def test_json_is_one_document_with_the_contracts_keys(runs_dir: Path) -> None:
    summary = json.loads(train(runs_dir, "--json").stdout)
    keys = "id status seed config steps epochs diverged_at_step parameters test val target speed stack environment"
    assert set(keys.split()) <= set(summary)
    assert summary["status"] == "finished"
    assert summary["steps"] == 24
    for stats in ("running", "precise"):
        assert set(summary["test"][stats]) == {"loss", "accuracy"}
    assert set(summary["test"]["batch"]) == {"loss", "accuracy", "accuracy_std", "shuffles"}
    assert set(summary["target"]) == {"accuracy", "reached_step", "previous_step", "reached_train_s"}
    assert {"train_s", "eval_s", "metrics_s", "images_per_s", "step_ms_median"} <= set(summary["speed"])
    assert summary["stack"]["width"] == 1
    assert sum(map(sum, summary["test"]["confusion"])) == 360
    folder = runs_dir / summary["id"]
    assert {"config.yaml", "summary.json", "metrics.jsonl", "model.pt", "train.log"} <= {path.name for path in folder.iterdir()}
    assert json.loads((folder / "summary.json").read_text()) == summary
    assert from_mapping(yaml.safe_load((folder / "config.yaml").read_text())).run_id() == summary["id"]
    assert not list((runs_dir / ".stacks").iterdir())  # no state is left of a finished stack


def test_metrics_and_tensorboard_hold_the_same_curve(runs_dir: Path) -> None:
    summary = json.loads(train(runs_dir, "--json").stdout)
    folder = runs_dir / summary["id"]
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    curve = [(record["step"], record["val/loss"]) for record in records if "val/loss" in record]
    assert [step for step, _ in curve] == [8, 16, 24]
    assert records[-1]["test/running/accuracy"] == summary["test"]["running"]["accuracy"]
    board = EventAccumulator(str(folder), size_guidance={"histograms": 0})
    board.Reload()
    assert [(event.step, event.value) for event in board.Scalars("val/loss")] == [(step, pytest.approx(loss)) for step, loss in curve]
    tags = board.Tags()
    for tag in (
        "train/loss",
        "train/accuracy",
        "val/accuracy",
        "optim/lr",
        "speed/images_per_s",
        "test/running/loss",
        "test/running/accuracy",
    ):
        assert tag in tags["scalars"]
    assert "weights/block1.0.weight" in tags["histograms"]
    assert [event.step for event in board.Histograms("weights/head.weight")] == [8, 16, 24]
    assert "batch_size: 32" in board.Tensors("config/text_summary")[0].tensor_proto.string_val[0].decode()


def test_a_finished_run_is_not_trained_again(runs_dir: Path) -> None:
    first = train(runs_dir, "--json")
    written = (run := list_runs(runs_dir)[0]).summary_json.stat().st_mtime_ns
    again = train(runs_dir, "--json")
    assert again.stdout == first.stdout
    assert "not trained again" in again.stderr
    assert run.summary_json.stat().st_mtime_ns == written
    train(runs_dir, "device=cpu", "threads=1", "--json")  # neither changes the recipe
    assert run.summary_json.stat().st_mtime_ns == written


def test_fresh_trains_again_to_the_same_weights(runs_dir: Path) -> None:
    train(runs_dir)
    run = list_runs(runs_dir)[0]
    before, written = run.model_pt.read_bytes(), run.summary_json.stat().st_mtime_ns
    assert "not trained again" not in train(runs_dir, "--fresh").stderr
    assert run.model_pt.read_bytes() == before
    assert run.summary_json.stat().st_mtime_ns > written
    assert [path.name for path in (runs_dir / ".fresh").iterdir()] == []
    assert len(list_runs(runs_dir)) == 1


def test_seeds_are_one_stack_and_reuse_what_is_there(runs_dir: Path) -> None:
    train(runs_dir, "seed=1")
    rows = json.loads(train(runs_dir, "--seeds", "3", "--json").stdout)["runs"]
    assert [row["seed"] for row in rows] == [0, 1, 2]
    assert [row["stack"]["width"] for row in rows] == [2, 1, 2]
    assert [row["target"]["reached_train_s"] for row in (rows[0], rows[2])] == [None, None]
    table = train(runs_dir, "--seeds", "3").stdout
    assert "± std, n=3" in table


def test_a_diverged_run_is_a_result(runs_dir: Path) -> None:
    result = train(runs_dir, "model.norm=none", "optim.lr=1e20", "--json")
    summary = json.loads(result.stdout)
    assert summary["status"] == "diverged"
    assert 1 <= summary["diverged_at_step"] <= 8
    assert summary["steps"] == summary["diverged_at_step"]
    assert summary["test"]["running"] == {"loss": None, "accuracy": None}
    assert {"test/running/loss", "test/running/accuracy"} <= set(summary["nonfinite"])
    assert "not trained again" in train(runs_dir, "model.norm=none", "optim.lr=1e20").stderr
    records = map(json.loads, (runs_dir / summary["id"] / "metrics.jsonl").read_text().splitlines())
    record = next(record for record in records if "val/loss" in record)
    assert record["val/loss"] is None
    assert "val/loss" in record["nonfinite"]


BAD = {
    "optim.lr=nan": "optim.lr=nan is out of range",
    "train.batch_size=-5": "at least 1",
    "model.widths=[]": "at least one width",
    "model.norm=bach": "Did you mean 'batch'?",
    "train.batch_size=1 model.widths=[4,4,4,4]": "maps of 1x1",
    "train.batch_size=2000": "larger than the 1293 training images",
    "optim.lrr=1": "Did you mean 'optim.lr'?",
    "+optim.lrr=1": "Did you mean 'optim.lr'?",
    "data=mnits": "Did you mean 'mnist'?",
    "hydra.run.dir=x": "Hydra's own settings",
    "train.epochs=1": "both set",  # TINY sets steps
    "data=npz": "needs data.root",
    "data=npz data.root=/nowhere/x.npz": "/nowhere/x.npz",
    "data=folder data.root=/nowhere": "/nowhere",
    "data=mnist data.root=/nowhere": "/nowhere",
    "name=../x": "not usable",
    "--seeds 0": "--seeds",
    "--config-dir /nowhere": "is not a folder",
}


@pytest.mark.parametrize("line", BAD)
def test_bad_input_is_one_message_exit_2_and_no_folder(runs_dir: Path, line: str) -> None:
    result = train(runs_dir, *line.split(), code=2)
    assert BAD[line] in " ".join(result.stderr.split())
    assert "Traceback" not in result.stderr
    assert len(result.stderr.splitlines()) < 10
    assert result.stdout == ""
    assert not runs_dir.exists() or not list_runs(runs_dir)


def test_cuda_without_a_gpu_is_refused(runs_dir: Path) -> None:
    import torch

    if torch.cuda.is_available():  # nothing to refuse there; the run must simply work
        assert json.loads(train(runs_dir, "device=cuda", "--json").stdout)["environment"]["device_type"] == "cuda"
    else:
        assert "device=cuda needs a CUDA GPU" in train(runs_dir, "device=cuda", code=2).stderr


def test_evaluate_repeats_the_summary_and_changes_nothing(runs_dir: Path) -> None:
    summary = json.loads(train(runs_dir, "--json").stdout)
    files = {path.name: path.read_bytes() for path in (runs_dir / summary["id"]).iterdir()}
    result = json.loads(bn("evaluate", "last", "--stats", "all", "--json", "--runs-dir", str(runs_dir)).stdout)
    for stats in ("running", "precise", "batch"):
        assert result["test"][stats] == pytest.approx(summary["test"][stats], rel=1e-6)
    assert {path.name: path.read_bytes() for path in (runs_dir / summary["id"]).iterdir()} == files
    assert list(json.loads(bn("evaluate", "last", "--json", "--runs-dir", str(runs_dir)).stdout)["test"]) == ["running"]


def test_folded_gives_the_same_answers_or_is_refused(runs_dir: Path) -> None:
    summary = json.loads(train(runs_dir, "--json").stdout)
    folded = json.loads(bn("evaluate", "last", "--folded", "--json", "--runs-dir", str(runs_dir)).stdout)["folded"]
    assert folded["accuracy"] == summary["test"]["running"]["accuracy"]
    assert 0 < folded["max_abs_difference"] < 1e-4
    assert folded["images_per_s"] > 0
    assert "folded" in bn("evaluate", "last", "--folded", "--runs-dir", str(runs_dir)).stdout
    for other in ("model.placement=norm-conv-relu", "model.norm=none"):
        train(runs_dir, other)
        assert "--folded needs" in bn("evaluate", "last", "--folded", "--runs-dir", str(runs_dir), code=2).stderr


def test_runs_lists_shows_and_removes(runs_dir: Path) -> None:
    where = ("--runs-dir", str(runs_dir))
    assert "is not there" in bn("runs", *where, code=2).stderr
    runs_dir.mkdir()
    assert "There are no runs" in bn("runs", *where).stderr
    train(runs_dir, "--seeds", "2")
    train(runs_dir, "name=third", "seed=7")
    rows = json.loads(bn("runs", "--json", *where).stdout)["runs"]
    assert [row["config.name"] for row in rows] == ["batch-bs32-lr0.1-s0", "batch-bs32-lr0.1-s1", "third"]
    assert all(row["id"] in bn("runs", *where).stdout for row in rows)
    assert json.loads(bn("runs", "show", "third", "--json", *where).stdout)["seed"] == 7
    assert json.loads(bn("runs", *where, "show", "last", "--json").stdout)["seed"] == 7
    assert "beginning of 2 runs" in bn("runs", "show", "batch", *where, code=2).stderr
    assert "There is no run 'thirt-'" in bn("runs", "show", "thirt-", *where, code=2).stderr
    assert "There is no run" in bn("runs", "rm", "third", "nothing", *where, code=2).stderr
    assert len(list_runs(runs_dir)) == 3  # all names are looked up before the first is deleted
    with locked([Run(runs_dir, rows[2]["id"])], waiting=None):
        assert "working on" in bn("runs", "rm", "third", *where, code=2).stderr
        assert "working on" in bn("runs", "rm", rows[0]["id"], "third", *where, code=2).stderr
    assert len(list_runs(runs_dir)) == 3  # one that is in work keeps all that were named with it
    bn("runs", "rm", "third", str(runs_dir / rows[0]["id"]), *where)
    assert [run.id for run in list_runs(runs_dir)] == [rows[1]["id"]]


def test_config_prints_what_train_would_use(tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text("# @package _global_\noptim:\n  lr: 0.7\n")
    printed = bn("config", "data=cifar10", "experiment=mine", "--config-dir", str(tmp_path)).stdout
    config = from_mapping(yaml.safe_load(printed))
    assert (config.data.name, config.optim.lr, config.train) == ("cifar10", 0.7, Config().train)
    assert from_mapping(json.loads(bn("config", "--json").stdout)) == Config()


def test_python_gets_rows_and_networks(runs_dir: Path) -> None:
    import torch
    from torch import nn

    train(runs_dir, "--seeds", "2")
    rows = bnexp.runs(runs_dir)
    assert [row["seed"] for row in rows] == [0, 1]
    assert all(0 <= row["test.running.accuracy"] <= 1 and row["config.optim.lr"] == 0.1 for row in rows)
    network = bnexp.load(rows[0]["id"], runs_dir)
    assert isinstance(network, nn.Module)
    assert not network.training
    assert network(torch.zeros(5, 1, 8, 8)).shape == (5, 10)
    other = bnexp.load("last", runs_dir)
    assert not torch.equal(network.state_dict()["head.weight"], other.state_dict()["head.weight"])


@pytest.mark.parametrize("command", ["train", "evaluate", "resume", "runs", "config", "tensorboard"])
def test_every_command_has_help_with_an_example(command: str) -> None:
    text = bn(command, "--help").stdout
    assert f"bnexp {command}" in text
    assert "Example" in text


@pytest.mark.parametrize("columns", [44, 80, 200])
def test_help_fits_the_terminal_and_cuts_nothing(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Click's own would be 50 to 80 columns wide on any terminal, and end the commands' descriptions in dots."""
    monkeypatch.setenv("COLUMNS", str(columns))
    for command in ([], *([name] for name in COMMANDS), *(["runs", name] for name in ("show", "diff", "tag", "note", "rm"))):
        lines = bn(*command, "--help").stdout.splitlines()
        examples = [line for line in lines if line.startswith("    bnexp ")]  # as they are to be typed, however long
        assert len(examples) >= 1 or not command
        others = [line for line in lines if line not in examples]
        assert max(map(len, others)) <= columns
    listed = "".join(bn("--help").stdout.split())  # without spaces: a line may end at a hyphen
    for command in COMMANDS:
        first = bn(command, "--help").stdout.split("\n\n")[1]
        assert command + "".join(first.split()) in listed
    assert "\n    bnexp train model.norm=none optim.lr=0.03 --seeds 5\n" in bn("train", "--help").stdout


def test_every_command_takes_the_common_options(runs_dir: Path) -> None:
    (config_dir := runs_dir.parent / "mine" / "experiment").mkdir(parents=True)
    common = ("--runs-dir", str(runs_dir), "--config-dir", str(config_dir.parent), "--json", "--quiet")
    for args in (
        ["train", *TINY],
        ["evaluate", "last"],
        ["resume", "last"],
        ["config"],
        ["runs"],
        ["runs", "show", "last"],
        ["runs", "tag", "last", "--add", "paper"],
        ["runs", "note", "last", "a note"],
        ["reports"],
        ["runs", "rm", "last"],
    ):
        result = bn(*args, *common)
        assert isinstance(json.loads(result.stdout), dict)
        assert result.stderr == ""


def test_an_unusable_runs_folder_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    result = train(tmp_path / "file" / "runs", code=1)
    assert result.stderr == f"Error: Not a directory: {tmp_path / 'file' / 'runs' / '.locks'}\n"
    assert "--runs-dir" in train(tmp_path / "file", code=2).stderr


def test_a_full_disk_is_one_sentence_and_a_failed_run(runs_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error is put into the one place that writes whole files, from the model on."""
    import errno

    from bnexp.storage import checkpoint

    def full(path: Path, value: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(checkpoint, "_write", full)
    result = train(runs_dir, code=1)
    assert "No space left on device" in result.stderr
    assert "Traceback" not in result.stderr
    assert list_runs(runs_dir)[0].status == "failed"
    monkeypatch.undo()
    assert "failed" not in train(runs_dir).stdout
    assert list_runs(runs_dir)[0].status == "finished"


def test_version_and_unknown_commands() -> None:
    assert bn("--version").stdout == f"bnexp {bnexp.__version__}\n"
    for args, said in (
        (["trian"], "No such command 'trian'. Did you mean 'train'?"),
        (["runs", "shwo"], "No such command 'shwo'. Did you mean 'show'?"),
        (["sweep"], "Missing argument 'kind'. Choose from: batch-size, lr, norm, grid"),
        (["evaluate", "last", "--stats", "runing"], "'runing' is not one of 'running', 'precise', 'batch', 'all'."),
        (["train", "--sed", "3"], "--seeds"),
    ):
        usage, try_, _, error = bn(*args, code=2).stderr.splitlines()
        assert usage.startswith("Usage: bnexp")
        assert try_.endswith(" -h' for help.")
        assert error.startswith("Error: ")
        assert said in error


def test_tensorboard_without_runs_or_on_a_taken_port_is_refused(tmp_path: Path) -> None:
    import socket

    assert "There is no folder" in bn("tensorboard", "--runs-dir", str(tmp_path / "no"), code=2).stderr
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        assert "is taken" in bn("tensorboard", "--port", str(taken.getsockname()[1]), "--runs-dir", str(tmp_path), code=2).stderr
