"""From configs to finished runs: finished runs are reused, interrupted ones resumed, the rest is trained as a stack."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from bnexp.base.errors import Interrupted, one_line, short
from bnexp.base.signals import Stop
from bnexp.config import MAX_THREADS, Config
from bnexp.data import header
from bnexp.execution.identity import identify, identify_saved, with_absolute_root
from bnexp.planning.plan import StackPlan, check_memory, plan
from bnexp.storage.folder import results_of
from bnexp.storage.result import RunResult
from bnexp.storage.run import Run, locked
from bnexp.storage.stack_folder import drop_spent, planned_with, recover

if TYPE_CHECKING:
    from bnexp.execution.terminal import Display


@dataclass(frozen=True)
class Outcome:
    """The runs asked for, in their order, which of them had been there before, and why some failed."""

    runs: list[Run]
    reused: frozenset[str]
    failed: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def results(self) -> dict[str, RunResult]:
        """Of the runs that can be read, by id; they are read once."""
        return results_of(self.runs)

    @property
    def failure(self) -> str:
        """The sentence on the runs that failed; empty where none did."""
        if not self.failed:
            return ""
        reasons = "; ".join(dict.fromkeys(reason.rstrip(".") for reason in self.failed.values()))
        return (
            f"{len(self.failed)} of {len(self.runs)} runs failed: {short(reasons, 300)}. "
            "The same command again trains only what is missing."
        )

    @property
    def summaries(self) -> list[dict[str, Any]]:
        """Each run's summary as JSON has it; of one that failed without being able to write one, its id and the reason."""
        return [self._summary(run) for run in self.runs]

    def _summary(self, run: Run) -> dict[str, Any]:
        if run.id in self.results:
            return self.results[run.id].tree()
        if run.id not in self.failed:
            return run.result().tree()  # or says why it cannot be read
        return {"id": run.id, "status": "failed", "error": self.failed[run.id]}


def launch(
    configs: Sequence[Config], runs_dir: Path, terminal: Display | None = None, *, fresh: bool = False, quiet: bool = False
) -> Outcome:
    """Trains what is not there yet, as one stack; the configs share their structure and differ in seed, lr, momentum and weight decay.

    With `fresh`, finished runs are trained again and replaced once their successors are complete.

    Raises:
        UsageError: the configs do not fit the data or the machine; nothing was started.
        DataError: the data cannot be used.
        Interrupted: the state is saved; the same call resumes from it.
    """
    configs = [with_absolute_root(config) for config in configs]
    runs = identify(configs, runs_dir)
    stop = Stop()
    trained: set[str] = set()
    check_device(configs)
    stacks = plan(configs, runs, one_stack=True, fresh=fresh)
    for planned in stacks:
        check_memory(planned.configs[0], planned.header, len(planned.runs))
    for planned in stacks:
        trained |= work(planned, terminal, stop, quiet=quiet)
    return Outcome(runs, frozenset(run.id for run in runs) - trained)


def check_device(configs: Sequence[Config]) -> None:
    """Refuses a GPU that does not exist, also where nothing is to be trained: the existing runs may be another device's.

    Raises:
        UsageError: a config asks for one.
    """
    for config in configs:
        if config.device == "cuda":
            from bnexp.execution.machine import resolve_device  # torch, which a finished run does not need

            resolve_device(config)
            return


def work(
    planned: StackPlan,
    terminal: Display | None,
    stop: Stop,
    *,
    quiet: bool = False,
    threads: int | None = None,
    wait: bool = True,
    download: bool = True,
) -> set[str]:
    """Trains one stack, after a wait for a process that is training one of its runs already; the ids of the runs that it trained.

    Raises:
        InWork: there is such a process, and `wait` is false.
        Interrupted: `stop` was raised.
    """

    def waiting(run_id: str) -> None:
        message = f"Waiting for another process that is working on {run_id} ..."
        if terminal is not None:
            terminal.say(message)
        elif not quiet:
            print(one_line(message), file=sys.stderr)

    try:
        with locked(planned.runs, waiting if wait else None, stop):
            missing = {run.id for run in planned.runs if not run.done and run.id not in planned.replay_only}
            if missing:
                from bnexp.execution.job import train_stack  # torch, which a finished run does not need
                from bnexp.execution.terminal import Terminal

                train_stack(planned, terminal or Terminal(quiet), stop, threads, download=download)
            return missing
    except InterruptedError:
        raise Interrupted("Interrupted while waiting for another process; nothing was started.") from None


def resume(run: Run, terminal: Display | None = None, *, quiet: bool = False, place: Mapping[str, Any] = MappingProxyType({})) -> Outcome:
    """Resumes an unfinished run, or the unfinished successor of a finished one, and all that were started in one stack with it.

    A member that was removed since is trained along, for the sake of the others' bits, and leaves nothing. `place` says where the data are
    now (`compose.PLACE`), if they moved.

    Raises:
        UsageError: the run's config, its data or this program have changed since, so that its numbers could not be continued; or they
            need more memory than there is.
        DataError: its files, or its data, cannot be used.
    """
    recover([run])
    if run.successor.summary_json.exists():
        run = run.successor
    members = planned_with(run)
    # A kill amid the last summaries leaves it done, and others of its stack unfinished.
    if run.done and not any(not member.done and member.folder.exists() for member, _ in members):
        return Outcome([run], frozenset([run.id]))
    members = members or [(run, run.trained_config())]
    configs = identify_saved(members, place)
    removed = frozenset(member.id for member, _ in members if not member.folder.exists())
    check_memory(configs[0], header(configs[0].data), len(members))  # it may come from a larger machine
    planned = StackPlan(tuple(member for member, _ in members), tuple(configs), removed)
    trained = work(planned, terminal, Stop(), quiet=quiet, threads=_threads_before(run), download=False)
    runs = [Run(member.runs_dir, member.id) for member, _ in members if member.id not in removed]
    return Outcome(runs, frozenset(one.id for one in runs) - trained)


def _threads_before(run: Run) -> int | None:
    """The threads that an unfinished run was computed with, which are part of its bits."""
    environment = run.result().environment
    threads = environment and environment.threads
    return threads if threads and threads <= MAX_THREADS else None


def remove(runs: Sequence[Run]) -> None:
    """Deletes runs with all their files, and what their stacks keep once no unfinished member needs it.

    Raises:
        UsageError: a process is working on one of them; none is deleted.
    """
    with locked(runs, waiting=None):
        for run in runs:
            run.remove()
    for runs_dir in {run.runs_dir for run in runs}:
        drop_spent(runs_dir)
