"""Several at once on one runs folder: writers, readers, and what dead ones leave."""

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from support import SLOW, bn_in, finish, logged, start, wait_for
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from bnexp.storage.folder import list_runs


@pytest.mark.parametrize("count", [2, pytest.param(10, marks=pytest.mark.slow)])
def test_several_at_once_train_once(count: int, tmp_path: Path) -> None:
    processes = [start("train", *SLOW, "--json", runs_dir=tmp_path) for _ in range(count)]
    said = [finish(process) for process in processes]
    assert len({out for out, _ in said}) == 1  # one summary, with one set of timings
    assert 1 <= sum("Waiting for another process" in err for _, err in said) < count
    assert sum("not trained again" in err for _, err in said) == count - 1
    (run,) = list_runs(tmp_path)
    log = run.train_log.read_text()
    assert log.count("begins:") == 1
    assert log.count("resumes") == 0
    assert log.count("finished:") == 1
    assert not list(tmp_path.glob(".stacks/*"))


def test_a_process_that_waits_takes_over_from_one_that_dies(tmp_path: Path) -> None:
    first = start("train", *SLOW, runs_dir=tmp_path)
    wait_for(lambda: logged(tmp_path, 50), first)
    first.send_signal(signal.SIGSTOP)
    second = start("train", *SLOW, runs_dir=tmp_path)
    told: list[str] = []
    assert second.stderr is not None
    told.append(second.stderr.readline())
    assert told[0].startswith("Waiting for another process that is working on batch-bs64")
    first.kill()
    first.communicate()
    _, err = finish(second)
    assert "Resuming at step" in err
    (run,) = list_runs(tmp_path)
    assert run.done
    assert run.train_log.read_text().count("begins:") == 1


@pytest.mark.slow
def test_readers_never_see_half_a_file(tmp_path: Path) -> None:
    process = start("train", *SLOW, "train.eval_every=5", "--seeds", "2", runs_dir=tmp_path)
    wait_for(lambda: len(list_runs(tmp_path)) == 2, process)
    runs = list_runs(tmp_path)
    wait_for(lambda: all(run.summary_json.exists() for run in runs), process)
    seen, looks, failures = set(), 0, []

    def stare() -> None:
        nonlocal looks
        while process.poll() is None:
            for run in runs:
                try:
                    seen.add(run.result().tree()["status"])
                    run.config()
                    looks += 1
                except Exception as error:
                    failures.append(repr(error))

    staring = threading.Thread(target=stare)
    staring.start()
    commands = [["runs", "--json"], ["runs"], ["runs", "show", runs[0].id], ["report"]]
    counts = 0
    while process.poll() is None:
        result = bn_in(tmp_path, *commands[counts % len(commands)], code=None)
        assert result.exit_code == 0, (result.stderr, result.exception)
        if commands[counts % len(commands)] == ["runs", "--json"]:
            assert {row["status"] for row in json.loads(result.stdout)["runs"]} <= {"running", "finished"}
        board = EventAccumulator(str(runs[0].folder))
        board.Reload()
        counts += 1
    finish(process)
    staring.join()
    assert not failures
    assert counts >= 4
    assert looks > 100
    assert "running" in seen


def test_what_tells_workers_something_goes_with_the_process_that_made_it(tmp_path: Path) -> None:
    """A sweep is killed while its workers are asked whether they see the runs folder."""
    sweep = ["sweep", "norm", "--values", "batch,none", "--seeds", "1", "train.steps=4", "model.widths=[2]", "--quiet"]
    code = (
        "import os, signal, sys, distributed\nfrom bnexp.cli import main\n"
        "distributed.Client.run = lambda *args, **kwargs: os.kill(os.getpid(), signal.SIGKILL)\n"
        "main(sys.argv[1:])"
    )
    command = [sys.executable, "-c", code, *sweep, "--workers", "1", "--runs-dir", str(tmp_path)]
    assert subprocess.run(command, capture_output=True, timeout=120, check=False).returncode == -signal.SIGKILL
    stacks = tmp_path / ".stacks"
    (seen,) = stacks.glob("seen-*")
    (stacks / seen.name.replace("seen-", "stop-")).touch()
    living = seen.name.replace(f".{seen.name.split('.')[-2]}.", f".{os.getpid()}.")
    elsewhere = seen.name.replace("seen-", "seen-other-machine-")
    (stacks / "stop-0123abcd").touch()
    old = (stacks / "stop-4567cdef", stacks / "seen-4567cdef", stacks / elsewhere.replace("other", "another"))
    for path in (stacks / living, stacks / elsewhere, *old):
        path.touch()
    for path in old:
        os.utime(path, (1, 1))
    assert bn_in(tmp_path, *sweep, "--workers", "0", code=None).exit_code == 0
    assert {path.name for path in stacks.iterdir()} == {living, elsewhere, "stop-0123abcd"}
