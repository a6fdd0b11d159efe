"""What a worker process calls for the group `sweeps`: the plain script's runs in joblib workers that are warm."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import Any

from joblib import Parallel, delayed

from benchmarks.apps.plain import train

_held: list[Parallel] = []


def up(*, workers: int, batch: int) -> None:
    """Starts so many workers, each of which trains an epoch. They end with this process."""
    parallel = Parallel(n_jobs=workers, backend="loky", batch_size=1)
    parallel.__enter__()
    _held.append(parallel)
    warm: set[int] = set()
    while len(warm) < workers:  # one may take the other's call
        warm |= set(parallel(delayed(_one)(batch) for _ in range(workers)))


def _one(batch: int) -> int:
    for norm in ("batch", "none"):
        train(norm, lr=0.01, seed=0, batch=batch, epochs=1, threads=1)
    return os.getpid()


def trained(*, runs: Sequence[Sequence[Any]], batch: int, epochs: int) -> dict[str, Any]:
    """Seconds of all runs (norm, lr, seed), and what each of them reports."""
    start = time.perf_counter()
    found = _held[0](delayed(train)(*run, batch=batch, epochs=epochs, threads=1) for run in runs)
    return {"seconds": time.perf_counter() - start, "runs": found}
