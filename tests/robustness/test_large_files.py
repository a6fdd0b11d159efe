"""Files of a run that are larger than any of ours, or are mostly holes: refused, or cut, without being taken into memory."""

import os
import tracemalloc
from pathlib import Path

import pytest
import torch
from support import CONFIG, Tiny, bn_in, interrupt, write_summary
from tensorboard.compat.proto.event_pb2 import Event

from bnexp.base import files
from bnexp.base.errors import DataError
from bnexp.config import from_mapping
from bnexp.execution.launch import launch
from bnexp.storage import curves as records
from bnexp.storage.checkpoint import save_checkpoint
from bnexp.storage.folder import list_runs
from bnexp.storage.run import Run
from bnexp.tensorboard.files import cut_after, write_events
from bnexp.training.stack import Stack, train_step

LARGE = 2**40
"""Bytes of a hole."""


def test_an_event_file_with_a_hole_is_cut_where_its_events_end(tmp_path: Path) -> None:
    path = tmp_path / "events.out.tfevents.1"
    write_events(path, [Event(step=step) for step in range(1, 9)])
    whole = path.read_bytes()
    os.truncate(path, LARGE)
    tracemalloc.start()
    cut_after(tmp_path, 8)
    assert tracemalloc.get_traced_memory()[1] < 2**22
    tracemalloc.stop()
    assert path.read_bytes() == whole
    cut_after(tmp_path, 4)
    assert 0 < path.stat().st_size < len(whole)


def test_metrics_of_more_than_anybody_records_have_no_curves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1, "val/loss": 2}\n' * 4)
    assert len(records.curves(path)["val/loss"]) == len(records.curve(path, "val/loss")) == 4
    monkeypatch.setattr(records, "MAX_VALUES", 3)
    for read in (lambda: records.curves(path), lambda: records.curve(path, "val/loss")):
        with pytest.raises(OSError, match="more than 3 values"):
            read()
    monkeypatch.undo()
    os.truncate(path, LARGE)
    for read in (lambda: records.curves(path), lambda: records.curve(path, "val/loss")):
        with pytest.raises(OSError, match="more than 1,073,741,824 bytes"):
            read()


def test_large_files_of_one_run_do_not_keep_the_others_from_being_listed(tmp_path: Path) -> None:
    launch([CONFIG, CONFIG.replace(seed=1)], tmp_path, quiet=True)
    run, other = list_runs(tmp_path)
    os.truncate(run.metrics_jsonl, LARGE)
    assert run.id in bn_in(tmp_path, "runs").stdout
    assert not run.is_whole(run.metrics_jsonl)
    os.truncate(run.model_pt, LARGE)
    assert "has more than" in bn_in(tmp_path, "evaluate", run.id, code=1).stderr
    os.truncate(run.summary_json, files.MAX_JSON + 1)
    with pytest.raises(DataError, match="has more than 16,777,216 bytes"):
        run.result().tree()
    assert other.id in bn_in(tmp_path, "runs").stdout


def test_a_checkpoint_larger_than_its_config_explains_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    interrupt([CONFIG], tmp_path, monkeypatch)
    (current,) = tmp_path.glob(".stacks/*/checkpoint.pt")
    os.truncate(current, LARGE)
    err = bn_in(tmp_path, "resume", "last").stderr
    assert "It is not used" in err
    assert "has more than" in err
    assert "Resuming at step 8" in err


@pytest.mark.parametrize("runs", [1, 30])
def test_no_checkpoint_of_ours_is_so_large(runs: int, tmp_path: Path, tiny: Tiny) -> None:
    """Everything that a state may hold, beside the constant share: momentum, what stopped, what metrics remember, losses of all steps."""
    own = from_mapping({"model": {"widths": [32, 64]}, "train": {"batch_size": 8, "steps": 9, "eval_every": 9}, "optim": {"name": "adam"}})
    stack = Stack([own.replace(seed=seed) for seed in range(runs)], tiny((2, 6, 6)), torch.device("cpu"))
    stack.observer.measure(0, stack.optimizer.lr, evaluated=True)
    for _ in range(9):
        train_step(stack)
    for run in range(runs):
        stack.stop_run(run)
    save_checkpoint(tmp_path, stack.state_dict())
    assert (tmp_path / "checkpoint.pt").stat().st_size < stack.most_saved_bytes - 2**24


def test_the_largest_summary_is_read(tmp_path: Path) -> None:
    """A confusion matrix of 2,000 classes, which are the most."""
    (run,) = launch([CONFIG], tmp_path, quiet=True).runs
    summary = run.result().tree()
    summary["test"]["confusion"] = [[0] * 2000] * 2000
    write_summary(run, summary)
    assert len(Run(tmp_path, run.id).result().tree()["test"]["confusion"]) == 2000
