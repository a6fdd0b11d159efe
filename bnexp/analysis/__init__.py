"""What runs say together: rows, means with intervals, pairs by seed, steps and seconds to target, learning rates, arms, batch sizes, grids,
whether runs can be compared, and whether that is fair.

Everything takes flat rows (`bnexp.storage.folder`) and gives frozen dataclasses that `dataclasses.asdict` makes plain. No torch; scipy only
where it is needed. What counts as a result and what a diverged run scores: `rows`.
"""

from bnexp.analysis import sentences as sentences
from bnexp.analysis.audit import ArmFacts, Audit, Check, fairness_audit
from bnexp.analysis.batch_size import BatchCost, BatchSizeRow, BatchSizes, SmallBatchCost, by_batch_size, small_batch_cost
from bnexp.analysis.cells import Cells, GridCell, cells
from bnexp.analysis.comparable import Arms, arms_of
from bnexp.analysis.compare import ArmResult, Comparison, Matchup, Versus, compare_arms
from bnexp.analysis.failures import FailureRate, FailureTest, compare_failures, failure_rate
from bnexp.analysis.grouping import NORM, ArmOf, norm_of, to_table, varying_keys
from bnexp.analysis.images import crossed
from bnexp.analysis.pairs import Cell, Equivalence, Paired, Tested, cell, detectable, equivalence, holm, paired, with_holm
from bnexp.analysis.rates import BestLr, LrReach, LrScore, StableLr, largest_stable_lr, select_lr, stable_factor
from bnexp.analysis.seconds import InSeconds, Seconds, StepCost, StepMs, seconds_to_target, step_cost
from bnexp.analysis.sentences import points
from bnexp.analysis.target import Quartiles, Ratio, quartiles_to_target, ratio_to_target, survival, turnbull
from bnexp.analysis.tuning import Tuned, tune
from bnexp.storage.result import RunResult

__all__ = [
    "NORM",
    "ArmFacts",
    "ArmOf",
    "ArmResult",
    "Arms",
    "Audit",
    "BatchCost",
    "BatchSizeRow",
    "BatchSizes",
    "BestLr",
    "Cell",
    "Cells",
    "Check",
    "Comparison",
    "Equivalence",
    "FailureRate",
    "FailureTest",
    "GridCell",
    "InSeconds",
    "LrReach",
    "LrScore",
    "Matchup",
    "Paired",
    "Quartiles",
    "Ratio",
    "RunResult",
    "Seconds",
    "SmallBatchCost",
    "StableLr",
    "StepCost",
    "StepMs",
    "Tested",
    "Tuned",
    "Versus",
    "arms_of",
    "by_batch_size",
    "cell",
    "cells",
    "compare_arms",
    "compare_failures",
    "crossed",
    "detectable",
    "equivalence",
    "failure_rate",
    "fairness_audit",
    "holm",
    "largest_stable_lr",
    "norm_of",
    "paired",
    "points",
    "quartiles_to_target",
    "ratio_to_target",
    "seconds_to_target",
    "select_lr",
    "small_batch_cost",
    "stable_factor",
    "step_cost",
    "survival",
    "to_table",
    "tune",
    "turnbull",
    "varying_keys",
    "with_holm",
]
