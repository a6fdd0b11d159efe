"""What tests of several folders share: commands in this process and in ones of their own, an interrupted training, results of runs."""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import pytest
from typer.testing import CliRunner, Result

from bnexp.base.files import write_checked_json
from bnexp.base.signals import Stop
from bnexp.cli import app
from bnexp.config import Config
from bnexp.data import Dataset
from bnexp.execution import launch as launching
from bnexp.execution.launch import launch
from bnexp.storage.result import DONE, STATS, RunResult
from bnexp.storage.run import FORMAT, Run
from bnexp.training.fit import CheckpointDue, Evaluation, Measurement, NearTargetEvaluation, StepDone, fit
from bnexp.training.stack import Stack

T = TypeVar("T")
Tiny = Callable[..., Dataset]
"""The fixture `tiny`: makes a tiny data set of a shape."""
ROOT = Path(__file__).parent.parent
"""The project's folder."""
STORED = Path(__file__).parent / "stored"
"""Files that tests read: results of earlier versions, a pool of real runs."""
BNEXP = [sys.executable, "-m", "bnexp"]
SLOW = ["data=digits", "train.batch_size=64", "train.steps=300", "train.eval_every=50", "train.checkpoint_every=20"]
"""A run of about two seconds, so that there is something to kill."""
CONFIG = Config().replace(
    **{"model.widths": [4, 4], "train.epochs": None, "train.steps": 24, "train.eval_every": 8, "train.checkpoint_every": 4}
)
NUMBER = re.compile(r"[-+]?\d[\d.,]*\d|\d")


def some(value: T | None) -> T:
    """The value, which must be there."""
    assert value is not None
    return value


def bn(*args: str, code: int | None = 0) -> Result:
    """A command in this process, which must end with the exit code `code`; None: with any."""
    result = CliRunner().invoke(app, list(args), prog_name="bnexp")
    if code is not None:
        assert result.exit_code == code, (result.stdout, result.stderr, result.exception)
        assert "Traceback" not in result.stderr
    return result


def bn_in(runs_dir: Path, *args: str, code: int | None = 0) -> Result:
    """The same on a runs folder."""
    return bn(*args, "--runs-dir", str(runs_dir), code=code)


@contextmanager
def no_pages() -> Iterator[None]:
    """Meanwhile no report is drawn, which takes seconds: for commands whose page was written before, or is not what is tested."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("write_report", "write_law_report"):
            patch.setattr(f"bnexp.report.{name}", lambda folder, *_, **__: folder / "index.html")
        yield


def start(*args: str, runs_dir: Path, **options: Any) -> subprocess.Popen[str]:
    """A command in a process of its own; `options` are those of `subprocess.Popen`."""
    command = [*BNEXP, *args, "--runs-dir", str(runs_dir)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)


def finish(process: subprocess.Popen[str], code: int = 0) -> tuple[str, str]:
    """(stdout, stderr) of a process that must end with the exit code `code`."""
    out, err = process.communicate(timeout=120)
    assert process.returncode == code, (out, err)
    return out, err


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    """Waits until the condition holds, while the process runs."""
    end = time.monotonic() + 60
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.01)


@contextmanager
def served(runs_dir: Path, scratch: Path, *args: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A `bnexp tensorboard` that has its temporary files in `scratch`, and its URL."""
    scratch.mkdir(parents=True, exist_ok=True)
    command = [*BNEXP, "tensorboard", *args, "--json", "--runs-dir", str(runs_dir)]
    env = {**os.environ, "TMPDIR": str(scratch)}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env)
    assert process.stdout is not None
    answer = ""
    while not answer.endswith("}\n"):
        line = process.stdout.readline()
        assert line, process.communicate()
        answer += line
    try:
        yield process, json.loads(answer)["url"]
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def logged(runs_dir: Path, step: int) -> bool:
    """Whether some run has logged `step`."""
    return any(f'"step": {step},' in path.read_text() for path in runs_dir.glob("*/metrics.jsonl"))


class StopAt(Stop):
    """Stops before the given number of further steps are made."""

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.left = steps

    def __call__(self) -> bool:
        self.left -= 1
        return self.left < 0


