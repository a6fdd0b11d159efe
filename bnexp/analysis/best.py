"""What of a study is the best: by the lowest validation loss, which describes, or by a test, which decides."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from typing import Any, TypeVar

from bnexp.analysis.pairs import Paired
from bnexp.analysis.part import Part
from bnexp.analysis.rates import BestLr
from bnexp.analysis.results import Aggregate, Comparison, Grid
from bnexp.analysis.target import Ratio

Key = TypeVar("Key", bound=Hashable)
SAME_IMAGES = ("config.data.augment", "config.data.root", "config.data.follow_links")
"""What of the data does not change the validation images."""


def lowest(losses: Mapping[Key, float | None]) -> set[Key]:
    """The keys with the lowest loss; none where there is only one key, or all losses are equal.

    None (and NaN) is no result and takes no part; an infinite loss is a diverged run's, and worse than any other.
    """
    known = {key: loss for key, loss in losses.items() if loss is not None and not math.isnan(loss)}
    least = min(known.values(), default=math.inf)
    if math.isinf(least) or least == max(known.values()):
        return set()
    return {key for key, loss in known.items() if loss == least}


def better(comparison: Comparison, found: Mapping[str, Paired | Ratio]) -> set[str]:
    """The arms that are shown to be better than the baseline, and the baseline where it is shown to be better than all others.

    Args:
        found: of each other arm, how far it is above the baseline, or how many times faster.
    """
    side = {arm: _side(one) for arm, one in found.items()}
    others = [arm for arm in comparison.arms if arm != comparison.baseline]
    if others and all(side.get(arm) == -1 for arm in others):
        return {comparison.baseline}
    return {arm for arm, sign in side.items() if sign == 1}


def lowest_cells(found: Grid) -> set[int]:
    """Of each data set, the cells with the lowest mean validation loss, among those with as many results as the fullest has."""
    apart = [index for index, key in enumerate(found.keys) if key.startswith("config.data.") and key not in SAME_IMAGES]
    groups: dict[tuple[Any, ...], dict[int, Aggregate]] = {}
    for index, one in enumerate(found.cells):
        groups.setdefault(tuple(one.values[at] for at in apart), {})[index] = one
    best: set[int] = set()
    for group in groups.values():
        most = max(one.n for one in group.values())
        best |= lowest({index: one.val_loss.mean for index, one in group.items() if one.n == most})
    return best


def lowest_sizes(part: Part) -> set[tuple[int, str]]:
    """The batch size of each arm with the lowest mean validation loss at its best learning rate, among those with the same seeds as the
    fullest."""
    by_arm: dict[str, dict[tuple[int, str], BestLr]] = {}
    for comparison in part.by_size:
        for arm, choice in comparison.best_lr.items():
            by_arm.setdefault(arm, {})[comparison.batch_sizes[0], arm] = choice
    best: set[tuple[int, str]] = set()
    for choices in by_arm.values():
        fullest = max((choice.seeds for choice in choices.values()), key=len)
        best |= lowest({key: choice.mean_val_loss for key, choice in choices.items() if choice.seeds == fullest})
    return best


def lowest_arms(comparison: Comparison) -> set[str]:
    """Of the arms that have most results at the only learning rate."""
    (matchup,) = comparison.same_lr or (comparison.headline,)
    most = max((result.n for result in matchup.arms.values()), default=0)
    return lowest({arm: result.val_loss.mean for arm, result in matchup.arms.items() if result.n == most})


def _side(found: Paired | Ratio) -> int:
    """1: shown to be better, -1: shown to be worse, 0: no difference shown."""
    if not found.shown:
        return 0
    above = (found.difference or 0.0) > 0 if isinstance(found, Paired) else (found.factor or 0.0) > 1
    return 1 if above else -1
