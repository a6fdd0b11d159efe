"""Which runs that are already there can be compared, and what their arms are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from bnexp.analysis.rows import (
    NORM,
    Row,
    budget_kind,
    budget_of,
    fingerprint_of,
    is_result,
    matters,
    norm_of,
    number,
    setting,
    until_target,
    varying,
)
from bnexp.base.errors import UsageError
from bnexp.config import KEYS
from bnexp.config.fields import show
from bnexp.norms import NO_NORM

DATA = tuple(f"data.{key}" for key in ("name", "subset", "split_seed", "val_fraction", "image_size"))
"""What the images are: all data keys but where they lie and how they are augmented."""
NAMED = 5
"""Runs that a sentence names before it says how many more there are."""
UNIQUE = frozenset(last for last, n in Counter(key.rpartition(".")[2] for key in KEYS).items() if n == 1)
"""Last parts of keys that mean one key only: `lr`, not `name`."""


@dataclass(frozen=True)
class Arms:
    """How `compare_arms` is to take the runs: `compare_arms(rows, arms.baseline, arm_of=arms.arm_of, treatment=arms.treatment)`."""

    treatment: tuple[str, ...]
    """The config keys that the arms differ in."""
    labels: tuple[str, ...]
    """Every arm's, in the order of the runs."""
    baseline: str

    @classmethod
    def stored(cls, arms: Any) -> Arms | None:
        """The arms that a group stored; None for anything else."""
        try:
            return cls(tuple(map(str, arms["treatment"])), tuple(map(str, arms["labels"])), str(arms["baseline"]))
        except (KeyError, TypeError):
            return None

    def arm_of(self, row: Row) -> str:
        """`batch`; `momentum=0.01`; `batch, placement=conv-norm-relu`. Keys that the run does not read are left out."""
        return label(row, self.treatment)


def arms_of(rows: Sequence[Row]) -> Arms:
    """The arms are the settings in which the runs differ, beside seed, learning rate and what changes no numbers. The baseline is the arm
    without a norm, where that is one, else the arm of the first run.

    Raises:
        UsageError: fewer than two runs; one without a result; other data, target, precision or budget (equal epochs of several batch
            sizes will do); nothing differs but seed and learning rate.
    """
    ids = list(dict.fromkeys(str(row["id"]) for row in rows))
    if len(ids) < 2:
        raise UsageError(f"A comparison needs at least two runs, and {f'{ids[0]} is one' if ids else 'there are none'}; name more.")
    _need_results(rows)
    for key in DATA:
        _need_equal(rows, key, partial(setting, key=f"config.{key}"), "compare runs on the same data")
    _need_equal(rows, "the content of the data", fingerprint_of, "compare runs on the same data", recorded=False)
    _need_equal(rows, "train.target", partial(setting, key="config.train.target"), "compare runs of one target")
    _need_equal(rows, "precision", partial(setting, key="config.precision"), "compare runs of one precision")
    _need_equal(rows, "train.until_target", until_target, "compare runs that all stop at the target, or none", recorded=False)
    if budget_kind(rows) == "unequal":
        known = None not in map(budget_of, rows)
        _need_equal(rows, "the budget", _steps if known else _asked, "compare runs of equal train.epochs or train.steps")
    treatment = tuple(varying(rows))
    if not treatment:
        raise UsageError(
            f"{_named(ids)} differ in nothing but seed and learning rate, so they are one arm; name runs of another setting too, "
            "for example of another model.norm."
        )
    labels = tuple(dict.fromkeys(label(row, treatment) for row in rows))
    bare = {label(row, treatment) for row in rows if norm_of(row) == NO_NORM} if NORM[0] in treatment else set()
    return Arms(treatment, labels, bare.pop() if len(bare) == 1 else labels[0])


def label(row: Row, treatment: Sequence[str]) -> str:
    """The norm by its name, first; other keys as `key=value` with the key's last part, or all of it where that is ambiguous."""
    parts = []
    for key in sorted(treatment, key=lambda key: (key not in NORM, key)):
        value, name = setting(row, key), key.removeprefix("config.")
        last = name.rpartition(".")[2]
        if key in NORM:
            parts.append(str(value))
        elif matters(row, key):
            parts.append(f"{last if last in UNIQUE else name}={show(value)}")
    return ", ".join(parts)


def _need_results(rows: Sequence[Row]) -> None:
    without = {str(row["id"]): str(row["status"]) for row in rows if not is_result(row)}
    if not without:
        return
    first, status = next(iter(without.items()))
    listed = _named([f"{run} ({status})" for run, status in without.items()])
    if status == "unreadable":
        what = "leave it out"
    elif status == "running":
        what = "wait for it, or leave it out"
    else:
        what = f"`bnexp resume {first}` may help, or leave it out"
    raise UsageError(f"{listed} {'has' if len(without) == 1 else 'have'} no result to compare; {what}.")


def _need_equal(rows: Sequence[Row], name: str, value: Callable[[Row], Any], what: str, *, recorded: bool = True) -> None:
    """Raises UsageError at the first run whose value is not the first one's. Without `recorded`, runs that do not say are passed over."""
    told = [(row, found) for row in rows if (found := value(row)) is not None or recorded]
    for row, found in told[1:]:
        first, expected = told[0]
        if found != expected:
            values = f"{show(expected)} in {first['id']} and {show(found)} in {row['id']}"
            raise UsageError(f"These runs cannot be compared: {name} is {values}; {what}.")


def _steps(row: Row) -> str:
    return f"{budget_of(row):,.0f} steps"


def _asked(row: Row) -> str:
    epochs = number(row, "config.train.epochs")
    return f"{number(row, 'config.train.steps') or 0:,.0f} steps" if epochs is None else f"{epochs:,.0f} epochs"


def _named(names: Sequence[str]) -> str:
    if len(names) > NAMED:
        return f"{', '.join(names[:NAMED])} and {len(names) - NAMED} more"
    return " and ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else names[0]
