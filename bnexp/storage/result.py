"""`RunResult`: what a run says of itself, the one definition of summary.json, with the rules on what counts and what it scores.

- `finished` and `diverged` runs are results. `failed`, `interrupted` and `running` ones are not: they are counted as missing.
- A run that diverged, or that ended at chance, failed to train. Failures are counted as a rate (`analysis.failures`), and accuracies are
those of the runs that did train: a mean over accuracies and zeros describes neither.
- A diverged run's validation loss is infinite, and so are its steps to target, even if it passed the target before it diverged: training
  longer loses what was reached. A finished run without a finite validation loss counts with an infinite one.
- A finished run that misses the target has infinite steps to it.

A summary of an earlier version lacks keys: they are None. One of a later version has more: they are kept in `more` and written again.
"""

from __future__ import annotations

import functools
import math
from operator import attrgetter
from typing import Any

import msgspec
from msgspec import Struct

from bnexp.base.errors import UsageError, short
from bnexp.base.files import JsonObject, null_nonfinite
from bnexp.config import USED_WHEN, Config
from bnexp.storage import facts
from bnexp.storage.facts import MAX_NUMBER, Number, Status, Whole

DONE = ("finished", "diverged")
"""The statuses of a run that is not trained again."""
STATS = ("running", "precise", "batch")
"""The statistics that batch norm is evaluated with."""
AT_CHANCE = 3.0
"""Standard errors above chance up to which a run counts as untrained."""
Row = dict[str, str | int | float | bool | list[Any] | None]
"""The leaves of a result by their dotted keys: `id`, `test.running.accuracy`, `config.optim.lr`, ..."""
MAX_DEPTH = 8
"""Levels of what is under a key that is not known here. The known ones have three."""


class RunResult(Struct, frozen=True):
    """One run. A group that is None was not known when the summary was written; the keys in `OPTIONAL` are then left out of the file."""

    id: str
    """The name of its folder: its name, and 8 hex digits that hash its recipe."""
    status: Status
    """`finished` and `diverged` runs are results; the others are counted as missing."""
    seed: Whole
    """Of initialization, data order and augmentation."""
    config: Config
    """Every config key with its value."""
    budget: facts.Budget = facts.Budget()
    steps: Whole | None = None
    """Updates made."""
    epochs: Number | None = None
    """The same in passes over the training images."""
    diverged_at_step: Whole | None = None
    """The first update whose loss was not finite, or the evaluation at which weights, buffers or the validation loss were not."""
    parameters: Whole | None = None
    """Learnable parameters."""
    test: facts.ThreeWayScores = facts.ThreeWayScores()
    train: facts.TrainScores = facts.TrainScores()
    val: facts.Validation = facts.Validation()
    target: facts.Target = facts.Target()
    audit: facts.AuditFacts | None = None
    running_statistics: facts.RunningStatistics | None = None
    speed: facts.Speed = facts.Speed()
    data: facts.DataFacts | None = None
    stack: facts.StackFacts = facts.StackFacts()
    environment: facts.Environment | None = None
    written_at: str | None = None
    """UTC, ISO 8601."""
    files: dict[str, str] | None = None
    """SHA-256 of the files that hold the run's results beside its summary, by name."""
    error: str | None = None
    """Why a run failed, or was interrupted."""
    nonfinite: tuple[str, ...] | None = None
    """Slashed keys of numbers that were not finite and are None."""
    more: JsonObject | None = None
    """The keys that were read and are not known here, in their groups."""

    @classmethod
    def from_tree(cls, tree: JsonObject) -> RunResult:
        """The result that the object of a summary.json describes; raises ValueError where a key is missing, or holds what no run writes."""
        own, more = _split(tree, _known())
        try:
            return msgspec.convert({**own, "config": tree.get("config"), "more": more or None}, cls)
        except msgspec.ValidationError as error:
            what, _, where = str(error).partition(" - at `$.")
            raise ValueError(f"its {where.rstrip('`')} is wrong: {short(what)}" if where else short(what)) from None
        except UsageError as error:
            raise ValueError(f"its config is wrong: {str(error).rstrip('.')}") from None

    def tree(self) -> JsonObject:
        """The object of its summary.json: non-finite numbers are null, and their keys are under `nonfinite`."""
        own = {name: value for name, value in msgspec.to_builtins(self).items() if value is not None or name not in OPTIONAL}
        return null_nonfinite(_merged(own, own.pop("more", {})))

    def row(self) -> Row:
        return flatten(self.tree())

    @property
    def is_result(self) -> bool:
        return self.status in DONE

    @property
    def is_diverged(self) -> bool:
        return self.status == "diverged"

    @property
    def is_cold(self) -> bool:
        """Whether the initial (0, 1) still weighs in the running statistics, which those of a diverged run may: they are not read."""
        return not self.is_diverged and self.running_statistics is not None and self.running_statistics.warm is False

    @property
    def is_failure(self) -> bool:
        """Whether a result did not train: it diverged, or ended at chance, in training and in the test under all three statistics."""
        tested = [getattr(self.test, stats).accuracy for stats in STATS]
        return self.is_diverged or (self.is_at_chance and self._at_chance(tested, self.data.test if self.data else None))

    @property
    def is_at_chance(self) -> bool:
        """Whether a finished run has no more of its training images right than always naming the largest class would, beyond three
        standard errors of that share. Where the training accuracy is not recorded it is not known to be so."""
        return self.is_result and self._at_chance([self.train.accuracy], self.train.images)

    def _at_chance(self, scores: list[float | None], images: int | None) -> bool:
        """The share of the largest class is that of the test set; where it is not recorded, one over the classes."""
        classes, found = self.data.classes if self.data else None, [score for score in scores if score is not None]
        chance = self.test.chance or (1 / len(classes) if classes else None)
        if chance is None or not images or not found:
            return False
        return max(found) <= chance + AT_CHANCE * math.sqrt(chance * (1 - chance) / images)

    def accuracy(self, stats: str = "running") -> float | None:
        """Test accuracy in [0, 1] under `stats`; None for a run that failed to train, and where there is none."""
        found: float | None = getattr(self.test, stats).accuracy
        return found if self.is_result and not self.is_failure else None

    @property
    def val_accuracy(self) -> float | None:
        """Validation accuracy in [0, 1] at the end of training; None for a diverged run, and where there is none."""
        return self.val.accuracy if self.is_result and not self.is_diverged else None

    @property
    def val_loss(self) -> float:
        """Validation loss (nats an example) at the end of training: infinite for a diverged run and where it is not finite."""
        return math.inf if self.is_diverged or self.val.loss is None else self.val.loss

    @property
    def steps_to_target(self) -> float:
        """Updates until validation accuracy first reached the target: infinite for a miss and for a diverged run."""
        return math.inf if self.is_diverged or self.target.reached_step is None else self.target.reached_step

    @property
    def target_interval(self) -> tuple[float, float]:
        """(last update at which the target was not reached, first at which it was): the target was reached in between, evaluations being
        what they are. A miss: (its budget, infinity), as it would have needed more. Both the step where the one before is not recorded."""
        reached, before = self.steps_to_target, self.target.previous_step
        if math.isinf(reached):
            return self.budget_steps or 0.0, reached
        return (reached if before is None else min(before, reached)), reached

    @property
    def gap(self) -> float | None:
        """Generalization gap: training accuracy minus test accuracy (running statistics). None for a run that failed to train."""
        test = self.accuracy()
        return None if self.train.accuracy is None or test is None else self.train.accuracy - test

    @property
    def norm(self) -> str:
        return self.config.model.norm

    @property
    def lr(self) -> float:
        return self.config.optim.lr

    @property
    def batch_size(self) -> int:
        return self.config.train.batch_size

    @property
    def budget_steps(self) -> int | None:
        """Updates that the run was given: as recorded, else the config's number of steps; None where neither says."""
        return self.config.train.steps if self.budget.steps is None else self.budget.steps

    @property
    def until_target(self) -> bool:
        return self.config.train.until_target if self.budget.until_target is None else self.budget.until_target

    @property
    def fingerprint(self) -> str | None:
        return self.data.fingerprint if self.data else None

    def reads(self, key: str) -> bool:
        """Whether the run reads a config key: `config.model.bn_momentum` is not read without batch norm (`bnexp.config.USED_WHEN`)."""
        used = USED_WHEN.get(key.removeprefix("config."))
        return used is None or used(self.config)

    def setting(self, key: str) -> Any:
        """The value of a config key (`config.optim.lr`), hashable; None where the run does not read it."""
        return attrgetter(key)(self) if self.reads(key) else None


