"""The runs folder as a whole: which runs it has, which one a name means, and their results."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from msgspec import structs

from bnexp.base.errors import DataError, UsageError, did_you_mean, short
from bnexp.base.locks import is_held
from bnexp.config.fields import show
from bnexp.storage.differences import differing_config
from bnexp.storage.facts import ListedRun
from bnexp.storage.labels import NONE, labels_in
from bnexp.storage.result import Row, RunResult
from bnexp.storage.run import Run, is_run_id

NAMED, KEYS_SHOWN = 5, 4
"""Runs that an error names, and config keys of each."""
COMPARED = 50
"""Runs whose configs are read for an error."""


def list_runs(runs_dir: Path) -> list[Run]:
    """Every run of the folder, oldest first: folders (no links) that a run can be called, with a summary or a config, readable or not."""
    if not runs_dir.is_dir():
        return []
    found = []
    with os.scandir(runs_dir) as entries:
        for entry in entries:
            if is_run_id(entry.name) and entry.is_dir(follow_symlinks=False):
                # Paths as text here and below: with ten thousand runs, pathlib would take as long as the disk.
                stamp = _modified(f"{entry.path}/summary.json") or _modified(f"{entry.path}/config.yaml")
                if stamp is not None:
                    found.append((stamp, entry.name))
    return [Run(runs_dir, name) for _, name in sorted(found)]


def find_run(text: str, runs_dir: Path) -> Run:
    """The run of an id, a unique prefix of one, a path or `last`; an id wins over a path. Raises UsageError where that is not one run."""
    if _exists(exact := Run(runs_dir, text)):  # without listing the others: a command may name a thousand
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
        raise UsageError(f"'{short(text)}' is the beginning of {len(matches)} runs: {_told_apart(matches)}; give more of the id.")
    hint = did_you_mean(text[:200], [run.id for run in runs])
    raise UsageError(
        f"There is no run '{short(text)}' in {runs_dir}.{hint} A RUN is an id, its beginning, a path or last; `bnexp runs` lists them."
    )


def _told_apart(runs: Sequence[Run]) -> str:
    """The first `NAMED` runs, each with its values of the config keys in which the runs differ: `none-s0-4f2a (train.epochs=10), ...`."""
    results = results_of(runs[:COMPARED])
    differing = differing_config([result.config for result in results.values()]) if results else {}
    texts = {}
    for index, name in enumerate(results):
        texts[name] = ", ".join(f"{key}={show(column[index])}" for key, column in [*differing.items()][:KEYS_SHOWN])
    named = [f"{run.id} ({texts[run.id]})" if texts.get(run.id) else run.id for run in runs[:NAMED]]
    return ", ".join([*named, *["..."] * (len(runs) > NAMED)])


def _exists(run: Run) -> bool:
    return is_run_id(run.id) and not run.folder.is_symlink() and (run.summary_json.exists() or run.config_yaml.exists())


def _run_at(text: str) -> Run | None:
    """The run whose folder is at a path; None where there is no folder."""
    path = Path(text).absolute()
    if not text or not os.path.isdir(path):  # noqa: PTH112 (Path's own raises OSError for a name that is too long)
        return None
    if path.is_symlink():
        raise UsageError(f"{short(text, 300)} is a link; name the run itself.")
    run = Run(path.parent, path.name)
    if not is_run_id(run.id) or run.status is None:
        raise UsageError(f"{short(text, 300)} is a folder, but not that of a run.")
    return run


def results_of(runs: Sequence[Run]) -> dict[str, RunResult]:
    """The results of the runs that can be read, by id. One whose process is gone is `interrupted`."""
    found = {}
    for run in runs:
        with suppress(DataError):
            result = run.result()
            found[run.id] = structs.replace(result, status="interrupted") if _is_abandoned(run, result.status) else result
    return found


def listed(runs_dir: Path, *, with_config: bool = False) -> list[ListedRun]:
    """The runs of the folder as a list shows them, oldest first; one that cannot be read is `unreadable`."""
    found = []
    for run in list_runs(runs_dir):
        try:
            one = run.listed(with_config=with_config)
        except DataError:
            one = ListedRun(run.id, "unreadable")
        found.append(structs.replace(one, status="interrupted") if _is_abandoned(run, one.status) else one)
    return found


def rows(runs_dir: Path, runs: Sequence[Run] | None = None) -> list[Row]:
    """One flat row a run of the folder, oldest first, or of the `runs` of it. `tags` and `note` are in a row where the run has them. A run
    that cannot be read has its id and the status `unreadable`."""
    runs = list_runs(runs_dir) if runs is None else runs
    results, labels = results_of(runs), labels_in(runs_dir, (run.id for run in runs))
    unlabelled = [results[run.id].row() if run.id in results else Row(id=run.id, status="unreadable") for run in runs]
    return [{**row, **labels.get(run.id, NONE).plain()} for run, row in zip(runs, unlabelled, strict=True)]


def _is_abandoned(run: Run, status: str) -> bool:
    return status == "running" and not is_held(run.lock)


def _modified(path: str) -> int | None:
    try:
        return os.stat(path).st_mtime_ns  # noqa: PTH116
    except OSError:
        return None
