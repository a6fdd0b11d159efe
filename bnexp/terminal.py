"""What was typed, and what a training shows on stderr while it runs. No torch."""

from __future__ import annotations

import shlex
import sys
import time
from pathlib import Path
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeRemainingColumn


def command_line() -> str:
    """The command as it was typed, quoted so that a shell reads the same again."""
    return shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])


class LastingConsole(Console):
    """A console that falls silent when nobody reads it any more, instead of ending a training that may run for hours."""

    def on_broken_pipe(self) -> None:
        self.quiet = True

    def _write_buffer(self) -> None:
        try:
            super()._write_buffer()
        except OSError:  # a terminal that is gone
            self.quiet = True


class Display(Protocol):
    """What a training tells of itself while it runs: `Terminal` shows it, a worker passes it on."""

    def say(self, message: str) -> None: ...
    def begin(self, title: str, total: int, done: int = 0) -> None: ...
    def due(self) -> bool: ...
    def advance(self, done: int, info: str, best_accuracy: float | None = None, images_per_s: float | None = None) -> None: ...
    def line(self, message: str) -> None: ...
    def end(self) -> None: ...


class Terminal:
    """Messages and progress on stderr: a live bar on a terminal, plain lines elsewhere, nothing when quiet."""

    def __init__(self, quiet: bool = False) -> None:
        self.console = LastingConsole(stderr=True, quiet=quiet, highlight=False)
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

    def advance(self, done: int, info: str, best_accuracy: float | None = None, images_per_s: float | None = None) -> None:
        """Draws the bar, whose text is `info`; the numbers are for a display of several stacks."""
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
