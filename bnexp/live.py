"""The progress of many stacks on stderr: a line each and the total on a terminal, a plain line as each ends elsewhere. No torch."""

from __future__ import annotations

import time
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from bnexp.plan import Planned
from bnexp.terminal import LastingConsole
from bnexp.workers import DONE, Event


class Live:
    """A context that shows how stacks are doing, from the events that workers send."""

    def __init__(self, stacks: Sequence[Planned], *, reused: int, quiet: bool) -> None:
        self.console = LastingConsole(stderr=True, quiet=quiet, highlight=False)
        self._stacks = {stack.folder.id: stack for stack in stacks}
        self._done: dict[str, float] = dict.fromkeys(self._stacks, 0.0)
        self._best: dict[str, float] = {}
        self._bars: dict[str, TaskID] = {}
        self._ended, self._reused, self._began = 0, reused, time.perf_counter()
        self._progress: Progress | None = None
        self._total: TaskID | None = None

    def __enter__(self) -> Self:
        runs = sum(len(stack.runs) for stack in self._stacks.values())
        before = f"; {_count(self._reused, 'run')} finished before" if self._reused else ""
        self.say(f"Training {_count(runs, 'run')} in {_count(len(self._stacks), 'stack')}{before}.")
        if self.console.is_terminal and not self.console.quiet:
            name, info = TextColumn("{task.description}", markup=False), TextColumn("{task.fields[info]}", markup=False)
            columns = (name, BarColumn(bar_width=None), info, TimeRemainingColumn(compact=True))
            self._progress = Progress(*columns, console=self.console, transient=True, expand=True)
            cost = sum(stack.seconds for stack in self._stacks.values())
            self._total = self._progress.add_task("total", total=cost, info="starting workers")
            self._progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        if self._progress is not None:
            self._progress.stop()

    def say(self, message: str) -> None:
        self.console.print(message, soft_wrap=True, markup=False)

    def tell(self, event: Event) -> None:
        """Shows what a worker sent."""
        stack = self._stacks.get(event.stack)
        if stack is None:  # of all stacks
            if event.message is not None:
                self.say(event.message)
            return
        if event.message is not None:
            self.say(f"{label(stack)}: {event.message}")
        if event.best_accuracy is not None:
            self._best[event.stack] = event.best_accuracy
        if not event.total:
            return
        self._done[event.stack] = event.done / event.total
        if self._progress is not None:
            bar = self._bars.get(event.stack)
            if bar is None:
                bar = self._bars[event.stack] = self._progress.add_task(label(stack), total=event.total, completed=event.done, info="")
            rate = "" if event.images_per_s is None else f"{event.images_per_s:,.0f} img/s"
            info = f"{event.done:,}/{event.total:,}  {self._said_best(event.stack)}{rate}"
            self._progress.update(bar, completed=event.done, total=event.total, info=info)
            self._draw_total()

    def ended(self, stack: Planned, reason: str) -> None:
        """Takes an ended stack off the screen, and says why it failed if it did."""
        name = stack.folder.id
        self._ended, self._done[name] = self._ended + 1, 1.0
        if self._progress is not None:
            bar = self._bars.pop(name, None)
            if bar is not None:
                self._progress.remove_task(bar)
            self._draw_total()
            if reason != DONE:
                self.say(f"{label(stack)}: {reason}")
        else:
            seconds = time.perf_counter() - self._began
            how = self._said_best(name).rstrip() or "done" if reason == DONE else reason
            self.say(f"{self._ended}/{len(self._stacks)}  {label(stack)}: {how}  ({seconds:.0f} s)")

    def _said_best(self, name: str) -> str:
        return f"best {100 * self._best[name]:.1f} %  " if name in self._best else ""

    def _draw_total(self) -> None:
        if self._progress is not None and self._total is not None:
            done = sum(stack.seconds * self._done[name] for name, stack in self._stacks.items())
            self._progress.update(self._total, completed=done, info=f"{self._ended}/{len(self._stacks)} stacks")


def label(stack: Planned) -> str:
    """`batch bs32 x12`: norm, batch size and width of a stack, led by the data set where it is not the default."""
    config = stack.configs[0]
    lead = "" if config.data.name == "digits" else f"{config.data.name} "
    return f"{lead}{config.model.norm} bs{config.train.batch_size} x{len(stack.runs)}"


def _count(n: int, noun: str) -> str:
    return f"{n:,} {noun}{'s' * (n != 1)}"
