"""MLflow and Weights & Biases: what their own readers find is the run's config, curves and scores, once, however often it is exported."""

import json
import math
import os
import shutil
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support import ROOT, bn_in, with_values

from bnexp.config.fields import show
from bnexp.export.tracked import tracked
from bnexp.storage.folder import list_runs
from bnexp.storage.group import Group
from bnexp.storage.run import Run

pytestmark = pytest.mark.filterwarnings("ignore")  # the trackers' own, about what they import
SECRET = "/home/somebody/secret"


@pytest.fixture
def diverged(runs_dir: Path) -> Run:
    """A run whose curves have values that are not finite."""
    return next(run for run in list_runs(runs_dir) if run.status == "diverged")


def recorded(run: Run) -> dict[str, dict[int, float]]:
    """The curves of metrics.jsonl, read naively: by key and step, NaN where a number was not finite."""
    found: dict[str, dict[int, float]] = {}
    for line in run.metrics_jsonl.read_text().splitlines():
        record = json.loads(line)
        for key, value in record.items():
            if "/" in key and not isinstance(value, list):
                found.setdefault(key, {})[record["step"]] = math.nan if value is None else value
    return found


def same(found: float, value: float) -> bool:
    return found == value or (math.isnan(found) and math.isnan(value))


def accuracy(run: Run) -> Any:
    return json.loads(run.summary_json.read_text())["test"]["running"]["accuracy"]


@pytest.fixture(scope="module")
def store(group: Group) -> Path:
    pytest.importorskip("mlflow")
    path = Path(bn_in(group.runs_dir, "export", group.id, "--to", "mlflow", "--quiet").stdout.strip())
    assert path == group.runs_dir / "exports" / "mlflow.db"
    return path


def client(store: Path) -> Any:
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=f"sqlite:///{store}")


def mlflow_runs(store: Path) -> dict[str, Any]:
    """By the id here; each is there once."""
    reader = client(store)
    found = reader.search_runs([reader.get_experiment_by_name("bnexp").experiment_id])
    runs = {run.data.tags["bnexp.id"]: run for run in found}
    assert len(runs) == len(found)
    return runs


def test_mlflow_has_every_run_with_its_numbers(store: Path, group: Group) -> None:
    found, reader = mlflow_runs(store), client(store)
    assert set(found) == {run.id for run in group.members()}
    for run in group.members():
        own, result = found[run.id], run.result()
        assert own.info.status == "FINISHED"
        assert own.info.run_name == run.id
        assert own.data.params["optim.lr"] == show(result.lr)
        assert own.data.params["model.widths"] == "[8]"
        assert own.data.params["model.norm"] == own.data.params["model.norm"].strip() == result.norm
        assert own.data.tags[f"bnexp.study.compare-digits-bn-vs-none-{group.id}"] == "compare"
        assert own.data.tags["bnexp.arm"] == {"batch": "with BN", "none": "without BN"}[result.norm]
        if accuracy(run) is not None:
            assert own.data.metrics["test.running.accuracy"] == accuracy(run)
        assert sorted(file.path for file in reader.list_artifacts(own.info.run_id)) == ["config.yaml", "summary.json"]
        for key, points in recorded(run).items():
            history = {metric.step: metric.value for metric in reader.get_metric_history(own.info.run_id, key)}
            assert history.keys() == points.keys()
            assert all(same(history[step], value) for step, value in points.items()), key


def test_mlflow_keeps_what_is_not_finite(store: Path, diverged: Run) -> None:
    lost = [(key, step) for key, points in recorded(diverged).items() for step, value in points.items() if math.isnan(value)]
    key, step = lost[0]
    history = client(store).get_metric_history(mlflow_runs(store)[diverged.id].info.run_id, key)
    assert math.isnan({metric.step: metric.value for metric in history}[step])


def test_a_second_export_to_mlflow_duplicates_nothing(store: Path, group: Group) -> None:
    before = {name: run.info.run_id for name, run in mlflow_runs(store).items()}
    bn_in(group.runs_dir, "export", group.id, "--to", "mlflow", "--quiet")
    assert {name: run.info.run_id for name, run in mlflow_runs(store).items()} == before


def test_a_run_that_changed_or_was_cut_short_is_written_again(group: Group, tmp_path: Path) -> None:
    """The summary of one run is another one now, and the export of a second was interrupted: both are replaced, the rest is left."""
    pytest.importorskip("mlflow")
    folder, store = tmp_path / "runs", tmp_path / "here" / "own.db"
    names = [run.id for run in group.members()[:3]]
    for name in names:
        shutil.copytree(group.runs_dir / name, folder / name)
    bn_in(folder, "export", *names, "--to", "mlflow", "--out", str(store), "--quiet")
    before = {name: run.info.run_id for name, run in mlflow_runs(store).items()}
    changed = Run(folder, names[0])
    changed.write_result(with_values(changed.result(), test__running__accuracy=0.5))
    client(store).update_run(before[names[1]], status="RUNNING")
    bn_in(folder, "export", *names, "--to", "mlflow", "--out", str(store), "--quiet")
    after = mlflow_runs(store)
    assert {name for name in names if after[name].info.run_id == before[name]} == {names[2]}
    assert after[names[0]].data.metrics["test.running.accuracy"] == 0.5


