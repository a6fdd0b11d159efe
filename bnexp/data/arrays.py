"""What a source of data returns: labelled NumPy arrays, with a test part where the source has one."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from bnexp.base.errors import DataError
from bnexp.config import DataConfig

Array = NDArray[Any]
Part = tuple[Array, Array]
"""x_[N, C, *map] uint8 or float32, y_[N] int64 from 0 to K - 1."""
Report = Callable[[str], None]
Progress = Callable[[int, int], None]
"""Called with (done, total)."""


@dataclass(frozen=True)
class Source:
    """What the function `read` of a data set's module gets."""

    config: DataConfig
    report: Report
    """Called with a sentence on what takes time."""
    progress: Progress | None
    download: bool
    """Whether missing files may be downloaded."""


@dataclass(frozen=True)
class Arrays:
    """One set in memory, or mapped from a file. Where it has no test part, `n_test` examples are to be split off."""

    train: Part
    classes: tuple[str, ...]
    test: Part | None = None
    val: Part | None = None
    n_test: int = 0
    digests: Array | None = None
    """One number an example, equal where examples are: of the training, validation and test parts, one after the other."""
    notes: tuple[str, ...] = ()
    """What a user should know of how the files were read, each in one sentence without a full stop."""


def human_bytes(count: int) -> str:
    """`1536` as `1.5 KiB`."""
    if count < 1024:
        return f"{count} B"
    size, units = count / 1024, ["KiB", "MiB", "GiB", "TiB", "PiB"]
    while size >= 1024 and len(units) > 1:
        size /= 1024
        units.pop(0)
    return f"{size:,.1f} {units[0]}"


def available_memory() -> int:
    """Bytes of memory that can be allocated now, within the limits of the machine and of a container or batch system."""
    import psutil

    with suppress(OSError):  # not Linux
        return int(min(psutil.virtual_memory().available, group_memory(Path("/proc/self/cgroup").read_text(), Path("/sys/fs/cgroup"))))
    return int(psutil.virtual_memory().available)


def group_memory(groups: str, root: Path) -> float:
    """Bytes that the control groups of a process leave it, the least of all levels: batch systems and systemd set the limit of a parent.
    Infinity where there is no limit. `groups` is the text of `/proc/self/cgroup`, `root` the folder of the kernel's files on groups."""
    left = math.inf
    for line in groups.splitlines():
        _, controllers, own = line.split(":", 2)
        if controllers in ("", "memory"):  # version 2; version 1
            top = root / controllers
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes") if controllers else ("memory.max", "memory.current")
            level = top / own.lstrip("/")
            while level != top.parent:
                left = min(left, _group_left(level, *names))
                level = level.parent
    return left


def _group_left(folder: Path, limit: str, usage: str) -> float:
    """What the control group at `folder` may still take: its limit less its usage, plus the cache that it would give back."""
    try:
        most, used = int((folder / limit).read_text()), int((folder / usage).read_text())
        cached = int((re.search(r"^(?:total_)?inactive_file (\d+)", (folder / "memory.stat").read_text(), re.MULTILINE) or ["0", "0"])[1])
    except (OSError, ValueError):  # "max" is no number: there is no limit
        return math.inf
    return max(0, most - used + cached)


def check_memory(needed: int, what: str, remedy: str) -> None:
    """Raises DataError where `needed` bytes are more than the memory available now: a machine that swaps or kills gives no reason."""
    available = available_memory()
    if needed > available:
        raise DataError(f"{what} needs {human_bytes(needed)} of memory and {human_bytes(available)} are available; {remedy}.")
