"""What runs say together, as frozen dataclasses (`results`) that a `Study` holds; no torch, and scipy only where it is needed.

What one run's result counts as (a diverged run, a missed target) is said by `RunResult` (`bnexp.storage.result`); statistics over several
start there.
"""

from bnexp.analysis.aggregate import aggregate, grid
from bnexp.analysis.arms import Arms
from bnexp.analysis.audit import fairness_audit
from bnexp.analysis.batch_size import by_batch_size, small_batch_cost
from bnexp.analysis.comparable import arms_of
from bnexp.analysis.compare import compare_arms
from bnexp.analysis.failures import FailureRate, FailureTest, compare_failures, failure_rate
from bnexp.analysis.grouping import NORM, ArmOf, norm_of, to_table, varying_keys
from bnexp.analysis.images import crossed
from bnexp.analysis.pairs import Equivalence, Estimate, Paired, Tested, detectable, equivalence, estimate, holm, paired, with_holm
from bnexp.analysis.part import Part, Study, Tried
from bnexp.analysis.rates import BestLr, LrReach, LrScore, StableLr, largest_stable_lr, select_lr, stable_factor
from bnexp.analysis.results import (
    Aggregate,
    ArmFacts,
    Audit,
    BatchCost,
    Check,
    Comparison,
    Grid,
    InSeconds,
    Matchup,
    Seconds,
    SmallBatchCost,
    StepCost,
    StepMs,
    StepTime,
    Versus,
)
from bnexp.analysis.seconds import seconds_to_target, step_cost
from bnexp.analysis.study import analyse, to_json, with_step_times
from bnexp.analysis.target import Quartiles, Ratio, quartiles_to_target, ratio_to_target, survival, turnbull
from bnexp.analysis.tuning import Tuned, tune
from bnexp.storage.result import RunResult

__all__ = [
    "NORM",
    "Aggregate",
    "ArmFacts",
    "ArmOf",
    "Arms",
    "Audit",
    "BatchCost",
    "BestLr",
    "Check",
    "Comparison",
    "Equivalence",
    "Estimate",
    "FailureRate",
    "FailureTest",
    "Grid",
    "InSeconds",
    "LrReach",
    "LrScore",
    "Matchup",
    "Paired",
    "Part",
    "Quartiles",
    "Ratio",
    "RunResult",
    "Seconds",
    "SmallBatchCost",
    "StableLr",
    "StepCost",
    "StepMs",
    "StepTime",
    "Study",
    "Tested",
    "Tried",
    "Tuned",
    "Versus",
    "aggregate",
    "analyse",
    "arms_of",
    "by_batch_size",
    "compare_arms",
    "compare_failures",
    "crossed",
    "detectable",
    "equivalence",
    "estimate",
    "failure_rate",
    "fairness_audit",
    "grid",
    "holm",
    "largest_stable_lr",
    "norm_of",
    "paired",
    "quartiles_to_target",
    "ratio_to_target",
    "seconds_to_target",
    "select_lr",
    "small_batch_cost",
    "stable_factor",
    "step_cost",
    "survival",
    "to_json",
    "to_table",
    "tune",
    "turnbull",
    "varying_keys",
    "with_holm",
    "with_step_times",
]
