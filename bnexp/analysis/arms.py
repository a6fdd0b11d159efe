"""The arms of a comparison: how a run's arm is named, and which arm is the baseline."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from bnexp.analysis.grouping import NORM, ArmOf
from bnexp.base.errors import UsageError, did_you_mean, one_of
from bnexp.config import KEYS
from bnexp.config.fields import show
from bnexp.storage.result import RunResult

UNIQUE = frozenset(last for last, n in Counter(key.rpartition(".")[2] for key in KEYS).items() if n == 1)
"""Last parts of keys that mean one key only: `lr`, not `name`."""


@dataclass(frozen=True)
class Arms:
    """How `compare_arms` is to take the runs: `compare_arms(runs, arms.baseline, arm_of=arms.arm_of, treatment=arms.treatment)`."""

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

    def arm_of(self, run: RunResult) -> str:
        """`batch`; `momentum=0.01`; `batch, placement=conv-norm-relu`. Keys that the run does not read are left out."""
        return arm_label(run, self.treatment)


def arm_label(run: RunResult, treatment: Sequence[str]) -> str:
    """The norm by its name, first; other keys as `key=value` with the key's last part, or all of it where that is ambiguous."""
    parts = []
    for key in sorted(treatment, key=lambda key: (key not in NORM, key)):
        value = run.setting(key)
        if key in NORM:
            parts.append(str(value))
        elif run.reads(key):
            parts.append(f"{short_key(key)}={show(value)}")
    return ", ".join(parts)


def short_key(key: str) -> str:
    """The last part of a config key, `lr`, or all of it where that is ambiguous, `model.name`."""
    name = key.removeprefix("config.")
    last = name.rpartition(".")[2]
    return last if last in UNIQUE else name


def arm_names(runs: Sequence[RunResult], baseline_arm: str, arms: Sequence[str] | None, arm_of: ArmOf) -> list[str]:
    """The baseline, then the others as they were asked for; without `arms` all that have runs.

    Raises:
        UsageError: an arm has no runs.
    """
    there = sorted({arm_of(run) for run in runs})
    names = list(dict.fromkeys([baseline_arm, *(there if arms is None else arms)]))
    for arm in names:
        if arm not in there:
            choices = f"there are {one_of(there)}" if there else "there are no runs"
            raise UsageError(f"No run belongs to the arm '{arm}'; {choices}.{did_you_mean(arm, there)}")
    return names
