"""The study of existing runs, or of a stored comparison or sweep: what `bnexp report` and `bnexp export` show."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from msgspec import convert

from bnexp.analysis import Arms, StepTime, Study, analyse, with_step_times
from bnexp.base.errors import UsageError
from bnexp.base.quoting import command_line
from bnexp.storage.folder import list_runs, results_of
from bnexp.storage.group import Group, find_all, group_of
from bnexp.storage.run import Run

LONGEST_MS = 1e9


def stored_study(names: Sequence[str], runs_dir: Path) -> tuple[Study, Group]:
    """The study that `names` name, with its group: runs, or one comparison or sweep by its id; without names all runs of the folder.

    Raises:
        UsageError: a name is unknown, several sweeps are named, or there is no run.
        DataError: the group's files are damaged.
    """
    asked, found = find_all(names, runs_dir), []
    if len(asked) == 1 and isinstance(asked[0], Group):
        group = asked[0]
    else:
        found = [item for item in asked if isinstance(item, Run)] if names else list_runs(runs_dir)
        if len(found) < len(asked):
            raise UsageError("A sweep or comparison is shown alone: give one sweep, or runs.")
        if not found:
            raise UsageError(f"There are no runs in {runs_dir}; `bnexp train` makes one, and --runs-dir names another folder.")
        group = group_of(found)
    if group.members_json.is_file():  # these runs were asked for together, and are shown as they were then
        kind, parts, arms, command = group.kind, group.parts(), Arms.stored(group.arms()), group.command
        if not group.members():
            raise UsageError(f"All runs of {group.id} have been removed: nothing is left to show.")
    else:
        kind, parts, arms, command = "report", {"": found}, None, ""
    members = list({run.id: run for own in parts.values() for run in own}.values())
    times, margin = _measured(group.stored("compare.json")) if kind == "compare" else ({}, None)
    study = analyse(kind, members, results_of(members), parts, arms=arms, command=command or command_line(), margin=margin)
    return with_step_times(study, times) if times else study, group


def _measured(stored: Path) -> tuple[Mapping[str, StepTime], float | None]:
    """The step times and the margin of a comparison of these runs; none where nothing usable was stored."""
    times: dict[str, StepTime] = {}
    margins: list[float] = []
    with suppress(OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        found = json.loads(stored.read_text())
        margins = [float(one["equivalence"]["margin"]) for one in found["comparison"]["headline"]["versus"].values() if one["equivalence"]]
        times = convert(found["step_times"], dict[str, StepTime])
    turns = {len(time.turns_ms) for time in times.values()}
    usable = len(turns) == 1 and turns != {0} and all(0 < ms < LONGEST_MS for time in times.values() for ms in time.turns_ms)
    return times if usable else {}, next((margin for margin in margins if 0 < margin < 1), None)
