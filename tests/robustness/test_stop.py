"""Signals, and outputs that nobody reads any more, with real processes; `test_process.py` and `test_cluster.py` have those that save."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from support import BNEXP, SLOW, bn_in, finish, logged, start, wait_for

from bnexp.base.signals import SIGNALS, Stop, deaf, handle
from bnexp.storage.folder import list_runs

TINY = ["train.steps=16", "model.widths=[2]"]
GRID = ["sweep", "grid", *TINY, "optim.lr=0.01,0.1", "--seeds", "1", "--workers", "0"]


def patched(patch: str, *args: str, runs_dir: Path) -> subprocess.Popen[str]:
    """A bnexp in which `patch` has been run before."""
    script = (
        f"import sys, time, bnexp.execution.job as job, bnexp.execution.session as session\n{patch}\nfrom bnexp.cli import main\nmain()"
    )
    command = [sys.executable, "-c", script, *args, "--runs-dir", str(runs_dir)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def hears(process: subprocess.Popen[str], word: str) -> None:
    assert process.stdout is not None
    assert process.stdout.readline() == f"{word}\n", process.communicate()


def left(process: subprocess.Popen[str], code: int, within_s: float = 20.0) -> str:
    """stderr of a process that ends `within_s`, far less than what it was kept busy with."""
    began = time.monotonic()
    _, err = finish(process, code=code)
    assert time.monotonic() - began < within_s
    return err


READING = "def load(*_, **__):\n    print('reading', flush=True)\n    time.sleep(60)\nsession.load = load"


@pytest.mark.parametrize(
    ("command", "number", "said"), [(["train"], signal.SIGINT, "Interrupted.\n"), (GRID, signal.SIGUSR1, "Interrupted by SIGUSR1.\n")]
)
def test_while_data_are_read_a_signal_stops_at_once(command: list[str], number: int, said: str, tmp_path: Path) -> None:
    """There is nothing to save yet; a download or 60,000 images would keep a person waiting for minutes."""
    process = patched(READING, *command, runs_dir=tmp_path)
    hears(process, "reading")
    process.send_signal(number)
    assert left(process, 130).endswith(said)
    assert not any(run.done for run in list_runs(tmp_path))


def test_a_second_ctrl_c_does_not_wait_for_the_save(tmp_path: Path) -> None:
    """Where saving takes long (a network's file system that hangs), the last checkpoint is what there is."""
    patch = (
        "save, saves = job.StackTraining.save, []\n"
        "def slow(training):\n"
        "    saves.append(1)\n"
        "    if len(saves) == 3:\n        print('saving', flush=True)\n        time.sleep(60)\n"
        "    save(training)\n"
        "job.StackTraining.save = slow"
    )
    process = patched(patch, "train", "model.widths=[2]", "train.steps=40", "train.checkpoint_every=4", runs_dir=tmp_path)
    hears(process, "saving")  # that of step 12
    process.send_signal(signal.SIGINT)
    time.sleep(0.3)
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    assert left(process, 130).endswith("Interrupted.\n")
    (run,) = list_runs(tmp_path)
    assert run.status == "interrupted"
    assert "Resuming at step 8 of 40" in bn_in(tmp_path, "resume", "last").stderr


def test_signals_that_were_ignored_at_the_start_stay_ignored(tmp_path: Path) -> None:
    """`nohup` ignores SIGHUP, and a script's `&` ignores SIGINT, so that the terminal's do not reach what runs on."""

    def ignore() -> None:
        for number in (signal.SIGHUP, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)

    process = start("train", *SLOW, "model.widths=[2]", runs_dir=tmp_path, preexec_fn=ignore)
    wait_for(lambda: logged(tmp_path, 50), process)
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGINT):
        process.send_signal(number)
    finish(process)
    assert list_runs(tmp_path)[0].status == "finished"


TERMINAL = """
import os, pty, sys
pid, held = pty.fork()
if pid == 0:
    os.execvp(sys.argv[1], sys.argv[1:])
while os.read(held, 4096):
    pass
"""
"""A terminal, which is closed when this process is killed: its shell gets SIGHUP, and what is written then fails."""


