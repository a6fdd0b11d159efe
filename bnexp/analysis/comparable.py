"""Which runs that are already there can be compared, and what their arms are."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from operator import attrgetter, methodcaller
from typing import Any

from bnexp.analysis.arms import Arms, arm_label
from bnexp.analysis.grouping import NORM, budget_kind, varying
from bnexp.base.errors import UsageError
from bnexp.config.fields import show
from bnexp.norms import NO_NORM
from bnexp.storage.result import RunResult

DATA = tuple(f"data.{key}" for key in ("name", "subset", "split_seed", "val_fraction", "image_size"))
"""What the images are: all data keys but where they lie and how they are augmented."""
NAMED = 5
"""Runs that a sentence names before it says how many more there are."""


def arms_of(runs: Sequence[RunResult], unreadable: Sequence[str] = ()) -> Arms:
    """The arms are the settings in which the runs differ, beside seed, learning rate and what changes no numbers. The baseline is the arm
    without a norm, where that is one, else the arm of the first run.

    Args:
        unreadable: the ids of runs that were named and cannot be read.

    Raises:
        UsageError: fewer than two runs; one without a result; other data, target, precision or budget (equal epochs of several batch
            sizes will do); nothing differs but seed and learning rate.
    """
    ids = list(dict.fromkeys([*(run.id for run in runs), *unreadable]))
    if len(ids) < 2:
        raise UsageError(f"A comparison needs at least two runs, and {f'{ids[0]} is one' if ids else 'there are none'}; name more.")
    _need_results({run.id: run.status for run in runs if not run.is_result} | dict.fromkeys(unreadable, "unreadable"))
    for key in DATA:
        _need_equal(runs, key, methodcaller("setting", f"config.{key}"), "compare runs on the same data")
    _need_equal(runs, "the content of the data", attrgetter("fingerprint"), "compare runs on the same data", recorded=False)
    _need_equal(runs, "train.target", attrgetter("config.train.target"), "compare runs of one target")
    _need_equal(runs, "precision", attrgetter("config.precision"), "compare runs of one precision")
    _need_equal(runs, "train.until_target", attrgetter("until_target"), "compare runs that all stop at the target, or none")
    if budget_kind(runs) == "unequal":
        known = None not in (run.budget_steps for run in runs)
        _need_equal(runs, "the budget", _steps if known else _asked, "compare runs of equal train.epochs or train.steps")
    treatment = tuple(varying(runs))
    if not treatment:
        raise UsageError(
            f"{_named(ids)} differ in nothing but seed and learning rate, so they are one arm; name runs of another setting too, "
            "for example of another model.norm."
        )
    labels = tuple(dict.fromkeys(arm_label(run, treatment) for run in runs))
    bare = {arm_label(run, treatment) for run in runs if run.norm == NO_NORM} if NORM[0] in treatment else set()
    return Arms(treatment, labels, bare.pop() if len(bare) == 1 else labels[0])


def _need_results(without: Mapping[str, str]) -> None:
    """Raises UsageError where there are runs `without` a result: their status by their id."""
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


def _need_equal(runs: Sequence[RunResult], name: str, value: Callable[[RunResult], Any], what: str, *, recorded: bool = True) -> None:
    """Raises UsageError at the first run whose value is not the first one's. Without `recorded`, runs that do not say are passed over."""
    known = [(run, found) for run in runs if (found := value(run)) is not None or recorded]
    for run, found in known[1:]:
        first, expected = known[0]
        if found != expected:
            values = f"{show(expected)} in {first.id} and {show(found)} in {run.id}"
            raise UsageError(f"These runs cannot be compared: {name} is {values}; {what}.")


def _steps(run: RunResult) -> str:
    return f"{run.budget_steps:,} steps"


def _asked(run: RunResult) -> str:
    budget = run.config.train
    return f"{budget.steps or 0:,} steps" if budget.epochs is None else f"{budget.epochs:,} epochs"


def _named(names: Sequence[str]) -> str:
    if len(names) > NAMED:
        return f"{', '.join(names[:NAMED])} and {len(names) - NAMED} more"
    return " and ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else names[0]
