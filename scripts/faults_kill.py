"""`kill`: SIGKILL at seeded random moments of a small training and of a small sweep. Each time the same command is given again, and must
end with the bits of one that nobody killed, and with the same files.

A moment falls into a phase (planning, training, evaluation, checkpoint, the last summaries, results, report), into a touch of a file, or
anywhere at all; one in four times the second try is killed, too. What is compared: the bytes of config.yaml and model.pt, every number of
metrics.jsonl, summary.json, the event files, and the sweep's results, other than times; and the names of all files.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from faults_child import PHASES

SMALL = ("data.subset=500", "train.batch_size=32", "train.eval_every=20", "train.checkpoint_every=10", "metrics.every=40")
COMMANDS = {
    "train": ("train", "train.steps=100", *SMALL, "--seeds", "2"),
    "sweep": ("sweep", "norm", "--values", "batch,none", "--seeds", "2", "train.steps=60", *SMALL, "--workers", "0"),
    "sweep with workers": ("sweep", "norm", "--values", "batch,none", "--seeds", "2", "train.steps=60", *SMALL, "--workers", "2"),
}
TIMED = ("speed", "written_at", "environment", "reached_train_s", "seconds", "step_ms", "train_s", "metrics.jsonl", "command", "checksum")
"""Parts of keys whose values are times, depend on times, or name the program."""
LIMIT_S = 300


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
    """What a command gave that nobody killed, and how long its phases took."""

    seconds: float
    files: int
    phases: dict[str, list[float]]
    result: dict[str, Any]


@dataclass
class Tried:
    """What became of the moments: how many fell into each phase, and what was lost."""

    moments: dict[str, int] = field(default_factory=dict)
    too_late: int = 0
    """The process had ended before the moment came; nothing was killed."""
    lost: list[str] = field(default_factory=list)

    @property
    def count(self) -> int:
        return sum(self.moments.values())


def moments(count: int, seed: int) -> Iterator[Moment]:
    """`count` moments, the same for the same seed; commands and phases take turns, in an order of their own for each seed."""
    chance = random.Random(seed)
    places = [("train", phase) for phase in ("training", "evaluation", "checkpoint", "ending", "planning")]
    places += [("sweep", phase) for phase in PHASES]
    places += [(command, "a file") for command in ("train", "train", "sweep", "sweep")]
    places += [("sweep with workers", "anywhere")] * 4 + [("train", "anywhere")]
    turn: list[tuple[str, str]] = []
    for _ in range(count):
        if not turn:
            turn = chance.sample(places, len(places))
        command, phase = turn.pop()
        yield Moment(command, phase, chance.random(), chance.random(), chance.random() < 0.5, chance.random() < 0.25)


def try_kills(count: int, seed: int, say: Any = lambda line: None) -> Tried:
    """Kills at `count` moments; see the module."""
    tried, wholes = Tried(), {}
    with tempfile.TemporaryDirectory(prefix="bnexp-faults-") as name:
        for number, moment in enumerate(moments(count, seed)):
            if moment.command not in wholes:
                wholes[moment.command] = _uninterrupted(moment.command, Path(name) / f"whole-{len(wholes)}")
            folder = Path(name) / f"moment-{number}"
            problem, killed = _try(moment, wholes[moment.command], folder)
            tried.moments[moment.phase] = tried.moments.get(moment.phase, 0) + 1
            tried.too_late += not killed
            if problem:
                tried.lost.append(f"{moment}: {problem}")
            say(f"{number + 1:3} of {count}  {moment}{'' if killed else ' (ended before)'}{f'  LOST: {problem}' if problem else ''}")
            shutil.rmtree(folder, ignore_errors=True)
    return tried


def _uninterrupted(command: str, folder: Path) -> Whole:
    begun = time.perf_counter()
    process = _Watched(command, folder)
    phases: dict[str, list[float]] = {}
    open_: dict[str, list[float]] = {}
    files = 0
    for line in process.lines():
        phase, _, what = line.partition(" ")
        if phase == "files":
            files = int(what)
        elif what == "begin":
            open_.setdefault(phase, []).append(time.perf_counter())
        else:
            phases.setdefault(phase, []).append(time.perf_counter() - open_[phase].pop())
    code, text = process.end()
    if code != 0:
        raise RuntimeError(f"{command} does not work at all: {text}")
    return Whole(time.perf_counter() - begun, files, phases, contents(folder))


def _try(moment: Moment, whole: Whole, folder: Path) -> tuple[str | None, bool]:
    """What was lost at a moment, or None; and whether it came before the process's end."""
    killed = _kill(moment, whole, folder)
    if moment.again:
        anywhere = Moment(moment.command, "anywhere", 0, 0.3 + 0.7 * moment.share, moment.whole_group, False)
        _kill(anywhere, whole, folder)
    done = subprocess.run(_plain(moment.command, folder), capture_output=True, text=True, timeout=LIMIT_S)
    if done.returncode != 0:
        return f"exit {done.returncode}: {done.stderr[-500:]}", killed
    if "Traceback" in done.stderr:
        return f"a traceback: {done.stderr[-500:]}", killed
    return difference(whole.result, contents(folder)), killed


