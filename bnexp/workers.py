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
from dataclasses import asdict, dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any

from bnexp import __version__
from bnexp.config import to_mapping
from bnexp.errors import BnexpError, Interrupted, UsageError
from bnexp.launch import work
from bnexp.plan import Planned
from bnexp.run import Run
from bnexp.stop import Stop

if TYPE_CHECKING:
    from distributed import Client, Future

CONNECT_S = 10
LOST_S = 3.0
"""A worker that its scheduler has not known for so long is gone. Its task usually fails before that."""
TRIES = 2
DONE, INTERRUPTED = "done", "interrupted"
DEAF = "import signal\nfor number in (signal.SIGINT, signal.SIGTERM):\n    signal.signal(number, signal.SIG_IGN)\n"
"""A local worker's preload: Ctrl-C reaches every process of the terminal, and a worker must live on to save its stack."""


@dataclass(frozen=True)
class Event:
    """What a worker tells of its stack: `done` of `total` steps, and how it does; `message` is something to say."""

    stack: str
    done: int
    total: int
    best_accuracy: float | None = None
    images_per_s: float | None = None
    message: str | None = None


Tell = Callable[[Event], None]
Ended = Callable[[Planned, str], None]


def run_stacks(
    stacks: Sequence[Planned], stop: Stop, tell: Tell, ended: Ended, *, workers: int | None = None, scheduler: str | None = None
) -> dict[str, str]:
    """Trains every stack; run ids with the reasons of those that failed. Signals raise `stop` meanwhile.

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

    def finish(planned: Planned, reason: str) -> None:
        if reason not in (DONE, INTERRUPTED):
            mark_failed(planned, reason)
            failed.update({run.id: reason for run in planned.runs if not run.done and run.id not in planned.unwritten})
        ended(planned, reason)

    with stop.listening():
        if workers == 0 and scheduler is None:
            for planned in stacks:
                if not stop():
                    finish(planned, _work(planned, _Told(planned, tell), stop))
        else:
            with _client(stacks, workers, scheduler) as client:
                _distribute(client, stacks, stop, tell, finish)
    if stop():
        raise Interrupted("Interrupted: the state of every stack is saved; the same command goes on from it.")
    return failed


def mark_failed(planned: Planned, reason: str) -> None:
    """Says why in the summary of each run of a stack that is not done."""
    for run, config in zip(planned.runs, planned.configs, strict=True):
        with contextlib.suppress(OSError):
            if run.done or run.id in planned.unwritten:
                continue
            try:
                summary = run.summary()
            except BnexpError:
                run.start(config)
                summary = {**empty_summary(run), "seed": config.seed, "config": {**to_mapping(config), "name": config.run_name}}
                summary["stack"] = {"id": planned.folder.id, "width": len(planned.runs)}
            known = summary.get("error") if summary.get("status") == "failed" else None
            run.write_summary({**summary, "status": "failed", "error": known or reason})


def empty_summary(run: Run) -> dict[str, Any]:
    """The summary of a run that never began."""
    scores = {stats: {"loss": None, "accuracy": None} for stats in ("running", "precise", "batch")}
    keys = dict.fromkeys(("parameters", "epochs", "diverged_at_step", "data", "environment", "audit"))
    groups = {
        "train": ("loss", "accuracy", "images"),
        "val": ("loss", "accuracy", "best_accuracy", "best_step"),
        "target": ("accuracy", "reached_step", "reached_train_s"),
        "budget": ("steps", "until_target"),
        "speed": ("train_s", "eval_s", "metrics_s", "images_per_s", "step_ms_median"),
    }
    return {"id": run.id, "steps": 0, **keys, "test": scores, **{name: dict.fromkeys(inner) for name, inner in groups.items()}}


class _Told:
    """The terminal of a stack that somebody else shows: it passes its progress on."""

    def __init__(self, planned: Planned, tell: Tell) -> None:
        self._stack, self._tell = planned.folder.id, tell
        self._total, self._done, self._told_at = 0, 0, 0.0

    def say(self, message: str) -> None:
        self._tell(Event(self._stack, self._done, self._total, message=message))

    def begin(self, title: str, total: int, done: int = 0) -> None:
        self._total, self._done = total, done

    def due(self) -> bool:
        return time.perf_counter() - self._told_at > 0.5

    def advance(self, done: int, info: str, best_accuracy: float | None = None, images_per_s: float | None = None) -> None:
        self._done, self._told_at = done, time.perf_counter()
        self._tell(Event(self._stack, done, self._total, best_accuracy, images_per_s))

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
        return reason if isinstance(error, BnexpError) and reason else f"{type(error).__name__}: {reason}"
    return DONE


def _task(planned: Planned, stop_file: str, topic: str) -> str:
    """What a Dask worker runs: one stack on one thread, its progress as events; on a machine with GPUs on the one of its number."""
    import torch
    from distributed import get_worker

    worker = get_worker()
    if torch.cuda.is_available() and isinstance(worker.name, int):  # a local worker: 0, 1, ...
        torch.cuda.set_device(worker.name % torch.cuda.device_count())
    # The event lies one level down, because distributed adds keys of its own to what is logged.
    return _work(planned, _Told(planned, lambda event: worker.log_event(topic, {"event": asdict(event)})), _FileStop(Path(stop_file)))


class _Busy:
    """A stack in work on a worker."""

    def __init__(self, client: Client, planned: Planned, tries: int, address: str, stop_file: Path, topic: str) -> None:
        self.planned, self.tries, self.seen_at = planned, tries, time.perf_counter()
        key = f"stack-{planned.folder.id}-{uuid.uuid4().hex[:8]}"
        self.future: Future[str] = client.submit(_task, planned, str(stop_file), topic, workers=[address], key=key, pure=False)

    def lost(self, there: bool) -> bool:
        """Whether the worker has not been `there` for long, while its task, bound to it, knows of nothing."""
        if there:
            self.seen_at = time.perf_counter()
        return time.perf_counter() - self.seen_at > LOST_S


def _distribute(client: Client, stacks: Sequence[Planned], stop: Stop, tell: Tell, finish: Ended) -> None:
    """Keeps every worker busy with one stack until none is left."""
    from distributed.comm.core import CommClosedError
    from distributed.scheduler import KilledWorker

    runs_dir, topic = stacks[0].runs[0].runs_dir, f"bnexp-{uuid.uuid4().hex[:8]}"
    stop_file = runs_dir / ".stacks" / f"stop-{uuid.uuid4().hex[:8]}"
    stop_file.parent.mkdir(parents=True, exist_ok=True)
    fit: set[str] = set()
    unfit: set[str] = set()
    alone_since: float | None = time.perf_counter()
    events: SimpleQueue[Event] = SimpleQueue()

    async def heard(event: tuple[float, dict[str, Any]]) -> None:
        events.put(Event(**event[1]["event"]))

    client.subscribe_topic(topic, heard)
    waiting = deque((planned, 1) for planned in stacks)
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
                if one.future.status == "finished":
                    finish(one.planned, seen_from_here(one.planned, one.future.result()))
                elif one.future.status == "pending" or isinstance(one.future.exception(), KilledWorker):
                    one.future.cancel()
                    if one.tries < TRIES:
                        waiting.appendleft((one.planned, one.tries + 1))
                    else:
                        finish(one.planned, f"its worker process died {TRIES} times (killed, or out of memory)")
                else:
                    error = one.future.exception()
                    finish(one.planned, f"{type(error).__name__}: {str(error)[:200]}")
            with contextlib.suppress(Empty):
                while True:
                    tell(events.get_nowait())
            time.sleep(0.02)
    except (CommClosedError, OSError) as error:
        if isinstance(error, OSError) and error.filename:
            raise
        raise BnexpError("The Dask scheduler went away; what is finished is kept, and the same command goes on.") from None
    finally:
        stop_file.unlink(missing_ok=True)


@contextlib.contextmanager
def _client(stacks: Sequence[Planned], workers: int | None, scheduler: str | None) -> Iterator[Client]:
    """A client of the scheduler, or of a cluster of our own that ends with it."""
    import dask
    from distributed import Client, LocalCluster

    for name in ("distributed", "distributed.client"):  # Dask gives the second a level of its own
        logging.getLogger(name).setLevel(logging.CRITICAL)  # what happens to workers is told in our own words
    if scheduler is not None:
        where = {"scheduler_file": scheduler} if Path(scheduler).is_file() else {"address": scheduler}
        try:
            client = Client(**where, timeout=CONNECT_S)
        except (OSError, ValueError, KeyError) as error:
            raise UsageError(
                f"The scheduler {scheduler} does not answer within {CONNECT_S} s ({type(error).__name__}); "
                "give tcp://HOST:PORT, or the path of a scheduler file."
            ) from None
        with client:
            yield client
        return
    # Without a limit of memory of its own a worker is neither paused nor killed for a large stack; the system's limit holds.
    settings = {"distributed.scheduler.allowed-failures": 0, "distributed.worker.daemon": True, "distributed.worker.preload": [DEAF]}
    with (
        dask.config.set(settings),
        LocalCluster(
            n_workers=min(workers or local_workers(stacks[0].configs[0].device), len(stacks)),
            threads_per_worker=1,
            memory_limit=0,
            dashboard_address="127.0.0.1:0",  # None would serve pages on port 8787 of every interface
            scheduler_kwargs={"dashboard": False},
            host="127.0.0.1",
            silence_logs=logging.CRITICAL,
        ) as cluster,
        Client(cluster) as client,
    ):
        yield client


def local_workers(device: str) -> int:
    """Workers on this machine: one a GPU where there are GPUs to be used, else one a core."""
    gpus = len(list(Path("/proc/driver/nvidia/gpus").glob("*"))) if device != "cpu" else 0
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if gpus and visible is not None:
        gpus = min(gpus, len([name for name in visible.split(",") if name.strip() not in ("", "-1")]))
    return gpus or (len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)


def check_workers(client: Client, runs_dir: Path, addresses: Sequence[str]) -> dict[str, str | None]:
    """What is wrong with each worker: None if it has this version of bnexp and sees the runs folder. One that is gone has no answer."""
    if not addresses:
        return {}
    token = runs_dir / ".stacks" / f"seen-{uuid.uuid4().hex[:8]}"
    token.touch()
    try:
        answers = client.run(_sees, str(token), workers=list(addresses), on_error="return")
    finally:
        token.unlink(missing_ok=True)
    return {address: _problem(address, answer, runs_dir) for address, answer in answers.items() if not isinstance(answer, OSError)}


def _problem(address: str, answer: object, runs_dir: Path) -> str | None:
    if isinstance(answer, BaseException):
        return f"The worker {address} cannot run bnexp ({type(answer).__name__}: {str(answer)[:200]}); install it there."
    if answer == (__version__, True):
        return None
    if isinstance(answer, tuple) and answer[0] != __version__:
        return f"The worker {address} has bnexp {answer[0]}, and this is {__version__}; install the same everywhere."
    return f"The worker {address} does not see {runs_dir}; --runs-dir must be a folder that all machines share."


def _sees(token: str) -> tuple[str, bool]:
    return __version__, Path(token).exists()


def seen_from_here(planned: Planned, reason: str) -> str:
    """`reason`, unless a stack is said to be done and this process does not see its runs, even after a network's file system had time."""
    end = time.perf_counter() + LOST_S
    while reason == DONE and not all(run.done for run in planned.runs if run.id not in planned.unwritten and not run.fresh):
        if time.perf_counter() > end:
            return "a worker says that it is done, and its runs are not in the runs folder, which all machines must share"
        time.sleep(0.1)
    return reason
