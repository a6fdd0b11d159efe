"""What runs differ in: their config keys and their results."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bnexp.config import Config
from bnexp.config.fields import Value, leaves
from bnexp.storage.result import RunResult

UNSHOWN = (
    *("id", "seed", "config", "format", "checksum", "files", "written_at", "nonfinite"),
    *("stack.id", "environment.command", "test.correct"),
)
"""Keys of a result, or their groups, that differ between any two runs, or that nobody reads."""


def differing_config(configs: Sequence[Config]) -> dict[str, tuple[Value, ...]]:
    """The config keys, the name apart, that have several values, each with that of every config."""
    values = [dict(leaves(config)) for config in configs]
    columns = {key: tuple(one[key] for one in values) for key in values[0] if key != "name"}
    return {key: column for key, column in columns.items() if len(set(column)) > 1}


def differing_results(first: RunResult, second: RunResult) -> dict[str, tuple[Any, Any]]:
    """The keys of two results, and of what they were computed with, whose values differ: single numbers and words, no lists."""
    rows = first.row(), second.row()
    keys = [
        key
        for key in dict.fromkeys([*rows[0], *rows[1]])
        if not key.startswith(tuple(f"{name}." for name in UNSHOWN)) and key not in UNSHOWN
    ]
    pairs = {key: (rows[0].get(key), rows[1].get(key)) for key in keys}
    return {key: pair for key, pair in pairs.items() if pair[0] != pair[1] and not any(isinstance(value, list) for value in pair)}
