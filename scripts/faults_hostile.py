"""Hostile files, tried one by one through the real console entry: was anything executed, read from outside, or left hanging?

`faults_hostile_config.py` and `faults_hostile_data.py` have the payloads; this module writes each into a folder of its own and calls
`bnexp` on it, with bounded memory and time. What a payload would execute makes a marker file, and what it would read from outside its
folder has a known secret in it.
"""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from unittest import mock

import faults_input
from faults_tried import Tried

MAX_BYTES = 2**30
"""Of address space that one payload may take beyond what the process has."""
MAX_S = 30
SECRET = "WHAT-LIES-OUTSIDE-73190"
MARKER = "EXECUTED"
FILES = "configs and data files"
DEVICE = ("device=cpu", "threads=1", "metrics=off", "train.steps=1")


@dataclass(frozen=True)
class Place:
    """Where one payload lives: `folder`, which is handed to bnexp, and beside it what it must not reach."""

    root: Path

    @property
    def folder(self) -> Path:
        return self.root / "given"

    @property
    def outside(self) -> Path:
        return self.root / "outside"

    @property
    def marker(self) -> Path:
        """Made by whatever is executed."""
        return self.root / MARKER

    def file(self, name: str, content: str | bytes) -> Path:
        """A file in the given folder."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path


@dataclass(frozen=True)
class Payload:
    """One hostile thing: `write` makes its files and gives the arguments of `bnexp`. It is refused with one of `codes`, or harmless where
    0 is among them; `says` stands in the message."""

    name: str
    write: Callable[[Place], Sequence[str]]
    codes: tuple[int, ...]
    says: str = ""


def try_payloads(payloads: Sequence[Payload]) -> Tried:
    """Tries each payload. Nothing is raised; what executed something or read what lies outside is counted, too."""
    tried = Tried(Counter({FILES: 0, "executed": 0}))
    for payload in payloads:
        with tempfile.TemporaryDirectory() as folder:
            broken, executed = try_one(payload, Place(Path(folder)))
        tried.counts[FILES] += 1
        tried.counts["executed"] += executed
        tried.problems += [f"{payload.name}: {what}" for what in broken]
    return tried


def try_one(payload: Payload, place: Place) -> tuple[list[str], bool]:
    """What is wrong with what came of one payload, and whether it executed anything, or gave away what lies outside."""
    place.folder.mkdir()
    place.outside.mkdir()
    args = list(payload.write(place))
    runs = place.root / "runs"
    if args[0] == "train":
        args += ["--runs-dir", str(runs)]
    cache = {"XDG_CACHE_HOME": str(place.root / "cache"), "COLUMNS": "80", "HOSTILE_SECRET": SECRET}
    with mock.patch.dict(os.environ, cache), contextlib.chdir(place.root), _bounded():
        code, out, err, error = faults_input.call(args)
    broken = []
    if error:
        broken.append(f"a traceback: {error}")
    elif code not in payload.codes:
        broken.append(f"exit code {code}: {(err or out)[-300:]}")
    if code and len(err.splitlines()) > faults_input.MAX_LINES:
        broken.append(f"a message of {len(err.splitlines())} lines")
    if code and not err.replace("\n", "").isprintable():
        broken.append(f"cannot be printed: {err[:200]!r}")
    if payload.says not in err:
        broken.append(f"{payload.says!r} is not in {err[-400:]!r}")
    if code and runs.is_dir() and [path for path in runs.iterdir() if not path.name.startswith(".")]:
        broken.append("a run folder is left behind")
    executed = place.marker.exists() or SECRET in out + err
    if executed:
        broken.append("EXECUTED" if place.marker.exists() else "it gave away what lies outside")
    return broken, executed


@contextlib.contextmanager
def _bounded() -> Iterator[None]:
    """More memory or time than the bounds is an error that cannot be taken for a refusal."""

    def late(signum: int, frame: FrameType | None) -> None:
        raise faults_input.TooLong

    before = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    handler = signal.signal(signal.SIGALRM, late)
    signal.alarm(MAX_S)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MAX_BYTES, before[1]))
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, handler)
        resource.setrlimit(resource.RLIMIT_AS, before)
