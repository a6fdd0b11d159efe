"""The progress of many stacks on stderr: a line each and the total on a terminal, a plain line as each ends elsewhere. No torch."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from rich.cells import cell_len
from rich.console import Group, RenderableType
from rich.live import Live as Redrawn
from rich.progress import Progress, TaskID
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from bnexp.base.errors import one_line
from bnexp.base.sparkline import drawable, sparkline
from bnexp.execution.stack_events import DONE, Event
from bnexp.execution.terminal import DRAWS_PER_S, SHOWN, LastingConsole, extend, fitted, watched
from bnexp.planning.plan import StackPlan

LEAST_BAR = 10
"""Characters."""


@dataclass
class _Stack:
    """What is known of a stack, from the events of its worker."""

    planned: StackPlan
    seconds: float
    """What it was planned to take; kept, since every event of every stack needs it."""
    share: float = 0.0
    """Of its steps that are done."""
    best: float | None = None
    rate: float | None = None
    curve: list[tuple[int, float]] = field(default_factory=list)
    reached: int = 0
    diverged: int = 0
    bar: TaskID | None = None
    ended: bool = False

    @property
    def best_text(self) -> str:
        return "" if self.best is None else f"best {100 * self.best:.1f} %"


class Live:
    """A context that shows how stacks are doing, from the events that workers send."""

    def __init__(self, stacks: Sequence[StackPlan], *, reused: int, quiet: bool) -> None:
        self.console = LastingConsole(stderr=True, quiet=quiet, highlight=False)
        self._stacks = {stack.folder.id: _Stack(stack, stack.seconds) for stack in stacks}
        self._ended, self._reused, self._began = 0, reused, time.perf_counter()
        self._live: Redrawn | None = None
        self._progress = Progress(console=self.console)  # keeps the times; what is drawn is `draw`
        self._total = self._progress.add_task("total", total=sum(stack.seconds for stack in self._stacks.values()))
        self._drawable = drawable(self.console.encoding)

    def __enter__(self) -> Self:
        before = f"; {_count(self._reused, 'run')} finished before" if self._reused else ""
        self.say(f"Training {_count(self._runs, 'run')} in {_count(len(self._stacks), 'stack')}{before}.")
        if watched(self.console):
            self._live = Redrawn(console=self.console, refresh_per_second=DRAWS_PER_S, transient=True, get_renderable=self.draw)
            self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        if self._live is not None:
            self._live.stop()

    def say(self, message: str) -> None:
        self.console.print(one_line(message), soft_wrap=True, markup=False)

    def on_event(self, event: Event) -> None:
        """Shows what a worker sent."""
        stack = self._stacks.get(event.stack)
        if stack is None:  # of all stacks
            if event.message is not None:
                self.say(event.message)
            return
        if event.message is not None:
            self.say(f"{label(stack.planned)}: {event.message}")
        if event.best_accuracy is not None:
            stack.best = event.best_accuracy
        if event.reached is not None and event.diverged is not None:
            stack.reached, stack.diverged = event.reached, event.diverged
        if event.val_loss is not None and not stack.ended:
            extend(stack.curve, event.done, event.val_loss)
        if not event.total or stack.ended:  # an event may come after the end of its stack
            return
        stack.share, stack.rate = event.done / event.total, event.images_per_s
        if stack.bar is None:
            stack.bar = self._progress.add_task(label(stack.planned), total=event.total)
        self._progress.update(stack.bar, completed=event.done, total=event.total)
        self._advance_total()

    def ended(self, planned: StackPlan, reason: str) -> None:
        """Takes an ended stack off the screen, and says why it failed if it did."""
        stack = self._stacks[planned.folder.id]
        self._ended, stack.ended, stack.share = self._ended + 1, True, 1.0
        stack.curve.clear()  # it is not drawn any more, and there may be a thousand
        if stack.bar is not None:
            self._progress.remove_task(stack.bar)
        self._advance_total()
        if self._live is None:
            seconds = time.perf_counter() - self._began
            how = stack.best_text or "done" if reason == DONE else reason
            self.say(f"{self._ended}/{len(self._stacks)}  {label(planned)}: {how}  ({seconds:.0f} s)")
        elif reason != DONE:
            self.say(f"{label(planned)}: {reason}")

    def draw(self) -> RenderableType:
        """The total, what became of the runs so far, and a line for each running stack."""
        width, stacks = self.console.width, list(self._stacks.values())
        reached, diverged = (sum(getattr(stack, name) for stack in stacks) for name in ("reached", "diverged"))
        counts = [f"{reached} of {_count(self._runs, 'run')} at the target", f"{diverged} diverged"]
        total = Table.grid(padding=(0, 1), expand=True)
        for ratio in (None, 1, None, None):
            total.add_column(ratio=ratio, no_wrap=True)
        share = self._progress.tasks[0]
        bar = ProgressBar(total=share.total, completed=share.completed)
        total.add_row("total", bar, f"{self._ended}/{len(stacks)} stacks", self._left(self._total))
        running = [stack for stack in stacks if stack.bar is not None and not stack.ended]
        begun = any(stack.bar is not None or stack.ended for stack in stacks)
        line = fitted(counts, width) if begun else "starting workers"
        more = [f"and {_count(len(running) - SHOWN, 'stack')} more"] if len(running) > SHOWN else []
        return Group(total, Text(line, no_wrap=True), *self._rows(running[:SHOWN], width), *map(Text, more))

    def _rows(self, stacks: Sequence[_Stack], width: int) -> list[RenderableType]:
        """A line a stack: what it is, the bar, the time left, and of the rest what fits, the same for all."""
        tasks = {task.id: task for task in self._progress.tasks}
        known = [(stack, tasks[stack.bar]) for stack in stacks if stack.bar in tasks]  # one may have ended while this thread draws
        if not known:
            return []
        stacks = [stack for stack, _ in known]
        names, lefts = [label(stack.planned) for stack in stacks], [self._left(task.id) for _, task in known]
        wanted = [
            [stack.best_text for stack in stacks],
            [sparkline(list(stack.curve)) if self._drawable else "" for stack in stacks],
            [f"{stack.reached}/{len(stack.planned.runs)} at target" for stack in stacks],
            [f"{stack.diverged} diverged" if stack.diverged else "" for stack in stacks],
            ["" if stack.rate is None else f"{stack.rate:,.0f} img/s" for stack in stacks],
            [f"{task.completed:,.0f}/{task.total:,.0f}" for _, task in known],
        ]
        space = width - LEAST_BAR - 1 - _widest(names) - _widest(lefts) - 1
        shown = []
        for cells in wanted:
            if any(cells) and _widest(cells) + 1 <= space:
                space -= _widest(cells) + 1
                shown.append(cells)
        table = Table.grid(padding=(0, 1), expand=True)
        table.add_column(no_wrap=True, overflow="ellipsis", max_width=max(8, width // 2))
        table.add_column(ratio=1)
        for _ in range(len(shown) + 1):
            table.add_column(no_wrap=True, justify="right")
        for (_, task), name, left, *cells in zip(known, names, lefts, *shown, strict=True):
            table.add_row(Text(name), ProgressBar(total=task.total, completed=task.completed), *map(Text, cells), left)
        return [table]

    @property
    def _runs(self) -> int:
        return sum(len(stack.planned.runs) for stack in self._stacks.values())

    def _left(self, bar: TaskID) -> str:
        """`0:12:30`, or nothing as long as it is not known."""
        seconds = next((task.time_remaining for task in self._progress.tasks if task.id == bar), None)
        if seconds is None:
            return ""
        minutes, seconds = divmod(int(seconds), 60)
        hours, minutes = divmod(minutes, 60)
        return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes:02}:{seconds:02}"

    def _advance_total(self) -> None:
        done = sum(stack.seconds * stack.share for stack in self._stacks.values())
        self._progress.update(self._total, completed=done)


def label(stack: StackPlan) -> str:
    """`batch bs32 x12`: norm, batch size and width of a stack, led by the data set where it is not the default."""
    config = stack.configs[0]
    lead = "" if config.data.name == "digits" else f"{config.data.name} "
    return f"{lead}{config.model.norm} bs{config.train.batch_size} x{len(stack.runs)}"


def _count(n: int, noun: str) -> str:
    return f"{n:,} {noun}{'s' * (n != 1)}"


def _widest(texts: Sequence[str]) -> int:
    return max(map(cell_len, texts), default=0)
