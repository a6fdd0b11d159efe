"""The log files of a run that goes on from a checkpoint."""

import json
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from bnexp.config import Config
from bnexp.execution.logs import RunLog
from bnexp.storage.run import Run


@pytest.fixture
def run(tmp_path: Path) -> Run:
    run = Run(tmp_path, "a-12345678")
    run.start(Config())
    return run


def steps(run: Run) -> list[int]:
    return [json.loads(line)["step"] for line in run.metrics_jsonl.read_text().splitlines()]


def write(run: Run, *at: int, from_step: int = 0) -> None:
    log = RunLog(run, Config(), from_step)
    for step in at:
        log.record(step, step / 10, {"val/loss": step + (0.5 if from_step else 0.0)})
    log.close()


def test_what_came_after_the_checkpoint_is_dropped(run: Run) -> None:
    write(run, 10, 20, 30)
    with run.metrics_jsonl.open("a") as file:
        file.write('{"step": 30, "test/running/loss": 1.0}\n{"step": 40, "val/l')  # test scores of a killed finish, and a torn line
    write(run, 30, from_step=20)
    assert steps(run) == [10, 20, 30]
    board = EventAccumulator(str(run.folder))
    board.Reload()
    assert sorted((event.step, event.value) for event in board.Scalars("val/loss")) == [(10, 10.0), (20, 20.0), (30, 30.5)]


def test_test_scores_of_the_checkpoints_own_step_come_only_once(run: Run) -> None:
    write(run, 10)
    with run.metrics_jsonl.open("a") as file:
        file.write('{"step": 10, "test/running/loss": 1.0}\n')
    write(run, from_step=10)
    assert run.metrics_jsonl.read_text().count("test/") == 0
    assert steps(run) == [10]


def test_a_run_that_starts_over_has_no_old_records(run: Run) -> None:
    write(run, 10, 20)
    write(run, 10)
    assert steps(run) == [10]
    assert len(list(run.folder.glob("events.out.tfevents.*"))) == 1


def test_non_finite_numbers_are_null_and_named(run: Run) -> None:
    log = RunLog(run, Config())
    log.record(5, 0.5, {"val/loss": float("nan"), "val/accuracy": 0.1})
    log.close()
    record = json.loads(run.metrics_jsonl.read_text())
    assert record == {"step": 5, "epoch": 0.5, "val/loss": None, "val/accuracy": 0.1, "nonfinite": ["val/loss"]}
