"""Hostile run folders: links, second names, pipes, and names that are no names."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from faults_hostile_scene import Case, Folder, link, pipe, second_name
from faults_hostile_tensors import CHECKPOINT, MODEL
from faults_hostile_texts import CONFIG, CURVES, GROUP, LOGS, SUMMARY

APPENDED = {"metrics.jsonl": CURVES, "train.log": LOGS}
OWN_FILES = {"config.yaml": CONFIG, "summary.json": SUMMARY, "model.pt": MODEL, **APPENDED}
ROOM = ("runs", "report", "train", "resume ID", "runs rm ID")
LOCK = ("train", "resume ID", "runs rm ID")
Put = Callable[[Path, Path], None]
WAYS: dict[str, Put] = {"link to a private file": link, "second name of a private file": second_name, "pipe that nobody writes to": pipe}


def cases() -> dict[str, Case]:
    found = {}
    for what, put in WAYS.items():
        # A second name reads like any file, as backups have them (cp -l); what counts is what would be written under it.
        for name, commands in (APPENDED if put is second_name else OWN_FILES).items():
            found[f"{name} as a {what}"] = Case(_in_both(name, put), commands)
        found[f"an event file as a {what}"] = Case(_one(lambda f: f.events, put), LOGS)
        found[f"locks, each a {what}"] = Case(_locks(put), LOCK)
    for name in ("checkpoint.pt", "plan.json"):
        found[f"{name} as a link"] = Case(_in_stack(name), CHECKPOINT)
    for room in (".stacks", ".fresh", ".groups", ".locks"):
        found[f"{room} as a link to a folder outside"] = Case(_room(room), ROOM)
    return found | {
        "both checkpoints as links": Case(_both_checkpoints, CHECKPOINT, "checkpoint.prev.pt"),
        "a stack as a link to a folder outside": Case(lambda f: link(f.stack, f.outside), ROOM),
        "a sweep's folder as a link to a folder outside": Case(lambda f: link(f.group, f.outside), GROUP),
        "a sweep's figures as a link to a folder outside": Case(lambda f: link(f.page / "figures", f.outside), GROUP),
        "a successor as a link to a folder outside": Case(_successor, ROOM),
        "a run as a link to a folder outside": Case(lambda f: link(f.interrupted.folder, f.outside), ("runs", "train", "resume ID")),
        "a folder whose name is an escape sequence": Case(_named_by_escapes, ("runs", "report"), ignored=True),
    }


def _in_both(name: str, put: Put) -> Callable[[Folder], None]:
    return lambda f: f.each(lambda run: put(run.folder / name, f.secret()))


def _locks(put: Put) -> Callable[[Folder], None]:
    return lambda f: f.each(lambda run: put(f.lock(run), f.secret()))


def _one(path: Callable[[Folder], Path], put: Put) -> Callable[[Folder], None]:
    return lambda f: put(path(f), f.secret())


def _in_stack(name: str) -> Callable[[Folder], None]:
    return lambda f: link(f.stack / name, f.secret())


def _both_checkpoints(f: Folder) -> None:
    for name in ("checkpoint.pt", "checkpoint.prev.pt"):
        link(f.stack / name, f.secret())


def _room(name: str) -> Callable[[Folder], None]:
    return lambda f: link(f.runs_dir / name, f.outside)


def _successor(f: Folder) -> None:
    (f.runs_dir / ".fresh").mkdir(exist_ok=True)
    link(f.runs_dir / ".fresh" / f.finished.id, f.outside)


def _named_by_escapes(f: Folder) -> None:
    f.finished.folder.rename(f.runs_dir / "\x1b[2J-12345678")
