"""Many stacks on many processes: one Dask worker a core with one thread each, or any Dask cluster. Torch is imported there, not here.

One stack is submitted per free worker, so that a worker that dies takes nothing innocent with it; its stack is tried once more from its
checkpoint, then its runs count as failed. A stop is a file that the workers poll, because it must reach them wherever they are.
"""

from __future__ import annotations

import contextlib
import math
import time
import uuid
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any

from msgspec import structs

from bnexp.base.errors import BnexpError, Interrupted, UsageError, failure
from bnexp.base.files import drop_flags, flag_name
from bnexp.base.signals import Stop
from bnexp.execution.cluster import check_workers, connected
from bnexp.execution.launch import work
from bnexp.execution.terminal import StackEvaluation
from bnexp.planning.plan import StackPlan
from bnexp.storage.facts import StackFacts
from bnexp.storage.result import RunResult
from bnexp.storage.run import InWork, Run

if TYPE_CHECKING:
    from distributed import Client, Future

POLL_S = 0.5
LOST_S = 3.0
"""A worker that its scheduler has not known for so long is gone. Its task usually fails before that."""
LEFT_S = 24 * 3600
TRIES = 2
DONE, INTERRUPTED, HELD = "done", "interrupted", "held"
"""How a stack ended, unless it failed; held: another process works on one of its runs, and the others need not wait for that."""


@dataclass(frozen=True)
class Event:
    """What a worker tells of its stack: `done` of `total` steps, and how it does; `message` is something to say."""

    stack: str
    done: int
    total: int
    best_accuracy: float | None = None
    images_per_s: float | None = None
    message: str | None = None
    val_loss: float | None = None
    """Mean over the runs that have a finite one."""
    reached: int | None = None
    diverged: int | None = None
    """How many runs have reached the target, or diverged."""


Tell = Callable[[Event], None]
Ended = Callable[[StackPlan, str], None]
Answer = tuple[str, frozenset[str]]
"""How a stack ended, and the ids of the runs that were trained."""


@dataclass(frozen=True)
class Report:
    """What became of the stacks: the ids of the runs that were trained here, and why others failed."""

    trained: frozenset[str]
    failed: dict[str, str]


def run_stacks(
    stacks: Sequence[StackPlan], stop: Stop, tell: Tell, ended: Ended, *, workers: int | None = None, scheduler: str | None = None
) -> Report:
    """Trains every stack. A stack that another process works on is put off, and in the end waited for. Signals raise `stop` meanwhile.

    Args:
        tell: gets the progress of each stack.
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

    if workers == 0 and scheduler is None:  # the engine listens where it can save; between stacks and while data are read nothing is to be
        waiting = deque((planned, False) for planned in stacks)
        while waiting and not stop():
            planned, wait = waiting.popleft()
            answer = _work(planned, _Told(planned, tell), stop, wait)
            if answer[0] == HELD:
                waiting.append((planned, True))
            else:
                finish(planned, answer)
    else:
        with stop.listening(), connected(stacks[0].configs[0].device, len(stacks), workers, scheduler) as client:
            # Those of somebody's scheduler, who outlive this process, must find the file when it is gone.
            name = flag_name("stop") if scheduler is None else f"stop-{uuid.uuid4().hex[:8]}"
            _distribute(client, stacks, stop, tell, finish, name)
    if stop():
        raise Interrupted("Interrupted: the state of every stack is saved; the same command goes on from it.")
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


class _Told:
    """The terminal of a stack that somebody else shows: it passes its progress on."""

    def __init__(self, planned: StackPlan, tell: Tell) -> None:
        self._stack, self._tell = planned.folder.id, tell
        self._total, self._done, self._told_at = 0, 0, 0.0
        self._best: float | None = None
        self._look: StackEvaluation | None = None

    def say(self, message: str) -> None:
        self._tell(Event(self._stack, self._done, self._total, message=message))

    def note(self, message: str) -> None:
        """The main process read the same data, and said it."""

    def begin(self, title: str, total: int, done: int = 0) -> None:
        self._total, self._done = total, done

    def due(self) -> bool:
        return time.perf_counter() - self._told_at > 0.5

    def advance(self, done: int, info: str, best_accuracy: float | None = None, images_per_s: float | None = None) -> None:
        self._done, self._told_at, self._best = done, time.perf_counter(), best_accuracy
        look, self._look = self._look, None
        found = Event(self._stack, done, self._total, best_accuracy, images_per_s)
        if look is not None:
            loss = look.val_loss if math.isfinite(look.val_loss) else None
            found = replace(found, val_loss=loss, reached=look.reached, diverged=look.diverged)
        self._tell(found)

    def looked(self, look: StackEvaluation) -> None:
        """Kept until there is something to tell anyway: evaluations come often, and the main process hears of many stacks."""
        self._look = look
        known = [run.val_accuracy for run in look.runs if run.diverged_at_step is None]
        self._best = max([*known, *([] if self._best is None else [self._best])], default=None)

    def line(self, message: str) -> None:
        """What is said at each evaluation is too much for many stacks."""

    def end(self) -> None:
        """Tells what the last evaluation found; the main process sees the end of the task."""
        if self._look is not None:
            self.advance(self._look.step, "", self._best)


class _FileStop(Stop):
    """Raised when a file appears; looked for twice a second, since it may lie on a network."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path, self._looked_at = path, 0.0

    def __call__(self) -> bool:
        if not self.raised and time.perf_counter() - self._looked_at > 0.5:
            self._looked_at = time.perf_counter()
            self.raised = self._path.exists()
        return self.raised


