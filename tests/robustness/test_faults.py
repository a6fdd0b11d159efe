"""Kills at seeded moments, and run folders of strangers: what scripts/faults tries in full, in part."""

import itertools
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import faults_child
import faults_hostile_run
import faults_kill
import faults_process
import faults_same
import pytest

SCRIPTS = Path(faults_kill.__file__).parent


def own_process(code: str, cwd: Path | None = None) -> Any:
    """What `code` prints, as JSON, in a process of its own, which copies itself: the one of the tests has threads."""
    env = {**os.environ, "PYTHONPATH": str(SCRIPTS)}
    done = subprocess.run([sys.executable, "-c", code], env=env, cwd=cwd, capture_output=True, text=True, timeout=1500)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


@pytest.mark.slow
def test_a_kill_at_any_moment_loses_nothing() -> None:
    count = 10
    found = faults_kill.try_kills(count, seed=8)
    assert found.problems == []
    late = found.counts[faults_kill.TOO_LATE]
    assert found.counts.total() - late == count
    assert late <= count // 10  # these seeds kill in the midst; only a moment `anywhere` depends on how fast the machine is


def test_the_moments_are_seeded_and_fall_into_every_phase() -> None:
    first, again = list(faults_kill.moments(50, 0)), list(faults_kill.moments(50, 0))
    assert first == again
    assert first != list(faults_kill.moments(50, 1))
    phases = {moment.phase for moment in first}
    assert phases == {*faults_child.PHASES, "a file", "anywhere"}
    assert {moment.command for moment in first if moment.phase == "promotion"} == {"train --fresh"}
    assert {moment.command for moment in first} == set(faults_kill.COMMANDS)


@pytest.mark.slow
@pytest.mark.parametrize(("commands", "every"), [(["train"], 25), (["runs", "resume", "report", "runs rm"], 6)])
def test_a_fault_at_any_touch_of_a_file_loses_nothing(commands: list[str], every: int) -> None:
    code = f"import json, faults_touches as f\nprint(json.dumps(vars(f.try_touches(commands={commands!r}, every={every}))))"
    found = own_process(code)
    assert found["problems"] == []
    assert set(found["counts"]) == {*commands, "killed"}
    assert found["counts"]["killed"] > 0


def test_touches_of_every_kind_are_seen_and_fail(tmp_path: Path) -> None:
    """The instrument itself: with a fault at each touch of a small program in turn, exactly that one fails."""
    code = f"""import json, os, shutil, faults_touches as f
from pathlib import Path
place = Path({str(tmp_path)!r})
def work():
    (place / "new").mkdir()
    with open(place / "new" / "a", "xb") as file:
        file.write(b"x")
        file.flush()
        os.fsync(file.fileno())
    (place / "new" / "a").replace(place / "new" / "b")
    assert (place / "new" / "b").read_bytes() == b"x"
    shutil.rmtree(place / "new")
def tried(at):
    with open("told", "w") as told, open("out", "w") as out:
        def watched():
            with f._watched(str(place), at, False, told.fileno()):
                work()
        code, _ = f.forked(watched, out.fileno())
    shutil.rmtree(place / "new", ignore_errors=True)
    return code, [line.split("\\t")[0] for line in Path("told").read_text().splitlines()], Path("out").read_text()
print(json.dumps([tried(at) for at in range(-1, 10)]))"""
    (beside := tmp_path.parent / f"{tmp_path.name}-beside").mkdir()
    (ended, touches, _), *faults = own_process(code, beside)
    assert ended == 0
    kinds = [touch.split()[0] for touch in touches]
    assert kinds[:6] == ["os.mkdir", "open", "write", "fsync", "os.rename", "open"]
    assert {"read", "os.remove", "os.rmdir"} <= set(kinds)
    for at, (ended, seen, said) in enumerate(faults[: kinds.index("os.remove")]):
        assert ended == 70
        assert seen[at] == touches[at]
        assert "OSError: [Errno " in said


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "count"), [("clocks", 1), ("stops", 1), ("workers", 2)])
def test_what_happens_to_processes_loses_nothing(kind: str, count: int, tmp_path: Path) -> None:
    assert [problem for _, problem in itertools.islice(faults_process.KINDS[kind](tmp_path), count)] == [None] * count


