"""How a person, or a batch system, stops a training: the state is saved first."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Stop:
    """A flag that Ctrl-C and SIGTERM raise, polled between steps. A second Ctrl-C stops at once."""

    def __init__(self) -> None:
        self.raised = False

    def __call__(self) -> bool:
        return self.raised

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Signals raise the flag while inside, where somebody polls it. Elsewhere they stop at once: there is nothing to save."""
        if threading.current_thread() is not threading.main_thread():  # only the main thread can have handlers
            yield
            return
        before = {number: signal.signal(number, self._raise) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _raise(self, number: int, frame: FrameType | None) -> None:
        if self.raised and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.raised = True
