"""Hostile run folders, opened with every command that takes one.

Each case spoils a copy of a runs folder that holds two finished runs, an interrupted one and their comparison, in such a way that code
would run, a file outside would be read or written, the terminal or a page would obey, or memory or time would run out
(`faults_hostile_tensors.py`, `faults_hostile_texts.py`, `faults_hostile_names.py`). Each command is given in a process of its own; then the
outside, the machine and what was said are looked at, and whether the command came near what was spoiled at all.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import faults_hostile_names
import faults_hostile_tensors
import faults_hostile_texts
from faults_hostile_scene import SECRET, Case, Folder
from faults_tried import STOPPED, Tried, forked, silent

import bnexp.execution.job  # noqa: F401 (so that the copies need not)
from bnexp.cli import main
from bnexp.storage.folder import list_runs

TINY = ("data.subset=100", "train.batch_size=16", "model.widths=[4]", "train.checkpoint_every=4", "metrics=off")
FINISHED, INTERRUPTED = "train.steps=8", "train.steps=9"
MAX_BYTES = 1_500_000_000
"""Of memory at the peak; a process that trains takes about a third of it."""
COMMANDS = (
    "runs",
    "runs --json",
    "runs show ID",
    "evaluate ID",
    "report",
    "report GROUP",
    "stats ID",
    "resume ID",
    "train",
    "compare ID OTHER",
    "runs rm ID",
)
NOTHING = "nothing spoiled"
NETWORK = ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto", "socket.bind")
"""Python's audit events of what reaches, or waits for, another machine."""
REACHED = "REACHED FOR THE NETWORK:"


def cases() -> dict[str, Case]:
    """Every case by what it does."""
    return {**faults_hostile_tensors.cases(), **faults_hostile_texts.cases(), **faults_hostile_names.cases()}


def try_cases(names: Sequence[str] | None = None, say: Callable[[str], None] = silent, every: bool = True) -> Tried:
    """Opens each case with each command (or, unless `every`, with those that have to do with it) and collects what should not have come of
    it. First each command is given where nothing is spoiled: one that does not work there proves nothing."""
    tried = Tried(Counter({"run folders": 0, "commands": 0, "executed": 0}))
    chosen = {name: case for name, case in cases().items() if names is None or name in names}
    with tempfile.TemporaryDirectory(prefix="bnexp-hostile-") as place:
        original, scene = Path(place).resolve() / "original", Path(place).resolve() / "scene"
        _make(original)
        for number, (name, case) in enumerate({NOTHING: Case(lambda f: None, COMMANDS), **chosen}.items()):
            reached = False
            for command in COMMANDS if every else case.commands:
                found = _try(original, scene, case, command)
                shutil.rmtree(scene)
                reached |= found.reached
                if name == NOTHING:
                    found.problems += [f"exit {found.code}: {found.text[-300:]}"] if found.code else []
                for problem in found.problems:
                    tried.counts["executed"] += problem.startswith("executed")
                    tried.problems.append(f"{name}: {command}: {problem}")
                    say(tried.problems[-1])
                tried.counts["commands"] += name != NOTHING
            tried.counts["run folders"] += name != NOTHING
            if name != NOTHING and reached == case.ignored:
                tried.problems.append(f"{name}: {'a' if reached else 'no'} command opened or named what is spoiled")
                say(tried.problems[-1])
            say(f"{number:3} of {len(chosen)}  {name}")
    return tried


