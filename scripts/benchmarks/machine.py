"""The machine, in words that name neither a host nor a path, and how much of it others used meanwhile."""

from __future__ import annotations

import os
import platform
import time
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import psutil

from benchmarks.rows import Load
from bnexp.base.hardware import computes_bf16, cores, cpu_model

VERSIONS = ("torch", "numpy", "lightning", "skorch", "hydra-joblib-launcher", "ray", "joblib")


def machine() -> dict[str, Any]:
    return {
        "processor": f"{cpu_model()}, {'' if computes_bf16() else 'no '}bf16 instructions",
        "cores": cores(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "versions": {name: found for name in VERSIONS if (found := _version(name))},
    }


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


class Watch:
    """How busy the machine is with others, from here on."""

    def __init__(self) -> None:
        self.before, self.start = os.getloadavg()[0], time.perf_counter()
        self.others_s = _busy_s() - _own_s()

    @property
    def load(self) -> Load:
        elapsed = max(time.perf_counter() - self.start, 1e-9)
        beside = max(0.0, _busy_s() - _own_s() - self.others_s) / elapsed
        return Load(round(self.before, 2), round(os.getloadavg()[0], 2), round(beside, 2))


def _busy_s() -> float:
    """Processor seconds since the machine was started, those that a virtual machine's host took away included."""
    times = psutil.cpu_times()
    return float(sum(getattr(times, name, 0.0) for name in ("user", "nice", "system", "irq", "softirq", "steal")))


def _own_s() -> float:
    """Processor seconds of this process, of all that it has started, and of what these started."""
    this, total = psutil.Process(), 0.0
    for process in [this, *this.children(recursive=True)]:
        try:
            times = process.cpu_times()
        except psutil.Error:  # it has just ended, and its parent counts it
            continue
        total += times.user + times.system + times.children_user + times.children_system
    return total
