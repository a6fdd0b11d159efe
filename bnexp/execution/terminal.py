"""What a training shows on stderr while it runs. No torch."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import IO, Protocol

from rich.cells import cell_len
from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Column
from rich.text import Text

from bnexp.base.errors import one_line
from bnexp.base.sparkline import drawable, sparkline

DRAWS_PER_S = 5
SHOWN = 8
"""Runs of a stack that have a line of their own, or stacks of a sweep; the rest is counted."""
POINTS = 128
"""Of a curve that is drawn repeatedly: when there are more, every other one is dropped."""


class LastingConsole(Console):
    """stderr, which becomes quiet when its reader is gone, instead of ending a training that may run for hours. In a notebook it is text
    as anywhere else: Rich would make a cell's output of each line."""

    def __init__(self, quiet: bool = False, file: IO[str] | None = None) -> None:
        super().__init__(file=file, stderr=True, quiet=quiet, highlight=False, force_jupyter=False)

    def on_broken_pipe(self) -> None:
        self.quiet = True

    def _write_buffer(self) -> None:
        try:
            super()._write_buffer()
        except OSError:  # a terminal that is gone
            self.quiet = True


@dataclass(frozen=True)
class RunEvaluation:
    """How a run did at an evaluation."""

    index: int
    """Its place in the stack."""
    seed: int
    val_loss: float
    val_accuracy: float
    reached_step: int | None
    diverged_at_step: int | None


@dataclass(frozen=True)
class StackEvaluation:
    """An evaluation of a stack: the runs that were alive, and how many of all its `members` had reached the target or diverged by then."""

    step: int
    val_loss: float
    """Mean of the losses that are finite; NaN where none is."""
    runs: Sequence[RunEvaluation]
    members: int
    reached: int
    diverged: int


class Display(Protocol):
    """What a training reports while it runs: `Terminal` shows it, a worker passes it on."""

    def say(self, message: str) -> None: ...
    def note(self, message: str) -> None: ...
    def begin(self, title: str, total: int, done: int = 0) -> None: ...
    def due(self) -> bool: ...
    def advance(self, done: int, info: str, best_accuracy: float | None = None, images_per_s: float | None = None) -> None: ...
    def evaluated(self, evaluation: StackEvaluation) -> None: ...
    def line(self, message: str) -> None: ...
    def end(self) -> None: ...


