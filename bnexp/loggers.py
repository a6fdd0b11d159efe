"""Where a run's numbers go while it trains: metrics.jsonl, TensorBoard, train.log, and the terminal."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import yaml
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeRemainingColumn
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from bnexp.config import Config, to_mapping
from bnexp.files import atomic_write, finite
from bnexp.run import Run


class RunLog:
    """One run's log files. Open it on a new run, or on one that goes on from `from_step`: what was logged after that step is dropped."""

    def __init__(self, run: Run, config: Config, from_step: int = 0) -> None:
        self.run = run
        _keep_until(run.metrics_jsonl, from_step)
        self._metrics = run.metrics_jsonl.open("a", encoding="utf-8")
        self._text = run.train_log.open("a", encoding="utf-8")
        if from_step == 0:
            for old in run.folder.glob("events.out.tfevents.*"):
                old.unlink()
        # purge_step tells TensorBoard to hide what an interrupted process wrote past the checkpoint.
        self._board = SummaryWriter(str(run.folder), purge_step=from_step + 1 if from_step else None)
        if from_step == 0:
            text = "    " + yaml.safe_dump(to_mapping(config), sort_keys=False).replace("\n", "\n    ")
            self._board.add_text("config", text, 0)

    def record(self, step: int, epoch: float, values: Mapping[str, float]) -> None:
        """One line of metrics.jsonl and one point of each TensorBoard scalar. A non-finite number is null in the one, NaN in the other."""
        json.dump(finite({"step": step, "epoch": round(epoch, 6), **values}), self._metrics, allow_nan=False)
        self._metrics.write("\n")
        self._metrics.flush()
        for key, value in values.items():
            self._board.add_scalar(key, value, step)

    def histograms(self, step: int, tensors: Mapping[str, Tensor]) -> None:
        """A histogram of each tensor in 64 bins; one with a non-finite value has none."""
        for name, tensor in tensors.items():
            if tensor.isfinite().all():
                self._board.add_histogram(name, tensor.float().cpu().numpy(), step, bins=64)

    def say(self, message: str) -> None:
        """A line in train.log, with the time."""
        self._text.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {message}\n")
        self._text.flush()

    def close(self) -> None:
        self._board.close()
        self._metrics.close()
        self._text.close()


class Display(Protocol):
    """What a training tells of itself while it runs: `Terminal` shows it, a worker passes it on."""

    def say(self, message: str) -> None: ...
    def begin(self, title: str, total: int, done: int = 0) -> None: ...
    def due(self) -> bool: ...
    def advance(self, done: int, info: str) -> None: ...
    def line(self, message: str) -> None: ...
    def end(self) -> None: ...


class Terminal:
    """Messages and progress on stderr: a live bar on a terminal, plain lines elsewhere, nothing when quiet."""

    def __init__(self, quiet: bool = False) -> None:
        self.console = _Console(stderr=True, quiet=quiet, highlight=False)
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._drawn_at = 0.0

    def say(self, message: str) -> None:
        self.console.print(message, soft_wrap=True, markup=False)

    def begin(self, title: str, total: int, done: int = 0) -> None:
        """Starts the progress of `total` steps."""
        if not self.console.is_terminal or self.console.quiet:
            return
        columns = (TextColumn("{task.description}"), BarColumn(bar_width=None), TaskProgressColumn(), TextColumn("{task.fields[info]}"))
        self._bar = Progress(*columns, TimeRemainingColumn(compact=True), console=self.console, transient=True, expand=True)
        self._task = self._bar.add_task(title, total=total, completed=done, info="")
        self._bar.start()

    def due(self) -> bool:
        """Whether the bar should be drawn again: about five times a second."""
        return self._bar is not None and time.perf_counter() - self._drawn_at > 0.2

    def advance(self, done: int, info: str) -> None:
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=done, info=info)
            self._drawn_at = time.perf_counter()

    def line(self, message: str) -> None:
        """A plain line where there is no bar."""
        if self._bar is None:
            self.say(message)

    def end(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


class _Console(Console):
    """A console that falls silent when nobody reads it any more, instead of ending a training that may run for hours."""

    def on_broken_pipe(self) -> None:
        self.quiet = True

    def _write_buffer(self) -> None:
        try:
            super()._write_buffer()
        except OSError:  # a terminal that is gone
            self.quiet = True


def _keep_until(path: Path, step: int) -> None:
    """Drops the records after `step`, a torn last line, and test scores: those come last, and will come again."""
    if not path.exists():
        return
    kept = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            record: Any = json.loads(line)
        except ValueError:
            continue
        if not isinstance(record, dict) or not isinstance(record.get("step"), int):
            continue
        if 0 < record["step"] <= step and not any(key.startswith("test/") for key in record):
            kept.append(line)
    with atomic_write(path) as file:
        file.write("".join(line + "\n" for line in kept).encode())
