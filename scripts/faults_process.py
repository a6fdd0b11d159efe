"""`process`: what happens to the processes themselves. Single workers of a sweep are killed while they start and later, stopped and
continued; a training is stopped and continued, meets a clock that jumps, and too little of what `ulimit` bounds. And another user (the
same one, where this is not root) tries every port that a sweep opens.

However a command ends, it ends with a sentence; the same command, undisturbed, then has the bits of one that nothing happened to.
"""

from __future__ import annotations

import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil
from faults_same import contents, difference
from faults_tried import Tried, silent

SMALL = ("data.subset=500", "train.batch_size=32", "train.eval_every=20", "train.checkpoint_every=10", "metrics=off", "device=cpu")
TRAIN = ("train", *SMALL, "train.steps=100")
SWEEP = ("sweep", "norm", "--values", "batch,none", "--seeds", "2", *SMALL, "train.steps=300", "--workers", "2")
LIMIT_S = 300
LIMITS: dict[str, tuple[int, tuple[int, ...]]] = {
    "open files (ulimit -n)": (resource.RLIMIT_NOFILE, (12, 40, 100)),
    "address space (ulimit -v)": (resource.RLIMIT_AS, (2**26, 2**28, 2**29, 2**30, 2**31, 2**32)),
    "processes (ulimit -u)": (resource.RLIMIT_NPROC, (1,)),
    "file size (ulimit -f)": (resource.RLIMIT_FSIZE, (0, 2**10, 2**14)),
    "stack (ulimit -s)": (resource.RLIMIT_STACK, (2**18, 2**20)),
}
"""Which limit, and the values of it that are tried."""
JUMPS_S = (-4e9, -3600.0, -1.0, 3600.0, 4e9)
"""By how much the clock jumps in the midst of a training."""
CLOCK = """import sys, time
from bnexp.cli import main
real, calls = time.time, iter(range(10**9))
time.time = lambda: real() + ({jump} if next(calls) > 3 else 0)
main(sys.argv[1:])"""
KNOCK = """import asyncio, os, socket, sys
from distributed.core import connect, send_recv
if os.geteuid() == 0:  # only now: other users may not be able to read the interpreter
    os.setuid(65534)
async def ask():
    comm = await connect(sys.argv[1], timeout=4)
    return await send_recv(comm, op="identity", close=True)
try:
    print("answers as", asyncio.run(asyncio.wait_for(ask(), 8))["type"])
except Exception as error:
    print("refused with", type(error).__name__)
with socket.create_connection(("127.0.0.1", int(sys.argv[1].rpartition(":")[2])), 4) as plain:
    plain.settimeout(4)
    try:
        plain.sendall(b"GET / HTTP/1.0\\r\\n\\r\\n")
        print("answers as a web server" if plain.recv(5) == b"HTTP/" else "")
    except OSError:
        pass"""
"""What gets an answer can run code."""


def try_processes(kinds: tuple[str, ...] = (), say: Callable[[str], None] = silent) -> Tried:
    """Tries the kinds of `KINDS` (all, where none is named)."""
    tried = Tried()
    with tempfile.TemporaryDirectory(prefix="bnexp-process-") as place:
        Path(place).chmod(0o755)
        for kind, each in KINDS.items():
            if kinds and kind not in kinds:
                continue
            for name, problem in each(Path(place)):
                tried.counts[kind] += 1
                tried.problems += [f"{kind}: {name}: {problem}"] if problem else []
                say(f"{kind}: {name}{f'  BROKEN: {problem}' if problem else ''}")
    return tried


def workers(place: Path) -> Iterator[tuple[str, str | None]]:
    """Signals to one worker: as soon as it is there, and after a share of the time that the sweep takes."""
    begun = time.monotonic()
    whole = _whole(place, SWEEP)
    usual = time.monotonic() - begun
    for number, what in ((signal.SIGKILL, "killed"), (signal.SIGSTOP, "stopped for 5 s")):
        for share in (0, 0.3, 0.5, 0.7, 0.9):
            folder = _empty(place)
            process = _start(SWEEP, folder)
            pids = _wait_for(process, lambda parent=process.pid: _workers(parent))
            time.sleep(share * usual)
            hit = [pid for pid in pids[:1] if _signal(pid, number)]
            if number == signal.SIGSTOP:
                time.sleep(5)
                for pid in hit:
                    _signal(pid, signal.SIGCONT)
            name = f"one {what} {'at once' if share == 0 else f'after {share:.0%}'}{'' if hit else ' (it had ended)'}"
            yield name, _ended(process, (0,)) or difference(whole, contents(folder))


def stops(place: Path) -> Iterator[tuple[str, str | None]]:
    """SIGSTOP and SIGCONT to a training, with a second one beside it that asks for the same run."""
    whole = _whole(place, TRAIN)
    for share in (0.2, 1.0, 2.0):
        folder = _empty(place)
        first = _start(TRAIN, folder)
        time.sleep(share)
        _signal(first.pid, signal.SIGSTOP)
        second = _start(TRAIN, folder)
        time.sleep(3)
        _signal(first.pid, signal.SIGCONT)
        yield f"after {share} s", _ended(first, (0,)) or _ended(second, (0,)) or difference(whole, contents(folder))


