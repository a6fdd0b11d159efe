"""The comparisons and sweeps of a runs folder: what was asked, what is stored of the answer, and the page."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import msgspec
from msgspec import Struct

from bnexp.base.errors import BnexpError, UsageError, did_you_mean, short
from bnexp.base.files import JsonObject, read_plain
from bnexp.storage.group import Group, find_group

SOME = 5
"""That an error names."""
MAX_BYTES = 2**26
"""Of a stored result: that of a thousand runs has two million."""


class Answered(Struct, frozen=True):
    """The sentences of a part, as `analysis.to_json` stores them."""

    answer: tuple[str, ...] = ()


class Result(Answered, frozen=True):
    """A comparison's own part stands at the top, a sweep's are under `results`."""

    results: tuple[Answered, ...] = ()


@dataclass(frozen=True)
class StoredStudy:
    """A comparison or a sweep. `page` is where its page is, or would be."""

    group: Group
    kind: str
    command: str
    runs: int
    """Those that still exist."""
    answer: tuple[str, ...]
    """Empty where it was not answered, or by an earlier version."""
    date: datetime
    """When it was answered, else when it was asked."""

    @property
    def page(self) -> Path:
        new, old = self.group.stored("index.html"), self.group.folder / "report.html"
        return new if new.is_file() or not old.is_file() else old  # what earlier versions wrote

    def plain(self) -> JsonObject:
        """As JSON takes it; the page is null where there is none."""
        known = {"id": self.group.id, "kind": self.kind, "command": self.command, "runs": self.runs, "answer": list(self.answer)}
        return {**known, "date": f"{self.date:%Y-%m-%dT%H:%M:%S}", "page": str(self.page) if self.page.is_file() else None}


def stored_studies(runs_dir: Path) -> list[StoredStudy]:
    """Every comparison and sweep of the folder whose runs are known, oldest first."""
    groups = [Group(runs_dir, path.parent.name) for path in (runs_dir / ".groups").glob("*/members.json") if not path.parent.is_symlink()]
    found = []
    for group in groups:
        with suppress(BnexpError, OSError):  # one that cannot be read must not keep the others from being listed
            found.append(_read(group))
    return sorted(found, key=lambda study: (study.date, study.group.id))


def find_study(text: str, runs_dir: Path) -> StoredStudy:
    """The one of an id, a unique beginning of one, the path of its folder, or `last`. Raises UsageError where that is not one,
    and DataError where it cannot be read."""
    if group := find_group(text, runs_dir):
        return _read(group)
    every = stored_studies(runs_dir)
    found = every[-1:] if text == "last" else [study for study in every if text and study.group.id.startswith(text)]
    if len(found) > 1:
        kinds = ", ".join(f"{study.group.id} ({study.kind}, {study.runs} runs)" for study in found[:SOME])
        raise UsageError(f"'{short(text)}' is the beginning of {len(found)} comparisons and sweeps: {kinds}; give more of it.")
    if not found:
        hint = did_you_mean(text, [study.group.id for study in every])
        raise UsageError(f"There is no comparison and no sweep '{short(text)}' in {runs_dir}.{hint} `bnexp reports` lists them.")
    return found[0]


def _read(group: Group) -> StoredStudy:
    """Raises DataError where members.json cannot be used."""
    stored = group.stored(f"{group.kind.replace(' ', '-')}.json")
    date = (stored if stored.is_file() else group.members_json).stat().st_mtime
    return StoredStudy(group, group.kind, group.command, len(group.members()), _answer(stored), datetime.fromtimestamp(date))


def _answer(path: Path) -> tuple[str, ...]:
    try:
        found = msgspec.json.decode(read_plain(path, MAX_BYTES), type=Result)
    except (OSError, msgspec.DecodeError, RecursionError):
        return ()
    return next((one.answer for one in (found, *found.results) if one.answer), ())
