"""A Dask cluster on this machine that only this process and its workers can talk to: TLS with keys made for it, and no HTTP servers.

What connects to a scheduler, a nanny or a worker can run code as its owner, and every user of a machine can reach its loopback ports.
The keys are made when the cluster starts, reach the workers through the pipes that start them, and are stored nowhere.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import threading
from collections.abc import Iterator
from typing import Any

from distributed import Nanny, Scheduler, SpecCluster, Status, Worker
from distributed.security import Security

from bnexp.base.signals import deaf

STARTS = 2
"""How often a worker is started whose process dies before it can work, as a stack is tried."""
THREADS_A_WORKER = 10
"""Processes and threads of a worker with one computing thread, and of its nanny."""
SETTINGS = {
    "distributed.scheduler.allowed-failures": 0,
    "distributed.scheduler.http.routes": [],  # there is no HTTP server that would need them
    "distributed.worker.http.routes": [],
    "distributed.worker.daemon": True,
    # The trainer shares its process with Dask, whose profiler alone (a hundred samples a second) took 2 to 4 % of its time.
    "distributed.worker.profile.enabled": False,
    "distributed.admin.tick.interval": "1s",
    "distributed.admin.system-monitor.interval": "5s",
    # Dask keeps the last so many messages, events and transitions in a dozen places. With its own 1,000 and more this process grew
    # by 50 kB a stack of eight runs.
    "distributed.admin.low-level-log-length": 50,
    "distributed.admin.system-monitor.log-length": 50,
    "distributed.diagnostics.computations.max-history": 10,
}


class _Scheduler(Scheduler):
    def start_http_server(self, *args: Any, **kwargs: Any) -> None:
        """Starts none: it would listen on a port of its own, without TLS, even with nothing to serve."""


class _Worker(Worker):
    def start_http_server(self, *args: Any, **kwargs: Any) -> None:
        """Starts none, as the scheduler."""


class _Nanny(Nanny):
    async def instantiate(self) -> Status:
        """Starts the worker process; once more if it dies while the cluster starts, which would otherwise end all of that. One that dies
        later is started again by Dask."""
        status = await super().instantiate()
        for _ in range(STARTS - 1):
            if status != Status.running and self.status in (Status.init, Status.starting):
                status = await super().instantiate()
        if status != Status.running:
            raise RuntimeError(f"a worker process died {STARTS} times while it started: killed, or out of memory")
        return status


def local_cluster(workers: int) -> SpecCluster:
    """A running cluster of so many worker processes with one thread each. `SETTINGS` must hold while it lives.

    Raises:
        Exception: the workers cannot be started; its kind is as Dask's configuration, or the system, has it.
    """
    _check_threads(workers * THREADS_A_WORKER)
    security = Security.temporary()
    place = {"host": "127.0.0.1", "protocol": "tls://", "security": security}
    # Without a memory limit of its own a worker is neither paused nor killed for a large stack; the system's limit holds.
    options = {**place, "nthreads": 1, "memory_limit": 0, "dashboard": False, "silence_logs": logging.CRITICAL, "worker_class": _Worker}
    with deaf(), _without_stderr():
        return SpecCluster(
            scheduler={"cls": _Scheduler, "options": {**place, "port": 0, "dashboard": False}},
            workers={number: {"cls": _Nanny, "options": options} for number in range(workers)},
            silence_logs=logging.CRITICAL,
            security=security,
        )


def _check_threads(count: int) -> None:
    """Has so many threads for a moment: workers that do not get enough of them hang, instead of failing.

    Raises:
        RuntimeError: there cannot be so many.
    """
    release, started = threading.Event(), []
    usual = threading.stack_size(2**18)  # all of them are in this process here, whose memory may have a limit of its own
    try:
        for _ in range(count):
            thread = threading.Thread(target=release.wait, daemon=True)
            thread.start()
            started.append(thread)
    finally:
        threading.stack_size(usual)
        release.set()
        for thread in started:
            thread.join()


@contextlib.contextmanager
def _without_stderr() -> Iterator[None]:
    """Processes that are started inside write no errors: a worker that cannot be imported would print tracebacks, and what becomes of
    workers is reported by this process."""
    if sys.stderr is None:  # closed; its number may be another file's by now
        yield
        return
    kept = os.dup(2)
    try:
        with open(os.devnull, "wb") as nowhere:  # noqa: PTH123
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
