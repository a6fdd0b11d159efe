"""How a person, or a batch system, stops the program: a training saves its state first, and everything else ends at once, in a sentence."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP)
"""Ctrl-C; what `kill` and Slurm send; what Slurm can be asked to send before a time limit; a terminal that was closed."""
INTERRUPTED = 130

Handler = Callable[[int, FrameType | None], object] | signal.Handlers


class Signalled(KeyboardInterrupt):
    """A signal other than Ctrl-C, with the same effect; its text is the signal's name."""


class Stop:
    """A flag that the signals raise, polled between steps. A Ctrl-C after the first signal stops at once, without saving; and one more
    does not even wait for what is being closed."""

    def __init__(self) -> None:
        self.raised = False
        self._hurried = False

    def __call__(self) -> bool:
        return self.raised

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Signals raise the flag while inside, where it is polled. Elsewhere they stop at once: there is nothing to save."""
        before = handle(self._raise)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _raise(self, number: int, frame: FrameType | None) -> None:
        if self._hurried:
            os._exit(INTERRUPTED)
        if self.raised and number == signal.SIGINT:
            self._hurried = True
            raise KeyboardInterrupt
        self.raised = True


def handle(handler: Handler) -> dict[signal.Signals, Handler]:
    """Has `handler` called at each signal, except for those that were ignored before the program began (by `nohup`, or the `&` of a
    script). Returns the previous handlers; none outside the main thread, which alone can have handlers."""
    if threading.current_thread() is not threading.main_thread():
        return {}
    before = {number: signal.getsignal(number) for number in SIGNALS}
    heeded = {number: known for number, known in before.items() if known is not None and known != signal.SIG_IGN}
    for number in heeded:
        signal.signal(number, handler)
    return heeded  # type: ignore[return-value] # getsignal gives no int


def interrupt() -> None:
    """From now on the first signal interrupts as Ctrl-C does, instead of ending the program silently; the next ends it at once."""

    def interrupted(number: int, frame: FrameType | None) -> NoReturn:
        handle(lambda number, frame: os._exit(INTERRUPTED))
        raise KeyboardInterrupt if number == signal.SIGINT else Signalled(signal.Signals(number).name)

    handle(interrupted)


def leave() -> None:
    """From now on signals are ignored: everything is saved, and the exit code must not change while Python takes modules down."""
    handle(signal.SIG_IGN)


@contextmanager
def deaf() -> Iterator[None]:
    """Threads and processes that are begun inside, and those that they begin, never get a signal: Ctrl-C and a closed terminal reach every
    process of theirs, and a worker must live on to save its stack. This thread gets the signals of the meantime at the end."""
    from multiprocessing.resource_tracker import ensure_running  # sockets and pickle, which most commands do without

    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        ensure_running()  # multiprocessing's helper process; it unblocks some signals wherever it is begun
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
