"""Stacks on Dask workers: one is submitted per free worker, so that a worker that dies affects no other stack; its own is tried once
more from its checkpoint, then its runs count as failed. A stop is a file that the workers poll, because it must reach them on any machine.
"""

from __future__ import annotations

import contextlib
import time
import uuid
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import CancelledError
from dataclasses import asdict
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING

from msgspec import convert

from bnexp.base.dead_processes import drop_flags
from bnexp.base.errors import BnexpError, UsageError, failure
from bnexp.base.signals import Stop
from bnexp.execution.cluster import check_workers
from bnexp.execution.stack_events import DONE, HELD, Answer, Event, EventTerminal, OnEvent, train
from bnexp.planning.plan import StackPlan
from bnexp.storage.run import Run, hidden_folder

if TYPE_CHECKING:
    from distributed import Client, Future

POLL_S = 0.5
LOST_S = 3.0
"""A worker that its scheduler has not known for so long is gone. Its task usually fails before that."""
LEFT_S = 24 * 3600
TRIES = 2


class _FileStop(Stop):
    """Raised when a file appears, for which it polls twice a second: it may lie on a network."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path, self._polled_at = path, 0.0

    def __call__(self) -> bool:
        if not self.raised and time.perf_counter() - self._polled_at > 0.5:
            self._polled_at = time.perf_counter()
            self.raised = self._path.exists()
        return self.raised


def _task(planned: StackPlan, stop_file: str, topic: str, wait: bool) -> Answer:
    """What a Dask worker runs: one stack on one thread, its progress as events; on a machine with GPUs on the one of its number."""
    import torch
    from distributed import get_worker

    worker = get_worker()
    if torch.cuda.is_available() and isinstance(worker.name, int):  # a local worker: 0, 1, ...
        torch.cuda.set_device(worker.name % torch.cuda.device_count())
    # The event lies one level down, because distributed adds keys of its own to what is logged.
    terminal = EventTerminal(planned, lambda event: worker.log_event(topic, {"event": asdict(event)}))
    return train(planned, terminal, _FileStop(Path(stop_file)), wait)


class _Running:
    """A stack that a worker trains."""

    def __init__(self, client: Client, planned: StackPlan, tries: int, wait: bool, address: str, stop_file: Path, topic: str) -> None:
        self.planned, self.tries, self.wait, self.known_at = planned, tries, wait, time.perf_counter()
        key = f"stack-{planned.folder.id}-{uuid.uuid4().hex[:8]}"
        self.future: Future[Answer] = client.submit(_task, planned, str(stop_file), topic, wait, workers=[address], key=key, pure=False)

    def lost(self, there: bool) -> bool:
        """Whether the scheduler has not known the worker for long, while its task is still pending; `there`: it knows it now."""
        if there:
            self.known_at = time.perf_counter()
        return time.perf_counter() - self.known_at > LOST_S


def distribute(
    client: Client, stacks: Sequence[StackPlan], stop: Stop, on_event: OnEvent, finish: Callable[[StackPlan, Answer], None], stop_name: str
) -> None:
    """Keeps every worker busy with one stack until none is left. A file of the name `stop_name` stops them."""
    from distributed.comm.core import CommClosedError
    from distributed.scheduler import KilledWorker

    runs_dir, topic = stacks[0].runs[0].runs_dir, f"bnexp-{uuid.uuid4().hex[:8]}"
    stop_file = hidden_folder(runs_dir, ".stacks") / stop_name
    stop_file.parent.mkdir(parents=True, exist_ok=True)
    interrupted = False
    fit: set[str] = set()
    unfit: set[str] = set()
    alone_since: float | None = time.perf_counter()
    events: SimpleQueue[Event] = SimpleQueue()

    async def receive(event: tuple[float, Mapping[str, object]]) -> None:
        events.put(convert(event[1]["event"], Event))

    client.subscribe_topic(topic, receive)
    waiting = deque((planned, 1, False) for planned in stacks)
    running: dict[str, _Running] = {}
    try:
        while running or (waiting and not stop()):
            addresses = set(client.nthreads())  # scheduler_info() may answer with a cache that names no workers
            for address, problem in check_workers(client, runs_dir, sorted(addresses - fit - unfit)).items():
                if problem is not None and not fit:
                    raise UsageError(problem)  # nothing was started yet
                (fit if problem is None else unfit).add(address)
                if problem is not None:
                    on_event(Event("", 0, 0, message=f"{problem} It is left out."))
            if addresses:
                alone_since = None
            elif alone_since is not None and time.perf_counter() - alone_since > LOST_S:
                on_event(Event("", 0, 0, message="Waiting for the scheduler to have workers ..."))
                alone_since = None
            for address in sorted((addresses & fit) - set(running)):
                if waiting and not stop():
                    running[address] = _Running(client, *waiting.popleft(), address, stop_file, topic)
            if stop() and not stop_file.exists():
                stop_file.touch()
            for address, one in list(running.items()):
                lost = one.lost(address in addresses)
                if not one.future.done() and not lost:
                    continue
                del running[address]
                if one.future.status == "finished" and one.future.result()[0] == HELD:
                    waiting.append((one.planned, one.tries, True))
                elif one.future.status == "finished":
                    finish(one.planned, _visible_here(one.planned, one.future.result()))
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
                    on_event(events.get_nowait())
            _rest([one.future for one in running.values()])
    except KeyboardInterrupt:  # workers of another machine poll for the file
        interrupted = True
        stop_file.touch()
        raise
    except (CommClosedError, CancelledError, OSError) as error:  # cancelled: the client has lost its scheduler
        if isinstance(error, OSError) and error.filename:
            raise
        raise BnexpError("The Dask scheduler went away; what is finished is kept, and the same command resumes the rest.") from None
    finally:
        if not interrupted:
            stop_file.unlink(missing_ok=True)


def drop_left(runs_dir: Path) -> None:
    """Removes the files for workers that commands left which were killed, or stopped at once: those of this machine's dead processes, and
    others after their workers had a day to find them."""
    stacks = hidden_folder(runs_dir, ".stacks")
    for kind in ("stop", "seen"):
        drop_flags(stacks, kind)
        for path in stacks.glob(f"{kind}-*"):
            with contextlib.suppress(OSError):
                if time.time() - path.lstat().st_mtime > LEFT_S:
                    path.unlink()


def _rest(futures: Sequence[Future[Answer]]) -> None:
    """Waits until a stack ends, but not for long: there may be progress to show, a signal, a new worker."""
    from distributed import wait

    if futures:
        with contextlib.suppress(TimeoutError):
            wait(futures, timeout=POLL_S, return_when="FIRST_COMPLETED")
    else:
        time.sleep(POLL_S / 5)


def _visible_here(planned: StackPlan, answer: Answer) -> Answer:
    """`answer`; a failure where a stack is done and its runs do not appear here within the time that a network's file system takes."""
    end = time.perf_counter() + LOST_S
    while answer[0] == DONE and not all(Run(run.runs_dir, run.id).summary_json.exists() for run in planned.runs if run.id in answer[1]):
        if time.perf_counter() > end:
            return "a worker finished it, but its runs are not in the runs folder, which all machines must share", frozenset()
        time.sleep(0.1)
    return answer
