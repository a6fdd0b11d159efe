"""A stack's folder: which runs it has, its checkpoints, and when both are deleted."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from bnexp.base.errors import BnexpError, UnreadableError, UsageError, reason
from bnexp.base.files import make_folder, read_checked_json, write_checked_json
from bnexp.base.locks import holding
from bnexp.config import Config, from_mapping, to_mapping
from bnexp.storage.run import FORMAT, Run, hidden_folder, is_run_id, locked


@dataclass(frozen=True)
class StackFolder:
    """Where a stack keeps its plan and its checkpoints until all members are finished."""

    runs_dir: Path
    id: str

    @property
    def folder(self) -> Path:
        return hidden_folder(self.runs_dir, ".stacks", self.id)

    @property
    def plan_json(self) -> Path:
        return self.folder / "plan.json"

    @property
    def lock(self) -> Path:
        """Held for the moment in which any stack's folder gets its plan, or one without is deleted."""
        return hidden_folder(self.runs_dir, ".locks") / "stacks.lock"

    def start(self, members: Sequence[Run], configs: Sequence[Config]) -> None:
        """Stores the plan, with the members' configs: a member whose folder was removed is still needed for the others' bits."""
        plan = [{"id": run.id, "fresh": run.fresh, "config": to_mapping(config)} for run, config in zip(members, configs, strict=True)]
        with holding(self.lock, lambda: None):
            make_folder(self.folder)
            write_checked_json(self.plan_json, {"members": plan}, FORMAT)

    def members(self) -> list[tuple[Run, Config]]:
        """The stack's runs and configs in order; none without a usable plan. UnreadableError where the system does not let it be read."""
        try:
            plan = read_checked_json(self.plan_json, FORMAT)["members"]
            found = [(Run(self.runs_dir, member["id"], bool(member["fresh"])), from_mapping(member["config"])) for member in plan]
        except (FileNotFoundError, NotADirectoryError, ValueError, KeyError, TypeError, BnexpError):
            return []
        except OSError as error:
            raise UnreadableError(f"{self.plan_json} cannot be read: {reason(error)}.") from None
        ids = {run.id for run, _ in found if is_run_id(run.id)}
        return found if len(ids) == len(found) else []

    def is_needed_by(self, run: Run) -> bool:
        """Whether an unfinished run goes back to this stack. One whose summary cannot be read may."""
        return run.summary_json.exists() and not run.done and stack_id_of(run) in (self.id, None)

    def remove(self) -> None:
        """Deletes the folder as far as the disk allows; the plan last, so that `drop_spent` finds the rest."""
        with suppress(OSError):
            for path in sorted(self.folder.iterdir(), key=self.plan_json.__eq__):
                path.unlink()
            self.folder.rmdir()


def stack_of(runs: Sequence[Run]) -> StackFolder:
    """The stack of exactly these runs in this order; one of successors is another than one of the runs themselves."""
    text = "\n".join(run.id + "+fresh" * run.fresh for run in runs)
    return StackFolder(runs[0].runs_dir, hashlib.sha256(text.encode()).hexdigest()[:8])


def planned_with(run: Run) -> list[tuple[Run, Config]]:
    """The runs and configs of the stack that an unfinished run was started in, in order; none without a plan. Errors as `members`."""
    stack_id = stack_id_of(run)
    planned = StackFolder(run.runs_dir, stack_id).members() if stack_id is not None and is_run_id(stack_id) else []
    return planned if run in [member for member, _ in planned] else []


def recover(runs: Sequence[Run]) -> None:
    """Ends what a killed process left half done about the runs and any stack beside them, unless another process works on it."""
    for run in runs:
        if run.folder.exists() or run.successor.folder.exists():
            with suppress(UsageError, OSError), locked([run], waiting=None):
                run.settle()
    for runs_dir in {run.runs_dir for run in runs}:
        drop_spent(runs_dir)


def drop_spent(runs_dir: Path) -> None:
    """Deletes each stack's folder that no unfinished run needs, or that has no plan: a process was killed before it was stored, or after it
    was deleted. Each plan takes a tenth of a millisecond a member to read."""

    def busy() -> NoReturn:
        raise BlockingIOError

    for path in (runs_dir / ".stacks").glob("*/"):
        stack = StackFolder(runs_dir, path.name)
        with suppress(UsageError, UnreadableError, OSError):
            members = [run for run, _ in stack.members()]
            if members and not any(map(stack.is_needed_by, members)):
                with locked(members, waiting=None):
                    if not any(map(stack.is_needed_by, members)):
                        stack.remove()
            elif not members and not stack.plan_json.exists():
                with holding(stack.lock, busy):
                    if not stack.plan_json.exists():
                        stack.remove()


def stack_id_of(run: Run) -> str | None:
    """The stack that the run's summary names; None where it is damaged. Raises UnreadableError where the system does not let it be read."""
    try:
        return run.result().stack.id
    except UnreadableError:
        raise
    except BnexpError:
        return None
