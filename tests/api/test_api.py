"""bnexp from Python: the same runs and studies as the commands', as objects."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from support import ROOT, bn_in, no_pages, wait_for

import bnexp
from bnexp.analysis import Study
from bnexp.api.overrides import overrides_of
from bnexp.storage.group import group_of
from bnexp.storage.result import RunResult
from bnexp.storage.run import Run

TINY = ("model.widths=[4,4]", "train.epochs=null", "train.steps=12", "train.eval_every=4", "train.checkpoint_every=4")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("api") / "runs"


@pytest.fixture(scope="module")
def study(folder: Path) -> Study:
    return bnexp.compare(*TINY, lrs=[0.03, 0.1], seeds=2, workers=0, runs_dir=folder, quiet=True)


def test_keywords_are_overrides() -> None:
    values = {"optim__lr": 0.3, "model__widths": [4, 8], "train__epochs": None, "metrics__ics": True, "data": "mnist"}
    written = ["optim.lr=0.3", "model.widths=[4,8]", "train.epochs=null", "metrics.ics=true", "data=mnist"]
    assert overrides_of(["seed=1"], values) == ["seed=1", *written]
    several = overrides_of([], {"optim__lr": (np.float32(0.5), np.int64(1)), "seed": range(3), "data__root": Path("a,b c")})
    assert several == ["optim.lr=0.5,1", "seed=0,1,2", "data.root='a,b c'"]
    with pytest.raises(bnexp.UsageError, match=r"optim__lr=<object.*give a number"):
        overrides_of([], {"optim__lr": object()})  # type: ignore[dict-item]
    with pytest.raises(bnexp.UsageError, match="is not an override"):
        overrides_of([{"optim.lr": 0.3}], {})  # type: ignore[list-item]


def test_train_gives_what_the_command_prints(folder: Path) -> None:
    threads = torch.get_num_threads()
    result = bnexp.train(*TINY, optim__lr=0.3, model__norm="none", runs_dir=folder, quiet=True)
    assert isinstance(result, RunResult)
    assert (result.status, result.norm, result.lr, result.steps) == ("finished", "none", 0.3, 12)
    assert torch.get_num_threads() == threads
    printed = bn_in(folder, "train", *TINY, "optim.lr=0.3", "model.norm=none", "--json")  # finished before: not trained again
    assert result.tree() == json.loads(printed.stdout)
    assert "not trained again" in printed.stderr
    assert result.environment is not None
    assert result.environment.command.startswith("bnexp train 'model.widths=[4,4]' ")  # type: ignore[union-attr]
    shown = result._repr_html_()  # type: ignore[attr-defined]
    assert result.id in shown
    assert f"{100 * result.test.running.accuracy:.2f} %" in shown  # type: ignore[operator]
    assert "without BN" in shown
    assert repr(result).startswith(f"<run {result.id}, status finished, network without BN, ")


def test_seeds_are_trained_together(folder: Path) -> None:
    results = bnexp.train(*TINY, seeds=3, seed=5, runs_dir=folder, quiet=True)
    assert [result.seed for result in results] == [5, 6, 7]
    assert {result.stack.width for result in results} == {3}
    assert results._repr_html_().count("<tr>") == 4  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda runs: bnexp.train(lr=0.1, runs_dir=runs), "'optim.lr=0.1'"),
        (lambda runs: bnexp.train(optim__lr=-1, runs_dir=runs), "optim.lr"),
        (lambda runs: bnexp.train(optim__lr=(0.1, 0.3), runs_dir=runs), "several values"),
        (lambda runs: bnexp.train(seeds=0, runs_dir=runs), "seeds=0 is not a number of seeds"),
        (lambda runs: bnexp.compare(workers=2.5, runs_dir=runs), "workers=2.5"),
        (lambda runs: bnexp.compare(norms=["frosen"], runs_dir=runs), "'frozen'"),
        (lambda runs: bnexp.compare(margin=0, runs_dir=runs), "margin"),
        (lambda runs: bnexp.sweep("batch_size", runs_dir=runs), "'batch-size'"),
        (lambda runs: bnexp.sweep("lr", values=[], runs_dir=runs), "empty"),
        (lambda runs: bnexp.load("last", runs_dir=runs), "There are no runs"),
        (lambda runs: bnexp.curves("last", runs_dir=runs), "There are no runs"),
    ],
)
def test_mistakes_are_one_sentence_and_leave_nothing(call: object, sentence: str, tmp_path: Path) -> None:
    with pytest.raises(bnexp.UsageError, match=sentence) as error:
        call(tmp_path / "runs")  # type: ignore[operator]
    assert "\n" not in str(error.value)
    assert not list(tmp_path.rglob("*.yaml"))


def test_compare_gives_the_study_of_the_command(study: Study, folder: Path) -> None:
    (part,) = study.parts
    assert part.arms.labels == ("batch", "none")
    assert part.seconds is not None  # the steps were timed
    with no_pages():
        printed = bn_in(folder, "compare", "--no-bn", *TINY, "--lrs", "0.03,0.1", "--seeds", "2", "--json")
    document = json.loads(printed.stdout)
    assert len(document["reused"]) == len(study.runs) == 8
    assert study.command == f"bnexp compare --no-bn {' '.join(part if '[' not in part else repr(part) for part in TINY)} " + (
        "--lrs 0.03,0.1 --seeds 2 --workers 0"
    )
    stored = group_of(study.runs).results_folder(study.name)
    assert (stored / "compare.json").is_file()
    shown = study._repr_html_()  # type: ignore[attr-defined]
    assert part.answer[0].replace("<", "&lt;") in shown
    assert "<table>" in shown
    assert "with BN" in shown
    assert repr(study).splitlines() == [study.title, *part.answer]  # which a notebook stores, too


def test_sweep_over_listed_values(folder: Path) -> None:
    grid = bnexp.sweep("grid", *TINY, optim__lr=(0.03, 0.1), model__norm=("batch", "none"), seeds=1, workers=0, runs_dir=folder, quiet=True)
    assert grid.kind == "sweep grid"
    assert sorted((run.norm, run.lr) for run in grid.results.values()) == [("batch", 0.03), ("batch", 0.1), ("none", 0.03), ("none", 0.1)]
    rates = bnexp.sweep("lr", *TINY, values=[0.03, 0.1], seeds=2, workers=0, runs_dir=folder, quiet=True)
    assert len(rates.runs) == 8
    assert "0.03" in rates._repr_html_()  # type: ignore[attr-defined]


def test_curves_and_frames(study: Study, folder: Path) -> None:
    points = bnexp.curves(study, "val/accuracy")
    assert {point.run for point in points} == {run.id for run in study.runs}
    assert {point.step for point in points} >= {4, 8, 12}
    result = next(iter(study.results.values()))
    last = max((point for point in points if point.run == result.id), key=lambda point: point.step)
    assert last.value == result.val.accuracy
    assert [p for p in bnexp.curves(result, runs_dir=folder) if p.key == "val/accuracy"] == [p for p in points if p.run == result.id]
    long = bnexp.frame(points)
    assert list(long.columns) == ["run", "step", "key", "value"]
    assert len(long) == len(points)
    wide = bnexp.frame(study)
    assert wide.groupby("config.model.norm")["test.running.accuracy"].size().to_dict() == {"batch": 4, "none": 4}  # type: ignore[operator]
    assert len(bnexp.frame(runs_dir=folder)) == len(bnexp.runs(folder))
    assert len(bnexp.frame([result.id, result], runs_dir=folder)) == 1
    with pytest.raises(bnexp.UsageError, match=r"recorded 'val/acc'.*val/accuracy"):
        bnexp.curves(study, "val/acc")


def test_a_frame_without_pandas_and_polars(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bnexp.api.reading.find_spec", lambda name: None)
    with pytest.raises(bnexp.UsageError, match="pip install pandas"):
        bnexp.frame([])


def test_the_data_are_what_the_network_saw(folder: Path) -> None:
    result = bnexp.train(*TINY, runs_dir=folder, quiet=True)
    data = bnexp.dataset(result, folder)
    assert [len(part.y) for part in (data.train, data.validation, data.test)] == [1293, 144, 360]
    assert data.test.x.shape == (360, 1, 8, 8)
    assert data.test.x.dtype == torch.float32
    assert float(data.train.x.mean()) == pytest.approx(0, abs=1e-3)
    assert float(data.train.x.std()) == pytest.approx(1, abs=1e-3)
    with torch.inference_mode():
        right = bnexp.load(result, folder)(data.test.x).argmax(1) == data.test.y
    assert float(right.double().mean()) == pytest.approx(result.test.running.accuracy)


def test_what_is_imported_when() -> None:
    """`import bnexp` is what every command does, too."""
    code = "import sys, bnexp; print([m for m in sys.modules if m.startswith('bnexp.')]); bnexp.train; print('torch' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out == "[]\nFalse\n"
    assert set(bnexp.__all__) <= set(dir(bnexp))
    with pytest.raises(AttributeError, match="trian"):
        bnexp.trian  # type: ignore[attr-defined] # noqa: B018


SCRIPT = f"""
import bnexp
print("began", flush=True)
study = bnexp.compare(*{TINY!r}, lrs=[0.03], seeds=2, workers=2)
print(len(study.results), __file__)
"""
LONG = f"""
import bnexp
try:
    bnexp.train(*{TINY!r}, train__steps=100000)
except KeyboardInterrupt as error:
    print("interrupted:", error)
"""


def test_a_script_without_a_main_guard_has_workers(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "script.py"], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"began\n4 {tmp_path / 'script.py'}\n"  # once: no worker ran the script


def test_ctrl_c_saves_the_state(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(LONG)
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [sys.executable, "script.py"], cwd=tmp_path, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    wait_for(lambda: any((tmp_path / "runs").glob(".stacks/*/checkpoint.pt")), process)
    time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert out.startswith("interrupted: ")
    assert "state saved" in out
    (run,) = (tmp_path / "runs").glob("batch-*")
    assert Run(run.parent, run.name).status == "interrupted"