def _work(planned: StackPlan, terminal: _Told, stop: Stop, wait: bool) -> Answer:
    """Trains a stack. A failure is an answer here: the other stacks go on.

    One thread wherever it runs, so that the bits do not depend on the number of workers, and nobody waits for a busy core.
    """
    try:
        return DONE, frozenset(work(planned, terminal, stop, quiet=True, threads=1, wait=wait))
    except Interrupted:
        return INTERRUPTED, frozenset()
    except InWork:
        return HELD, frozenset()
    except Exception as error:
        return failure(error), frozenset()


def _task(planned: StackPlan, stop_file: str, topic: str, wait: bool) -> Answer:
    """What a Dask worker runs: one stack on one thread, its progress as events; on a machine with GPUs on the one of its number."""
    import torch
    from distributed import get_worker

    worker = get_worker()
    if torch.cuda.is_available() and isinstance(worker.name, int):  # a local worker: 0, 1, ...
        torch.cuda.set_device(worker.name % torch.cuda.device_count())
    # The event lies one level down, because distributed adds keys of its own to what is logged.
    told = _Told(planned, lambda event: worker.log_event(topic, {"event": asdict(event)}))
    return _work(planned, told, _FileStop(Path(stop_file)), wait)


class _Busy:
    """A stack in work on a worker."""

    def __init__(self, client: Client, planned: StackPlan, tries: int, wait: bool, address: str, stop_file: Path, topic: str) -> None:
        self.planned, self.tries, self.wait, self.seen_at = planned, tries, wait, time.perf_counter()
        key = f"stack-{planned.folder.id}-{uuid.uuid4().hex[:8]}"
        self.future: Future[Answer] = client.submit(_task, planned, str(stop_file), topic, wait, workers=[address], key=key, pure=False)

    def lost(self, there: bool) -> bool:
        """Whether the worker has not been `there` for long, while its task, bound to it, knows of nothing."""
        if there:
            self.seen_at = time.perf_counter()
        return time.perf_counter() - self.seen_at > LOST_S