@pytest.mark.parametrize(("hup", "code"), [("kill -HUP $!", 130), pytest.param("", 0, marks=pytest.mark.slow)], ids=["closed", "nohup"])
def test_a_terminal_that_is_closed_saves_or_with_nohup_changes_nothing(tmp_path: Path, hup: str, code: int) -> None:
    """The shell notes the exit code, which is that of the work: a result, a table and a report that nobody reads are no failure."""
    inside = f"""
        trap '{hup}' HUP  # passed on, as an interactive shell does with its jobs
        "$@" & wait $!; code=$?
        if [ $code = 129 ]; then wait $!; code=$?; fi
        echo $code >{tmp_path}/code.new; mv {tmp_path}/code.new {tmp_path}/code
    """
    long = [f"train.steps={4000 if code else 400}", "train.eval_every=20"]
    command = [*BNEXP, *GRID, *long, "--runs-dir", str(tmp_path / "runs")]
    terminal = subprocess.Popen([sys.executable, "-c", TERMINAL, "sh", "-c", inside, "sh", *command], stdin=subprocess.DEVNULL)
    wait_for(lambda: logged(tmp_path / "runs", 40), terminal)
    terminal.kill()
    terminal.wait()
    end = time.monotonic() + 60
    while not (tmp_path / "code").exists():
        assert time.monotonic() < end
        time.sleep(0.05)
    assert int((tmp_path / "code").read_text()) == code
    statuses = {run.status for run in list_runs(tmp_path / "runs")}
    reports = list(tmp_path.glob("runs/reports/*/index.html"))
    assert (statuses, len(reports)) == (({"interrupted"}, 0) if code else ({"finished"}, 1))


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_an_output_that_nobody_reads_is_no_failure(unbuffered: str) -> None:
    """As in `bnexp runs | head`: without a word, and with the exit code of the work."""
    reader, writer = os.pipe()
    os.close(reader)
    env = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
    result = subprocess.run([*BNEXP, "config"], stdout=writer, stderr=subprocess.PIPE, text=True, env=env, check=False)
    os.close(writer)
    assert (result.returncode, result.stderr) == (0, "")


def test_an_output_that_cannot_be_written_is_1_and_one_sentence() -> None:
    with Path("/dev/full").open("w") as full:
        result = subprocess.run([*BNEXP, "config"], stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (result.returncode, result.stderr) == (1, "Error: No space left on device\n")


def test_a_flag_is_raised_by_every_signal_and_only_inside() -> None:
    before = [signal.getsignal(number) for number in SIGNALS]
    for number in SIGNALS:
        stop = Stop()
        with stop.listening():
            assert not stop()
            signal.raise_signal(number)
            assert stop()
            if number != signal.SIGINT:
                signal.raise_signal(number)  # a second one of these changes nothing
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(signal.SIGINT)
    assert [signal.getsignal(number) for number in SIGNALS] == before


def test_what_is_begun_deaf_never_hears_and_its_beginner_hears_later() -> None:
    heard: list[int] = []
    before = handle(lambda number, frame: heard.append(number))
    try:
        with deaf():
            child = subprocess.Popen([sys.executable, "-c", "print('up', flush=True)\nimport time; time.sleep(60)"], stdout=subprocess.PIPE)
            try:
                assert child.stdout is not None
                child.stdout.readline()
                for number in SIGNALS:
                    child.send_signal(number)
                signal.pthread_kill(threading.get_ident(), signal.SIGTERM)  # to this thread: those of the tests' own runner are not deaf
                time.sleep(0.3)
                assert (child.poll(), heard) == (None, [])
            finally:
                child.kill()
                child.communicate()
        assert heard == [signal.SIGTERM]
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def test_ctrl_c_amid_the_first_imports_is_no_traceback() -> None:
    script = """
import sys
class Interrupting:
    def find_spec(self, name, path=None, target=None):
        if name == "typer":
            raise KeyboardInterrupt
sys.meta_path.insert(0, Interrupting())
from bnexp.__main__ import main
main()
"""
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout, result.stderr) == (130, "", "Interrupted.\n")
