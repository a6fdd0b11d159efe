"""Many stacks to their ends: on Dask workers, one a core with one thread each or any Dask cluster, or in this process. Torch is imported
where they are trained."""

from __future__ import annotations

import contextlib
import uuid
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from msgspec import structs

from bnexp.base.dead_processes import flag_name
from bnexp.base.errors import BnexpError, Interrupted
from bnexp.base.signals import Stop
from bnexp.execution.cluster import connected
from bnexp.execution.distribute import distribute
from bnexp.execution.stack_events import DONE, HELD, INTERRUPTED, Answer, EventTerminal, OnEvent, train
from bnexp.planning.plan import StackPlan
from bnexp.storage.facts import StackFacts
from bnexp.storage.result import RunResult

Ended = Callable[[StackPlan, str], None]


@dataclass(frozen=True)
class Report:
    """What became of the stacks: the ids of the runs that were trained here, and why others failed."""

    trained: frozenset[str]
    failed: dict[str, str]


def run_stacks(
    stacks: Sequence[StackPlan], stop: Stop, on_event: OnEvent, ended: Ended, *, workers: int | None = None, scheduler: str | None = None
) -> Report:
    """Trains every stack. A stack that another process works on is put off, and in the end waited for. Signals raise `stop` meanwhile.

    Args:
        on_event: gets the progress of each stack.
        ended: called as each stack ends, with `done`, `interrupted` or the reason why it failed.
        workers: processes on this machine; 0 trains in this one, None starts one a core or GPU (but no more than there are stacks).
        scheduler: address of a Dask scheduler (tcp://...), or the path of its scheduler file.

    Raises:
        UsageError: the scheduler does not answer, or its workers do not see the runs folder.
        BnexpError: the scheduler went away.
        Interrupted: `stop` said so; every stack's state is saved.
    """
    failed: dict[str, str] = {}
    trained: set[str] = set()

    def finish(planned: StackPlan, answer: Answer) -> None:
        reason, ids = answer
        trained.update(ids)
        if reason not in (DONE, INTERRUPTED):
            mark_failed(planned, reason)
            failed.update({run.id: reason for run in planned.runs if not run.done and run.id not in planned.replay_only})
        ended(planned, reason)

    if workers == 0 and scheduler is None:  # signals are handled where the state can be saved
        waiting = deque((planned, False) for planned in stacks)
        while waiting and not stop():
            planned, wait = waiting.popleft()
            answer = train(planned, EventTerminal(planned, on_event), stop, wait)
            if answer[0] == HELD:
                waiting.append((planned, True))
            else:
                finish(planned, answer)
    else:
        with stop.listening(), connected(stacks[0].configs[0].device, len(stacks), workers, scheduler) as client:
            # The workers of a given scheduler outlive this process, and must find the file when it is gone.
            name = flag_name("stop") if scheduler is None else f"stop-{uuid.uuid4().hex[:8]}"
            distribute(client, stacks, stop, on_event, finish, name)
    if stop():
        raise Interrupted("Interrupted: the state of every stack is saved; the same command resumes from it.")
    return Report(frozenset(trained), failed)


def mark_failed(planned: StackPlan, reason: str) -> None:
    """Says why in the summary of each run of a stack that is not done."""
    for run, config in zip(planned.runs, planned.configs, strict=True):
        with contextlib.suppress(OSError):
            if run.done or run.id in planned.replay_only:
                continue
            try:
                result = run.result()
            except BnexpError:
                run.start(config)
                named, stack = replace(config, name=config.run_name), StackFacts(planned.folder.id, len(planned.runs))
                result = RunResult(run.id, "failed", config.seed, named, steps=0, stack=stack)
            known = result.error if result.status == "failed" else None
            run.write_result(structs.replace(result, status="failed", error=known or reason))
