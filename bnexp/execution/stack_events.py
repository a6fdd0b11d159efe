"""One stack as a worker trains it: how it ended is an answer, and its progress is sent as events to the process that shows it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from bnexp.base.errors import Interrupted, failure
from bnexp.base.signals import Stop
from bnexp.execution.launch import work
from bnexp.execution.terminal import StackEvaluation
from bnexp.planning.plan import StackPlan
from bnexp.storage.run import InWork

DONE, INTERRUPTED, HELD = "done", "interrupted", "held"
"""How a stack ended, unless it failed; held: another process works on one of its runs, and the others need not wait for that."""


@dataclass(frozen=True)
class Event:
    """What a worker reports of its stack: `done` of `total` steps, and how it does; `message` is something to say."""

    stack: str
    done: int
    total: int
    best_accuracy: float | None = None
    message: str | None = None
    reached: int | None = None
    diverged: int | None = None
    """How many runs have reached the target, or diverged."""


OnEvent = Callable[[Event], None]
Answer = tuple[str, frozenset[str]]
"""How a stack ended, and the ids of the runs that were trained."""


class EventTerminal:
    """The display of a stack in a worker: it sends the progress to the process that shows it."""

    def __init__(self, planned: StackPlan, send: OnEvent) -> None:
        self._stack, self._send = planned.folder.id, send
        self._total, self._done, self._sent_at = 0, 0, 0.0
        self._best: float | None = None
        self._evaluation: StackEvaluation | None = None

    def say(self, message: str) -> None:
        self._send(Event(self._stack, self._done, self._total, message=message))

    def note(self, message: str) -> None:
        """Nothing: the main process reads the same data, and prints its notes."""

    def begin(self, title: str, total: int, done: int = 0) -> None:
        self._total, self._done = total, done

    def due(self) -> bool:
        return time.perf_counter() - self._sent_at > 0.5

    def advance(self, done: int, info: str, best_accuracy: float | None = None, images_per_s: float | None = None) -> None:
        self._done, self._sent_at, self._best = done, time.perf_counter(), best_accuracy
        evaluation, self._evaluation = self._evaluation, None
        found = Event(self._stack, done, self._total, best_accuracy)
        if evaluation is not None:
            found = replace(found, reached=evaluation.reached, diverged=evaluation.diverged)
        self._send(found)

    def evaluated(self, evaluation: StackEvaluation) -> None:
        """Kept until the next event: evaluations come often, and the main process receives those of many stacks."""
        self._evaluation = evaluation
        known = [run.val_accuracy for run in evaluation.runs if run.diverged_at_step is None]
        self._best = max([*known, *([] if self._best is None else [self._best])], default=None)

    def line(self, message: str) -> None:
        """Nothing: a line at each evaluation would be too much for many stacks."""

    def end(self) -> None:
        """Sends what the last evaluation found; the main process sees the end of the task."""
        if self._evaluation is not None:
            self.advance(self._evaluation.step, "", self._best)


def train(planned: StackPlan, terminal: EventTerminal, stop: Stop, wait: bool) -> Answer:
    """Trains a stack. A failure is an answer here: the other stacks are trained all the same.

    One thread wherever it runs, so that the bits do not depend on the number of workers, and no thread waits for a busy core.
    """
    try:
        return DONE, frozenset(work(planned, terminal, stop, quiet=True, threads=1, wait=wait))
    except Interrupted:
        return INTERRUPTED, frozenset()
    except InWork:
        return HELD, frozenset()
    except Exception as error:
        return failure(error), frozenset()
