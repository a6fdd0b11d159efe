"""Many stacks on many processes: one Dask worker a core with one thread each, or any Dask cluster. No torch in this process.

One stack is submitted per free worker, so that a worker that dies takes nothing innocent with it; its stack is tried once more from its
checkpoint, then its runs count as failed. A stop is a file that the workers poll, because it must reach them wherever they are.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bnexp.config import to_mapping
from bnexp.errors import BnexpError, Interrupted, UsageError
from bnexp.launch import work
from bnexp.plan import Planned
from bnexp.run import Run
from bnexp.stop import Stop

if TYPE_CHECKING:
    from distributed import Client, Future

CONNECT_S = 10
TOPIC = "bnexp"
TRIES = 2
INTERRUPTED = "interrupted"


@dataclass(frozen=True)
class Event:
    """What a worker tells of its stack: `done` of `total` steps, and a line of text."""

    stack: str
    done: int
    total: int
    info: str


def run_stacks(
    stacks: Sequence[Planned],
    stop: Stop,
    tell: Callable[[Event], None],
    ended: Callable[[Planned, str], None],
    *,
    workers: int | None = None,
    scheduler: str | None = None,
) -> dict[str, str]:
    """Trains every stack; run ids with the reasons of those that failed.

    Args:
        tell: gets the progress of each stack.
        ended: called as each stack ends, with `done` or the reason why not.
        workers: processes on this machine; 0 trains in this one, None starts one a core (but no more than there are stacks).
        scheduler: address of a Dask scheduler (tcp://...), or the path of its scheduler file.

    Raises:
        UsageError: the scheduler does not answer, or does not see the runs folder.
        Interrupted: `stop` said so; every stack's state is saved.
    """
    failed: dict[str, str] = {}

    def finish(planned: Planned, reason: str) -> None:
        if reason not in ("done", INTERRUPTED):
            mark_failed(planned, reason)
            failed.update({run.id: reason for run in planned.runs if not run.done})
        ended(planned, reason)

    if workers == 0 and scheduler is None:
        for planned in stacks:
            if not stop():
                finish(planned, _work(planned, _Told(planned, tell), stop))
        _raise_if(stop)
    else:
        with _client(workers, scheduler, len(stacks)) as client:
            _distribute(client, stacks, stop, tell, finish)
    return failed


def mark_failed(planned: Planned, reason: str) -> None:
    """Says why in the summary of each run of a stack that is not done."""
    for run, config in zip(planned.runs, planned.configs, strict=True):
        with contextlib.suppress(OSError):
            if run.done:
                continue
            try:
                summary = run.summary()
            except BnexpError:
                run.start(config)
                summary = {**empty_summary(run), "seed": config.seed, "config": {**to_mapping(config), "name": config.run_name}}
                summary["stack"] = {"id": planned.folder.id, "width": len(planned.runs)}
            run.write_summary({**summary, "status": "failed", "error": summary.get("error") or reason})


def empty_summary(run: Run) -> dict[str, Any]:
    """The summary of a run that never began."""
    scores = {stats: {"loss": None, "accuracy": None} for stats in ("running", "precise", "batch")}
    keys = dict.fromkeys(("parameters", "epochs", "diverged_at_step", "data", "environment"))
    val = dict.fromkeys(("loss", "accuracy", "best_accuracy", "best_step"))
    target = dict.fromkeys(("accuracy", "reached_step", "reached_train_s"))
    speed = dict.fromkeys(("train_s", "eval_s", "metrics_s", "images_per_s", "step_ms_median"))
    return {"id": run.id, "steps": 0, **keys, "test": scores, "val": val, "target": target, "speed": speed}


class _Told:
    """The terminal of a stack that somebody else shows: it passes its progress on."""

    def __init__(self, planned: Planned, tell: Callable[[Event], None]) -> None:
        self._stack, self._tell = planned.folder.id, tell
        self._total, self._done, self._told_at = 0, 0, 0.0

    def say(self, message: str) -> None:
        self._tell(Event(self._stack, self._done, self._total, message))

    def begin(self, title: str, total: int, done: int = 0) -> None:
        self._total, self._done = total, done

    def due(self) -> bool:
        return time.perf_counter() - self._told_at > 0.5

    def advance(self, done: int, info: str) -> None:
        self._done, self._told_at = done, time.perf_counter()
        self._tell(Event(self._stack, done, self._total, info))

    def line(self, message: str) -> None:
        """What is said at each evaluation is too much for many stacks."""

    def end(self) -> None:
        """The main process sees the end of the task."""


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


def _work(planned: Planned, terminal: _Told, stop: Stop) -> str:
    """Trains a stack; `done`, or why not. A failure is an answer here: the other stacks go on.

    One thread wherever it runs, so that the bits do not depend on the number of workers, and nobody waits for a busy core.
    """
    try:
        work(planned, terminal, stop, quiet=True, threads=1)
    except Interrupted:
        return INTERRUPTED
    except Exception as error:
        reason = str(error).splitlines()[0][:300] if str(error) else ""
        return reason if isinstance(error, BnexpError) else f"{type(error).__name__}: {reason}"
    return "done"


def _task(planned: Planned, stop_file: str) -> str:
    """What a Dask worker runs: one stack on one thread, its progress as events."""
    from dataclasses import asdict

    from distributed import get_worker

    worker = get_worker()
    return _work(planned, _Told(planned, lambda event: worker.log_event(TOPIC, {"event": asdict(event)})), _FileStop(Path(stop_file)))


def _distribute(
    client: Client, stacks: Sequence[Planned], stop: Stop, tell: Callable[[Event], None], finish: Callable[[Planned, str], None]
) -> None:
    """Keeps every worker busy with one stack until none is left."""
    from distributed.scheduler import KilledWorker

    runs_dir = stacks[0].runs[0].runs_dir
    stop_file = runs_dir / ".stacks" / f"stop-{uuid.uuid4().hex[:8]}"
    stop_file.parent.mkdir(parents=True, exist_ok=True)
    _check_shared(client, runs_dir)

    async def heard(event: tuple[float, dict[str, Any]]) -> None:
        tell(Event(**event[1]["event"]))

    client.subscribe_topic(TOPIC, heard)
    waiting = deque((planned, 1) for planned in stacks)
    busy: dict[str, tuple[Future[str], Planned, int]] = {}
    try:
        with stop.listening():
            while busy or (waiting and not stop()):
                addresses = set(client.scheduler_info(n_workers=-1)["workers"])
                for address in sorted(addresses - set(busy)):
                    if waiting and not stop():
                        planned, tries = waiting.popleft()
                        key = f"stack-{planned.folder.id}-{uuid.uuid4().hex[:8]}"
                        future = client.submit(_task, planned, str(stop_file), workers=[address], key=key, pure=False)
                        busy[address] = (future, planned, tries)
                if stop() and not stop_file.exists():
                    stop_file.touch()
                for address, (future, planned, tries) in list(busy.items()):
                    gone = address not in addresses and not future.done()
                    if not future.done() and not gone:
                        continue
                    del busy[address]
                    if future.status == "finished":
                        finish(planned, future.result())
                    elif gone or isinstance(future.exception(), KilledWorker):
                        future.cancel()
                        if tries < TRIES:
                            waiting.appendleft((planned, tries + 1))
                        else:
                            finish(planned, f"its worker process died {TRIES} times (killed, or out of memory)")
                    else:
                        finish(planned, f"{type(future.exception()).__name__}: {str(future.exception())[:200]}")
                time.sleep(0.05)
    finally:
        stop_file.unlink(missing_ok=True)
    _raise_if(stop)


def _raise_if(stop: Stop) -> None:
    if stop():
        raise Interrupted("Interrupted: the state of every stack is saved; the same command goes on from it.")


@contextlib.contextmanager
def _client(workers: int | None, scheduler: str | None, stacks: int) -> Iterator[Client]:
    """A client of the scheduler, or of a cluster of our own that ends with it."""
    import dask
    from distributed import Client, LocalCluster

    logging.getLogger("distributed").setLevel(logging.CRITICAL)  # what happens to workers is told in our own words
    if scheduler is not None:
        where = {"scheduler_file": scheduler} if Path(scheduler).is_file() else {"address": scheduler}
        try:
            client = Client(**where, timeout=CONNECT_S)
        except (OSError, ValueError) as error:
            raise UsageError(f"The scheduler {scheduler} does not answer within {CONNECT_S} s ({type(error).__name__}).") from None
        with client:
            yield client
        return
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    count = min(workers or cores, stacks)
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 0, "distributed.worker.daemon": True}),
        LocalCluster(
            n_workers=count, threads_per_worker=1, dashboard_address=None, host="127.0.0.1", silence_logs=logging.CRITICAL
        ) as cluster,
        Client(cluster) as client,
    ):
        yield client


def _check_shared(client: Client, runs_dir: Path) -> None:
    """Raises UsageError unless every worker sees the runs folder."""
    token = runs_dir / ".stacks" / f"seen-{uuid.uuid4().hex[:8]}"
    token.touch()
    try:
        blind = [address for address, sees in client.run(os.path.exists, str(token)).items() if not sees]
    finally:
        token.unlink(missing_ok=True)
    if blind:
        raise UsageError(f"The worker {blind[0]} does not see {runs_dir}; --runs-dir must be a folder that all machines share.")
