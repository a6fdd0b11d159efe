"""What metrics.jsonl holds: one JSON object a line, each with its `step`."""

from __future__ import annotations

import errno
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeGuard

from bnexp.base.files import open_plain

MAX_STEP = 2**53
"""More is no step: floats would not tell it from the next."""
MAX_LINE = 2**20
"""Bytes of a line that is read; a record of all metrics of a large network takes a hundredth."""

MAX_BYTES = 2**30
"""Of a file whose curves are read into memory: a million evaluations take a third of it."""
MAX_VALUES = 8_000_000
"""Numbers of a file that are kept, at 116 bytes each: a million evaluations record seven million."""


def read(path: Path, most: int | None = None) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each line with its record. Lines that are torn, or hold something else, are passed over; a file that is not there has none.

    Raises:
        OSError: it cannot be read, is no plain file, or has more than `most` bytes.
    """
    for raw in _lines(path, most):
        try:
            line = raw.decode()
            record: Any = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(record, dict) and _is_step(record.get("step")):
            yield line, record


def _lines(path: Path, most: int | None = None) -> Iterator[bytes]:
    """The whole lines of at most `MAX_LINE` bytes, without their ends; none where no file is. A file of more than `most` bytes is none
    of ours."""
    try:
        file = open_plain(path, most)
    except FileNotFoundError:
        return
    with file:
        while line := file.readline(MAX_LINE):
            if line.endswith(b"\n"):
                yield line[:-1]
            elif len(line) == MAX_LINE:
                while line and not line.endswith(b"\n"):
                    line = file.readline(MAX_LINE)
            else:  # the last, which has no end: torn, or just being written
                yield line


def curves(path: Path) -> dict[str, list[tuple[int, float]]]:
    """The numbers that were recorded under each slashed key, each with its step; one that was not finite is NaN.

    Raises:
        OSError: as `read`, or they are more than `MAX_BYTES` or `MAX_VALUES`.
    """
    found: dict[str, list[tuple[int, float]]] = {}
    count = 0
    for _, record in read(path, MAX_BYTES):
        for key, value in record.items():
            if "/" in key and (value is None or isinstance(value, (int, float))):
                found.setdefault(key, []).append((record["step"], _number(value)))
                count += 1
        _check_count(count, path)
    return found


def curve(path: Path, key: str) -> list[tuple[int, float]]:
    """`curves(path)[key]`, of which only the lines that hold the key are parsed; empty where there is none. Errors as there."""
    quoted, found = json.dumps(key).encode(), []
    for line in _lines(path, MAX_BYTES):
        if quoted in line:
            try:
                record: Any = json.loads(line)
            except (ValueError, RecursionError):
                continue
            step, value = (record.get(name, "") for name in ("step", key)) if isinstance(record, dict) else ("", "")
            if _is_step(step) and (value is None or isinstance(value, (int, float))):
                found.append((step, _number(value)))
                _check_count(len(found), path)
    return found


def _is_step(value: Any) -> TypeGuard[int]:
    return type(value) is int and 0 <= value < MAX_STEP  # not a bool, which is an int as well


def _check_count(count: int, path: Path) -> None:
    if count > MAX_VALUES:
        raise OSError(errno.EFBIG, f"it has more than {MAX_VALUES:,} values", str(path))


def _number(value: float | None) -> float:
    try:
        return math.nan if value is None else float(value)
    except OverflowError:  # a whole number beyond what a float holds
        return math.nan
