"""Many stacks on real worker processes: the same bits on any number of them, and failures that stay where they are."""

import os
import signal
import threading
import time
from pathlib import Path

import pytest

from bnexp.base.signals import Stop
from bnexp.config.compose import expand
from bnexp.execution.identity import identify
from bnexp.execution.workers import run_stacks
from bnexp.planning.plan import StackPlan, plan
from bnexp.storage.folder import list_runs
from bnexp.storage.run import Run

GRID = ["model.widths=[4,4]", "train.steps=30", "train.epochs=null", "model.norm=batch,none", "optim.lr=0.03,0.1", "seed=range(2)"]
LONG = [*GRID, "train.steps=1200", "train.checkpoint_every=50", "train.eval_every=600"]


def stacks_in(runs_dir: Path, overrides: list[str]) -> list[StackPlan]:
    configs = expand(overrides)
    return plan(configs, identify(configs, runs_dir))


def train(stacks: list[StackPlan], *, workers: int | None = None, scheduler: str | None = None) -> tuple[dict[str, str], list[str]]:
    ends: list[str] = []
    report = run_stacks(
        stacks, Stop(), lambda event: None, lambda planned, reason: ends.append(reason), workers=workers, scheduler=scheduler
    )
    assert report.trained == {run.id for planned in stacks for run in planned.runs} - report.failed.keys()
    return report.failed, ends


def models(runs_dir: Path) -> dict[str, bytes]:
    return {run.id: run.model_pt.read_bytes() for run in list_runs(runs_dir)}


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The models of the grid, trained in this process."""
    runs_dir = tmp_path_factory.mktemp("alone")
    assert train(stacks_in(runs_dir, GRID), workers=0) == ({}, ["done", "done"])
    return models(runs_dir)


@pytest.mark.parametrize("workers", [1, 2])
def test_the_bits_do_not_depend_on_the_number_of_workers(workers: int, alone: dict[str, bytes], tmp_path: Path) -> None:
    assert train(stacks_in(tmp_path, GRID), workers=workers) == ({}, ["done", "done"])
    assert models(tmp_path) == alone
    assert stacks_in(tmp_path, GRID) == []  # nothing is left to train
    assert not list((tmp_path / ".stacks").iterdir())  # and no file of the workers


def test_a_raising_stack_fails_alone_and_the_next_call_completes_it(alone: dict[str, bytes], tmp_path: Path) -> None:
    first, second = stacks_in(tmp_path, GRID)
    blocked = first.runs[0].folder
    blocked.parent.mkdir(parents=True, exist_ok=True)
    blocked.write_text("a file where the run's folder should be")
    failed, ends = train([first, second], workers=2)
    assert sorted(ends)[1] == "done"
    assert set(failed) == {run.id for run in first.runs}
    assert all("exists" in reason for reason in failed.values())
    assert all(run.done for run in second.runs)
    blocked.unlink()
    assert train(stacks_in(tmp_path, GRID), workers=0) == ({}, ["done"])
    assert models(tmp_path) == alone


def worker_of(run: Run) -> int:
    """The process that writes the run's event file."""
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            try:
                if any(str(link.readlink()).startswith(str(run.folder)) for link in (process / "fd").iterdir()):
                    return int(process.name)
            except OSError:
                continue
    raise AssertionError("no process has the run open")


def saved_at(planned: StackPlan) -> int:
    """When the newest checkpoint was written; 0 where there is none (or for a moment, between the two renames of a save)."""
    try:
        return (planned.folder.folder / "checkpoint.pt").stat().st_mtime_ns
    except FileNotFoundError:
        return 0


def kill_the_worker_of(planned: StackPlan, times: int) -> threading.Thread:
    """Kills, so many times, the process that trains the stack, once it has saved a checkpoint anew."""

    def kill() -> None:
        seen = 0
        for _ in range(times):
            while saved_at(planned) <= seen:
                time.sleep(0.01)
            os.kill(worker_of(planned.runs[0]), signal.SIGKILL)
            time.sleep(1)
            seen = saved_at(planned)

    thread = threading.Thread(target=kill)
    thread.start()
    return thread


@pytest.mark.slow
def test_a_killed_worker_costs_only_its_own_stack_and_is_tried_again(tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    assert train(stacks_in(whole, LONG), workers=0)[0] == {}
    once = tmp_path / "once"
    stacks = stacks_in(once, LONG)
    thread = kill_the_worker_of(stacks[0], 1)
    assert train(stacks, workers=2) == ({}, ["done", "done"])
    thread.join()
    assert models(once) == models(whole)


@pytest.mark.slow
def test_a_stack_whose_workers_die_twice_has_failed_and_can_be_completed(tmp_path: Path) -> None:
    stacks = stacks_in(tmp_path, LONG)
    thread = kill_the_worker_of(stacks[0], 2)
    failed, _ = train(stacks, workers=2)
    thread.join()
    assert set(failed) == {run.id for run in stacks[0].runs}
    assert all(run.status == "failed" and "died" in run.result().tree()["error"] for run in stacks[0].runs)
    assert all(run.done for run in stacks[1].runs)
    assert train(stacks_in(tmp_path, LONG), workers=0)[0] == {}
    assert all(run.done for run in list_runs(tmp_path))
