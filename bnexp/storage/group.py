"""What spans runs. RUNS/.groups/<group id>/ has the members and the plan of a sweep or a comparison, which only the program needs;
RUNS/reports/<name>-<group id>/ has its results, rows, page and figures, which people open."""

from __future__ import annotations

import hashlib
import io
import json
import re
from collections.abc import Mapping, Sequence
from csv import DictWriter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from bnexp.base.errors import DataError, UsageError
from bnexp.base.files import JsonObject, atomic_write, make_folder, null_nonfinite, read_checked_json, write_checked_json, write_json
from bnexp.base.quoting import command_line, slug
from bnexp.storage.folder import find_run
from bnexp.storage.run import Run, hidden_folder, is_run_id

REPORTS = "reports"
FORMAT = 1
"""Version of members.json and plan.json."""


class Members(Struct, frozen=True, omit_defaults=True):
    """What members.json holds: the runs' ids by part, the command, and the arms of a comparison."""

    parts: dict[str, list[Any]]  # what is no run's id is left out
    kind: str = ""
    command: str = ""
    arms: JsonObject | None = None


@dataclass(frozen=True)
class Group:
    """The runs that one command asked for, whatever their order."""

    runs_dir: Path
    id: str

    @property
    def folder(self) -> Path:
        return hidden_folder(self.runs_dir, ".groups", self.id)

    @property
    def plan_json(self) -> Path:
        return self.folder / "plan.json"

    @property
    def members_json(self) -> Path:
        return self.folder / "members.json"

    def results_folder(self, name: str) -> Path:
        """What people open: the page `index.html`, figures, rows and results. `name` says what the runs are (`Study.name`)."""
        return hidden_folder(self.runs_dir, REPORTS, f"{name}-{self.id}")

    def stored(self, file: str) -> Path:
        """Where a file of what people open is: in the newest `results_folder`, or, of earlier versions, in `folder`."""
        found = [path for path in (self.runs_dir / REPORTS).glob(f"*-{self.id}/{file}") if path.is_file()]
        return max(found, key=lambda path: path.stat().st_mtime_ns, default=self.folder / file)

    def store_members(self, kind: str, parts: Mapping[str, Sequence[Run]], arms: JsonObject | None = None) -> None:
        """Stores which runs these are, for `report` and `tensorboard`. `kind`: `sweep lr`, `compare`; `parts`: the runs by the budget that
        was requested (a run may be in several); `arms`: those of a comparison, as plain values."""
        make_folder(self.folder)
        members = Members({part: [run.id for run in runs] for part, runs in parts.items()}, kind, command_line(), arms)
        write_checked_json(self.members_json, msgspec.to_builtins(members), FORMAT)

    def members(self) -> list[Run]:
        """The group's existing runs, each once; errors as `parts`."""
        return list(dict.fromkeys(run for runs in self.parts().values() for run in runs))

    @property
    def kind(self) -> str:
        return self._members.kind

    @property
    def command(self) -> str:
        """The command line that asked for the runs; empty where none is stored."""
        return self._members.command

    def arms(self) -> JsonObject | None:
        return self._members.arms

    def parts(self) -> dict[str, list[Run]]:
        """The runs that still exist, by part. Raises DataError where members.json cannot be used."""
        runs = {part: [Run(self.runs_dir, name) for name in names if is_run_id(name)] for part, names in self._members.parts.items()}
        return {part: [run for run in own if run.folder.is_dir()] for part, own in runs.items()}

    @property
    def _members(self) -> Members:
        try:
            return msgspec.convert(read_checked_json(self.members_json, FORMAT), Members)
        except (OSError, ValueError, msgspec.ValidationError) as error:
            raise DataError(f"{self.members_json} does not say which runs the group has ({type(error).__name__}).") from None

    def plan(self) -> list[list[str]]:
        """The stacks as they were planned the first time, by run id; none without a readable plan."""
        try:
            stacks = msgspec.convert(read_checked_json(self.plan_json, FORMAT).get("stacks"), list[list[str]])
        except (OSError, ValueError, msgspec.ValidationError):
            return []
        return [stack for stack in stacks if len(set(stack)) == len(stack)]

    def store_plan(self, stacks: Sequence[Sequence[str]]) -> None:
        """Stores what is to be trained now; stacks that were planned before and are done stay, should their runs be removed."""
        now = {name for stack in stacks for name in stack}
        before = [stack for stack in self.plan() if now.isdisjoint(stack)]
        make_folder(self.folder)
        write_checked_json(self.plan_json, {"stacks": [*stacks, *before]}, FORMAT)


def group_of(runs: Sequence[Run]) -> Group:
    text = "\n".join(sorted(run.id for run in runs))
    return Group(runs[0].runs_dir, hashlib.sha256(text.encode()).hexdigest()[:8])


def find_group(text: str, runs_dir: Path) -> Group | None:
    """The sweep or comparison of an id (8 hex digits), or of the path or name of its folder; None where there is none."""
    if re.fullmatch(r"[0-9a-f]{8}", text) and (group := Group(runs_dir, text)).members_json.is_file():
        return group
    path = runs_dir / REPORTS / text if Path(text).name == text else Path(text)
    if path.parent.name in (".groups", REPORTS) and re.fullmatch(r"[0-9a-f]{8}", path.name[-8:]):
        group = Group(path.absolute().parent.parent, path.name[-8:])
        return group if group.members_json.is_file() else None
    return None


def find_all(names: Sequence[str], runs_dir: Path) -> list[Run | Group]:
    """The runs and sweeps that `names` name, each once. Raises UsageError where one names neither."""
    found: dict[Run | Group, None] = {}
    for name in names:
        group = find_group(name, runs_dir)
        try:
            found[group or find_run(name, runs_dir)] = None
        except UsageError as error:
            sweep = "A SWEEP is the 8 hex digits under which `bnexp sweep` or `bnexp compare` stored its results, or their folder."
            raise UsageError(f"{error} {sweep}") from None
    return list(found)


def law_folder(runs_dir: Path, law: Mapping[str, Any]) -> Path:
    """The folder of what `bnexp stats` found: the same result has the same folder, on whatever machine."""
    found = {key: value for key, value in law.items() if key != "environment"}
    digest = hashlib.sha256(json.dumps(found, sort_keys=True).encode()).hexdigest()[:8]
    return hidden_folder(runs_dir, REPORTS, f"stats-{slug(str(found['data']), '-')}-{digest}")


def store(folder: Path, name: str, result: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], csv: str = "runs") -> None:
    """Writes `<name>.json` and `<csv>.csv`. In the JSON non-finite numbers are null, in the CSV `inf`."""
    make_folder(folder)
    write_json(folder / f"{name}.json", null_nonfinite(dict(result)))
    with atomic_write(folder / f"{csv}.csv") as file:
        file.write(to_csv(rows).encode())


def to_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows that have the same keys, with a header. Text that a spreadsheet would compute is led by an apostrophe."""
    text = io.StringIO()
    if rows:
        writer = DictWriter(text, list(rows[0]), lineterminator="\n")
        writer.writerow({key: _uncomputed(key) for key in rows[0]})
        writer.writerows({key: _uncomputed(value) for key, value in row.items()} for row in rows)
    return text.getvalue()


def _uncomputed(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")) else value
