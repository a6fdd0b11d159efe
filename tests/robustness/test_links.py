"""Links and second names inside a run's folder: nothing outside is written through them."""

import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from support import bn_in, cut_short, is_told

from bnexp.base.errors import UsageError
from bnexp.base.files import cut_file, open_log, read_checked_json, write_checked_json
from bnexp.base.locks import holding, is_held
from bnexp.storage.folder import list_runs, results_of
from bnexp.storage.group import group_of, store
from bnexp.storage.run import Run, locked
from bnexp.storage.stack_folder import stack_of

TINY = ["data.subset=100", "train.batch_size=16", "train.steps=8", "train.checkpoint_every=2", "model.widths=[4]"]


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A runs folder with a run that was stopped at step 5 of 8."""
    runs_dir = tmp_path_factory.mktemp("interrupted")
    cut_short(runs_dir, "train", *TINY, steps=5)
    return runs_dir


@pytest.fixture
def run(interrupted: Path, tmp_path: Path) -> Run:
    shutil.copytree(interrupted, tmp_path / "runs")
    (run,) = list_runs(tmp_path / "runs")
    return run


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    victim = tmp_path / "victim.txt"
    victim.write_text("what is mine\n")
    return victim


def named_twice(path: Path, victim: Path) -> None:
    path.unlink(missing_ok=True)
    os.link(victim, path)


def led(path: Path, victim: Path) -> None:
    path.unlink(missing_ok=True)
    path.symlink_to(victim)


@pytest.mark.parametrize("how", [named_twice, led])
@pytest.mark.parametrize("name", ["train.log", "metrics.jsonl", "events.out.tfevents.*"])
def test_no_log_is_written_under_another_name(run: Run, victim: Path, name: str, how: Any) -> None:
    (path,) = run.folder.glob(name)
    how(path, victim)
    result = bn_in(run.runs_dir, "resume", run.id, code=None)
    assert victim.read_text() == "what is mine\n"
    assert is_told(result)
    if how is led and name != "metrics.jsonl":  # which is written anew, as a whole
        assert result.exit_code == 1
        assert result.stderr.count("Error: ") == 1
        assert "it is a link, which is not followed" in result.stderr
        assert str(path) in result.stderr


def test_a_run_that_is_in_a_backup_by_hard_links_goes_on_and_the_backup_stays(run: Run, tmp_path: Path) -> None:
    """What `cp -al` and rsnapshot make: a second name for each file, locks included."""
    backup = tmp_path / "backup"
    shutil.copytree(run.runs_dir, backup, copy_function=os.link)
    before = {path: path.read_bytes() for path in backup.rglob("*") if path.is_file()}
    assert bn_in(run.runs_dir, "resume", run.id, code=None).exit_code == 0
    assert run.done
    assert {path: path.read_bytes() for path in before} == before
    assert bn_in(backup, "resume", run.id, code=None).exit_code == 0
    assert Run(backup, run.id).model_pt.read_bytes() == run.model_pt.read_bytes()


def test_what_is_changed_in_place_has_one_name(tmp_path: Path, victim: Path) -> None:
    named_twice(second := tmp_path / "second", victim)
    cut_file(second, 4)
    assert second.read_text() == "what"
    named_twice(second, victim)
    with open_log(second) as file:
        file.write("ever")
    assert second.read_text() == "what is mine\never"
    assert victim.read_text() == "what is mine\n"


@pytest.mark.parametrize("how", [named_twice, led])
@pytest.mark.parametrize("command", [["resume", "ID"], ["train", *TINY], ["runs", "rm", "ID"], ["runs"]])
def test_no_lock_leads_elsewhere(run: Run, victim: Path, command: list[str], how: Any) -> None:
    """A link is refused, and a second name, which a backup by hard links gives, taken off: the owner is not locked out."""
    how(run.lock, victim)
    result = bn_in(run.runs_dir, *(run.id if word == "ID" else word for word in command), code=None)
    assert victim.read_text() == "what is mine\n"
    if how is named_twice or command == ["runs"]:
        assert result.exit_code == 0, result.stderr
        assert how is led or command == ["runs"] or not run.lock.samefile(victim)
    else:
        assert result.exit_code == 2
        assert result.stderr.splitlines()[-1].startswith(f"Error: {run.lock} is a link, or no file")


def test_a_lock_with_two_names_is_replaced_only_once_nobody_holds_it(tmp_path: Path) -> None:
    lock, backup = tmp_path / "a.lock", tmp_path / "backup"

    def wait() -> None:
        raise BlockingIOError

    assert not is_held(lock)
    with holding(lock, wait):
        os.link(lock, backup)  # while it is held
        assert is_held(lock)
        with pytest.raises(BlockingIOError), holding(lock, wait):
            pass
        assert lock.samefile(backup)
    assert not is_held(lock)
    backup.write_text("kept")
    with holding(lock, wait):
        assert not lock.samefile(backup)
        assert is_held(lock)
        assert not is_held(backup)
    assert backup.read_text() == "kept"


def test_who_waits_for_a_lock_takes_the_new_one(tmp_path: Path) -> None:
    """One that was opened under its name before it got another file is not held for that name."""
    lock = tmp_path / "a.lock"
    waited = []

    def replace() -> None:
        waited.append(lock.unlink())

    with holding(lock, replace), holding(lock, replace):
        assert is_held(lock)
    assert len(waited) == 1


def test_a_killed_run_whose_lock_is_in_a_backup_is_not_running(run: Run, tmp_path: Path) -> None:
    summary = read_checked_json(run.summary_json, 1)
    write_checked_json(run.summary_json, {**summary, "status": "running"}, 1)
    os.link(run.lock, tmp_path / "backup")
    assert results_of([run])[run.id].status == "interrupted"
    with locked([run], waiting=None):
        assert results_of([run])[run.id].status == "running"


@pytest.mark.parametrize("name", [".groups", "reports", ".stacks", ".fresh", ".locks"])
def test_nothing_is_written_where_a_folder_of_ours_leads(run: Run, tmp_path: Path, name: str) -> None:
    (outside := tmp_path / "outside").mkdir()
    shutil.rmtree(run.runs_dir / name, ignore_errors=True)
    (run.runs_dir / name).symlink_to(outside)
    for write in (
        lambda: group_of([run]).store_members("compare", {"": [run]}),
        lambda: store(group_of([run]).results_folder("compare"), "compare", {}, []),
        lambda: stack_of([run]).start([run], [run.config()]),
        lambda: run.successor.start(run.config()),
        lambda: run.lock.touch(),
    ):
        with suppress(UsageError):
            write()
    assert list(outside.iterdir()) == []
    result = bn_in(run.runs_dir, "train", *TINY, "--fresh", code=None)
    assert (f"{name} is a link" in result.stderr) == (result.exit_code == 2) == (name not in (".groups", "reports"))
