"""Processes that are measured: whole commands, and workers that stay warm between two measurements."""

from __future__ import annotations

import importlib
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from benchmarks.turns import NotMeasured

SCRIPTS = Path(__file__).parent.parent
_SCRIPT = Path(sys.executable).parent / "bnexp"
BNEXP = (str(_SCRIPT),) if _SCRIPT.exists() else (sys.executable, "-m", "bnexp")
"""The command that is installed beside this interpreter."""
LIMIT_S = 1800.0
KEEPING = {"MALLOC_TRIM_THRESHOLD_": str(2**30), "MALLOC_TOP_PAD_": str(2**26), "MALLOC_MMAP_THRESHOLD_": str(2**28)}
"""As `bnexp.execution.machine.keep_memory` sets glibc's malloc for a training: the floor gets it too, as it is no limit without."""
SPINNING = "2000"
"""GOMP_SPINCOUNT as bnexp's command line sets it where it is not set. Only bnexp's own processes get it: a plain script has none."""


@dataclass(frozen=True)
class Done:
    """A command that ended well: its wall seconds, start-up included, and the largest resident set of it and what it waited for, bytes."""

    seconds: float
    most_bytes: int
    stdout: str

    @property
    def json(self) -> Any:
        """What it printed last, a JSON document in one line or as a whole."""
        try:
            return json.loads(self.stdout)
        except json.JSONDecodeError:
            return json.loads(self.stdout.strip().rpartition("\n")[2])


@contextmanager
def scratch() -> Iterator[Path]:
    """A folder for runs and caches, gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="bnexp-bench-") as folder:
        yield Path(folder)


def environment(cache: Path, threads: int | None = None, spinning: str | None = None, keeping: bool = False) -> dict[str, str]:
    """This process's own, but for a cache folder of its own, the threads that OpenMP takes by itself, how long they spin, and whether
    glibc's malloc keeps freed memory."""
    left_out = {"OMP_NUM_THREADS", "MKL_NUM_THREADS", "GOMP_SPINCOUNT", "PYTHONDONTWRITEBYTECODE"}
    own = {name: value for name, value in os.environ.items() if name not in left_out}
    own |= {
        "XDG_CACHE_HOME": str(cache / "cache"),
        "TORCHINDUCTOR_CACHE_DIR": str(cache / "compiled"),
        "PYTHONPATH": os.pathsep.join((str(SCRIPTS), str(SCRIPTS.parent))),
    }
    if threads is not None:
        own["OMP_NUM_THREADS"] = str(threads)
    if keeping:
        own |= KEEPING
    if spinning is not None:
        own["GOMP_SPINCOUNT"] = spinning
    return own


def run(command: Sequence[Any], folder: Path, *, threads: int | None = None, limit_s: float = LIMIT_S) -> Done:
    """A command from its start to its end, in `folder`.

    Raises:
        NotMeasured: it failed, or took too long.
    """
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        start = time.perf_counter()
        process = subprocess.Popen(
            [str(part) for part in command], cwd=folder, env=environment(folder, threads), stdin=subprocess.DEVNULL, stdout=out, stderr=err
        )
        seconds, status, usage = _ended(process, start, limit_s)
        out.seek(0)
        err.seek(0)
        stdout, stderr = (file.read().decode(errors="replace") for file in (out, err))
    if status is None:
        raise NotMeasured(f"{_named(command)} took longer than {limit_s:g} s")
    if status != 0:
        raise NotMeasured(f"{_named(command)} ended with {status}: {last_line(stderr)}")
    return Done(seconds, 1024 * usage, stdout)


def _ended(process: subprocess.Popen[bytes], start: float, limit_s: float) -> tuple[float, int | None, int]:
    """Seconds, exit status (None: it took too long and was ended) and peak KiB of a process."""
    late = threading.Event()

    def end() -> None:
        late.set()
        process.kill()

    timer = threading.Timer(limit_s, end)
    timer.start()
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    timer.cancel()
    process.returncode = os.waitstatus_to_exitcode(status)
    return seconds, None if late.is_set() else process.returncode, usage.ru_maxrss


def bnexp(folder: Path, *args: Any, threads: int | None = None) -> Done:
    """A command of bnexp's, with its runs in `folder`/runs."""
    return run([*BNEXP, *args, "--runs-dir", folder / "runs"], folder, threads=threads)


def app(folder: Path, name: str, *args: Any, threads: int | None = None) -> Done:
    """A script of benchmarks/apps, which prints what it measured as JSON in its last line."""
    return run([sys.executable, "-m", f"benchmarks.apps.{name}", *args], folder, threads=threads)


def last_line(text: str) -> str:
    """The end of an error, without paths of this machine."""
    lines = [line for line in text.strip().splitlines() if line.strip()] or [""]
    return re.sub(r"(/[^\s/:'\",]+){2,}", "...", lines[-1])[:200]


def _named(command: Sequence[Any]) -> str:
    words = [Path(str(part)).name if os.sep in str(part) else str(part) for part in command[:4]]
    return " ".join(["python" if words[0].startswith("python") else words[0], *words[1:]])


class Worker:
    """A process that calls functions when it is asked to, and keeps what they leave: imports, data, warm caches."""

    def __init__(self, folder: Path, *, threads: int, spinning: str | None = None, keeping: bool = False) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.children"],
            cwd=folder,
            env=environment(folder, threads, spinning, keeping),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def ask(self, function: str, **arguments: Any) -> Any:
        """What `module:function` returns for these arguments; both go through JSON.

        Raises:
            NotMeasured: it raised something, or the process died.
        """
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        try:
            print(json.dumps({"function": function, "arguments": arguments}), file=self.process.stdin, flush=True)
            answer = self.process.stdout.readline()
        except BrokenPipeError:
            answer = ""
        if not answer:
            raise NotMeasured(f"{function} ended with its process ({self.process.wait()})")
        reply = json.loads(answer)
        if "error" in reply:
            raise NotMeasured(reply["error"])
        return reply["result"]

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *exc: Any) -> None:
        self.process.__exit__(*exc)  # closes its input, upon which it ends


def bnexp_worker(folder: Path, threads: int) -> Worker:
    """A process as the command line makes it."""
    return Worker(folder, threads=threads, spinning=SPINNING)


def floor_worker(folder: Path, threads: int) -> Worker:
    """A process for the floor, which knows nothing of bnexp, with memory kept as bnexp keeps it."""
    return Worker(folder, threads=threads, keeping=True)


def serve(requests: TextIO, answers: TextIO) -> None:
    """A worker's own side: a JSON document a line, in and out."""
    for line in requests:
        request = json.loads(line)
        module, _, name = request["function"].partition(":")
        try:
            reply = {"result": getattr(importlib.import_module(module), name)(**request["arguments"])}
        except Exception as error:
            reply = {"error": f"{type(error).__name__}: {last_line(str(error))}"}
        print(json.dumps(reply), file=answers, flush=True)


if __name__ == "__main__":
    with os.fdopen(os.dup(1), "w") as answers:
        os.dup2(2, 1)  # whatever else is printed goes elsewhere
        serve(sys.stdin, answers)
