"""What the analysis finds of runs, as frozen dataclasses, from one setting's runs (`Aggregate`) to arms against a baseline (`Comparison`).
Accuracies are shares, steps are updates, losses are nats an example, times are ms or s as named. `part.py` holds them together.

Single estimates and tests (`Estimate`, `Paired`, `Ratio`, `FailureRate`, ...) are defined beside the functions that compute them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from bnexp.analysis.failures import FailureRate, FailureTest
from bnexp.analysis.pairs import Equivalence, Estimate, Paired
from bnexp.analysis.rates import BestLr, StableLr
from bnexp.analysis.target import Quartiles, Ratio

StepMs = tuple[float, ...]
"""The median step of each turn, in ms; turn i of every arm was measured beside that of the others."""


@dataclass(frozen=True)
class Aggregate:
    """The runs of one setting over their seeds: an arm tuned (`lr` None), an arm at one learning rate, or a cell of a grid."""

    n: int
    n_missing: int
    """Runs that failed to run, were interrupted or are still running: no results."""
    failures: FailureRate
    accuracy: dict[str, Estimate]
    """Test accuracy by statistics (running, precise, batch) of the runs that trained."""
    val_loss: Estimate
    """Infinite as soon as one run diverged."""
    steps: Quartiles
    """Steps to target; of a tuned arm each seed at its fastest learning rate."""
    gap: Estimate
    """Generalization gap of the runs that trained: training minus test accuracy."""
    parameters: int | None
    ema_warm: bool
    """Every finished run's running statistics have forgotten their initial (0, 1)."""
    arm: str = ""
    lr: float | None = None
    picked: dict[float, int] = field(default_factory=dict)
    """Of a tuned arm: how many seeds chose each learning rate by their own validation loss."""
    fastest: dict[float, int] = field(default_factory=dict)
    """Of a tuned arm: how many seeds reached the target first at each learning rate."""
    values: tuple[Any, ...] = ()
    """Of a cell: the values of the grid's `keys`; None where the runs do not read the key (or its value is null)."""


@dataclass(frozen=True)
class Grid:
    """`keys` are config keys; the cells are sorted by their values, numbers as numbers."""

    keys: tuple[str, ...]
    cells: tuple[Aggregate, ...]


@dataclass(frozen=True)
class Versus:
    """An arm against the baseline, seed by seed."""

    arm: str
    baseline: str
    accuracy: dict[str, Paired]
    """Test accuracy, arm minus baseline, by statistics, over the seeds at which both trained."""
    over_images: Paired | None
    """The difference under running statistics with the test images' sampling error in its interval; None where it is not known."""
    failures: FailureTest
    speedup: Ratio
    """Steps to target of the baseline over those of the arm: above 1 the arm is faster."""
    gap: Paired
    equivalence: Equivalence | None = None
    """Of `headline`, where a margin was stated."""

    @property
    def headline(self) -> Paired:
        """The accuracy difference that the primary question is answered by."""
        return self.over_images or self.accuracy["running"]


@dataclass(frozen=True)
class Matchup:
    """The arms side by side: `tuned`, each seed at its own learning rate, or `same-lr`, all at `lr`."""

    kind: str
    lr: float | None
    arms: dict[str, Aggregate]
    versus: dict[str, Versus]


@dataclass(frozen=True)
class Comparison:
    """Arms against a baseline. Infinities are left in it."""

    baseline: str
    arms: tuple[str, ...]
    """The baseline first."""
    batch_sizes: tuple[int, ...]
    best_lr: dict[str, BestLr]
    headline: Matchup
    same_lr: tuple[Matchup, ...]
    """At each learning rate that all arms were tried with; described, not tested."""
    stable_lr: dict[str, StableLr]
    stable_factor: dict[str, Ratio]
    """Largest stable learning rate of each arm over the baseline's."""
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class BatchCost:
    """Test accuracy of one batch size minus that of the reference, by seed: below 0 the small batch costs. `kind` as in `Matchup`."""

    batch_size: int
    kind: str
    lr: float | None
    pairs: Paired
    failures: FailureTest


@dataclass(frozen=True)
class SmallBatchCost:
    """What small batches cost an arm under one kind of statistics; `sentences.small_batches` says it in two sentences."""

    arm: str
    stats: str
    reference: int | None
    costs: tuple[BatchCost, ...]
    same_lr: float | None
    """The learning rate that is best for the reference by mean validation loss."""
    absent: tuple[int, ...]  # batch sizes without a result at `same_lr`
    stopped: bool  # runs stopped at their target, so that final accuracies are those of unequal budgets
    warnings: tuple[str, ...]

    def of(self, kind: str) -> list[BatchCost]:
        """The costs `tuned`, or at `same_lr`."""
        return [cost for cost in self.costs if cost.kind == kind]


@dataclass(frozen=True)
class StepTime:
    """Milliseconds of one arm's training step: the median and quartiles of the whole, and the median of each part.

    Forward includes the batch (small ones are made several at a time, and the median step finds its own made: see `Batches`), the learning
    rate and the loss; backward is autograd alone; the optimizer's part includes the step's bookkeeping. The parts are None where a CUDA
    graph makes the whole step. On CUDA the device is waited for after each part, so that a step here is longer than one of a training.
    """

    median_ms: float
    low_ms: float
    high_ms: float
    forward_ms: float | None
    backward_ms: float | None
    optimizer_ms: float | None
    steps: int
    threads: int
    device: str
    turns_ms: StepMs


@dataclass(frozen=True)
class StepCost:
    """An arm's step time over the baseline's: the geometric mean of the turns' ratios, with a 95 % interval over turns."""

    factor: float
    low: float
    high: float
    turns: int

    @property
    def shown(self) -> bool:
        """Whether the interval excludes equal times."""
        return self.low > 1 or self.high < 1


@dataclass(frozen=True)
class InSeconds:
    """An arm against the baseline."""

    arm: str
    baseline: str
    step_cost: StepCost
    seconds: Ratio
    """Seconds to target of the baseline over those of the arm: above 1 the arm is faster."""


@dataclass(frozen=True)
class Seconds:
    """Seconds to target, each seed at its fastest learning rate."""

    baseline: str
    step_ms: dict[str, float]
    """Median over the turns."""
    to_target: dict[str, Quartiles]
    """Seconds of training, infinite where the run missed the target."""
    versus: dict[str, InSeconds]


@dataclass(frozen=True)
class Check:
    """One condition of a fair comparison. `passed` is None where it cannot be checked, because a run did not record it."""

    name: str
    passed: bool | None
    detail: str


@dataclass(frozen=True)
class ArmFacts:
    """What was counted of one arm. None: not recorded, or not the same in all its runs."""

    arm: str
    parameters: int | None
    weights: int | None
    biases: int | None
    norm_parameters: int | None
    n_lrs: int  # with a result
    n_runs: int
    n_results: int
    n_seeds: int  # with a result


@dataclass(frozen=True)
class Audit:
    """What `fairness_audit` found; the baseline's facts come first."""

    baseline: str
    arms: tuple[ArmFacts, ...]
    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool | None:
        """False: a check failed. None: none failed, but some cannot be checked. True: all passed."""
        found = {check.passed for check in self.checks}
        return False if False in found else None if None in found else True