def _distribute(
    client: Client, stacks: Sequence[StackPlan], stop: Stop, tell: Tell, finish: Callable[[StackPlan, Answer], None], stop_name: str
) -> None:
    """Keeps every worker busy with one stack until none is left. A file of the name `stop_name` tells them to stop."""
    from distributed.comm.core import CommClosedError
    from distributed.scheduler import KilledWorker

    runs_dir, topic = stacks[0].runs[0].runs_dir, f"bnexp-{uuid.uuid4().hex[:8]}"
    stop_file = runs_dir / ".stacks" / stop_name
    stop_file.parent.mkdir(parents=True, exist_ok=True)
    hurried = False
    fit: set[str] = set()
    unfit: set[str] = set()
    alone_since: float | None = time.perf_counter()
    events: SimpleQueue[Event] = SimpleQueue()

    async def heard(event: tuple[float, dict[str, Any]]) -> None:
        events.put(Event(**event[1]["event"]))

    client.subscribe_topic(topic, heard)
    waiting = deque((planned, 1, False) for planned in stacks)
    busy: dict[str, _Busy] = {}
    try:
        while busy or (waiting and not stop()):
            addresses = set(client.nthreads())  # asks the scheduler; scheduler_info() may answer with a cache that names no workers
            for address, problem in check_workers(client, runs_dir, sorted(addresses - fit - unfit)).items():
                if problem is not None and not fit:
                    raise UsageError(problem)  # nothing was started yet
                (fit if problem is None else unfit).add(address)
                if problem is not None:
                    tell(Event("", 0, 0, message=f"{problem} It is left out."))
            if addresses:
                alone_since = None
            elif alone_since is not None and time.perf_counter() - alone_since > LOST_S:
                tell(Event("", 0, 0, message="Waiting for the scheduler to have workers ..."))
                alone_since = None
            for address in sorted((addresses & fit) - set(busy)):
                if waiting and not stop():
                    busy[address] = _Busy(client, *waiting.popleft(), address, stop_file, topic)
            if stop() and not stop_file.exists():
                stop_file.touch()
            for address, one in list(busy.items()):
                lost = one.lost(address in addresses)
                if not one.future.done() and not lost:
                    continue
                del busy[address]
                if one.future.status == "finished" and one.future.result()[0] == HELD:
                    waiting.append((one.planned, one.tries, True))
                elif one.future.status == "finished":
                    finish(one.planned, seen_from_here(one.planned, one.future.result()))
                elif one.future.status == "pending" or isinstance(one.future.exception(), KilledWorker):
                    one.future.cancel()
                    if one.tries < TRIES:
                        waiting.appendleft((one.planned, one.tries + 1, one.wait))
                    else:
                        finish(one.planned, (f"its worker process died {TRIES} times (killed, or out of memory)", frozenset()))
                else:
                    finish(one.planned, (failure(one.future.exception()), frozenset()))
            with contextlib.suppress(Empty):
                while True:
                    tell(events.get_nowait())
            _rest([one.future for one in busy.values()])
    except KeyboardInterrupt:  # workers of another machine look for the file in their own time
        hurried = True
        stop_file.touch()
        raise
    except (CommClosedError, CancelledError, OSError) as error:  # cancelled: the client has lost its scheduler
        if isinstance(error, OSError) and error.filename:
            raise
        raise BnexpError("The Dask scheduler went away; what is finished is kept, and the same command goes on.") from None
    finally:
        if not hurried:
            stop_file.unlink(missing_ok=True)


def drop_left(runs_dir: Path) -> None:
    """Removes the files for workers that commands left which were killed, or stopped at once: those of this machine's dead processes, and
    others after their workers had a day to find them."""
    for kind in ("stop", "seen"):
        drop_flags(runs_dir / ".stacks", kind)
        for path in (runs_dir / ".stacks").glob(f"{kind}-*"):
            with contextlib.suppress(OSError):
                if time.time() - path.lstat().st_mtime > LEFT_S:
                    path.unlink()


def _rest(futures: Sequence[Future[Answer]]) -> None:
    """Until a stack ends, but not for long: there may be progress to show, a signal, a new worker."""
    from distributed import wait

    if futures:
        with contextlib.suppress(TimeoutError):
            wait(futures, timeout=POLL_S, return_when="FIRST_COMPLETED")
    else:
        time.sleep(POLL_S / 5)


def seen_from_here(planned: StackPlan, answer: Answer) -> Answer:
    """`answer`, unless a stack is said to be done and this process does not see its runs, even after a network's file system had time."""
    end = time.perf_counter() + LOST_S
    while answer[0] == DONE and not all(Run(run.runs_dir, run.id).summary_json.exists() for run in planned.runs if run.id in answer[1]):
        if time.perf_counter() > end:
            return "a worker says that it is done, and its runs are not in the runs folder, which all machines must share", frozenset()
        time.sleep(0.1)
    return answer
