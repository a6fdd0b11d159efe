"""Filters of a list of runs: overrides (`optim.lr=0.1,0.3`) read as the values that a run's config may have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bnexp.base.errors import UsageError, short
from bnexp.config import KEYS
from bnexp.config.fields import Value, checked
from bnexp.config.group_files import GROUPS
from bnexp.config.overrides import check, echo, parse, single_values

CHOSEN_BY = {"data": "data.name", "model": "model.name", "optim": "optim.name"}
"""The key that says which file of a group a config was made of. Other groups (metrics, experiment) leave no name in it."""
EXAMPLE = {"metrics": "metrics.gradients=true"}


def wanted(filters: Sequence[str]) -> Mapping[str, tuple[Value, ...]]:
    """The values that each config key may have, as overrides say them, comma lists and range() included. The last one of a key counts.

    Raises:
        UsageError: one cannot be read, or names no key, or no value that the key can have.
    """
    found: dict[str, tuple[Value, ...]] = {}
    for override in parse(filters):
        check(override, None)
        name = override.key_or_group
        if name in GROUPS and name not in CHOSEN_BY:
            example = EXAMPLE.get(name, "optim.lr=0.1")
            raise UsageError(f"'{echo(override)}' sets several keys, and runs are filtered by single ones, as in {short(example)}.")
        key = CHOSEN_BY.get(name, name)
        singles = single_values(override)
        for single in singles:
            check(single, None)
        found[key] = tuple(checked(key, single.value(), KEYS[key]) for single in singles)
    return found
