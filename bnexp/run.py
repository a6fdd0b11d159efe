"""A run and its folder: id, paths, status. Nothing else knows how the runs folder is laid out.

- RUNS/<id>/                config.yaml summary.json metrics.jsonl model.pt events.out.tfevents.* train.log
- RUNS/.stacks/<stack id>/  plan.json checkpoint.pt checkpoint.prev.pt, until all members are finished
- RUNS/.fresh/<id>/         the successor of a finished run while it is trained (--fresh)
- RUNS/.locks/<id>.lock     held while a run is trained or removed
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from bnexp.config import Config, from_mapping, to_mapping
from bnexp.errors import BnexpError, DataError, UsageError, did_you_mean
from bnexp.files import atomic_write, write_json

DONE = ("finished", "diverged")
"""The statuses of a run that is not trained again."""


@dataclass(frozen=True)
class Run:
    """One run on disk. `fresh` is the successor of a finished run, in a folder of its own until it is complete."""

    runs_dir: Path
    id: str
    fresh: bool = False

    @property
    def folder(self) -> Path:
        return self.runs_dir / ".fresh" / self.id if self.fresh else self.runs_dir / self.id

    @property
    def config_yaml(self) -> Path:
        return self.folder / "config.yaml"

    @property
    def summary_json(self) -> Path:
        return self.folder / "summary.json"

    @property
    def metrics_jsonl(self) -> Path:
        return self.folder / "metrics.jsonl"

    @property
    def model_pt(self) -> Path:
        return self.folder / "model.pt"

    @property
    def train_log(self) -> Path:
        return self.folder / "train.log"

    @property
    def status(self) -> str | None:
        """`finished`, `diverged`, `failed`, `interrupted`, `running`, or None where nothing readable is there."""
        try:
            return str(self.summary()["status"])
        except (BnexpError, KeyError):
            return None

    @property
    def done(self) -> bool:
        return self.status in DONE

    def summary(self) -> dict[str, Any]:
        """The run's summary.json.

        Raises:
            DataError: it is not there or cannot be read.
        """
        try:
            summary = json.loads(self.summary_json.read_text())
        except FileNotFoundError:
            raise DataError(f"Run {self.id} has no summary.json; it was not started properly.") from None
        except (OSError, ValueError) as error:
            raise DataError(f"{self.summary_json} cannot be read ({error}).") from None
        if not isinstance(summary, dict):
            raise DataError(f"{self.summary_json} does not hold a summary.")
        return summary

    def config(self) -> Config:
        """The run's own config, read back without Hydra.

        Raises:
            DataError: config.yaml is missing or not one of ours.
        """
        try:
            return from_mapping(yaml.safe_load(self.config_yaml.read_text()))
        except (OSError, yaml.YAMLError, UnicodeDecodeError, BnexpError) as error:
            raise DataError(f"{self.config_yaml} cannot be used: {error}") from None

    def start(self, config: Config) -> None:
        """Makes the folder with its config."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with atomic_write(self.config_yaml) as file:
            file.write(to_yaml(config).encode())

    def write_summary(self, summary: dict[str, Any]) -> None:
        write_json(self.summary_json, summary)

    def promote(self) -> Run:
        """Puts a complete fresh run in the place of its predecessor."""
        final = Run(self.runs_dir, self.id)
        replaced = self.runs_dir / ".fresh" / f"{self.id}.replaced"
        shutil.rmtree(replaced, ignore_errors=True)
        if final.folder.exists():
            final.folder.replace(replaced)
        self.folder.replace(final.folder)
        shutil.rmtree(replaced, ignore_errors=True)
        return final

    def settle(self) -> None:
        """Ends a replacement that was cut off between its two renames. Call it with the run's lock held."""
        fresh = Run(self.runs_dir, self.id, fresh=True)
        if not self.folder.exists() and fresh.done:
            fresh.promote()

    def remove(self) -> None:
        """Deletes the folder. The summary goes first, so that a half-deleted run is never taken for a finished one."""
        self.summary_json.unlink(missing_ok=True)
        shutil.rmtree(self.folder)


@dataclass(frozen=True)
class StackFolder:
    """Where a stack keeps its plan and its checkpoints until all members are finished."""

    runs_dir: Path
    id: str

    @property
    def folder(self) -> Path:
        return self.runs_dir / ".stacks" / self.id

    def start(self, members: Sequence[Run]) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        write_json(self.folder / "plan.json", {"members": [run.id for run in members], "fresh": members[0].fresh})

    def members(self) -> list[Run]:
        """The stack's runs in their order, or none where no plan is stored."""
        try:
            plan = json.loads((self.folder / "plan.json").read_text())
            return [Run(self.runs_dir, member, plan["fresh"]) for member in plan["members"] if is_run_id(member)]
        except (OSError, ValueError, KeyError, TypeError):
            return []

    def remove(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)


