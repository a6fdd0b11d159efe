"""What it takes to do it again: the commands, in what the configs differ, versions and machines."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from bnexp.analysis import Row
from bnexp.analysis.rows import DEFAULTS, matters
from bnexp.config.fields import show
from bnexp.report.content import Table

SAME = frozenset(("config.name", "config.data.fingerprint"))
VERSIONS = ("bnexp", "python", "torch", "platform", "device", "threads")
LISTED = 8


def config_table(rows: Sequence[Row]) -> Table | None:
    """Every config key that is not the default in some run, with its values; None where all are."""
    found = []
    for key, default in DEFAULTS.items():
        if key in SAME:
            continue
        values = _distinct(row[key] for row in rows if key in row and matters(row, key))
        default = list(default) if isinstance(default, tuple) else default
        if values and values != [default]:
            found.append((key.removeprefix("config."), _listed(values), show(default)))
    return Table(("key", "here", "default"), tuple(found)) if found else None


def environment_table(rows: Sequence[Row]) -> Table:
    """Versions and machines that the runs were made with: several values where they differ."""
    found = []
    for name in VERSIONS:
        values = _distinct(row.get(f"environment.{name}") for row in rows)
        found.append((name, _listed([value for value in values if value is not None]) or "not recorded"))
    return Table(("what", "of the runs"), tuple(found))


def commands(rows: Sequence[Row]) -> list[str]:
    """The commands that trained the runs, each once; the first `LISTED`, and how many more there are."""
    found = [str(value) for value in _distinct(row.get("environment.command") for row in rows) if value]
    return found[:LISTED] + ([f"... and {len(found) - LISTED} more"] if len(found) > LISTED else [])


def _distinct(values: Any) -> list[Any]:
    found: list[Any] = []
    for value in values:
        if value not in found:
            found.append(value)
    return found


def _listed(values: Sequence[Any]) -> str:
    with suppress(TypeError):  # of several kinds
        values = sorted(values)
    texts = [show(value) for value in values]
    return ", ".join(texts[:LISTED]) + (f", ... ({len(texts)} in all)" if len(texts) > LISTED else "")