OPTIONAL = frozenset(("running_statistics", "written_at", "files", "error", "nonfinite", "more"))
"""Keys of a result that are in its file only where they are not None."""


@functools.cache
def _known() -> JsonObject:
    every = RunResult(
        *("", "running", 0, Config()),
        audit=facts.AuditFacts(),
        running_statistics=facts.RunningStatistics(),
        data=facts.DataFacts(),
        environment=facts.Environment(),
    )
    known: JsonObject = msgspec.to_builtins(every)
    return {name: value for name, value in known.items() if name != "more"}


def _split(tree: JsonObject, known: JsonObject, path: str = "") -> tuple[JsonObject, JsonObject]:
    """What `tree` holds, nulls apart, under the keys of `known`, and what under others, each in its groups."""
    own: JsonObject = {}
    more: JsonObject = {}
    for name, value in tree.items():
        if name not in known:
            _check(value, path + name)
            more[name] = value
        elif isinstance(value, dict) and isinstance(known[name], dict):
            own[name], inner = _split(value, known[name], f"{path}{name}.")
            if inner:
                more[name] = inner
        elif value is not None:
            own[name] = value
    return own, more


def _check(value: Any, name: str, depth: int = 0) -> None:
    """Raises ValueError where an unknown key holds what could not be computed with or printed."""
    if isinstance(value, (dict, list)):
        if depth == MAX_DEPTH:
            raise ValueError(f"its {short(name)} is nested too deeply")
        for part in value.values() if isinstance(value, dict) else value:
            _check(part, name, depth + 1)
    elif isinstance(value, (int, float)) and not -MAX_NUMBER <= value <= MAX_NUMBER:
        raise ValueError(f"its {short(name)} is too large a number")


def _merged(own: JsonObject, more: JsonObject) -> JsonObject:
    """`own` with the keys of `more` behind its own, group by group."""
    return {**own, **{name: _merged(own[name], value) if isinstance(own.get(name), dict) else value for name, value in more.items()}}


def flatten(tree: JsonObject, prefix: str = "") -> Row:
    found: Row = {}
    for key, value in tree.items():
        found |= flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return found
