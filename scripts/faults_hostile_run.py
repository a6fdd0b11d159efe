"""Run folders as a stranger may hand them on, opened with every command that takes one.

Each case spoils a copy of a runs folder that holds two finished runs, an interrupted one and what a report left, in such a way that code
would run, a file outside would be read or written, the terminal or a page would obey, or memory or time would run out. Each command is
given in a process of its own; then the outside, the machine and what was said are looked at.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import traceback
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, NoReturn

import torch

import bnexp.engine  # noqa: F401 (so that the copies need not)
from bnexp.cli import main
from bnexp.files import dump_json, write_checked_json
from bnexp.run import Run
from bnexp.runs_folder import list_runs

TINY = ("data.subset=100", "train.batch_size=16", "model.widths=[4]", "train.checkpoint_every=4", "metrics=off")
FINISHED, INTERRUPTED = "train.steps=8", "train.steps=9"
SECRET = "the-content-of-a-private-file"
MOST_BYTES = 1_500_000_000
"""Of memory at the peak; a process that trains takes about a third of it."""
LIMIT_S = 120
COMMANDS = (
    "runs",
    "runs --json",
    "runs show ID",
    "evaluate ID",
    "report",
    "stats ID",
    "resume ID",
    "train",
    "compare ID OTHER",
    "runs rm ID",
)
BOMB = "\n".join(["a: &a [x, x, x, x, x, x, x, x, x]", *(f"{two}: &{two} [{', '.join([f'*{one}'] * 9)}]" for one, two in ["ab", "bc", "cd", "de", "ef", "fg", "gh", "hi"])])  # fmt: skip  # noqa: E501

MERGES = "\n".join(["a: &a {x: 1}", *(f"{two}: &{two} {{<<: [{', '.join([f'*{one}'] * 9)}]}}" for one, two in pairwise("abcdefghi"))])
"""YAML's merge keys, which its loader multiplies while it builds."""


