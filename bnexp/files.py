"""Whole-file writes that are either there or not: temporary file, fsync, rename."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any


@contextmanager
def atomic_write(path: Path) -> Iterator[IO[bytes]]:
    """A binary file that appears at `path` complete or not at all; what was there before stays until then."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_json(path: Path, value: Any) -> None:
    """`value` as indented JSON, atomically."""
    with atomic_write(path) as file:
        file.write(dump_json(value).encode() + b"\n")


def dump_json(value: Any) -> str:
    """Indented JSON with rows of numbers on one line each, so that a confusion matrix reads as one."""

    def dump(item: Any, indent: str) -> str:
        inner = indent + "  "
        if isinstance(item, dict) and item:
            rows = [f"{inner}{json.dumps(key)}: {dump(part, inner)}" for key, part in item.items()]
        elif isinstance(item, list) and any(isinstance(part, (dict, list)) for part in item):
            rows = [inner + dump(part, inner) for part in item]
        else:
            return json.dumps(item, ensure_ascii=False, allow_nan=False)
        start, end = "{}" if isinstance(item, dict) else "[]"
        return f"{start}\n" + ",\n".join(rows) + f"\n{indent}{end}"

    return dump(value, "")


def finite(tree: dict[str, Any]) -> dict[str, Any]:
    """`tree` with every non-finite number as null, and their slashed keys in a list under `nonfinite` where there are any."""
    lost: list[str] = []

    def clean(value: Any, key: str) -> Any:
        if isinstance(value, dict):
            return {name: clean(part, f"{key}/{name}" if key else name) for name, part in value.items()}
        if isinstance(value, (list, tuple)):
            return [clean(part, f"{key}/{index}") for index, part in enumerate(value)]
        if isinstance(value, float) and not math.isfinite(value):
            lost.append(key)
            return None
        return value

    cleaned: dict[str, Any] = clean(tree, "")
    return {**cleaned, "nonfinite": lost} if lost else cleaned
