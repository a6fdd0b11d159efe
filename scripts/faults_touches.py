"""`touches`: touches of files below the runs folder (open, read, write, fsync, rename, mkdir, unlink, listing) by small commands.
Each kind of touch at each site in the code is visited once: the process is killed there, or the call fails, in turns; a read always fails.
Then the same command is given again, and must end as if nothing had happened.

Each trial is a copy of this process, which has imported everything already: some hundred take minutes.
"""

from __future__ import annotations

import builtins
import errno
import io
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib.backends.backend_agg
import matplotlib.backends.backend_svg  # noqa: F401 (here and below: so that the copies need not)
from faults_same import contents, difference
from faults_tried import STOPPED, Tried, forked, silent

import bnexp.execution.job
import bnexp.report
import bnexp.studies.noise_law
import bnexp.studies.re_evaluation
import bnexp.tables  # noqa: F401
from bnexp.cli import main

TINY = ("data.subset=100", "train.batch_size=16", "model.widths=[4]", "train.checkpoint_every=3", "train.eval_every=4", "train.steps=6")
MADE = ("device=cpu", "threads=1", "metrics=off")
TRAIN = ("train", *TINY, *MADE, "--seeds", "2")
ID = "batch-bs16-lr0.1-s0"
SWEEP = ("sweep", "norm", "--values", "batch,none", "--seeds", "1", "--workers", "0", *TINY, *MADE)
COMMANDS: dict[str, tuple[str, ...]] = {
    "train": TRAIN,
    "train --fresh": (*TRAIN, "--fresh"),
    "resume": ("resume", ID),
    "runs rm": ("runs", "rm", ID),
    "runs tag": ("runs", "tag", ID, "--add", "kept"),
    "sweep": SWEEP,
    "runs": ("runs",),
    "runs show": ("runs", "show", ID),
    "evaluate": ("evaluate", ID),
    "stats": ("stats", ID, "--batch-sizes", "4,8"),
    "report": ("report",),
}
BEFORE = dict.fromkeys(("train", "sweep"), "nothing") | {"resume": "interrupted"}
"""What is there before; else two finished runs."""
READING = ("runs", "runs show", "evaluate", "stats", "report")
"""Commands that leave the runs as they are: only their exit codes are compared."""
READS = ("read", "open r", "os.listdir", "os.scandir")
CALLS = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.link", "os.symlink", "os.listdir", "os.scandir")
KILLED = "killed"
DEPTH = 5
"""Lines of bnexp that tell one site from another: a write of a summary from one of a checkpoint, and from one after a resume."""


def try_touches(seed: int = 0, say: Callable[[str], None] = silent, commands: Sequence[str] = (), every: int = 1) -> Tried:
    """Visits each kind of touch at each site in the code once (of these every `every`-th, from the seed's on), by the first of the commands
    that has it. The seed also says at which touches the process is killed, and which fail."""
    tried, visited = Tried(), set[str]()
    with tempfile.TemporaryDirectory(prefix="bnexp-touches-") as name:
        place = Path(name).resolve()
        befores = _befores(place)
        for command in commands or COMMANDS:
            before = befores[BEFORE.get(command, "finished")]
            whole = _copy(before, place / "whole")
            outcome = _run(command, whole)
            if outcome.code != 0:
                tried.problems.append(f"{command}, undisturbed: exit {outcome.code}: {outcome.text[-500:]}")
                continue
            distinct = sorted({site: at for at, site in enumerate(outcome.sites) if site not in visited}.values())  # of a loop the last
            visited.update(outcome.sites)
            for turn, at in enumerate(distinct[seed % every :: every]):
                touch = outcome.touches[at]
                kill = not touch.startswith(READS) and (turn + seed) % 2 == 0
                problem = _try(command, before, whole, place / "scene", at, kill)
                tried.counts[command] += 1
                tried.counts[KILLED] += kill
                if problem:
                    tried.problems.append(f"{command}: {'killed at' if kill else 'failing'} touch {at}, {touch}: {problem}")
                    say(tried.problems[-1])
            say(f"{command}: {tried.counts[command]} of {len(distinct)} new kinds and sites, {len(outcome.touches)} touches")
    return tried


def _try(command: str, before: Path, whole: Path, scene: Path, at: int, kill: bool) -> str | None:
    """What is wrong with what came of one fault and of the same command after it."""
    _copy(before, scene)
    outcome = _run(command, scene, at, kill)
    if "Traceback" in outcome.text or outcome.code not in (0, 1, 2, 3, *[-signal.SIGKILL] * kill):
        return f"exit {outcome.code}: {outcome.text[-500:]}"
    again = _run(command, scene)
    removed = command == "runs rm" and again.code == 2 and "There is no run" in again.text
    if (again.code != 0 and not removed) or "Traceback" in again.text:
        return f"the same command again: exit {again.code}: {again.text[-500:]}"
    return None if command in READING else difference(contents(whole), contents(scene))