def _kill(moment: Moment, whole: Whole, folder: Path) -> bool:
    at = 1 + int(moment.call * whole.files) if moment.phase == "a file" else 0
    process = _Watched(moment.command, folder, at)
    if moment.phase == "anywhere":
        try:
            process.process.wait(timeout=moment.share * whole.seconds)
            process.end()
            return False
        except subprocess.TimeoutExpired:
            process.kill(moment.whole_group)
            return True
    calls = whole.phases.get(moment.phase, [0.0])
    left = 1 + int(moment.call * len(calls))
    for line in process.lines():
        if line == "killed itself":
            process.end()
            return True
        left -= line == f"{moment.phase} begin"
        if left == 0:
            time.sleep(moment.share * calls[min(int(moment.call * len(calls)), len(calls) - 1)])
            process.kill(moment.whole_group)
            return True
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

    def kill(self, whole_group: bool) -> None:
        if whole_group:
            os.killpg(self.process.pid, signal.SIGKILL)
        else:
            self.process.kill()
        self.end()

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


def contents(folder: Path) -> dict[str, Any]:
    """What a runs folder holds, by path, as far as the same command must give it again: bytes, numbers, or only the name."""
    found: dict[str, Any] = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file() and ".locks" not in path.parts):
        name = str(path.relative_to(folder))
        if path.name in ("config.yaml", "model.pt"):
            found[name] = path.read_bytes()
        elif path.name == "metrics.jsonl":
            found[name] = [untimed(json.loads(line)) for line in path.read_text().splitlines()]
        elif path.name.startswith("events.out.tfevents"):
            found.setdefault(f"{path.parent.relative_to(folder)}/events", []).extend(_scalars(path))
        elif path.suffix == ".json":
            found[name] = untimed(json.loads(path.read_text()))
            if path.name == "plan.json":  # the stacks; their order is that in which they were begun
                found[name]["stacks"].sort()
        else:
            found[name] = "there"
    return {name: sorted(value) if name.endswith("/events") else value for name, value in found.items()}


def untimed(value: Any) -> Any:
    """A JSON value without the keys that hold times or the process."""
    if isinstance(value, dict):
        return {key: untimed(part) for key, part in value.items() if not any(name in key for name in TIMED)}
    return [untimed(part) for part in value] if isinstance(value, list) else value


def _scalars(path: Path) -> list[tuple[str, int, float]]:
    from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader
    from tensorboard.compat.proto.event_pb2 import Event

    found = []
    for raw in RawEventFileLoader(str(path)).Load():
        event = Event.FromString(raw)
        for value in event.summary.value:
            if value.HasField("simple_value") and not any(name in value.tag for name in TIMED):
                found.append((value.tag, event.step, value.simple_value))
    return found


def difference(whole: dict[str, Any], now: dict[str, Any]) -> str | None:
    """The first thing that is not as in the uninterrupted one."""
    if missing := sorted(whole.keys() - now.keys()):
        return f"{missing[0]} is not there"
    if left := sorted(now.keys() - whole.keys()):
        return f"{left[0]} is left over"
    for name, value in whole.items():
        if repr(now[name]) != repr(value):  # by their text, in which NaN is NaN
            return f"{name} differs{_where(value, now[name])}"
    return None


def _where(value: Any, other: Any, path: str = "") -> str:
    if isinstance(value, dict) and isinstance(other, dict):
        for key in value.keys() | other.keys():
            if repr(value.get(key)) != repr(other.get(key)):
                return _where(value.get(key), other.get(key), f"{path}/{key}")
    if isinstance(value, list) and isinstance(other, list):
        if len(value) != len(other):
            return f" at {path}: {len(value)} and {len(other)} items"
        for index, (one, two) in enumerate(zip(value, other, strict=True)):
            if repr(one) != repr(two):
                return _where(one, two, f"{path}/{index}")
    return f" at {path}: {repr(value)[:80]} and {repr(other)[:80]}"
