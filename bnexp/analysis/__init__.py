"""What runs say together: rows, means with intervals, pairs by seed, steps to target, learning rates, arms, batch sizes.

Everything takes the flat rows of `bnexp.run.rows` and gives frozen dataclasses that `dataclasses.asdict` makes plain. No torch, and scipy
only where it is needed. What counts as a result and what a diverged run scores: `rows`.
"""

from bnexp.analysis.batch_size import BatchCost, BatchSizeRow, BatchSizes, SmallBatchCost, by_batch_size, small_batch_cost
from bnexp.analysis.compare import ArmResult, Comparison, Matchup, Versus, compare_arms
from bnexp.analysis.pairs import Cell, Paired, cell, holm, paired, sign_flip_p
from bnexp.analysis.rates import BestLr, Factor, LrReach, LrScore, StableLr, largest_stable_lr, select_lr, stable_factor
from bnexp.analysis.rows import ArmOf, Row, norm_of, tidy
from bnexp.analysis.target import Quartiles, Ratio, median_to_target, quartiles_to_target, ratio_to_target, survival

__all__ = [
    "ArmOf",
    "ArmResult",
    "BatchCost",
    "BatchSizeRow",
    "BatchSizes",
    "BestLr",
    "Cell",
    "Comparison",
    "Factor",
    "LrReach",
    "LrScore",
    "Matchup",
    "Paired",
    "Quartiles",
    "Ratio",
    "Row",
    "SmallBatchCost",
    "StableLr",
    "Versus",
    "by_batch_size",
    "cell",
    "compare_arms",
    "holm",
    "largest_stable_lr",
    "median_to_target",
    "norm_of",
    "paired",
    "quartiles_to_target",
    "ratio_to_target",
    "select_lr",
    "sign_flip_p",
    "small_batch_cost",
    "stable_factor",
    "survival",
    "tidy",
]
