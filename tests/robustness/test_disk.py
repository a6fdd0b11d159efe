"""A disk that fills, a folder that cannot be written or goes away: the last good checkpoint survives, exit 1, one sentence."""

import errno
import itertools
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from support import CONFIG, bn_in, finish, interrupt, no_pages, start, wait_for

from bnexp.base import files
from bnexp.storage.checkpoint import load_checkpoint, save_checkpoint
from bnexp.storage.folder import list_runs

LONG = ["data.subset=600", "train.batch_size=32", "train.steps=400", "train.eval_every=50", "train.checkpoint_every=10"]
SHORT = ["data.subset=100", "train.batch_size=16", "train.steps=12", "train.checkpoint_every=4", "model.widths=[4]"]


def ended(process: subprocess.Popen[str], code: int = 0) -> str:
    """What it said on stderr."""
    return finish(process, code)[1]


def is_one_sentence(err: str, *words: str) -> bool:
    """Whether one line of stderr is the error, with these words in it, and no traceback is there."""
    errors = [line for line in err.splitlines() if line.startswith("Error: ")]
    return len(errors) == 1 and all(word in errors[0] for word in words) and "Traceback" not in err and "Exception" not in err


def saved(runs_dir: Path) -> int | None:
    """The step of the last checkpoint that can be read."""
    (folder,) = [path for path in runs_dir.glob(".stacks/*") if path.is_dir()]
    state = load_checkpoint(folder, lambda message: None)
    return None if state is None else state["step"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The model of a run that nothing disturbed."""
    runs_dir = tmp_path_factory.mktemp("whole")
    bn_in(runs_dir, "train", *LONG)
    return list_runs(runs_dir)[0].model_pt.read_bytes()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, of 16 MB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(disk)], capture_output=True).returncode != 0:
        pytest.skip("mounting needs root: the injected errors below are what is tested here")
    yield disk
    subprocess.run(["umount", "--lazy", str(disk)], check=True)


def fill(disk: Path) -> Path:
    """A file that takes all that is left."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file:
        for size in (2**16, 2**12, 1):
            with suppress(OSError):
                while True:
                    file.write(b"x" * size)
    return filler


def test_a_disk_that_fills_keeps_the_checkpoint_and_the_same_command_goes_on(small_disk: Path, whole: bytes) -> None:
    runs_dir = small_disk / "runs"
    process = start("train", *LONG, runs_dir=runs_dir)
    wait_for(lambda: bool(list(runs_dir.glob(".stacks/*/checkpoint.prev.pt"))), process)
    filler = fill(small_disk)
    err = ended(process, code=1)
    assert is_one_sentence(err, "No space left on device"), err
    assert f"`bnexp resume {list_runs(runs_dir)[0].id}` resumes it" in err
    step = saved(runs_dir)
    assert step
    assert step % 10 == 0
    filler.unlink()
    assert f"Resuming at step {step} of 400" in bn_in(runs_dir, "train", *LONG).stderr
    assert list_runs(runs_dir)[0].model_pt.read_bytes() == whole


@pytest.mark.slow
def test_a_disk_that_is_full_from_the_start_is_one_sentence(small_disk: Path) -> None:
    filler = fill(small_disk)
    assert is_one_sentence(ended(start("train", *SHORT, runs_dir=small_disk / "runs"), code=1), "No space left on device")
    filler.unlink()
    train(small_disk / "runs")


def test_a_disk_that_cannot_be_written(small_disk: Path) -> None:
    train(small_disk / "runs")
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    assert is_one_sentence(ended(start("train", *SHORT, "seed=1", runs_dir=small_disk / "runs"), code=1), "Read-only file system")
    out = bn_in(small_disk / "runs", "train", *SHORT, "--json").stdout
    assert json.loads(out)["status"] == "finished"  # what is there can be looked at


@pytest.mark.parametrize("what", [pytest.param("the runs folder", marks=pytest.mark.slow), "the run's folder"])
def test_a_folder_that_goes_away(what: str, tmp_path: Path, whole: bytes) -> None:
    runs_dir = tmp_path / "runs"
    process = start("train", *LONG, runs_dir=runs_dir)
    wait_for(lambda: bool(list(runs_dir.glob(".stacks/*/checkpoint.pt"))), process)
    (run,) = list_runs(runs_dir)
    (runs_dir if what == "the runs folder" else run.folder).rename(tmp_path / "moved")
    err = ended(process, code=1)
    assert is_one_sentence(err, "No such file or directory"), err
    bn_in(runs_dir, "train", *LONG)
    assert run.model_pt.read_bytes() == whole


class Failing:
    """An error in place of every write of a whole file from the `at`-th on."""

    def __init__(self, at: int, number: int) -> None:
        self.at, self.number, self.count = at, number, 0

    def __call__(self, descriptor: int) -> None:
        self.count += 1
        if self.count >= self.at:
            raise OSError(self.number, os.strerror(self.number))


def train(runs_dir: Path, code: int = 0) -> str:
    """What it says on stderr."""
    return bn_in(runs_dir, "train", *SHORT, code=code).stderr


@pytest.mark.slow
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EIO])
def test_whichever_write_fails_the_same_command_ends_with_the_same_bits(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted = Failing(10**6, number)
    monkeypatch.setattr(files.os, "fsync", counted)
    train(tmp_path / "whole")
    (whole,) = list_runs(tmp_path / "whole")
    assert counted.count >= 7  # config, curves, summary, plan, two checkpoints or more, model, summary
    for at in range(1, counted.count + 1, 1 if number == errno.ENOSPC else 5):
        runs_dir = tmp_path / str(at)
        monkeypatch.setattr(files.os, "fsync", Failing(at, number))
        assert is_one_sentence(train(runs_dir, code=1), os.strerror(number)), at
        assert not list(runs_dir.rglob("*.tmp"))
        monkeypatch.setattr(files.os, "fsync", counted)
        train(runs_dir)
        (run,) = list_runs(runs_dir)
        assert run.model_pt.read_bytes() == whole.model_pt.read_bytes()


def test_logs_are_on_disk_before_the_checkpoint_and_names_after_the_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the machine goes down, what was not brought to disk is lost, in any order."""
    fsync = os.fsync
    done: list[tuple[str, int]] = []

    def seen(descriptor: int) -> None:
        done.append((str(Path(f"/proc/self/fd/{descriptor}").readlink()), os.fstat(descriptor).st_size))
        fsync(descriptor)

    sizes: list[dict[str, int]] = []

    def saved_now(folder: Path, state: dict[str, Any]) -> None:
        (run,) = list_runs(tmp_path)
        logs = {str(path): path.stat().st_size for path in run.folder.iterdir() if path.suffix == ".jsonl" or ".tfevents." in path.name}
        assert logs.items() <= dict(done).items()
        sizes.append(logs)
        save_checkpoint(folder, state)

    monkeypatch.setattr(files.os, "fsync", seen)
    monkeypatch.setattr("bnexp.execution.job.save_checkpoint", saved_now)
    train(tmp_path)
    assert len(sizes) == 3
    assert len(sizes[0]) == 2
    assert all(one[name] > before[name] for before, one in itertools.pairwise(sizes) for name in one)
    (run,) = list_runs(tmp_path)
    paths = [path for path, _ in done]
    for at, path in enumerate(paths):
        if path.endswith(".tmp"):
            assert paths[at + 1] == str(Path(path).parent), path
    assert {str(tmp_path), str(tmp_path / ".stacks")} <= set(paths)  # where the new folders have their names
    assert (str(run.metrics_jsonl), run.metrics_jsonl.stat().st_size) in done  # with the scores of the end


def test_an_error_of_tensorboards_writer_is_one_sentence_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """It writes in a thread of its own, whose traceback would come on top."""
    from tensorboard.summary.writer.record_writer import RecordWriter

    def full(self: RecordWriter, data: bytes) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(RecordWriter, "write", full)
    train(tmp_path / "first", code=1)  # which imports what it needs
    before = len(list(Path("/proc/self/fd").iterdir()))
    err = train(tmp_path, code=1)
    assert len(list(Path("/proc/self/fd").iterdir())) == before  # every log file is closed, whatever becomes of the others
    assert is_one_sentence(err + capfd.readouterr().err, "No space left on device")
    monkeypatch.undo()
    train(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["0", "2"])
def test_the_other_runs_of_a_sweep_go_on(workers: str, tmp_path: Path) -> None:
    sweep = ["sweep", "norm", "--values", "batch,none", "--seeds", "1", *LONG, "--workers", workers, "--json"]
    process = start(*sweep, runs_dir=tmp_path / "runs")
    wait_for(lambda: bool(list((tmp_path / "runs").glob("batch-*/metrics.jsonl"))), process)
    (gone,) = (tmp_path / "runs").glob("batch-*")
    shutil.move(gone, tmp_path / "moved")
    out, err = process.communicate(timeout=120)
    assert process.returncode == 3, (out, err)
    assert "Traceback" not in err
    found = json.loads(out)
    assert list(found["failed"]) == [gone.name]
    assert "No such file or directory" in found["failed"][gone.name]
    assert {run["status"] for run in found["runs"] if run["id"] != gone.name} == {"finished"}
    with no_pages():
        bn_in(tmp_path / "runs", *sweep)


@pytest.mark.slow
def test_a_disk_that_fills_during_a_sweep(small_disk: Path) -> None:
    runs_dir = small_disk / "runs"
    sweep = ["sweep", "norm", "--values", "batch,none", "--seeds", "2", *LONG, "--workers", "2"]
    process = start(*sweep, runs_dir=runs_dir)
    wait_for(lambda: len(list(runs_dir.glob(".stacks/*/checkpoint.prev.pt"))) == 2, process)
    filler = fill(small_disk)
    err = ended(process, code=3)
    assert "4 of 4 runs failed" in err
    assert "No space left on device" in err
    assert "Traceback" not in err
    filler.unlink()
    with no_pages():
        bn_in(runs_dir, *sweep)
    assert all(run.done for run in list_runs(runs_dir))


@pytest.mark.parametrize("name", ["plan.json", "summary.json"])
def test_a_plan_or_summary_that_the_disk_does_not_give_is_reported_and_the_stack_stays_whole(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupt([CONFIG, CONFIG.replace(seed=1)], tmp_path, monkeypatch)
    first = list_runs(tmp_path)[0]

    def read_plain(path: Path, most: int) -> bytes:
        if path.name == name:
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))
        return whole(path, most)

    whole = files.read_plain
    with monkeypatch.context() as patched:
        patched.setattr(files, "read_plain", read_plain)
        err = bn_in(tmp_path, "resume", first.id, code=1).stderr
    assert is_one_sentence(err, name, os.strerror(errno.EIO))
    bn_in(tmp_path, "resume", first.id)
    assert [run.status for run in list_runs(tmp_path)] == ["finished"] * 2
