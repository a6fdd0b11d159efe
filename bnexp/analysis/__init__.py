"""What runs say together: rows, means with intervals, pairs by seed, steps and seconds to target, learning rates, arms, batch sizes, grids,
whether runs can be compared, and whether that is fair.

Everything takes flat rows (`bnexp.runs_folder`) and gives frozen dataclasses that `dataclasses.asdict` makes plain. No torch; scipy only
where it is needed. What counts as a result and what a diverged run scores: `rows`.
"""

from bnexp.analysis.audit import ArmFacts, Audit, Check, fairness_audit
from bnexp.analysis.batch_size import BatchCost, BatchSizeRow, BatchSizes, SmallBatchCost, by_batch_size, small_batch_cost
from bnexp.analysis.cells import Cells, GridCell, cells
from bnexp.analysis.comparable import Arms, arms_of
from bnexp.analysis.compare import ArmResult, Comparison, Matchup, Versus, compare_arms
from bnexp.analysis.pairs import Cell, Paired, cell, holm, paired, sign_flip_p
from bnexp.analysis.rates import BestLr, Factor, LrReach, LrScore, StableLr, largest_stable_lr, select_lr, stable_factor
from bnexp.analysis.rows import NORM, ArmOf, Row, norm_of, tidy, varying_keys
from bnexp.analysis.seconds import InSeconds, Seconds, StepCost, StepMs, seconds_to_target
from bnexp.analysis.target import Quartiles, Ratio, median_to_target, quartiles_to_target, ratio_to_target, survival
from bnexp.analysis.words import points

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
    "Factor",
    "GridCell",
    "InSeconds",
    "LrReach",
    "LrScore",
    "Matchup",
    "Paired",
    "Quartiles",
    "Ratio",
    "Row",
    "Seconds",
    "SmallBatchCost",
    "StableLr",
    "StepCost",
    "StepMs",
    "Versus",
    "arms_of",
    "by_batch_size",
    "cell",
    "cells",
    "compare_arms",
    "fairness_audit",
    "holm",
    "largest_stable_lr",
    "median_to_target",
    "norm_of",
    "paired",
    "points",
    "quartiles_to_target",
    "ratio_to_target",
    "seconds_to_target",
    "select_lr",
    "sign_flip_p",
    "small_batch_cost",
    "stable_factor",
    "survival",
    "tidy",
    "varying_keys",
]