def stack_of(runs: Sequence[Run]) -> StackFolder:
    """The stack of exactly these runs in this order."""
    text = "\n".join(run.id for run in runs)
    return StackFolder(runs[0].runs_dir, hashlib.sha256(text.encode()).hexdigest()[:8])


def planned_with(run: Run) -> list[Run]:
    """The runs that an unfinished run was started with, itself among them, in the order of their stack; none where no plan is stored."""
    try:
        stack_id = run.summary()["stack"]["id"]
    except (BnexpError, KeyError, TypeError):
        return []
    planned = StackFolder(run.runs_dir, stack_id).members() if is_run_id(stack_id) else []
    return planned if run.id in {member.id for member in planned} else []


def drop_spent_plan(run: Run) -> None:
    """Removes the plan and checkpoints of a stack whose members are all done: a kill can leave them behind."""
    planned = planned_with(run)
    if planned and all(member.done for member in planned):
        stack_of(planned).remove()


def is_run_id(text: object) -> bool:
    """Whether `text` can be a folder of ours: one path component that does not begin with a dot."""
    return isinstance(text, str) and bool(text) and not text.startswith(".") and Path(text).name == text


def list_runs(runs_dir: Path) -> list[Run]:
    """Every run of the folder, oldest first."""
    if not runs_dir.is_dir():
        return []
    found = []
    with os.scandir(runs_dir) as entries:
        for entry in entries:
            if not entry.name.startswith(".") and entry.is_dir():
                stamp = _modified(Path(entry.path) / "summary.json")
                if stamp is not None:
                    found.append((stamp, entry.name))
    return [Run(runs_dir, name) for _, name in sorted(found)]


def find_run(text: str, runs_dir: Path) -> Run:
    """The run that an id, a unique prefix of one, a path or `last` names.

    Raises:
        UsageError: none, or more than one.
    """
    path = Path(text)
    if (path / "summary.json").is_file() or (path / "config.yaml").is_file():
        path = path.resolve()
        return Run(path.parent, path.name)
    runs = list_runs(runs_dir)
    if not runs:
        raise UsageError(f"There are no runs in {runs_dir}; `bnexp train` makes one.")
    if text == "last":
        return runs[-1]
    exact = [run for run in runs if run.id == text]
    matches = exact or [run for run in runs if run.id.startswith(text)]
    if len(matches) == 1 and text:
        return matches[0]
    if matches and text:
        some = ", ".join(run.id for run in matches[:5]) + (", ..." if len(matches) > 5 else "")
        raise UsageError(f"'{text}' is the beginning of {len(matches)} runs ({some}); give more of the id.")
    hint = did_you_mean(text, [run.id for run in runs])
    raise UsageError(
        f"There is no run '{text}' in {runs_dir}.{hint} A RUN is an id, its beginning, a path or last; `bnexp runs` lists them."
    )


@contextmanager
def locked(runs: Sequence[Run], waiting: Callable[[str], None] | None, stop: Callable[[], bool] = lambda: False) -> Iterator[None]:
    """Holds the locks of `runs`. A dead process holds none.

    Args:
        waiting: told once of a run that another process holds, before the wait for it; None: do not wait.
        stop: polled while waiting.

    Raises:
        UsageError: another process holds a lock, and there is no waiting.
        InterruptedError: `stop` said so.
    """
    from filelock import FileLock, Timeout

    with ExitStack() as held:
        for run in sorted(runs, key=lambda run: run.id):  # one order for everybody: no deadlock
            folder = run.runs_dir / ".locks"
            folder.mkdir(parents=True, exist_ok=True)
            lock, told = FileLock(folder / f"{run.id}.lock"), False
            while not lock.is_locked:
                try:
                    lock.acquire(timeout=0.2 if told else 0)
                except Timeout:
                    if waiting is None:
                        raise UsageError(f"Another process is working on {run.id}; stop it first.") from None
                    if not told:
                        waiting(run.id)
                        told = True
                    if stop():
                        raise InterruptedError from None
            held.callback(lock.release)
        yield


def rows(runs_dir: Path) -> list[dict[str, Any]]:
    """One flat row a run, oldest first: `id`, `status`, `test.running.accuracy`, `config.optim.lr`, ... Unreadable runs are left out."""
    found = []
    for run in list_runs(runs_dir):
        try:
            found.append(dict(_flatten(run.summary())))
        except DataError:
            continue
    return found


def to_yaml(config: Config) -> str:
    """The whole config as YAML."""
    return yaml.safe_dump(to_mapping(config), sort_keys=False, default_flow_style=None, allow_unicode=True)


def _flatten(tree: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def _modified(path: Path) -> int | None:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return None