def clocks(place: Path) -> Iterator[tuple[str, str | None]]:
    """The clock jumps while a training runs, and files are dated long ago and in the far future."""
    whole = _whole(place, TRAIN)
    for jump in JUMPS_S:
        folder = _empty(place)
        process = _start(TRAIN, folder, code=CLOCK.format(jump=jump))
        yield f"by {jump:.0f} s", _ended(process, (0,)) or difference(whole, contents(folder))
    for stamp in (0, 2**32):
        for path in folder.rglob("*"):
            os.utime(path, (stamp, stamp))
        for command in (("runs",), ("report",), ("resume", "last")):
            yield f"files of {stamp}: {command[0]}", _ended(_start(command, folder), (0,))


def limits(place: Path) -> Iterator[tuple[str, str | None]]:
    """Each limit, with a training and with a sweep: it is enough, or the command says so."""
    wholes = {command: _whole(place, command) for command in (TRAIN, SWEEP)}
    for name, (which, values) in LIMITS.items():
        if which == resource.RLIMIT_NPROC and os.geteuid() == 0:  # root has no such limit
            continue
        for value in values:
            for command, whole in wholes.items():
                folder = _empty(place)

                def limit(which: int = which, value: int = value) -> None:
                    resource.setrlimit(which, (value, value))

                problem = _ended(_start(command, folder, before=limit), (0, 1, 2, 3))
                yield (
                    f"{name} {value}: {command[0]}",
                    problem or _ended(_start(command, folder), (0,)) or difference(whole, contents(folder)),
                )


def ports(place: Path) -> Iterator[tuple[str, str | None]]:
    """A connection to a port of a sweep, without its keys, gets no answer."""
    folder = _empty(place)
    process = _start(SWEEP, folder)
    _wait_for(process, lambda: _workers(process.pid)[1:])
    time.sleep(3)  # until the workers listen
    found = _ports(process.pid)
    for port in found:
        line = [sys.executable, "-c", KNOCK, f"tcp://127.0.0.1:{port}"]
        said = subprocess.run(line, capture_output=True, text=True, timeout=60).stdout.strip()
        yield f"port {port}", " and ".join(line for line in said.splitlines() if line.startswith("answers")) or None
    yield "the sweep itself", _ended(process, (0,))


KINDS: dict[str, Callable[[Path], Iterator[tuple[str, str | None]]]] = {
    "workers": workers,
    "stops": stops,
    "clocks": clocks,
    "limits": limits,
    "ports": ports,
}


def _whole(place: Path, command: tuple[str, ...]) -> dict[str, object]:
    """What the command leaves when nothing happens to it."""
    folder = place / f"whole-{command[0]}"
    if not folder.exists():
        assert (problem := _ended(_start(command, folder), (0,))) is None, problem
    return contents(folder)


def _empty(place: Path) -> Path:
    shutil.rmtree(folder := place / "runs", ignore_errors=True)
    folder.mkdir()
    return folder


def _start(command: tuple[str, ...], folder: Path, code: str = "", before: Callable[[], None] | None = None) -> subprocess.Popen[str]:
    line = [sys.executable, *(["-c", code] if code else ["-m", "bnexp"]), *command, "--runs-dir", str(folder), "--quiet"]
    return subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, errors="replace", preexec_fn=before)


def _ended(process: subprocess.Popen[str], codes: tuple[int, ...]) -> str | None:
    """What is wrong with how it ended; a process that does not end is killed."""
    try:
        _, err = process.communicate(timeout=LIMIT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        return f"it did not end within {LIMIT_S} s"
    if process.returncode in codes and "Traceback" not in err and (process.returncode == 0 or err.strip()):
        return None
    return f"exit {process.returncode}: {err[-400:]}"


def _wait_for(process: subprocess.Popen[str], found: Callable[[], list[int]]) -> list[int]:
    """What is found, once it is there, or the process has ended."""
    while not (there := found()) and process.poll() is None:
        time.sleep(0.01)
    return there


def _signal(pid: int, number: int) -> bool:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True


def _workers(parent: int) -> list[int]:
    """The workers of a sweep, oldest first."""
    with suppress(psutil.Error):
        below = psutil.Process(parent).children(recursive=True)
        return [child.pid for child in below if any("spawn_main" in word for word in child.cmdline())]
    return []


def _ports(parent: int) -> list[int]:
    """TCP ports on which a process or one below it listens."""
    sockets = set()
    for pid in (parent, *_workers(parent)):
        for link in Path(f"/proc/{pid}/fd").glob("*"):
            try:
                sockets |= set(re.findall(r"socket:\[(\d+)\]", os.readlink(link)))  # noqa: PTH115
            except OSError:
                continue
    rows = [line.split() for name in ("tcp", "tcp6") for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]]
    return sorted({int(row[1].rpartition(":")[2], 16) for row in rows if row[3] == "0A" and row[9] in sockets})


if __name__ == "__main__":
    found = try_processes(tuple(sys.argv[1:]), lambda line: print(line, flush=True))
    print(f"{dict(found.counts)}, problems: {len(found.problems)}")
