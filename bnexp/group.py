"""What spans runs: the plan and the results of a sweep or a comparison, in RUNS/.groups/<group id>/."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bnexp.files import atomic_write, finite, write_json
from bnexp.run import Run


@dataclass(frozen=True)
class Group:
    """The runs that one command asked for, whatever their order."""

    runs_dir: Path
    id: str

    @property
    def folder(self) -> Path:
        return self.runs_dir / ".groups" / self.id

    @property
    def plan_json(self) -> Path:
        return self.folder / "plan.json"

    def plan(self) -> list[list[str]]:
        """The stacks as they were planned the first time, by run id; none where there is no readable plan."""
        try:
            stacks = json.loads(self.plan_json.read_text())["stacks"]
            return [[str(name) for name in stack] for stack in stacks]
        except (OSError, ValueError, KeyError, TypeError):
            return []

    def store_plan(self, stacks: Sequence[Sequence[str]]) -> None:
        """Stores what is to be trained now; stacks that were planned before and are done stay, should their runs be removed."""
        now = {name for stack in stacks for name in stack}
        before = [stack for stack in self.plan() if now.isdisjoint(stack)]
        self.folder.mkdir(parents=True, exist_ok=True)
        write_json(self.plan_json, {"stacks": [*stacks, *before]})


def group_of(runs: Sequence[Run]) -> Group:
    """The group of exactly these runs."""
    text = "\n".join(sorted(run.id for run in runs))
    return Group(runs[0].runs_dir, hashlib.sha256(text.encode()).hexdigest()[:8])


def store(folder: Path, name: str, result: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> None:
    """Writes `<name>.json` and `runs.csv`. In the JSON non-finite numbers are null, in the CSV `inf`."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / f"{name}.json", finite(dict(result)))
    with atomic_write(folder / "runs.csv") as file:
        file.write(to_csv(rows).encode())


def to_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows that have the same keys, with a header."""
    text = io.StringIO()
    if rows:
        writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return text.getvalue()
