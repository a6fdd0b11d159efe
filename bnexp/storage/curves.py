"""What metrics.jsonl holds: one JSON object a line, each with its `step`."""

from __future__ import annotations

import errno
import json
import math
from collections.abc import Iterator
from pathlib import Path

import msgspec

from bnexp.base.files import open_plain

MAX_STEP = 2**53
"""Floats do not distinguish larger steps from the next."""
MAX_LINE = 2**20
"""Bytes of a line that is read; a record of all metrics of a large network takes a hundredth."""
MAX_BYTES = 2**30
"""Of a file whose curves are read into memory: a million evaluations take a third of it."""
MAX_VALUES = 8_000_000
"""Numbers of a file that are kept, at 116 bytes each: a million evaluations record seven million."""
Record = dict[str, int | float | list[str | int | float] | None]
"""`step`, `epoch`, numbers or lists of them under slashed keys, None where they were not finite, and the keys of these under
`nonfinite`."""
Lists = dict[str, list[tuple[int, list[float]]]]
"""Lists of numbers under each slashed key, each with its step."""
_DECODER = msgspec.json.Decoder(Record)


def read(path: Path, most: int | None = None) -> Iterator[tuple[str, int, Record]]:
    """Each line with its step and its record; lines that are torn, or hold something else, are skipped, and a missing file has none.
    Raises OSError where the file cannot be read, is no plain file, or has more than `most` bytes."""
    for line in _lines(path, most):
        if (parsed := _parsed(line)) is not None:
            yield line.decode(), *parsed


def curves(path: Path, only: str | None = None) -> dict[str, list[tuple[int, float]]]:
    """The numbers that were recorded under each slashed key, or under the key `only`, each with its step; one that was not finite is NaN.
    Raises OSError as `read`, and for more than `MAX_BYTES` or `MAX_VALUES`."""
    quoted = b"" if only is None else json.dumps(only).encode()
    found: dict[str, list[tuple[int, float]]] = {}
    count = 0
    for line in _lines(path, MAX_BYTES):
        step, record = (_parsed(line) if quoted in line else None) or (0, Record())  # most lines lack the one key: they are not parsed
        for key, value in record.items():
            if "/" in key and only in (None, key) and not isinstance(value, list):
                found.setdefault(key, []).append((step, _number(value)))
                count += 1
        if count > MAX_VALUES:
            raise OSError(errno.EFBIG, f"it has more than {MAX_VALUES:,} values", str(path))
    return found


def curve(path: Path, key: str) -> list[tuple[int, float]]:
    """`curves(path)[key]`; empty where nothing is recorded under the key."""
    return curves(path, key).get(key, [])


def lists(path: Path) -> Lists:
    """The lists of numbers that were recorded under each slashed key (`curves` has the numbers). Raises OSError as `curves`."""
    found: Lists = {}
    for line in _lines(path, MAX_BYTES):
        step, record = (_parsed(line) if b"[" in line else None) or (0, Record())  # most lines have none: they are not parsed
        for key, value in record.items():
            if "/" in key and isinstance(value, list):
                found.setdefault(key, []).append((step, [_number(one) for one in value if not isinstance(one, str)]))
    return found


def _lines(path: Path, most: int | None) -> Iterator[bytes]:
    """The whole lines of at most `MAX_LINE` bytes, without their ends."""
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
            else:  # the last line has no end: torn, or still being written
                yield line


def _parsed(line: bytes) -> tuple[int, Record] | None:
    try:
        record = _DECODER.decode(line)
    except (msgspec.DecodeError, ValueError, RecursionError):
        return None
    step = record.get("step")
    return (step, record) if isinstance(step, int) and 0 <= step < MAX_STEP else None


def _number(value: float | None) -> float:
    try:
        return math.nan if value is None else float(value)
    except OverflowError:  # a whole number beyond the range of floats
        return math.nan
