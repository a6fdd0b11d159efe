"""What a user sees while something trains, on a real pseudo-terminal: whole lines, no colour where none is wanted, plain text in a pipe."""

import fcntl
import io
import json
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from support import NUMBER, bn, no_pages

from bnexp.base.signals import Stop
from bnexp.base.sparkline import BLOCKS, LOST
from bnexp.cli import app
from bnexp.config.compose import expand
from bnexp.execution.grid import prepare, train_all
from bnexp.execution.launch import launch
from bnexp.execution.live import Live
from bnexp.execution.stack_events import DONE, Event
from bnexp.execution.terminal import POINTS, SHOWN, RunEvaluation, StackEvaluation, Terminal, extend, fitted
from bnexp.execution.workers import run_stacks
from bnexp.storage.folder import list_runs

TINY = ["model.widths=[4,4]", "train.steps=24", "train.eval_every=8"]
CODE = re.compile(r"\x1b\[[\d;?]*[a-zA-Z]")
COLOUR = re.compile(r"\x1b\[(?:\d+;)*(?:3\d|4\d|9\d|10\d)(?:;\d+)*m")


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "COLUMNS", "LINES", "PYTHONIOENCODING"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")


class Screen:
    """The two ends of a pseudo-terminal, and what was written to it. `leave_after`: bytes after which nobody is there any more."""

    def __init__(self, columns: int, leave_after: int | None = None) -> None:
        self.master, self.slave = pty.openpty()
        fcntl.ioctl(self.slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        self._written, self._leave_after = b"", leave_after
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        with suppress(OSError):  # EIO: the other end is closed
            while chunk := os.read(self.master, 65536):
                self._written += chunk
                if self._leave_after is not None and len(self._written) >= self._leave_after:
                    break
        os.close(self.master)

    def text(self) -> str:
        """All that was written, once the other end is closed."""
        self._reader.join()
        return self._written.decode()


def lines_of(text: str) -> list[str]:
    """Whatever was ever drawn, line by line, without codes."""
    return [line for line in re.split(r"[\r\n]+", CODE.sub("", text)) if line]


@contextmanager
def on_screen(monkeypatch: pytest.MonkeyPatch, columns: int = 80, leave_after: int | None = None) -> Iterator[Screen]:
    """stdout and stderr of this process are a terminal meanwhile."""
    screen = Screen(columns, leave_after)
    monkeypatch.setenv("COLUMNS", str(columns))
    file = os.fdopen(screen.slave, "w", encoding="utf-8")
    try:
        with monkeypatch.context() as patched:
            patched.setattr(sys, "stdout", file)
            patched.setattr(sys, "stderr", file)
            yield screen
    finally:
        with suppress(OSError):  # what it still holds back has no reader, where one has left
            file.close()


def on_terminal(monkeypatch: pytest.MonkeyPatch, *args: str, columns: int = 80, stdout_only: bool = False) -> str:
    with on_screen(monkeypatch, columns) as screen, monkeypatch.context() as patched, no_pages():  # the same command in a pipe wrote it
        if stdout_only:
            patched.setattr(sys, "stderr", io.StringIO())
        app(list(args), prog_name="bnexp", standalone_mode=False)
    return screen.text()


def in_pipe(*args: str) -> tuple[str, str]:
    result = bn(*args)
    return result.stdout, result.stderr


@pytest.fixture(scope="module")
def runs_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three seeds, and one run that diverges."""
    folder = tmp_path_factory.mktemp("terminal") / "runs"
    in_pipe("train", *TINY, "--seeds", "3", "--runs-dir", str(folder), "--quiet")
    in_pipe("train", *TINY, "optim.lr=1e30", "model.norm=none", "--runs-dir", str(folder), "--quiet")
    return folder


COMMANDS = {
    "train": ["train", *TINY],
    "seeds": ["train", *TINY, "--seeds", "3"],
    "runs": ["runs"],
    "show": ["runs", "show", "batch"],
    "diverged": ["runs", "show", "none"],
    "lr": ["sweep", "lr", *TINY, "--values", "0.01,0.1", "--seeds", "2", "--workers", "0"],
    "batch sizes": ["sweep", "batch-size", *TINY, "optim.lr=0.1", "--values", "8,32", "--seeds", "2", "--workers", "0"],
    "norm": ["sweep", "norm", *TINY, "--values", "batch,none,frozen", "--seeds", "2", "--workers", "0"],
    "grid": ["sweep", "grid", *TINY, "train.batch_size=16,32", "seed=range(2)", "--workers", "0"],
    "plan": ["sweep", "lr", *TINY, "--values", "0.01,0.3", "--seeds", "4", "--dry-run"],
    "evaluate": ["evaluate", "batch", "--stats", "all"],
    "stats": ["stats", "model.widths=[4,4]", "data.subset=300", "--batch-sizes", "2,8"],
}


LONG = ("batch sizes", "norm", "grid")


@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.slow] if name in LONG else []) for name in COMMANDS])
def test_nothing_is_wider_than_the_terminal_and_no_number_is_cut(name: str, runs_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = next(run.id for run in list_runs(runs_dir) if run.id.startswith("batch"))
    args = [first if arg == "batch" else arg for arg in COMMANDS[name]] + ["--runs-dir", str(runs_dir)]
    wanted, err = in_pipe(*args)  # trains what is missing
    assert "\x1b" not in wanted + err
    assert "\r" not in wanted + err
    for columns in (80, 60):
        text = on_terminal(monkeypatch, *args, columns=columns, stdout_only=True)  # messages with paths are the terminal's to wrap
        lines = lines_of(text)
        assert max(map(len, lines)) <= columns
        assert "…" not in text
        if name in ("runs", "plan"):  # columns that do not fit are named, and estimates learn
            continue
        shown = re.sub(rf"{re.escape(str(runs_dir))}(/[\w.-]*)?", "", wanted)  # a long path may be broken anywhere
        assert Counter(NUMBER.findall(shown)) <= Counter(NUMBER.findall("\n".join(lines)))


def test_the_live_view_of_one_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = ["model.widths=[8,8]", "train.steps=600", "train.eval_every=20"]
    text = on_terminal(monkeypatch, "train", *steps, "--runs-dir", str(tmp_path))
    lines = lines_of(text)
    assert max(map(len, lines)) <= 80
    assert any(re.match(r"batch-bs32-lr0.1-s0 .*━.* \d+/600 ", line) for line in lines)
    assert any(re.match(rf"loss \d\.\d+  acc \d\.\d\d  best acc \d+\.\d %  val loss [{BLOCKS}]+ \d\.\d+", line) for line in lines)
    assert re.search(rf"val loss +[{BLOCKS}]+ +\d", "\n".join(lines[-20:]))  # in the closing table
    assert not any(line.startswith("step 20/600") for line in lines)  # no plain lines beside it


def test_the_live_view_of_seeds_has_a_line_a_run_up_to_a_few(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = ["model.widths=[8,8]", "train.steps=200", "train.eval_every=10", "train.target=0.5"]
    lines = lines_of(on_terminal(monkeypatch, "train", *steps, "--seeds", "10", "--runs-dir", str(tmp_path), columns=60))
    assert max(map(len, lines)) <= 60
    assert any(re.match(r"10 of 10 runs at the target  0 diverged$", line) for line in lines)
    assert any(re.match(rf"seed 7  acc \d+\.\d %  val loss [{BLOCKS}]+ \d\.\d+  target at \d+$", line) for line in lines)
    assert not any(line.startswith("seed 8  ") for line in lines)
    assert "and 2 more" in lines


def test_in_a_pipe_are_plain_lines_even_where_colour_is_forced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, err = in_pipe("train", *TINY, "--runs-dir", str(tmp_path / "a"))
    assert "\x1b" not in out + err
    assert re.search(r"^step 8/24  train loss \d\.\d{4}  val loss \d\.\d{4}  val accuracy \d\.\d{4}$", err, re.MULTILINE)
    monkeypatch.setenv("FORCE_COLOR", "1")
    out, err = in_pipe("train", *TINY, "--runs-dir", str(tmp_path / "b"))
    assert "step 8/24" in err
    assert not re.search(r"\x1b\[[\d;?]*[A-LN-Za-ln-z]", err)  # nothing moves the cursor
    monkeypatch.delenv("FORCE_COLOR")
    out, err = in_pipe("train", *TINY, "--quiet", "--runs-dir", str(tmp_path / "c"))
    assert err == ""
    assert "test accuracy" in out


def test_quiet_is_quiet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = on_terminal(monkeypatch, "train", *TINY, "--runs-dir", str(tmp_path), "--quiet", "--json")
    assert json.loads(text)["status"] == "finished"


def test_no_color_and_dumb_terminals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def trained(name: str) -> str:
        args = ["--seeds", "2", "--runs-dir", str(tmp_path / name)]
        text = on_terminal(monkeypatch, "train", *TINY, *args)
        return text + on_terminal(monkeypatch, "runs", "--runs-dir", str(tmp_path / name))

    assert COLOUR.search(trained("colour"))
    monkeypatch.setenv("NO_COLOR", "1")
    text = trained("none")
    assert not COLOUR.search(text)
    assert "━" in text  # the bar is still there
    assert re.search(r"\*0\.\d|\*\d", CODE.sub("", text))  # and so is the mark
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setenv("TERM", "dumb")
    text = trained("dumb")
    assert "\x1b" not in text
    assert "step 8/24  mean of 2 runs" in text


@pytest.mark.parametrize("overrides", [["seed=range(3)"], ["optim.lr=0.01,0.1", "train.batch_size=16,32"]])
def test_a_terminal_that_goes_away_does_not_end_the_training(overrides: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is there from the first line on: every write fails then."""
    prepared = prepare(expand(["model.widths=[8,8]", "train.steps=150", *overrides]), tmp_path)
    with on_screen(monkeypatch, leave_after=1):
        if len(prepared.stacks) == 1:
            launch(prepared.configs, tmp_path)
        else:
            train_all(prepared, workers=0)
    assert all(run.done for run in prepared.runs)


@pytest.mark.parametrize(("more", "shown"), [([], True), (["--quiet"], False), (["--help"], False)])
def test_what_takes_long_to_start_says_so_at_once_and_takes_it_back(more: list[str], shown: bool, tmp_path: Path) -> None:
    screen = Screen(80)
    command = [sys.executable, "-m", "bnexp", "train", "optim.lr=0", *more, "--runs-dir", str(tmp_path)]
    subprocess.run(command, stdin=screen.slave, stdout=screen.slave, stderr=screen.slave, check=False)
    os.close(screen.slave)
    text = screen.text()
    assert text.startswith("Loading PyTorch ...\r\x1b[K") is shown
    assert ("Loading" in text) is shown
    assert more == ["--help"] or "optim.lr" in text  # the mistake is told without PyTorch


def test_a_real_window_of_80_columns(tmp_path: Path) -> None:
    screen = Screen(80)
    command = [sys.executable, "-m", "bnexp", "train", *TINY, "--seeds", "2", "--runs-dir", str(tmp_path)]
    subprocess.run(command, stdin=screen.slave, stdout=screen.slave, stderr=screen.slave, check=True)
    os.close(screen.slave)
    lines = lines_of(screen.text())
    assert max(map(len, lines)) == 80  # the bar takes all of it
    assert any(line.startswith("2 runs ━") or line.startswith("2 runs ╺") for line in lines)


def test_a_stream_that_has_no_blocks_gets_signs_that_it_has(runs_dir: Path) -> None:
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    command = [sys.executable, "-m", "bnexp", "runs", "--runs-dir", str(runs_dir)]
    result = subprocess.run(command, env=environment, capture_output=True, check=True)
    text = result.stdout.decode("ascii")
    assert "?" not in text
    assert re.search(r"finished +24 +\*?\d[\d.]+ +[-_.,=+%#]{3} ", text)
    assert re.search(r"diverged +\d+ +n/a +x ", text)


def test_runs_of_which_nothing_was_measured_have_no_curve(tmp_path: Path) -> None:
    out, _ = in_pipe("train", *TINY, "--runs-dir", str(tmp_path))
    assert "val accuracy" in out
    (run,) = list_runs(tmp_path)
    run.metrics_jsonl.write_text('{"step": 3, "val/loss": "x"}\n{"step": "3", "val/loss": 1}\n["val/loss"]\ntorn "val/loss": 3\n')
    out, _ = in_pipe("runs", "--runs-dir", str(tmp_path))
    assert not set(out) & set(BLOCKS + LOST)
    run.metrics_jsonl.unlink()
    out, _ = in_pipe("runs", "show", "last", "--runs-dir", str(tmp_path))
    assert "val accuracy" not in out


def test_only_the_newest_runs_are_drawn(runs_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bnexp.cli.runs.DRAWN", 2)
    out, _ = in_pipe("runs", "--runs-dir", str(runs_dir))
    rows = out.splitlines()[1:5] if len(list_runs(runs_dir)) == 4 else out.splitlines()[1 : 1 + len(list_runs(runs_dir))]
    assert [bool(set(row) & set(BLOCKS + LOST)) for row in rows[-2:]] == [True, True]
    assert not any(set(row) & set(BLOCKS) for row in rows[:-2])
    assert "of the newest 2 runs" in out


def seen(index: int, loss: float = 0.5, diverged: int | None = None) -> RunEvaluation:
    return RunEvaluation(index, 100 + index, loss, 0.9, None, diverged)


def test_a_diverged_seed_keeps_its_line(monkeypatch: pytest.MonkeyPatch) -> None:
    with on_screen(monkeypatch) as screen:
        terminal = Terminal()
        terminal.begin("2 runs", 10)
        terminal.evaluated(StackEvaluation(2, 0.7, [seen(0, 0.6), seen(1, 0.8)], 2, 0, 0))
        terminal.evaluated(StackEvaluation(4, 0.5, [seen(0, 0.5), seen(1, float("nan"), diverged=3)], 2, 0, 1))
        terminal.evaluated(StackEvaluation(6, 0.4, [seen(0, 0.4)], 2, 0, 1))
        terminal.advance(6, "loss 0.3")
        terminal.end()
    lines = lines_of(screen.text())
    assert any(re.match(rf"seed 101  acc 90.0 %  val loss ▄{LOST} nan  diverged at 3$", line) for line in lines)
    assert "0 of 2 runs at the target  1 diverged" in lines


def test_a_view_that_does_not_fit_leaves_parts_out_whole() -> None:
    assert fitted(["loss 0.3", "", "acc 0.91", "best 97.2 %", "9 img/s"], 100) == "loss 0.3  acc 0.91  best 97.2 %  9 img/s"
    assert fitted(["loss 0.3", "acc 0.91", "best 97.2 %", "9 img/s"], 28) == "loss 0.3  acc 0.91  9 img/s"
    assert fitted(["loss 0.3"], 3) == ""
    assert fitted(["█▁", "x"], 5) == "█▁  x"


def test_a_curve_that_is_drawn_again_and_again_stays_short_and_keeps_its_ends() -> None:
    curve: list[tuple[int, float]] = []
    for step in range(1, 10_001):
        extend(curve, step, float(step))
        assert len(curve) <= POINTS
        assert curve[0] == (1, 1.0)
        assert curve[-1] == (step, float(step))
    steps = [step for step, _ in curve]
    assert steps == sorted(steps)


def test_each_arm_has_a_line_with_the_counts_of_its_stacks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    configs = expand([*TINY, "model.norm=batch,none", "train.batch_size=8", "seed=range(3)", "train.steps=24,12"])
    stacks = prepare(configs, tmp_path).stacks
    assert [stack.configs[0].model.norm for stack in stacks] == ["batch", "none", "batch", "none"]
    for columns in (120, 80, 60, 40):
        with on_screen(monkeypatch, columns) as screen, Live(stacks, reused=0, quiet=False) as live:
            for stack in stacks:
                live.on_event(Event(stack.folder.id, 8, 24, 0.5, reached=1, diverged=0))
                live.on_event(Event(stack.folder.id, 16, 24, 0.975, reached=2, diverged=1))
            live.ended(stacks[0], DONE)
            live.on_event(Event(stacks[0].folder.id, 24, 24, 0.99, reached=3, diverged=0))  # late
            live.ended(stacks[1], "the disk is full")
        lines = lines_of(screen.text())
        assert max(map(len, lines)) <= columns
        assert any(re.match(r"total .* 6/12 runs", line) for line in lines)
        assert "without BN, 3 runs: the disk is full" in lines
        with_bn, without = ([line for line in lines if line.startswith(f"{arm} ")][-1] for arm in ("with BN", "without BN"))
        assert "3/6 runs" in with_bn
        assert columns < 60 or ("best 99.0 %" in with_bn and "best 97.5 %" in without)
        assert columns < 80 or ("83 % at target" in with_bn and "67 % at target" in without)
        assert columns < 80 or (with_bn.endswith("1 diverged") and without.endswith("2 diverged"))


def test_a_sweep_over_batch_sizes_has_a_line_each_up_to_a_few(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stacks = prepare(expand([*TINY, f"train.batch_size={','.join(map(str, range(2, 2 + SHOWN + 3)))}", "seed=range(3)"]), tmp_path).stacks
    with on_screen(monkeypatch) as screen, Live(stacks, reused=0, quiet=False) as live:
        (first,) = [stack for stack in stacks if stack.configs[0].train.batch_size == 2]
        live.ended(first, DONE)
    lines = lines_of(screen.text())
    assert any(re.match(r"with BN, batch 2 .* 3/3 runs", line) for line in lines)
    assert any(re.match(r"with BN, batch 3 .* 0/3 runs", line) for line in lines)
    assert "and 3 arms more" in lines


def test_the_last_event_of_a_stack_has_what_its_summaries_say(tmp_path: Path) -> None:
    """Evaluations are told along with the progress; that of the last step comes after the last progress."""
    prepared = prepare(expand([*TINY, "train.target=0.12", "optim.lr=0.1,1e30", "seed=range(3)", "model.norm=none"]), tmp_path)
    (stack,) = prepared.stacks
    events: list[Event] = []
    run_stacks([stack], Stop(), events.append, lambda planned, reason: None, workers=0)
    summaries = [run.result().tree() for run in stack.runs]
    finished = [summary for summary in summaries if summary["status"] == "finished"]
    assert 0 < len(finished) < len(summaries)
    last = events[-1]
    assert last.done == last.total == 24
    assert last.diverged == len(summaries) - len(finished)
    assert last.reached == sum(summary["target"]["reached_step"] is not None for summary in finished)
    assert last.best_accuracy == max(summary["val"]["best_accuracy"] for summary in finished)
