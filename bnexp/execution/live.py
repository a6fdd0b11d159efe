"""The progress of many stacks on stderr: a line an arm and the total on a terminal, a plain line as each stack ends elsewhere. No torch."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from rich.cells import cell_len
from rich.console import Group, RenderableType
from rich.live import Live as Redrawn
from rich.progress import Progress
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from bnexp.analysis.wording import label
from bnexp.base.errors import one_line
from bnexp.execution.stack_events import DONE, Event
from bnexp.execution.terminal import DRAWS_PER_S, SHOWN, LastingConsole, fitted, watched
from bnexp.planning.plan import StackPlan

LEAST_BAR = 10
"""Characters."""


@dataclass
class _Stack:
    """What is known of a stack, from the events of its worker."""

    runs: int
    seconds: float
    """What it was planned to take; kept, since every event of every stack needs it."""
    share: float = 0.0
    """Of its steps that are done."""
    best: float | None = None
    reached: int = 0
    diverged: int = 0
    begun: bool = False
    ended: bool = False


class Live:
    """A context that shows how the arms of a comparison or sweep are doing, from the events that workers send."""

    def __init__(self, stacks: Sequence[StackPlan], *, reused: int, quiet: bool) -> None:
        self.console = LastingConsole(quiet)
        stacks = sorted(stacks, key=lambda stack: (stack.configs[0].data.name, stack.configs[0].train.batch_size))
        self._stacks = {stack.folder.id: _Stack(len(stack.runs), stack.seconds) for stack in stacks}
        self._names = dict(zip(self._stacks, arm_names(stacks), strict=True))
        self._ended, self._reused, self._began = 0, reused, time.perf_counter()
        self._live: Redrawn | None = None
        self._progress = Progress(console=self.console)  # keeps the time; what is drawn is `draw`
        self._total = self._progress.add_task("total", total=sum(stack.seconds for stack in self._stacks.values()))

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
            self.say(f"{self._title(event.stack)}: {event.message}")
        if event.best_accuracy is not None:
            stack.best = event.best_accuracy
        if event.reached is not None and event.diverged is not None:
            stack.reached, stack.diverged = event.reached, event.diverged
        if not event.total or stack.ended:  # an event may come after the end of its stack
            return
        stack.share, stack.begun = event.done / event.total, True
        self._advance_total()

    def ended(self, planned: StackPlan, reason: str) -> None:
        """Counts an ended stack's runs as done, and says why it failed if it did."""
        stack, title = self._stacks[planned.folder.id], self._title(planned.folder.id)
        self._ended, stack.ended, stack.share = self._ended + 1, True, 1.0
        self._advance_total()
        if self._live is None:
            seconds = time.perf_counter() - self._began
            how = _best(stack.best) or "done" if reason == DONE else reason
            self.say(f"{self._ended}/{len(self._stacks)}  {title}: {how}  ({seconds:.0f} s)")
        elif reason != DONE:
            self.say(f"{title}: {reason}")

    def draw(self) -> RenderableType:
        """The total, and a line an arm: how far it is, its runs that are done, the best accuracy, runs at the target and diverged ones."""
        width, arms = self.console.width, self._by_arm()
        total = Table.grid(padding=(0, 1), expand=True)
        for ratio in (None, 1, None, None):
            total.add_column(ratio=ratio, no_wrap=True)
        share = self._progress.tasks[0]
        done = sum(stack.runs for stack in self._stacks.values() if stack.ended)
        bar = ProgressBar(total=share.total, completed=share.completed)
        total.add_row("total", bar, f"{done}/{_count(self._runs, 'run')}", self._left())
        if not any(stack.begun or stack.ended for stack in self._stacks.values()):
            return Group(total, Text(fitted(["starting workers"], width), no_wrap=True))
        hidden = len(arms) - SHOWN
        return Group(
            total, self._rows(dict(list(arms.items())[:SHOWN]), width), *[Text(f"and {_count(hidden, 'arm')} more")] * (hidden > 0)
        )

    def _rows(self, arms: dict[str, list[_Stack]], width: int) -> RenderableType:
        """A line an arm: its name, the bar, and of the rest what fits, the same for all."""
        runs = [sum(stack.runs for stack in own) for own in arms.values()]
        done = [sum(stack.runs for stack in own if stack.ended) for own in arms.values()]
        reached, diverged = ([sum(getattr(stack, name) for stack in own) for own in arms.values()] for name in ("reached", "diverged"))
        wanted = [
            [f"{n}/{of} runs" for n, of in zip(done, runs, strict=True)],
            [_best(max((stack.best for stack in own if stack.best is not None), default=None)) for own in arms.values()],
            [f"{100 * n / of:.0f} % at target" for n, of in zip(reached, runs, strict=True)],
            [f"{n} diverged" if n else "" for n in diverged],
        ]
        space = width - LEAST_BAR - 1 - min(_widest(list(arms)), max(8, width // 2))
        shown = []
        for cells in wanted:
            if any(cells) and _widest(cells) + 1 <= space:
                space -= _widest(cells) + 1
                shown.append(cells)
        table = Table.grid(padding=(0, 1), expand=True)
        table.add_column(no_wrap=True, overflow="ellipsis", max_width=max(8, width // 2))
        table.add_column(ratio=1)
        for _ in shown:
            table.add_column(no_wrap=True, justify="right")
        for (name, own), *cells in zip(arms.items(), *shown, strict=True):
            bar = ProgressBar(total=sum(stack.seconds for stack in own), completed=sum(stack.seconds * stack.share for stack in own))
            table.add_row(Text(name), bar, *map(Text, cells))
        return table

    def _by_arm(self) -> dict[str, list[_Stack]]:
        found: dict[str, list[_Stack]] = {}
        for key, stack in self._stacks.items():
            found.setdefault(self._names[key], []).append(stack)
        return found

    def _title(self, key: str) -> str:
        """`with BN, batch 32, 12 runs`."""
        return f"{self._names[key]}, {_count(self._stacks[key].runs, 'run')}"

    @property
    def _runs(self) -> int:
        return sum(stack.runs for stack in self._stacks.values())

    def _left(self) -> str:
        """The time that is left, `0:12:30`, or nothing as long as it is not known."""
        seconds = self._progress.tasks[0].time_remaining
        if seconds is None:
            return ""
        minutes, seconds = divmod(int(seconds), 60)
        hours, minutes = divmod(minutes, 60)
        return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes:02}:{seconds:02}"

    def _advance_total(self) -> None:
        done = sum(stack.seconds * stack.share for stack in self._stacks.values())
        self._progress.update(self._total, completed=done)


def arm_names(stacks: Sequence[StackPlan]) -> list[str]:
    """Of each stack the arm that it belongs to: `with BN`; where the stacks differ in batch size or data, `with BN, batch 32, on mnist`."""
    configs = [stack.configs[0] for stack in stacks]
    sizes, data = ({*found} for found in zip(*((config.train.batch_size, config.data.name) for config in configs), strict=True))
    return [
        label(config.model.norm) + f", batch {config.train.batch_size}" * (len(sizes) > 1) + f", on {config.data.name}" * (len(data) > 1)
        for config in configs
    ]


def _best(accuracy: float | None) -> str:
    return "" if accuracy is None else f"best {100 * accuracy:.1f} %"


def _count(n: int, noun: str) -> str:
    return f"{n:,} {noun}{'s' * (n != 1)}"


def _widest(texts: Sequence[str]) -> int:
    return max(map(cell_len, texts), default=0)
