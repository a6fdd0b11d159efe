"""What runs and means are called in TensorBoard: `runs/with BN/batch-bs32-lr0.1-s0-1234abcd`, `means/with BN, lr 0.1 (5 seeds)`.

The arm stands at one place in every name, so that one regular expression gives all that belongs to an arm one colour.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from bnexp.base.errors import DataError
from bnexp.norms import NORMS
from bnexp.storage.run import Run

MEANS, RUNS = "means/", "runs/"
ARM = r"^(?:means|runs)/([^,/(]+[^ ,/(])"
"""Its one group is the arm, in a run's name and in a mean's."""
WORDS = {"bs": "batch size", "lr": "lr"}


def run_name(run: Run) -> str:
    return f"{RUNS}{label(_norm(run))}/{run.id}{' (new)' if run.fresh else ''}"


def mean_names(folders: Iterable[Path]) -> dict[str, Path]:
    """The means' names, and their folders, which are called `batch-bs32-lr0.1-mean5` in a folder a group. A name leaves out what all means
    of its group share; where two groups have a mean of one name, the group follows."""
    groups: dict[Path, list[Path]] = {}
    for folder in folders:
        groups.setdefault(folder.parent, []).append(folder)
    named: dict[str, list[Path]] = {}
    for members in groups.values():
        parts = {folder: _parts(folder.name.rpartition("-mean")[0]) for folder in members}
        shared = set.intersection(*(set(own[1:]) for own in parts.values()))
        for folder, (first, *more) in parts.items():
            settings = [re.sub(r"^([a-z_]+?)(\d.*)$", _setting, part) for part in more if part not in shared]
            seeds = folder.name.rpartition("-mean")[2]
            named.setdefault(f"{MEANS}{', '.join([label(first), *settings])} ({seeds} seeds)", []).append(folder)
    return {name if len(alike) == 1 else f"{name} of {folder.parent.name}": folder for name, alike in named.items() for folder in alike}


def arm_of(name: str) -> str:
    """The norm of a run's or mean's name, or what stands in its place."""
    found = re.match(ARM, name)
    arm = found[1] if found else name
    return next((key for key, norm in NORMS.items() if norm.label == arm), arm)


def in_order(names: Iterable[str]) -> list[str]:
    """Means before runs, the arms in the order in which norms are declared."""
    rank: Mapping[str, int] = {key: place for place, key in enumerate(NORMS)}
    return sorted(names, key=lambda name: (not name.startswith(MEANS), rank.get(arm_of(name), len(rank)), name))


def arms(names: Iterable[str]) -> list[str]:
    """The arms of these names, in the order in which TensorBoard meets them in `in_order`."""
    return list(dict.fromkeys(map(arm_of, in_order(names))))


def label(norm: str) -> str:
    """The norm as people read it; what is no norm as it is."""
    return NORMS[norm].label if norm in NORMS else norm


def _parts(name: str) -> list[str]:
    """`batch-bs32-lr1e-05` in its parts, the norm first: where a run has a name of its own, the norm is a part that begins with `norm`."""
    parts = re.split(r"-(?=[a-z])", name)
    norm = next((part for part in parts[1:] if part.removeprefix("norm") in NORMS), None)
    return [norm.removeprefix("norm"), *(part for part in parts if part != norm)] if norm and parts[0] not in NORMS else parts


def _setting(found: re.Match[str]) -> str:
    return f"{WORDS.get(found[1], found[1])} {found[2]}"


def _norm(run: Run) -> str:
    named = re.match(rf"({'|'.join(NORMS)})-bs\d", run.id)  # as runs are called that have no name of their own
    return named[1] if named else _configured(run)


@functools.cache
def _configured(run: Run) -> str:
    try:
        return run.config().model.norm
    except DataError:
        return "unknown arm"
