"""The runs folder as a whole: what is there, which run a name means, and runs as flat rows."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from bnexp.base.errors import BnexpError, DataError, UsageError, did_you_mean, short
from bnexp.base.locks import is_held
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
    """The run whose folder is at a path; None where no folder is. What is there must say itself that it is this run."""
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
        is_run = run.summary()["id"] == run.id
    except BnexpError:
        is_run = False
    if not is_run:
        raise UsageError(f"{short(text, 300)} is a folder, but not that of a run.")
    return run


def rows(runs_dir: Path, keys: Iterable[str] | None = None) -> list[dict[str, Any]]:
    """One flat row a run of the folder, oldest first, as `rows_of` makes them."""
    return rows_of(list_runs(runs_dir), keys)


def rows_of(runs: Sequence[Run], keys: Iterable[str] | None = None) -> list[dict[str, Any]]:
    """One flat row a run: `id`, `status`, `test.running.accuracy`, `config.optim.lr`, ... A run that cannot be read has the status
    `unreadable`, and one whose process is gone `interrupted`.

    Args:
        keys: what is asked for beside `id` and `status`, where the runs have it; None: all. A dozen keys of ten thousand runs take
            10 MB, all of them 180.
    """
    wanted = None if keys is None else _by_group({"id", "status", *keys})
    found = []
    for run in runs:
        try:
            summary = run.summary()
            row = flatten(summary) if wanted is None else _picked(summary, wanted)
        except DataError:
            row = {"id": run.id, "status": "unreadable"}
        if row["status"] == "running" and not is_held(run.lock):
            row["status"] = "interrupted"
        found.append(row)
    return found


def flatten(tree: dict[str, Any]) -> dict[str, Any]:
    """The leaves of a tree by their dotted keys."""
    found: dict[str, Any] = {}

    def fill(branch: dict[str, Any], prefix: str) -> None:
        for key, value in branch.items():
            if isinstance(value, dict):
                fill(value, f"{prefix}{key}.")
            else:
                found[prefix + key] = value

    fill(tree, "")
    return found


_Wanted = list[tuple[tuple[str, ...], list[tuple[str, str]]]]
"""The path of each dict that holds leaves that are asked for, and these: their name there, and their dotted key."""


def _by_group(keys: Iterable[str]) -> _Wanted:
    groups: dict[tuple[str, ...], list[tuple[str, str]]] = {}
    for key in sorted(keys):
        *path, last = key.split(".")
        groups.setdefault(tuple(path), []).append((last, key))
    return list(groups.items())


def _picked(tree: dict[str, Any], wanted: _Wanted) -> dict[str, Any]:
    """`flatten`, of some keys only."""
    found = {}
    for path, leaves in wanted:
        node: Any = tree
        for name in path:
            node = node.get(name) if isinstance(node, dict) else None
        if isinstance(node, dict):
            for name, key in leaves:
                if name in node and not isinstance(node[name], dict):
                    found[key] = node[name]
    return found


def _modified(path: str) -> int | None:
    try:
        return os.stat(path).st_mtime_ns  # noqa: PTH116
    except OSError:
        return None