class Code:
    """An object whose unpickling writes a file."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return exec, (f"open({str(self.marker)!r}, 'w').write('executed')",)


@dataclass
class Folder:
    """What a case may spoil, and the outside that nothing may reach."""

    runs_dir: Path
    finished: Run
    interrupted: Run
    outside: Path
    marker: Path

    @property
    def stack(self) -> Path:
        return next(path for path in (self.runs_dir / ".stacks").iterdir() if path.is_dir())

    @property
    def group(self) -> Path:
        return next((self.runs_dir / ".groups").iterdir())

    def secret(self) -> Path:
        return self.outside / "secret.txt"

    def change(self, run: Run, change: Callable[[dict[str, Any]], None]) -> None:
        """A change of a summary, whose checksum a stranger can compute, too."""
        summary = run.summary()
        change(summary)
        write_checked_json(run.summary_json, summary, 1)

    def put_model(self, data: bytes) -> None:
        """A model.pt with its digest, which a stranger can compute as well."""
        self.finished.model_pt.write_bytes(data)
        self.change(self.finished, lambda summary: summary["files"].update({"model.pt": hashlib.sha256(data).hexdigest()}))


Case = Callable[[Folder], None]


def _torch(value: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def _squeezed(data: bytes) -> bytes:
    """The same archive, deflated."""
    found = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as archive, zipfile.ZipFile(found, "w", zipfile.ZIP_DEFLATED) as smaller:
        for record in archive.infolist():
            smaller.writestr(record.filename, archive.read(record))
    return found.getvalue()


def _state(run: Run) -> dict[str, Any]:
    state: dict[str, Any] = torch.load(run.model_pt, weights_only=True)
    return state


def _instead(path: Path, target: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    path.symlink_to(target)


def _fifo(path: Path) -> None:
    path.unlink(missing_ok=True)
    os.mkfifo(path)


def _everywhere(summary: dict[str, Any], text: str) -> None:
    """`text` at the end of every text in a summary but its id and status."""

    def put(value: Any, key: str) -> Any:
        if isinstance(value, dict):
            return {name: put(part, name) for name, part in value.items()}
        if isinstance(value, list):
            return [put(part, key) for part in value]
        return value + text if isinstance(value, str) and key not in ("id", "status", "checksum", "written_at", "norm") else value

    summary.update({key: put(value, key) for key, value in summary.items() if key != "files"})


def cases() -> dict[str, Case]:
    """Every case by what it does."""
    found: dict[str, Case] = {}
    own_files = ("config.yaml", "summary.json", "metrics.jsonl", "model.pt", "train.log")
    pickles: dict[str, Callable[[Any], bytes]] = {
        "bare pickle": lambda value: pickle.dumps(value, protocol=2),
        "pickle of protocol 4": lambda value: pickle.dumps(value, protocol=4),
        "archive": _torch,
        "deflated archive": lambda value: _squeezed(_torch(value)),
    }
    for name, dump in pickles.items():
        found[f"model.pt with code, {name}"] = lambda f, dump=dump: f.put_model(dump({"w": Code(f.marker)}))
        found[f"checkpoint.pt with code, {name}"] = lambda f, dump=dump: [
            (f.stack / part).write_bytes(dump({"format": 1, "step": 4, "code": Code(f.marker)}))
            for part in ("checkpoint.pt", "checkpoint.prev.pt")
        ]  # type: ignore[func-returns-value]
    found |= {
        "model.pt that unfolds to 4 GB": lambda f: f.put_model(_squeezed(_torch({"w": torch.zeros(10**9, dtype=torch.uint8), "v": 4}))),
        "model.pt with a tensor of 10^15 numbers": lambda f: f.put_model(
            _torch({name: torch.zeros(1).expand(10**15) for name in _state(f.finished)})
        ),
        "model.pt of sparse tensors": lambda f: f.put_model(
            _torch({name: w.to_sparse() if w.dim() else w for name, w in _state(f.finished).items()})
        ),
        "config.yaml with a Python tag": lambda f: _write_all(
            f, "config.yaml", f"seed: !!python/object/apply:os.system ['touch {f.marker}']\n"
        ),
        "config.yaml that unfolds without end": lambda f: _write_all(f, "config.yaml", BOMB),
        "config.yaml that merges without end": lambda f: _write_all(f, "config.yaml", MERGES),
        "config.yaml of 50 MB": lambda f: _write_all(f, "config.yaml", "a: [" + "x, " * (17 * 10**6) + "]"),
        "config.yaml that nests": lambda f: _write_all(f, "config.yaml", "[" * 50_000),
        "config.yaml with an interpolation": lambda f: _write_all(f, "config.yaml", "name: ${oc.env:HOME}\n"),
        "config.yaml that asks for a network of terabytes": lambda f: _write_all(
            f, "config.yaml", f.finished.config_yaml.read_text().replace("widths: [4]", "widths: [4096, 4096, 4096, 4096]")
        ),
        "data.root at a private file": lambda f: _in_config(f, {"name": "npz", "root": str(f.secret())}),
        "data.root that a download would fill": lambda f: _in_config(f, {"name": "mnist", "root": str(f.outside)}),
        "summary.json with the id of a path": lambda f: f.change(f.finished, lambda s: s.update(id="../../outside")),
        "summary.json with a stack at a path": lambda f: [
            f.change(run, lambda s: s["stack"].update(id="../../outside")) for run in (f.finished, f.interrupted)
        ],  # type: ignore[func-returns-value]
        "summary.json that nests": lambda f: _write_all(f, "summary.json", "[" * 100_000),
        "summary.json with numbers beyond all measure": lambda f: _write_all(
            f, "summary.json", dump_json({**f.finished.summary(), "seed": 10**400, "steps": 10**400}).replace('"checksum"', '"was"')
        ),
        "escape sequences": lambda f: [
            f.change(run, lambda s: _everywhere(s, "\x1b]0;owned\x07\x1b[2J\x9b31m\u202e")) for run in (f.finished, f.interrupted)
        ],  # type: ignore[func-returns-value]
        "markup": lambda f: [
            f.change(run, lambda s: _everywhere(s, "<script>alert(1)</script>[link=file:///etc/passwd]x[/link]{{7*7}}$\\frac{"))
            for run in (f.finished, f.interrupted)
        ],  # type: ignore[func-returns-value]
        "metrics.jsonl with a line of 50 MB": lambda f: _write_all(
            f, "metrics.jsonl", '{"step": 1, "val/loss": ' + "1" * 50_000_000 + "}\n"
        ),
        "metrics.jsonl with keys that are markup": lambda f: _write_all(
            f, "metrics.jsonl", '{"step": 1, "val/loss": 1, "drift/</text><script>alert(1)</script>/x": 1, "drift/\\u001b[2J/x": 2}\n'
        ),
        "an event file that claims a record of 10^18 bytes": lambda f: next(f.interrupted.folder.glob("events*")).write_bytes(
            b"\xff" * 7 + b"\x00" + b"\x00" * 100
        ),  # type: ignore[func-returns-value]
        "a sweep of runs outside": lambda f: write_checked_json(
            f.group / "members.json", {"kind": "x" * 10**6, "parts": {"": ["../outside", "/etc", f.finished.id]}}, 1
        ),
        "figures that an earlier report is said to have, outside": lambda f: (
            (f.group / "figures").mkdir(exist_ok=True),
            (f.group / "figures" / "figures.txt").write_text("../../../../outside/secret\n../../../../outside/picture\n"),
        ),  # type: ignore[func-returns-value]
        "a folder whose name is an escape sequence": lambda f: f.finished.folder.rename(f.runs_dir / "\x1b[2J-12345678"),  # type: ignore[func-returns-value]
        "a plan that names runs outside": lambda f: write_checked_json(
            f.stack / "plan.json", {"members": [{"id": "../outside", "fresh": False, "config": {}}]}, 1
        ),
    }
    for name in own_files:
        found[f"{name} as a link to a private file"] = lambda f, name=name: [
            _instead(run.folder / name, f.secret()) for run in (f.finished, f.interrupted)
        ]  # type: ignore[func-returns-value]
        found[f"{name} as a pipe that nobody writes to"] = lambda f, name=name: [
            _fifo(run.folder / name) for run in (f.finished, f.interrupted)
        ]  # type: ignore[func-returns-value]
    found["an event file as a link"] = lambda f: _instead(next(f.interrupted.folder.glob("events*")), f.secret())
    found["an event file as a pipe"] = lambda f: _fifo(next(f.interrupted.folder.glob("events*")))
    for name in ("checkpoint.pt", "checkpoint.prev.pt", "plan.json"):
        found[f"{name} as a link"] = lambda f, name=name: _instead(f.stack / name, f.secret())
    for room in (".stacks", ".fresh", ".groups", ".locks"):
        found[f"{room} as a link to a folder outside"] = lambda f, room=room: _instead(f.runs_dir / room, f.outside)
    found["a stack as a link to a folder outside"] = lambda f: _instead(f.stack, f.outside)
    found["a sweep's folder as a link to a folder outside"] = lambda f: _instead(f.group, f.outside)
    found["a sweep's figures as a link to a folder outside"] = lambda f: _instead(f.group / "figures", f.outside)
    found["a successor as a link to a folder outside"] = lambda f: (
        (f.runs_dir / ".fresh").mkdir(exist_ok=True),
        _instead(f.runs_dir / ".fresh" / f.finished.id, f.outside),
    )  # type: ignore[func-returns-value]
    found["a run as a link to a folder outside"] = lambda f: _instead(f.interrupted.folder, f.outside)
    found["locks that are links to a private file"] = lambda f: [
        _instead(f.runs_dir / ".locks" / f"{run.id}.lock", f.secret()) for run in (f.finished, f.interrupted)
    ]  # type: ignore[func-returns-value]
    found["matplotlib's settings in the folder"] = lambda f: (f.runs_dir.parent / "matplotlibrc").write_text(
        "text.usetex: True\nbackend: module://evil\nfont.family: nothing\n"
    )  # type: ignore[func-returns-value]
    return found


def _write_all(folder: Folder, name: str, text: str) -> None:
    for run in (folder.finished, folder.interrupted):
        (run.folder / name).write_text(text)


def _in_config(folder: Folder, data: dict[str, Any]) -> None:
    """Other data in config.yaml and summary.json of both runs."""
    import yaml

    for run in (folder.finished, folder.interrupted):
        tree = yaml.safe_load(run.config_yaml.read_text())
        tree["data"].update(data)
        run.config_yaml.write_text(yaml.safe_dump(tree))
        folder.change(run, lambda summary: summary["config"]["data"].update(data))


@dataclass
class Tried:
    """What became of the cases."""

    commands: int = 0
    cases: int = 0
    executed: int = 0
    problems: list[str] = field(default_factory=list)


def try_cases(names: Sequence[str] | None = None, say: Callable[[str], None] = lambda line: None, every: bool = True) -> Tried:
    """Opens each case with each command (or, unless `every`, with half of them by turns) and collects what should not have come of it."""
    tried = Tried()
    chosen = {name: case for name, case in cases().items() if names is None or name in names}
    with tempfile.TemporaryDirectory(prefix="bnexp-hostile-") as place:
        original = Path(place) / "original"
        _make(original)
        for number, (name, case) in enumerate(chosen.items()):
            tried.cases += 1
            for index, command in enumerate(COMMANDS):
                if every or index % 2 == number % 2:
                    tried.commands += 1
                    scene = Path(place) / "scene"
                    for problem in _try(original, scene, case, command):
                        tried.executed += problem.startswith("executed")
                        tried.problems.append(f"{name}: {command}: {problem}")
                        say(tried.problems[-1])
                    shutil.rmtree(scene)
            say(f"{number + 1:3} of {len(chosen)}  {name}")
    return tried


def _make(folder: Path) -> None:
    """A runs folder with a finished run, an interrupted one, and what a report left."""
    (folder / "outside").mkdir(parents=True)
    (folder / "outside" / "secret.txt").write_text(SECRET)
    (folder / "outside" / "picture.png").write_bytes(b"a picture")
    for command in (["train", *TINY, FINISHED], ["train", *TINY, FINISHED, "seed=1"], ["report"]):
        subprocess.run([sys.executable, "-m", "bnexp", *command, "--runs-dir", "runs"], cwd=folder, check=True, capture_output=True)
    code = (
        "import bnexp.stop as stop\nfrom bnexp.cli import main\nleft = [5]\n"
        "def call(self):\n    left[0] -= 1\n    return left[0] < 0\n"
        "stop.Stop.__call__ = call\n"
        f"main(['train', *{TINY!r}, '{INTERRUPTED}', '--runs-dir', 'runs'])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 130, done.stderr
    if not any((folder / "runs" / ".groups").glob("*")):
        (folder / "runs" / ".groups" / "0123abcd").mkdir(parents=True)


def _try(original: Path, scene: Path, case: Case, command: str) -> list[str]:
    shutil.copytree(original, scene, symlinks=True)
    runs = list_runs(scene / "runs")
    interrupted = next(run for run in runs if run.status == "interrupted")
    finished, other = [run for run in runs if run is not interrupted]
    folder = Folder(scene / "runs", finished, interrupted, scene / "outside", scene / "marker")
    case(folder)
    outside = _tree(folder.outside)
    run = interrupted if command.startswith("resume") else finished
    words = command.replace("ID", run.id).replace("OTHER", other.id).split()
    more = [*TINY, INTERRUPTED] if command == "train" else []
    code, text, peak = _run([*words, *more, "--runs-dir", "runs"], scene)
    found = []
    if folder.marker.exists():
        found.append("executed")
    if _tree(folder.outside) != outside:
        found.append("wrote outside its folder")
    pages = "".join(page.read_text(errors="replace") for page in scene.glob("runs/**/report.html") if not page.is_symlink())
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
    if peak > MOST_BYTES:
        found.append(f"{peak / 1e9:.1f} GB of memory")
    return found


def _run(words: Sequence[str], folder: Path) -> tuple[int, str, int]:
    """Exit code, what was said, and bytes at the peak. A copy of this process does it, which has imported everything already."""
    with tempfile.TemporaryFile("w+", errors="replace") as out:
        child = os.fork()
        if child == 0:
            _be_bnexp(words, folder, out.fileno())
        timer = threading.Timer(LIMIT_S, os.kill, (child, signal.SIGKILL))
        timer.start()
        _, status, usage = os.wait4(child, 0)
        timer.cancel()
        timer.join()
        out.seek(0)
        return os.waitstatus_to_exitcode(status), out.read(), usage.ru_maxrss * 1024


def _be_bnexp(words: Sequence[str], folder: Path, out: int) -> NoReturn:
    code: Any = 70
    try:
        os.dup2(out, 1)
        os.dup2(out, 2)
        os.chdir(folder)
        try:
            main(list(words))
            code = 0
        except SystemExit as end:
            code = end.code or 0
        except BaseException:
            traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)


def _tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else b"" for path in folder.rglob("*")}


if __name__ == "__main__":
    print(json.dumps(try_cases(sys.argv[1:] or None, lambda line: print(line, flush=True)).__dict__, indent=2))