def _make(folder: Path) -> None:
    """A runs folder with two finished runs, an interrupted one, and the comparison of the two."""
    (folder / "outside").mkdir(parents=True)
    (folder / "outside" / "secret.txt").write_text(SECRET)
    (folder / "outside" / "picture.png").write_bytes(b"a picture")
    sweep = ["sweep", "norm", "--values", "batch,none", "--seeds", "1", "--workers", "0"]
    subprocess.run(
        [sys.executable, "-m", "bnexp", *sweep, *TINY, FINISHED, "--runs-dir", "runs"], cwd=folder, check=True, capture_output=True
    )
    train = ["train", *TINY, INTERRUPTED, "--runs-dir", "runs"]
    done = subprocess.run([sys.executable, "-c", STOPPED, "5", *train], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 130, done.stderr


@dataclass
class Outcome:
    """What came of one command."""

    code: int
    text: str
    reached: bool
    """It opened what is spoiled, or named it."""
    problems: list[str]


def _try(original: Path, scene: Path, case: Case, command: str) -> Outcome:
    shutil.copytree(original, scene, symlinks=True)
    runs = list_runs(scene / "runs")
    interrupted = next(run for run in runs if run.status == "interrupted")
    finished, other = sorted((run for run in runs if run is not interrupted), key=lambda run: run.id)  # batch, none
    folder = Folder(scene / "runs", finished, interrupted, scene / "outside", scene / "marker")
    names = {"ID": (interrupted if command.startswith("resume") else finished).id, "OTHER": other.id, "GROUP": folder.group.name}
    before = _entries(scene)
    case.spoil(folder)
    after = _entries(scene)
    spoiled = {path for path in before.keys() | after.keys() if before.get(path) != after.get(path)}
    outside = _tree(folder.outside)
    words = [names.get(word, word) for word in command.split()]
    more = [*TINY, INTERRUPTED] if command == "train" else []
    if case.file:
        spoiled = {path for path in spoiled if Path(path).name == case.file}
    code, text, peak, opened = _run([*words, *more, "--runs-dir", "runs"], scene, spoiled)
    found = []
    if folder.marker.exists():
        found.append("executed")
    if _tree(folder.outside) != outside:
        found.append("wrote outside its folder")
    pages = "".join(page.read_text(errors="replace") for page in scene.glob("runs/**/index.html") if not page.is_symlink())
    if REACHED in text:
        found.append(text[text.index(REACHED) :][:200])
    if SECRET in text or SECRET in pages:
        found.append("read outside its folder")
    if "<script>alert" in pages:
        found.append("the page has its script")
    if any(not letter.isprintable() and letter not in "\n" for letter in text):
        found.append(f"the terminal gets {next(letter for letter in text if not letter.isprintable() and letter not in chr(10))!r}")
    if code not in (0, 1, 2) or "Traceback" in text:
        found.append(f"exit {code}: {text[-300:]}")
    if len(text) > 100_000:
        found.append(f"{len(text)} letters of output")
    if peak > MAX_BYTES:
        found.append(f"{peak / 1e9:.1f} GB of memory")
    return Outcome(code, text, opened or any(os.path.relpath(path, scene) in text for path in spoiled), found)


def _run(words: Sequence[str], folder: Path, spoiled: set[str]) -> tuple[int, str, int, bool]:
    """Exit code, output, peak bytes, and whether something spoiled was opened."""
    with tempfile.TemporaryFile("w+", errors="replace") as out, tempfile.TemporaryFile("w+") as opened:

        def hook(event: str, args: tuple[Any, ...]) -> None:
            if (event == "open" or event.startswith(("os.", "shutil."))) and args and isinstance(args[0], (str, bytes, os.PathLike)):
                path = os.path.abspath(os.fsdecode(args[0]))  # noqa: PTH100 (a Path's own way raises events, too)
                if any(path == one or path.startswith(f"{one}/") for one in spoiled):
                    os.write(opened.fileno(), b"x")
            if event in NETWORK:
                print(f"{REACHED} {event} {args[1:]}", file=sys.stderr, flush=True)

        def work() -> None:
            os.chdir(folder)
            sys.addaudithook(hook)
            main(list(words))

        code, peak = forked(work, out.fileno())
        out.seek(0)
        return code, out.read(), peak, os.fstat(opened.fileno()).st_size > 0


def _entries(folder: Path) -> Mapping[str, tuple[int, ...]]:
    """Every file, link and folder inside, with what tells whether it was changed."""
    found: dict[str, tuple[int, ...]] = {}
    for parent, folders, files in os.walk(folder):
        for name in (*folders, *files):
            status = (Path(parent) / name).lstat()
            content = () if name in folders else (status.st_size, status.st_mtime_ns)
            found[f"{parent}/{name}"] = (status.st_mode, status.st_ino, *content)
    return found


def _tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else b"" for path in folder.rglob("*")}


if __name__ == "__main__":
    print(json.dumps(vars(try_cases(sys.argv[1:] or None, lambda line: print(line, flush=True))), indent=2))