def _befores(place: Path) -> dict[str, Path]:
    """The runs folders that commands begin with."""
    nothing, finished, interrupted = (place / name for name in ("nothing", "finished", "interrupted"))
    nothing.mkdir()
    assert _run("train", finished).code == 0
    train = [*TRAIN, "--runs-dir", str(interrupted)]
    assert subprocess.run([sys.executable, "-c", STOPPED, "4", *train], capture_output=True).returncode == 130
    return {"nothing": nothing, "finished": finished, "interrupted": interrupted}


def _copy(folder: Path, to: Path) -> Path:
    shutil.rmtree(to, ignore_errors=True)
    return Path(shutil.copytree(folder, to))


@dataclass
class Outcome:
    """What came of a command."""

    code: int
    text: str
    touches: list[str]
    sites: list[str]
    """Of each touch its kind and the innermost lines of bnexp that it was called through."""


def _run(command: str, folder: Path, at: int = -1, kill: bool = False) -> Outcome:
    """The command on a runs folder, with a fault at the touch number `at`."""
    with tempfile.TemporaryFile("w+", errors="replace") as out, tempfile.TemporaryFile("w+") as log:

        def work() -> None:
            with _watched(str(folder), at, kill, log.fileno()):
                main([*COMMANDS[command], "--runs-dir", str(folder)])

        code, _ = forked(work, out.fileno())
        out.seek(0)
        log.seek(0)
        lines = [line.split("\t") for line in log.read().splitlines()]
        return Outcome(code, out.read(), [touch for touch, _ in lines], [f"{touch.rpartition(' ')[0]}{site}" for touch, site in lines])


def _site() -> str:
    """The innermost `DEPTH` lines of bnexp that the call came through."""
    frame: Any = sys._getframe(1)
    lines: list[str] = []
    while frame is not None and len(lines) < DEPTH:
        if f"{os.sep}bnexp{os.sep}" in frame.f_code.co_filename:
            lines.append(f"{Path(frame.f_code.co_filename).stem}:{frame.f_lineno}")
        frame = frame.f_back
    return " ".join(lines)


@contextmanager
def _watched(folder: str, at: int, kill: bool, log: int) -> Iterator[None]:
    """Counts the touches of what is below `folder`, a line each in `log`; at the number `at` the call fails, or the process is killed."""
    count = 0

    def touch(kind: str, path: Any) -> None:
        nonlocal count
        if isinstance(path, int):
            path = os.readlink(f"/proc/self/fd/{path}")  # noqa: PTH115
        if not os.fsdecode(path).startswith(f"{folder}/"):
            return
        count += 1
        os.write(log, f"{kind} {os.fsdecode(path)[len(folder) + 1 :]}\t{_site()}\n".encode())
        if count == at + 1:
            if kill:
                os.kill(os.getpid(), signal.SIGKILL)
            number = errno.EIO if kind.startswith(READS) else errno.ENOSPC
            raise OSError(number, os.strerror(number), os.fsdecode(path))

    def hook(event: str, args: tuple[Any, ...]) -> None:
        if event == "open" and isinstance(args[0], (str, bytes, os.PathLike)):
            touch("open w" if args[2] & (os.O_WRONLY | os.O_RDWR) else "open r", args[0])
        elif event in CALLS and isinstance(args[0], (str, bytes, os.PathLike)):
            path, where = os.fspath(args[0]), args[1] if event in ("os.remove", "os.rmdir") else -1
            touch(event, path if where < 0 else f"{os.readlink(f'/proc/self/fd/{where}')}/{os.fsdecode(path)}")  # noqa: PTH115

    class Raw(io.FileIO):
        def write(self, data: Any) -> int:
            touch("write", self.fileno())
            return super().write(data)

        def readinto(self, buffer: Any) -> int:
            touch("read", self.fileno())
            return super().readinto(buffer)

        def readall(self) -> bytes:
            touch("read", self.fileno())
            return super().readall()

    def opened(
        file: Any,
        mode: str = "r",
        buffering: int = -1,
        encoding: Any = None,
        errors: Any = None,
        newline: Any = None,
        closefd: bool = True,
        opener: Any = None,
    ) -> Any:
        if "+" in mode or buffering == 0:
            return real_open(file, mode, buffering, encoding, errors, newline, closefd, opener)
        raw = Raw(file, mode.replace("b", "").replace("t", ""), closefd, opener)
        buffered = io.BufferedReader(raw) if "r" in mode else io.BufferedWriter(raw)
        return buffered if "b" in mode else io.TextIOWrapper(buffered, encoding, errors, newline, line_buffering=buffering == 1)

    def fsync(descriptor: Any) -> None:
        touch("fsync", descriptor if isinstance(descriptor, int) else descriptor.fileno())
        real_fsync(descriptor)

    real_open, real_fsync = io.open, os.fsync
    sys.addaudithook(hook)
    builtins.open = io.open = opened  # type: ignore[assignment]
    os.fsync = fsync
    yield


if __name__ == "__main__":
    found = try_touches(say=lambda line: print(line, flush=True), commands=sys.argv[2:], every=int(sys.argv[1]) if len(sys.argv) > 1 else 1)
    print(f"{dict(found.counts)}, problems: {len(found.problems)}")