@pytest.mark.slow
def test_an_open_port_is_found() -> None:
    """A Dask scheduler without keys, and a web server."""
    code = """import asyncio, json, os, subprocess, sys, faults_process as f
from distributed import Scheduler
async def main():
    async with Scheduler(host="127.0.0.1", port=0, dashboard_address="127.0.0.1:0"):
        said = {}
        for port in f._ports(os.getpid()):
            line = [sys.executable, "-c", f.KNOCK, f"tcp://127.0.0.1:{port}"]
            asked = await asyncio.create_subprocess_exec(*line, stdout=subprocess.PIPE)
            said[port] = (await asked.communicate())[0].decode()
        print(json.dumps(list(said.values())))
asyncio.run(main())"""
    said = "\n".join(own_process(code))
    assert "answers as Scheduler" in said
    assert "answers as a web server" in said


def test_what_is_lost_is_found(tmp_path: Path) -> None:
    """The comparison itself: a number, a byte, a file too many or too few."""
    run = tmp_path / "a" / "run"
    run.mkdir(parents=True)
    curves = '{"step": 1, "val/loss": 0.5, "speed/train_s": %d}\n'
    files = {
        "metrics.jsonl": curves % 3,
        "summary.json": '{"steps": 1, "speed": {"train_s": 1}, "val": {"loss": 0.5}}',
        "model.pt": "weights",
    }
    for name, text in files.items():
        (run / name).write_text(text)
    whole = faults_same.contents(tmp_path / "a")
    for name, text, said in (
        ("metrics.jsonl", curves % 4, "None"),  # what is timed may differ
        ("summary.json", '{"steps": 1, "speed": {"train_s": 2}, "val": {"loss": 0.25}}', "at /val/loss: 0.5 and 0.25"),
        ("model.pt", "Weights", "model.pt differs"),
        ("model.pt", None, "model.pt is not there"),
        (".x.tmp", "", "run/.x.tmp is left over"),
    ):
        (run / name).unlink() if text is None else (run / name).write_text(text)
        assert said in str(faults_same.difference(whole, faults_same.contents(tmp_path / "a")))
        (run / name).write_text(files[name]) if name in files else (run / name).unlink()


@pytest.mark.slow
def test_a_strangers_run_folder_owns_nothing() -> None:
    assert own_process("import json, faults_hostile_run as f\nprint(json.dumps(f.try_cases(None, every=False).problems))") == []


def test_every_promise_names_tests_that_are_there() -> None:
    root = SCRIPTS.parent
    text = (root / "docs" / "reliability.md").read_text()
    named = re.findall(r"`(test_\w+\.py)::(\w+)`", text)
    assert len(named) > 40
    files = {path.name: path for path in (root / "tests").rglob("test_*.py")}
    for file, test in named:
        assert f"def {test}(" in files[file].read_text(), test
    for row in re.findall(r"^\|.*\|$", text.partition("## The same bits")[0], re.MULTILINE):
        assert "::" in row or row in ("| promise | proof |", "|---|---|"), row


def test_every_case_spoils_something() -> None:
    cases = faults_hostile_run.cases()
    assert len(cases) > 50
    for case in cases.values():
        assert case.commands
        assert set(case.commands) <= set(faults_hostile_run.COMMANDS)
    assert {"runs", "runs show ID", "report"} <= set(cases["escape sequences"].commands)
    assert all({"evaluate ID", "stats ID"} <= set(case.commands) for name, case in cases.items() if name.startswith("model.pt"))


def test_reaching_for_the_network_is_seen() -> None:
    code = """import json, socket, faults_hostile_run as f
from faults_hostile_scene import Case
def main(words):
    socket.create_connection(("192.0.2.1", 9), timeout=0.1)
f.main = main
print(f._run(["runs"], f.Path("."), set())[1].count(f.REACHED))"""
    assert own_process(code) >= 2  # to find the address, and to connect


@pytest.mark.slow
def test_a_case_that_no_command_meets_proves_nothing() -> None:
    code = """import json, faults_hostile_run as f
from faults_hostile_scene import Case
f.COMMANDS = ("runs",)
f.cases = lambda: {
    "not met": Case(lambda f: f.put_model(b"x"), ("runs",), "model.pt"),
    "met": Case(lambda f: f.put_model(b"x"), ("runs",), "summary.json"),
    "not to be met": Case(lambda f: f.put_model(b"x"), ("runs",), "summary.json", ignored=True),
}
print(json.dumps(f.try_cases(every=False).problems))"""
    assert own_process(code) == [f"{name} command opened or named what is spoiled" for name in ("not met: no", "not to be met: a")]
