"""`kill`: SIGKILL at seeded random moments of a small training (a first one, a resumed one, one that replaces finished runs), of a removal,
and of a small sweep. Each time the same command is given again, and must end with the bits and the files of one that was not killed.

A moment falls into a phase (planning, training, evaluation, checkpoint, the last summaries, the replacing of runs, their removal, results,
report), into a touch of a file, or anywhere at all; one in four times the second try is killed, too. What is compared: the bytes of
config.yaml and model.pt, every number of metrics.jsonl, summary.json, the event files, and the sweep's results, other than times; and the
names of all files. Lock files are among these: they stay, killed or not.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from faults_child import PHASES
from faults_same import contents, difference
from faults_tried import STOPPED, Tried, silent

from bnexp.storage.run import Run

SMALL = ("data.subset=500", "train.batch_size=32", "train.eval_every=20", "train.checkpoint_every=10", "metrics.every=40")
TRAIN = ("train", "train.steps=100", *SMALL, "--seeds", "2")
COMMANDS = {
    "train": TRAIN,
    "train --fresh": (*TRAIN, "--fresh"),
    "resume": ("resume", "last"),
    "runs rm": ("runs", "rm", "batch-bs32-lr0.1-s0"),
    "sweep": ("sweep", "norm", "--values", "batch,none", "--seeds", "2", "train.steps=60", *SMALL, "--workers", "0"),
    "sweep with workers": ("sweep", "norm", "--values", "batch,none", "--seeds", "2", "train.steps=60", *SMALL, "--workers", "2"),
}
BEFORE = {"train --fresh": "trained", "runs rm": "trained", "resume": "interrupted"}
"""What is there before a command: the runs of `TRAIN`, to their end or to step 50."""
BY_TOUCH = ("promotion", "removal")
"""Phases that are over in milliseconds: a moment in them is a touch of a file."""
LIMIT_S = 300
TOO_LATE = "too late"
"""The process had ended before the moment came; nothing was killed."""


@dataclass(frozen=True)
class Moment:
    """When to kill: at the `call`-th (by share) call of a phase, `share` of its usual duration after it began."""

    command: str
    phase: str
    call: float
    share: float
    whole_group: bool
    """Kill the workers, too, as a machine that goes down does; else they see their parent die."""
    again: bool
    """Kill the second try as well, after a share of its time."""

    def __str__(self) -> str:
        where = "" if self.phase == "anywhere" else f", call at {self.call:.0%}"
        return f"{self.command}: {self.phase}{where}, {self.share:.0%} of it{', and once more' * self.again}"


@dataclass
class Whole:
    """What a command gave that was not killed, and how long its phases took."""

    seconds: float
    files: int
    phases: dict[str, list[float]]
    touches: dict[str, tuple[int, int]]
    """The first and the last touch of a file in each phase."""
    result: dict[str, Any]


def moments(count: int, seed: int) -> Iterator[Moment]:
    """`count` moments, the same for the same seed; commands and phases take turns, in an order of their own for each seed."""
    chance = random.Random(seed)
    places = [("train", phase) for phase in ("training", "evaluation", "checkpoint", "ending", "planning")]
    places += [("train --fresh", phase) for phase in ("promotion", "promotion", "promotion", "ending", "checkpoint", "a file")]
    places += [("resume", phase) for phase in ("training", "ending", "a file")] + [("runs rm", "removal")] * 3
    places += [("sweep", phase) for phase in PHASES if phase not in BY_TOUCH]
    places += [(command, "a file") for command in ("train", "train", "sweep", "sweep")]
    places += [("sweep with workers", "anywhere")] * 4 + [("train", "anywhere")]
    turn: list[tuple[str, str]] = []
    for _ in range(count):
        if not turn:
            turn = chance.sample(places, len(places))
        command, phase = turn.pop()
        yield Moment(command, phase, chance.random(), chance.random(), chance.random() < 0.5, chance.random() < 0.25)


def try_kills(count: int, seed: int, say: Callable[[str], None] = silent) -> Tried:
    """Kills at `count` moments, which are counted by their phase; see the module."""
    tried, wholes = Tried(), dict[str, Whole]()
    with tempfile.TemporaryDirectory(prefix="bnexp-faults-") as name:
        folders = Path(name)
        for number, moment in enumerate(moments(count, seed)):
            if moment.command not in wholes:
                _prepare(moment.command, folders, whole := folders / f"whole-{len(wholes)}")
                wholes[moment.command] = _uninterrupted(moment.command, whole)
            _prepare(moment.command, folders, folder := folders / f"moment-{number}")
            problem, killed = _try(moment, wholes[moment.command], folder)
            tried.counts[moment.phase] += 1
            tried.counts[TOO_LATE] += not killed
            if problem:
                tried.problems.append(f"{moment}: {problem}")
            say(f"{number + 1:3} of {count}  {moment}{'' if killed else ' (ended before)'}{f'  LOST: {problem}' if problem else ''}")
            shutil.rmtree(folder, ignore_errors=True)
    return tried


def _prepare(command: str, folders: Path, folder: Path) -> None:
    """Puts what a command finds before it into `folder`."""
    if command not in BEFORE:
        return
    made = folders / BEFORE[command]
    if not made.exists():
        bnexp = ["-c", STOPPED, "50"] if made.name == "interrupted" else ["-m", "bnexp"]
        line = [sys.executable, *bnexp, *TRAIN, "--runs-dir", str(made), "--quiet"]
        done = subprocess.run(line, capture_output=True, text=True, timeout=LIMIT_S)
        if done.returncode != (130 if made.name == "interrupted" else 0):
            raise RuntimeError(f"{command} cannot be prepared: {done.stderr}")
    shutil.copytree(made, folder)


def _uninterrupted(command: str, folder: Path) -> Whole:
    begun = time.perf_counter()
    process = _Watched(command, folder)
    phases: dict[str, list[float]] = {}
    open_: dict[str, list[float]] = {}
    touches: dict[str, tuple[int, int]] = {}
    files = 0
    for line in process.lines():
        phase, *what = line.split()
        if phase == "files":
            files = int(what[0])
        elif what[0] == "begin":
            open_.setdefault(phase, []).append(time.perf_counter())
            touches.setdefault(phase, (int(what[1]) + 1, 0))
        else:
            phases.setdefault(phase, []).append(time.perf_counter() - open_[phase].pop())
            touches[phase] = (touches[phase][0], int(what[1]))
    code, text = process.end()
    if code != 0:
        raise RuntimeError(f"{command} does not work at all: {text}")
    return Whole(time.perf_counter() - begun, files, phases, touches, contents(folder))


def _try(moment: Moment, whole: Whole, folder: Path) -> tuple[str | None, bool]:
    """What was lost at a moment, or None; and whether it came before the process's end."""
    killed = _kill(moment, whole, folder)
    if moment.again:
        anywhere = Moment(moment.command, "anywhere", 0, 0.3 + 0.7 * moment.share, moment.whole_group, False)
        _kill(anywhere, whole, folder)
    if moment.command == "train --fresh" and (lost := [name for name in _finished(whole) if not _is_kept(folder, name)]):
        return f"{lost[0]} is neither finished nor replaced", killed
    done = subprocess.run(_plain(moment.command, folder), capture_output=True, text=True, timeout=LIMIT_S)
    gone = moment.command == "runs rm" and done.returncode == 2 and "There is no run" in done.stderr  # it was removed before the kill
    if done.returncode != 0 and not gone:
        return f"exit {done.returncode}: {done.stderr[-500:]}", killed
    if "Traceback" in done.stderr:
        return f"a traceback: {done.stderr[-500:]}", killed
    return difference(whole.result, contents(folder)), killed


