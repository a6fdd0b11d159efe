"""Stacks' folders: what a removal that was cut short leaves goes with the next command, and nothing that is needed."""

from pathlib import Path
from typing import Any

import pytest
from support import CONFIG, bn_in, interrupt

from bnexp.base.files import read_checked_json, write_checked_json
from bnexp.execution.launch import launch
from bnexp.storage.folder import list_runs
from bnexp.storage.group import Group
from bnexp.storage.run import locked
from bnexp.storage.stack_folder import drop_spent


@pytest.fixture
def runs_dir(tmp_path: Path) -> Path:
    return tmp_path / "runs"


@pytest.mark.parametrize("at", range(5))
def test_a_stack_whose_removal_was_cut_short_goes_with_the_next_command(at: int, runs_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kill, or an unlink that fails, at each file: once the plan went first, and nobody knew whose the checkpoints were."""
    interrupt([CONFIG, CONFIG.replace(seed=1)], runs_dir, monkeypatch)
    (folder,) = (runs_dir / ".stacks").iterdir()
    kept = sorted(path.name for path in folder.iterdir())
    assert kept == ["checkpoint.prev.pt", "checkpoint.pt", "plan.json"]
    left = [at]

    def cut_short(delete: Any) -> Any:
        def touched(path: Path, *args: Any, **kwargs: Any) -> None:
            if path.is_relative_to(folder):
                left[0] -= 1
                if left[0] < 0:
                    raise PermissionError
            delete(path, *args, **kwargs)

        return touched

    with monkeypatch.context() as patch:
        for name in ("unlink", "rmdir"):
            patch.setattr(Path, name, cut_short(getattr(Path, name)))
        bn_in(runs_dir, "runs", "rm", *[run.id for run in list_runs(runs_dir)])
    assert folder.exists() == (at < 4)
    assert (folder / "plan.json").exists() == (at < 3)
    launch([CONFIG.replace(seed=2)], runs_dir, quiet=True)  # another run
    assert not list((runs_dir / ".stacks").iterdir())


def test_a_stacks_folder_without_a_plan_is_deleted(runs_dir: Path, tmp_path: Path) -> None:
    """Earlier versions, and kills before the plan was stored, left such."""
    stacks = runs_dir / ".stacks"
    (left := stacks / "0123abcd").mkdir(parents=True)
    (left / "checkpoint.pt").write_bytes(b"x")
    (stacks / "stop-host.1.0123abcd").touch()
    (outside := tmp_path / "outside").mkdir()
    (outside / "mine").touch()
    drop_spent(runs_dir)
    assert [path.name for path in stacks.iterdir()] == ["stop-host.1.0123abcd"]
    (stacks / "4567cdef").symlink_to(outside)
    drop_spent(runs_dir)
    assert (outside / "mine").exists()


def test_a_stack_that_another_process_works_on_stays(runs_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between its plan and the first summaries nothing but the locks tells so."""
    interrupt([CONFIG], runs_dir, monkeypatch)
    (run,) = list_runs(runs_dir)
    run.summary_json.unlink()
    with locked([run], waiting=None):
        drop_spent(runs_dir)
        assert len(list((runs_dir / ".stacks").iterdir())) == 1
    drop_spent(runs_dir)
    assert not list((runs_dir / ".stacks").iterdir())


def test_a_run_twice_in_a_stored_plan_does_not_wait_for_itself(runs_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    interrupt([CONFIG], runs_dir, monkeypatch)
    (run,), (stack,) = list_runs(runs_dir), (runs_dir / ".stacks").iterdir()
    member = read_checked_json(stack / "plan.json", 1)["members"][0]
    write_checked_json(stack / "plan.json", {"members": [member, member]}, 1)
    with locked([run, run], waiting=None):
        pass
    bn_in(runs_dir, "resume", run.id)
    assert run.done
    group = Group(runs_dir, "0123abcd")
    group.store_plan([["a-0", "a-0"], ["b-0", "b-1"]])
    assert group.plan() == [["b-0", "b-1"]]