def records(folder: Path) -> Iterator[Any]:
    """What a .wandb file holds: blocks of 32 KiB, in which each part of a record has a CRC, its length and its place (LevelDB's log)."""
    from wandb.proto.wandb_internal_pb2 import Record

    (path,) = folder.glob("*.wandb")
    data, at, parts = path.read_bytes(), 7, b""
    assert data.startswith(b":W&B")
    while at < len(data):
        left = 2**15 - at % 2**15
        if left < 7:
            at += left
            continue
        _, size, place = struct.unpack_from("<IHB", data, at)
        parts += data[at + 7 : at + 7 + size]
        at += 7 + size
        if place in (1, 4):  # a whole record, or the last of its parts
            yield Record.FromString(parts)
            parts = b""


@pytest.fixture(scope="module")
def offline(group: Group) -> Path:
    pytest.importorskip("wandb")
    said = bn_in(group.runs_dir, "export", group.id, "--to", "wandb")
    assert said.stdout.strip() == str(group.runs_dir / "exports")
    assert f"wandb sync {group.runs_dir}/exports/wandb/offline-run-*" in said.stderr
    return group.runs_dir / "exports" / "wandb"


def folder_of(offline: Path, run: Run) -> Path:
    (found,) = offline.glob(f"offline-run-*-{run.id}")
    return found


def test_wandb_has_every_run_with_its_numbers(offline: Path, group: Group) -> None:
    for run in group.members():
        config: dict[str, Any] = {}
        history: dict[str, dict[int, float]] = {}
        summary: dict[str, Any] = {}
        for record in records(folder_of(offline, run)):
            if record.HasField("run"):
                assert (record.run.run_id, record.run.project, record.run.run_group) == (
                    run.id,
                    "bnexp",
                    f"compare-digits-bn-vs-none-{group.id}",
                )
                assert not record.run.host
                config |= {item.key: json.loads(item.value_json) for item in record.run.config.update}
            for item in record.history.item:
                key = item.key or "/".join(item.nested_key)
                if "/" in key:
                    history.setdefault(key, {})[record.history.step.num] = float(json.loads(item.value_json))
            summary |= {item.key or ".".join(item.nested_key): json.loads(item.value_json) for item in record.summary.update}
        expected = json.loads(json.dumps(tracked(run, run.result()).config))
        assert {key: config[key] for key in expected} == expected
        assert config["optim"]["lr"] == run.result().lr
        points = recorded(run)
        assert history.keys() == points.keys()
        for key, values in points.items():
            assert history[key].keys() == values.keys()
            assert all(same(history[key][step], value) for step, value in values.items()), key
        if accuracy(run) is not None:
            assert summary["test.running.accuracy"] == accuracy(run)


def test_a_second_export_to_wandb_duplicates_nothing(offline: Path, group: Group) -> None:
    bn_in(group.runs_dir, "export", group.id, "--to", "wandb", "--quiet")
    assert len(list(offline.glob("offline-run-*"))) == len(group.members())


def test_trackers_learn_nothing_of_the_machine(group: Group, tmp_path: Path) -> None:
    """Neither where the data are, nor the command, whose paths may name a person."""
    pytest.importorskip("wandb")
    run = group.members()[0]
    shutil.copytree(run.folder, tmp_path / "runs" / run.id)
    own = Run(tmp_path / "runs", run.id)
    own.write_result(
        with_values(own.result(), environment__command=f"bnexp train {SECRET}", environment__data_root=SECRET, config__data__root=SECRET)
    )
    bn_in(own.runs_dir, "export", run.id, "--to", "wandb", "--out", str(tmp_path / "out"), "--quiet")
    (folder,) = (tmp_path / "out" / "wandb").glob("offline-run-*-s?-*")
    written = b"".join(record.SerializeToString() for record in records(folder))
    assert b"val/loss" in written
    assert SECRET.encode() not in written
    assert os.uname().nodename.encode() + b'"' not in written


@pytest.mark.slow
@pytest.mark.parametrize("to", ["mlflow", "wandb"])
def test_an_export_opens_no_connection(group: Group, tmp_path: Path, to: str) -> None:
    """Neither telemetry nor a log-in: the command runs in a process whose connections to other machines are errors that end it."""
    pytest.importorskip(to)
    script = (
        "import socket, os\n"
        "real = socket.socket.connect\n"
        "def connect(self, address):\n"
        "    if self.family != socket.AF_UNIX and address[0] not in ('127.0.0.1', '::1', 'localhost'):\n"
        "        print('CONNECTS', address, flush=True); os._exit(9)\n"
        "    return real(self, address)\n"
        "socket.socket.connect = connect\n"
        "import sys; from bnexp.cli import main; main(sys.argv[1:])\n"
    )
    out = tmp_path / "store.db" if to == "mlflow" else tmp_path
    run = group.members()[0]
    command = [sys.executable, "-c", script, "export", run.id, "--to", to, "--runs-dir", str(group.runs_dir), "--out", str(out), "--quiet"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=120, check=False)
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, str(out), "")