def interrupt(configs: list[Config], runs_dir: Path, monkeypatch: pytest.MonkeyPatch, *, steps: int = 10, fresh: bool = False) -> None:
    """Trains so many steps and is stopped, as by Ctrl-C."""
    with monkeypatch.context() as patch:
        patch.setattr(launching, "Stop", lambda: StopAt(steps))
        with pytest.raises(launching.Interrupted, match="state saved"):
            launch(configs, runs_dir, quiet=True, fresh=fresh)


def cut_short(runs_dir: Path, *command: str, steps: int) -> None:
    """A command that trains so many steps and is stopped."""
    polled = iter([False] * steps)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Stop, "__call__", lambda self: next(polled, True))
        bn_in(runs_dir, *command, code=130)


def is_told(result: Result, lines: int = 3) -> bool:
    """Whether a command did its work, or said in one sentence, the last of at most so many lines, why not."""
    if result.exit_code == 0:
        return result.exception is None
    said = result.stderr.strip().splitlines()
    return result.exit_code in (1, 2) and isinstance(result.exception, SystemExit) and len(said) <= lines and said[-1].startswith("Error: ")


def make_result(
    norm: str = "batch", lr: float = 0.1, seed: int = 0, size: int = 32, *, acc: float | None = 0.9, status: str = "finished", **more: Any
) -> RunResult:
    """A run as its summary has it; all accuracies are `acc`, and the validation loss is 1 - acc. `more`: keys with __ for a dot."""
    values = {
        "id": f"{norm}-bs{size}-lr{lr:g}-s{seed}",
        "status": status,
        "seed": seed,
        "config.model.norm": norm,
        "config.model.widths": [16, 32, 64],
        "config.optim.lr": lr,
        "config.train.batch_size": size,
        "config.seed": seed,
        "config.name": f"{norm}-{seed}",
        "steps": 400,
        "parameters": 1000,
        "val.best_accuracy": acc,
        "target.reached_step": 50,
        "running_statistics.warm": True,
    }
    if status in DONE:
        values |= {f"test.{stats}.accuracy": acc for stats in STATS}
        values |= {"val.loss": None if acc is None else 1 - acc, "val.accuracy": acc}
        values |= {"test.running.loss": 0.5, "test.confusion": [[1, 0], [0, 1]]}
    return RunResult.from_tree(_with({}, values | {key.replace("__", "."): value for key, value in more.items()}))


def with_values(result: RunResult, **values: Any) -> RunResult:
    """The result with other values; __ in a key stands for a dot."""
    return RunResult.from_tree(_with(result.tree(), {key.replace("__", "."): value for key, value in values.items()}))


def _with(tree: dict[str, Any], values: dict[str, Any]) -> dict[str, Any]:
    for key, value in values.items():
        *path, last = key.split(".")
        node = tree
        for name in path:
            node[name] = node.get(name) or {}
            node = node[name]
        node[last] = value
    return tree


def write_summary(run: Run, tree: dict[str, Any]) -> None:
    """Writes a summary.json that may hold anything."""
    write_checked_json(run.summary_json, tree, FORMAT)


def train(
    stack: Stack,
    *,
    evaluation: Callable[[int, dict[str, float]], None] | None = None,
    near_target: Callable[[int, dict[str, float]], None] | None = None,
    measurement: Callable[[Measurement], None] | None = None,
    step_done: Callable[[], None] | None = None,
    checkpoint: Callable[[], None] | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> bool:
    """Trains a stack and hands each event to the callback of its kind; whether the training came to its end."""
    for event in fit(stack, stop=stop, display_due=lambda: step_done is not None):
        match event:
            case Evaluation() if evaluation is not None:
                for run, values in event.values.items():
                    evaluation(run, values)
            case NearTargetEvaluation() if near_target is not None:
                near_target(event.run, event.values)
            case Measurement() if measurement is not None:
                measurement(event)
            case StepDone() if step_done is not None:
                step_done()
            case CheckpointDue() if checkpoint is not None:
                checkpoint()
    return stack.finished