class Terminal:
    """Messages and progress on stderr: a live view on a terminal, plain lines elsewhere, nothing when quiet."""

    def __init__(self, quiet: bool = False) -> None:
        self.console = LastingConsole(quiet)
        self._view: _View | None = None
        self._live: Live | None = None
        self._drawn_at = 0.0

    def say(self, message: str) -> None:
        self.console.print(one_line(message), soft_wrap=True, markup=False)

    def note(self, message: str) -> None:
        """A message that a command prints once, however many stacks it trains."""
        self.say(message)

    def begin(self, title: str, total: int, done: int = 0) -> None:
        """Starts the progress of `total` steps."""
        if not watched(self.console):
            return
        self._view = _View(self.console, title, total, done)
        self._live = Live(console=self.console, refresh_per_second=DRAWS_PER_S, transient=True, get_renderable=self._view.draw)
        self._live.start()

    def due(self) -> bool:
        """Whether the view should be updated: as often as it is drawn."""
        return self._view is not None and time.perf_counter() - self._drawn_at > 1 / DRAWS_PER_S

    def advance(self, done: int, info: str, best_accuracy: float | None = None, images_per_s: float | None = None) -> None:
        """Moves the bar; `info` is what the last step was like."""
        if self._view is not None:
            self._view.advance(done, info, best_accuracy, images_per_s)
            self._drawn_at = time.perf_counter()

    def evaluated(self, evaluation: StackEvaluation) -> None:
        """Takes an evaluation into the view."""
        if self._view is not None:
            self._view.evaluated(evaluation)

    def line(self, message: str) -> None:
        """A plain line where there is no view."""
        if self._view is None:
            self.say(message)

    def end(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = self._view = None


class _View:
    """What is drawn, by a thread of its own, while a stack trains: the bar, how the last step was, a line a run where there are several.

    The training thread only leaves numbers here.
    """

    def __init__(self, console: Console, title: str, total: int, done: int) -> None:
        name = TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=True, overflow="ellipsis", max_width=30))
        steps = TextColumn("{task.completed:,.0f}/{task.total:,.0f}", table_column=Column(no_wrap=True))
        bar = BarColumn(bar_width=None, table_column=Column(ratio=1))
        left = TimeRemainingColumn(compact=True, table_column=Column(no_wrap=True))
        self.progress = Progress(name, bar, steps, left, console=console, expand=True)
        self.task: TaskID = self.progress.add_task(title, total=total, completed=done)
        self.console, self.drawable = console, drawable(console.encoding)
        self.info, self.best, self.rate = "", "", ""
        self.evaluation: StackEvaluation | None = None
        self.curve: list[tuple[int, float]] = []
        self.rows: dict[int, _Row] = {}

    def advance(self, done: int, info: str, best_accuracy: float | None, images_per_s: float | None) -> None:
        self.info = info
        self.best = "" if best_accuracy is None else f"best acc {100 * best_accuracy:.1f} %"
        self.rate = "" if images_per_s is None else f"{images_per_s:,.0f} img/s"
        self.progress.update(self.task, completed=done)

    def evaluated(self, evaluation: StackEvaluation) -> None:
        self.evaluation = evaluation
        extend(self.curve, evaluation.step, evaluation.val_loss)
        for run in evaluation.runs if evaluation.members > 1 else ():
            if run.index in self.rows or len(self.rows) < SHOWN:
                row = self.rows.setdefault(run.index, _Row(run))
                row.last = run
                extend(row.curve, evaluation.step, run.val_loss)

    def draw(self) -> Group:
        width, evaluation = self.console.width, self.evaluation
        loss = "" if evaluation is None else self._loss(self.curve, evaluation.val_loss)
        lines = [fitted([self.info, self.best, loss, self.rate], width)]
        if evaluation is not None and evaluation.members > 1:
            counts = [f"{evaluation.reached} of {evaluation.members} runs at the target", f"{evaluation.diverged} diverged"]
            lines.append(fitted(counts, width))
            rows = sorted(self.rows.values(), key=lambda row: row.last.index)
            lines += [fitted(self._row(row), width) for row in rows]
            if len(rows) < evaluation.members:
                lines.append(fitted([f"and {evaluation.members - len(rows)} more"], width))
        return Group(self.progress, *(Text(line, no_wrap=True) for line in lines if line))

    def _row(self, row: _Row) -> list[str]:
        last = row.last
        how = "" if last.reached_step is None else f"target at {last.reached_step:,}"
        if last.diverged_at_step is not None:
            how = f"diverged at {last.diverged_at_step:,}"
        return [f"seed {last.seed}", f"acc {100 * last.val_accuracy:.1f} %", self._loss(row.curve, last.val_loss), how]

    def _loss(self, curve: list[tuple[int, float]], last: float) -> str:
        return f"val loss {sparkline(list(curve)) + ' ' if self.drawable else ''}{last:.3f}"


@dataclass
class _Row:
    """The line of a run."""

    last: RunEvaluation
    curve: list[tuple[int, float]] = field(default_factory=list)


def watched(console: Console) -> bool:
    """Whether this is a terminal that can be redrawn, whatever FORCE_COLOR says of pipes."""
    redrawn = console.is_terminal and not console.is_dumb_terminal and console.file.isatty() and not in_notebook()
    return redrawn and not console.quiet


def in_notebook() -> bool:
    """Whether this was started from a cell of a notebook (`!bnexp`, `%%bash`), which may look like a terminal and keeps each line that is
    drawn again. Jupyter's and Colab's kernels set these variables; every kernel of Python names its inline backend for figures."""
    return any(name.startswith(("JPY_", "COLAB_")) for name in os.environ) or "inline" in os.environ.get("MPLBACKEND", "")


def extend(curve: list[tuple[int, float]], step: int, value: float) -> None:
    """Adds a point to a curve that stays short."""
    curve.append((step, value))
    if len(curve) > POINTS:
        del curve[1:-1:2]


def fitted(parts: Sequence[str], width: int) -> str:
    """The parts side by side; one that does not fit beside those before it is left out."""
    line = ""
    for part in parts:
        longer = f"{line}  {part}" if line and part else line + part
        if cell_len(longer) <= width:
            line = longer
    return line
