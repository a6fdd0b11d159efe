"""What it takes to do it again: the commands, in what the configs differ, versions and machines."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from operator import attrgetter
from typing import Any

from bnexp.config import USED_WHEN, Config
from bnexp.config.fields import leaves, show
from bnexp.storage.facts import Environment
from bnexp.tables.table import Table

VERSIONS = ("bnexp", "python", "torch", "platform", "device", "threads")
LISTED = 8


def config_table(configs: Sequence[Config]) -> Table | None:
    """Every config key that is not the default in some run, with its values; None where all are."""
    found = []
    for key, default in leaves(Config()):
        used = [config for config in configs if key not in USED_WHEN or USED_WHEN[key](config)]
        values = _distinct(map(attrgetter(key), used))
        if key != "name" and values and values != [default]:
            found.append((key, _listed(values), show(default)))
    return Table(("key", "here", "default"), tuple(found)) if found else None


def environment_table(environments: Sequence[Environment]) -> Table:
    """Versions and machines that the runs were made with: several values where they differ."""
    found = []
    for name in VERSIONS:
        values = _distinct(getattr(environment, name) for environment in environments)
        found.append((name, _listed([value for value in values if value is not None]) or "not recorded"))
    return Table(("what", "of the runs"), tuple(found))


def commands(environments: Sequence[Environment]) -> list[str]:
    """The commands that trained the runs, each once; the first `LISTED`, and how many more there are."""
    found = [command for command in _distinct(environment.command for environment in environments) if command]
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
