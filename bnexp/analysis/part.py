"""A study (`Study`), which is computed once (`study.py`) and then stored and rendered, and its parts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from operator import attrgetter
from typing import Any

from bnexp.analysis.arms import Arms
from bnexp.analysis.rates import BestLr, StableLr
from bnexp.analysis.results import Aggregate, Audit, Comparison, Grid, Seconds, SmallBatchCost, StepTime
from bnexp.base.quoting import slug
from bnexp.storage.result import RunResult
from bnexp.storage.run import Run


@dataclass(frozen=True)
class Tried:
    """An arm at one batch size: its best learning rate, which rates are stable, and its runs at each."""

    best: BestLr
    stable: StableLr
    by_lr: tuple[Aggregate, ...]


@dataclass(frozen=True)
class Part:
    """Runs that can be compared, and what they say: one data set, one budget, one setting but for arms, learning rates, batch sizes, seeds.
    A part that has nothing but a `grid` is an overview of settings that arms could not keep apart."""

    name: str
    """The budget that was asked for, in words; may be empty."""
    setting: Mapping[str, Any]
    """Config keys (without `config.`) that other parts have other values of."""
    arms: Arms
    """In the order of tables and drawings, the baseline last."""
    runs: tuple[RunResult, ...]
    comparison: Comparison | None = None
    by_size: tuple[Comparison, ...] = ()
    """One comparison a batch size; where the baseline has no runs, one for each arm alone."""
    small_batches: tuple[SmallBatchCost, ...] = ()
    grid: Grid | None = None
    tried: Mapping[tuple[str, int], Tried] | None = None
    """By arm and batch size."""
    audit: Audit | None = None
    step_times: Mapping[str, StepTime] | None = None
    seconds: Seconds | None = None
    question: str = ""
    answer: tuple[str, ...] = ()
    """What changes, in short sentences (`answer.py`)."""
    answers: tuple[str, ...] = ()
    """The same with the tests that decide it (`sentences.py`)."""
    notes: tuple[str, ...] = ()
    """What makes the answers weaker than they look."""

    @cached_property
    def batch_sizes(self) -> list[int]:
        return sorted({run.batch_size for run in self.runs})

    @cached_property
    def best_lr(self) -> dict[tuple[str, int], float]:
        """The learning rate with the lowest validation loss, by arm and batch size; not there without results."""
        return {key: found.best.lr for key, found in (self.tried or {}).items() if found.best.lr is not None}

    @cached_property
    def focus(self) -> int:
        """The batch size whose runs are shown where only one is: the middle one of those at which most arms have results."""
        having = {size: sum((arm, size) in self.best_lr for arm in self.arms.labels) for size in self.batch_sizes}
        most = [size for size in self.batch_sizes if having[size] == max(having.values())]
        return most[len(most) // 2]

    @property
    def target(self) -> float | None:
        """The validation accuracy that the runs were to reach, where all had the same."""
        targets = {run.target.accuracy for run in self.runs}
        return targets.pop() if len(targets) == 1 else None

    def of(self, arm: str, batch_size: int | None = None, lr: float | None = None) -> list[RunResult]:
        """The arm's runs, at one batch size or learning rate where these are given."""
        own = [run for run in self.runs if self.arms.arm_of(run) == arm and batch_size in (None, run.batch_size)]
        return [run for run in own if lr in (None, run.lr)]

    def results(self, arm: str, batch_size: int | None = None, lr: float | None = None) -> list[RunResult]:
        """Those of `of` that are results."""
        return [run for run in self.of(arm, batch_size, lr) if run.is_result]

    def drawn(self, arm: str, batch_size: int | None = None, lr: float | None = None) -> list[RunResult]:
        """The runs that a curve shows, by seed: those that the tables count, and where there is no result, the runs that there are."""
        return sorted(self.results(arm, batch_size, lr) or self.of(arm, batch_size, lr), key=attrgetter("seed"))

    def at_best(self, arm: str, batch_size: int) -> list[RunResult]:
        """The arm's results at a batch size, at the learning rate with the lowest mean validation loss."""
        return self.results(arm, batch_size, self.best_lr.get((arm, batch_size)))

    def budget(self, batch_size: int | None = None) -> float:
        """The longest budget of the results, in steps, at one batch size where it is given; 0 without results."""
        own = [run for run in self.runs if run.is_result and batch_size in (None, run.batch_size)]
        return max((run.budget_steps or 0.0 for run in own), default=0.0)


@dataclass(frozen=True)
class Study:
    """An answered question. Its parts stand in the order that they were asked for."""

    kind: str
    """What was asked for: `compare`, `sweep lr`, ..., or `report`."""
    title: str
    command: str
    """The command line that asked for it."""
    runs: tuple[Run, ...]
    results: Mapping[str, RunResult]
    """By the run's id, of the runs that can be read."""
    parts: tuple[Part, ...]

    @property
    def name(self) -> str:
        """What the folder of its page begins with: `compare-digits-bn-vs-none`, `sweep-lr-digits`."""
        data = sorted({result.config.data.name for result in self.results.values()})
        texts = [self.kind, "-".join(data) if len(data) < 3 else f"{len(data)} data sets"]
        if self.kind == "compare":
            arms = [slug({"batch": "bn"}.get(arm, arm), "-") for arm in self.parts[0].arms.labels]
            texts.append(" vs ".join(arms) if len(arms) < 4 else f"{len(arms)} arms")
        return "-".join(slug(text, "-") for text in texts)
