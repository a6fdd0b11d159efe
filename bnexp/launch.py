"""From configs to finished runs: what is there already is reused, what was interrupted goes on, the rest is trained as a stack."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from bnexp.config import Config, check_fits
from bnexp.data import fingerprint, header
from bnexp.errors import Interrupted, UsageError
from bnexp.plan import Planned, plan
from bnexp.run import Run, locked, planned_with, stack_of

if TYPE_CHECKING:
    from bnexp.loggers import Terminal


@dataclass(frozen=True)
class Outcome:
    """The runs asked for, in their order, and which of them had been there before."""

    runs: list[Run]
    reused: frozenset[str]

    @property
    def summaries(self) -> list[dict[str, Any]]:
        return [run.summary() for run in self.runs]


class Stop:
    """A flag that Ctrl-C and SIGTERM raise, polled between steps. A second Ctrl-C stops at once."""

    def __init__(self) -> None:
        self.raised = False

    def __call__(self) -> bool:
        return self.raised

    @contextmanager
    def on_signals(self) -> Iterator[None]:
        """Listens while inside; only the main thread can."""
        if threading.current_thread() is not threading.main_thread():
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


def launch(
    configs: Sequence[Config], runs_dir: Path, terminal: Terminal | None = None, *, fresh: bool = False, quiet: bool = False
) -> Outcome:
    """Trains what is not there yet, as one stack; the configs share their structure and differ in seed, lr, momentum and weight decay.

    With `fresh`, finished runs are trained again and replaced once their successors are complete.

    Raises:
        UsageError: the configs do not fit the data or the machine; nothing was started.
        DataError: the data cannot be used.
        Interrupted: the state is saved; the same call goes on from it.
    """
    runs = identify(configs, runs_dir)
    stop = Stop()
    trained: set[str] = set()
    with stop.on_signals():
        for planned in plan(configs, runs, one_stack=True, fresh=fresh):
            trained |= work(planned, terminal, stop, quiet=quiet)
    return Outcome(runs, frozenset(run.id for run in runs) - trained)


def work(
    planned: Planned, terminal: Terminal | None, stop: Callable[[], bool], *, quiet: bool = False, threads: int | None = None
) -> set[str]:
    """Trains one stack, after a wait for whoever is training one of its runs already; the ids of the runs that it trained.

    Raises:
        Interrupted: `stop` said so.
    """

    def waiting(run_id: str) -> None:
        if not quiet:
            print(f"Waiting for another process that is working on {run_id} ...", file=sys.stderr)

    try:
        with locked(planned.runs, waiting, stop):
            missing = {run.id for run in planned.runs if not run.done}
            if missing:
                from bnexp.engine import train_stack  # torch, which a finished run does not need
                from bnexp.loggers import Terminal

                train_stack(planned, terminal or Terminal(quiet), stop, threads)
            return missing
    except InterruptedError:
        raise Interrupted("Interrupted while waiting for another process; nothing was started.") from None


def resume(run: Run, terminal: Terminal | None = None, *, quiet: bool = False) -> Outcome:
    """Goes on with an unfinished run and all that were started in one stack with it.

    Raises:
        UsageError: the run's data or this program have changed since, so that its numbers could not be continued.
    """
    if run.done:
        return Outcome([run], frozenset([run.id]))
    members = planned_with(run) or [run]
    configs = [member.config() for member in members]
    now = identify(configs, run.runs_dir)
    if [member.id for member in now] != [member.id for member in members]:
        raise UsageError(f"Run {run.id} cannot go on: its data, or the results version of bnexp, have changed since. Train it anew.")
    return launch(configs, run.runs_dir, terminal, quiet=quiet)


def identify(configs: Sequence[Config], runs_dir: Path) -> list[Run]:
    """The runs that these configs are, after the checks that need the header of the user's own data.

    Raises:
        UsageError, DataError: the data are not there, cannot be used, or do not fit the config.
    """
    data = configs[0].data
    if data.name in ("folder", "npz"):
        shape, train, classes = header(data)
        for config in configs:
            check_fits(config, shape, train, classes)
    content = fingerprint(data)
    return [Run(runs_dir, config.run_id(content)) for config in configs]


def remove(run: Run) -> None:
    """Deletes a run's folder, and the state of its stack once no member is left.

    Raises:
        UsageError: a process is working on it.
    """
    with locked([run], waiting=None):
        members = planned_with(run)
        run.remove()
        if members and not any(member.folder.exists() for member in members):
            stack_of(members).remove()
