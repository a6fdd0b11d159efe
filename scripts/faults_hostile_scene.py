"""What a case of hostile run folders may spoil, and how: `Folder`, `Case`, and the ways to write what no program of ours would."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bnexp.base.files import write_checked_json
from bnexp.storage.run import Run

SECRET = "the-content-of-a-private-file"


@dataclass
class Folder:
    """What a case may spoil, and the outside that nothing may reach."""

    runs_dir: Path
    finished: Run
    interrupted: Run
    outside: Path
    marker: Path
    """Made by whatever is executed."""

    def each(self, spoil: Callable[[Run], object]) -> None:
        """The same to the finished and to the interrupted run."""
        for run in (self.finished, self.interrupted):
            spoil(run)

    @property
    def stack(self) -> Path:
        return next(path for path in (self.runs_dir / ".stacks").iterdir() if path.is_dir())

    @property
    def group(self) -> Path:
        return next((self.runs_dir / ".groups").iterdir())

    @property
    def page(self) -> Path:
        """The folder of the sweep's page."""
        return next((self.runs_dir / "reports").iterdir())

    @property
    def events(self) -> Path:
        """The event file of the unfinished run."""
        return next(self.interrupted.folder.glob("events*"))

    def lock(self, run: Run) -> Path:
        return self.runs_dir / ".locks" / f"{run.id}.lock"

    def secret(self) -> Path:
        return self.outside / "secret.txt"

    def change(self, run: Run, change: Callable[[dict[str, Any]], None]) -> None:
        """A change of a summary, with a new checksum."""
        summary = run.result().tree()
        change(summary)
        write_checked_json(run.summary_json, summary, 1)

    def change_both(self, change: Callable[[dict[str, Any]], None]) -> None:
        self.each(lambda run: self.change(run, change))

    def put_model(self, data: bytes) -> None:
        """A model.pt with its digest."""
        self.finished.model_pt.write_bytes(data)
        self.change(self.finished, lambda summary: summary["files"].update({"model.pt": hashlib.sha256(data).hexdigest()}))

    def write_both(self, name: str, text: str) -> None:
        """One file of both runs."""
        self.each(lambda run: (run.folder / name).write_text(text))


@dataclass(frozen=True)
class Case:
    """One way to spoil a folder, and the commands that have to do with what is spoiled: one of them at least opens it, or names it."""

    spoil: Callable[[Folder], None]
    commands: tuple[str, ...]
    file: str = ""
    """Which of several spoiled files that must be."""
    ignored: bool = False
    """The promise is that no command does."""


def link(path: Path, target: Path) -> None:
    """A link in the place of whatever is there."""
    clear(path)
    path.symlink_to(target)


def second_name(path: Path, target: Path) -> None:
    """A hard link in the place of whatever is there."""
    clear(path)
    os.link(target, path)


def pipe(path: Path, target: Path | None = None) -> None:
    """A pipe without a writer, in the place of what is there."""
    clear(path)
    os.mkfifo(path)


def clear(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
