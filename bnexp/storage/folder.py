"""The runs folder as a whole: which runs it has, which one a name means, and their results."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from msgspec import structs

from bnexp.base.errors import BnexpError, DataError, UsageError, did_you_mean, short
from bnexp.base.locks import is_held
from bnexp.storage.listed import ListedRun
from bnexp.storage.result import RunResult
from bnexp.storage.run import Run, is_run_id


def list_runs(runs_dir: Path) -> list[Run]:
    """Every run of the folder, oldest first: folders (no links) with a summary or a config, whether they can be read or not.
    A folder whose name no run can have is none.
    """
    if not runs_dir.is_dir():
        return []
    found = []
    with os.scandir(runs_dir) as entries:
        for entry in entries:
            if is_run_id(entry.name) and entry.is_dir(follow_symlinks=False):
                # Paths as text here and below: a folder may have ten thousand runs, and pathlib would take as long as the disk.
                stamp = _modified(f"{entry.path}/summary.json") or _modified(f"{entry.path}/config.yaml")
                if stamp is not None:
                    found.append((stamp, entry.name))
    return [Run(runs_dir, name) for _, name in sorted(found)]


def find_run(text: str, runs_dir: Path) -> Run:
    """The run that an id, a unique prefix of one, a path or `last` names; an id wins over a path.

    Raises:
        UsageError: none, or more than one, or a folder that is not a run.
    """
    if _is_there(exact := Run(runs_dir, text)):  # without a look at all the others: a command may name a thousand
        return exact
    if (at_path := _run_at(text)) is not None:
        return at_path
    runs = list_runs(runs_dir)
    if not runs:
        raise UsageError(f"There are no runs in {runs_dir}; `bnexp train` makes one.")
    if text == "last":
        return runs[-1]
    matches = [run for run in runs if run.id.startswith(text)]
    if len(matches) == 1 and text:
        return matches[0]
    if matches and text:
        some = ", ".join(run.id for run in matches[:5]) + (", ..." if len(matches) > 5 else "")
        raise UsageError(f"'{short(text)}' is the beginning of {len(matches)} runs ({some}); give more of the id.")
    hint = did_you_mean(text[:200], [run.id for run in runs])
    raise UsageError(
        f"There is no run '{short(text)}' in {runs_dir}.{hint} A RUN is an id, its beginning, a path or last; `bnexp runs` lists them."
    )


def _is_there(run: Run) -> bool:
    """Whether `list_runs` would list it."""
    if not is_run_id(run.id):
        return False
    try:
        return not run.folder.is_symlink() and (run.summary_json.exists() or run.config_yaml.exists())
    except (OSError, ValueError):  # a name too long, or with a NUL
        return False


def _run_at(text: str) -> Run | None:
    """The run whose folder is at a path; None where there is no folder. The files in it must name this run."""
    try:
        path = Path(text).absolute()
        if not text or not path.is_dir():
            return None
    except (OSError, ValueError):  # a name too long, or with a NUL
        return None
    run = Run(path.parent, path.name)
    if not is_run_id(run.id):
        raise UsageError(f"{short(text, 300)} is a folder, but not that of a run.")
    if path.is_symlink():
        raise UsageError(f"{short(text, 300)} is a link; name the run itself.")
    try:
        is_run = run.result().id == run.id
    except BnexpError:
        is_run = False
    if not is_run:
        raise UsageError(f"{short(text, 300)} is a folder, but not that of a run.")
    return run


def results_of(runs: Sequence[Run]) -> dict[str, RunResult]:
    """What the runs say of themselves, by their ids; those that cannot be read are left out. One whose process is gone is `interrupted`."""
    found = {}
    for run in runs:
        with suppress(DataError):
            result = run.result()
            found[run.id] = structs.replace(result, status="interrupted") if _is_abandoned(run, result.status) else result
    return found


def listed(runs_dir: Path) -> list[ListedRun]:
    """The runs of the folder as a list shows them, oldest first; one that cannot be read is `unreadable`."""
    found = []
    for run in list_runs(runs_dir):
        try:
            one = run.listed()
        except DataError:
            one = ListedRun(run.id, "unreadable")
        found.append(structs.replace(one, status="interrupted") if _is_abandoned(run, one.status) else one)
    return found


def rows(runs_dir: Path) -> list[dict[str, Any]]:
    """One flat row a run of the folder, oldest first: `id`, `status`, `test.running.accuracy`, `config.optim.lr`, ... A run that cannot be
    read has the status `unreadable`, and nothing else beside its id."""
    runs = list_runs(runs_dir)
    results = results_of(runs)
    return [results[run.id].row() if run.id in results else {"id": run.id, "status": "unreadable"} for run in runs]


def _is_abandoned(run: Run, status: str) -> bool:
    return status == "running" and not is_held(run.lock)


def _modified(path: str) -> int | None:
    try:
        return os.stat(path).st_mtime_ns  # noqa: PTH116
    except OSError:
        return None