def _kill(moment: Moment, whole: Whole, folder: Path) -> bool:
    first, last = (1, whole.files) if moment.phase == "a file" else whole.touches.get(moment.phase, (0, 0))
    by_touch = moment.phase in ("a file", *BY_TOUCH)
    at = first + int(moment.call * (last - first + 1)) if by_touch else 0
    process = _Watched(moment.command, folder, at)
    if moment.phase == "anywhere":
        try:
            process.process.wait(timeout=moment.share * whole.seconds)
            process.end()
            return False
        except subprocess.TimeoutExpired:
            return process.kill(moment.whole_group)
    calls = whole.phases.get(moment.phase, [0.0])
    left = 1 + int(moment.call * len(calls))
    for line in process.lines():
        if line == "killed itself":
            process.end()
            return True
        left -= line.startswith(f"{moment.phase} begin ")
        if left == 0 and not by_touch:
            time.sleep(moment.share * calls[min(int(moment.call * len(calls)), len(calls) - 1)])
            return process.kill(moment.whole_group)
    process.end()
    return False


class _Watched:
    """The command in work, in a process group of its own."""

    def __init__(self, command: str, folder: Path, at: int = 0) -> None:
        read, write = os.pipe()
        child = Path(__file__).with_name("faults_child.py")
        line = [sys.executable, str(child), str(write), str(at), *_arguments(command, folder)]
        self.log = tempfile.TemporaryFile("w+")  # noqa: SIM115 (it lives as long as the process)
        self.process = subprocess.Popen(line, stdout=self.log, stderr=self.log, pass_fds=[write], start_new_session=True)
        os.close(write)
        self._pipe = os.fdopen(read)

    def lines(self) -> Iterator[str]:
        for line in self._pipe:
            yield line.strip()

    def kill(self, whole_group: bool) -> bool:
        """Whether it had not ended before."""
        if whole_group:
            os.killpg(self.process.pid, signal.SIGKILL)
        else:
            self.process.kill()
        return self.end()[0] == -signal.SIGKILL

    def end(self) -> tuple[int, str]:
        code = self.process.wait(timeout=LIMIT_S)
        self._pipe.close()
        self.log.seek(0)
        text = self.log.read()
        self.log.close()
        return code, text


def _arguments(command: str, folder: Path) -> list[str]:
    return [*COMMANDS[command], "--runs-dir", str(folder), "--quiet", "--json"]


def _plain(command: str, folder: Path) -> list[str]:
    return [sys.executable, "-m", "bnexp", *_arguments(command, folder)]


def _finished(whole: Whole) -> list[str]:
    """The runs that a command leaves."""
    return [name.removesuffix("/model.pt") for name in whole.result if name.endswith("/model.pt")]


def _is_kept(folder: Path, name: str) -> bool:
    """Whether a finished run is there, or a complete successor that the next command puts into its place."""
    run = Run(folder, name)
    return run.done or run.successor.done
