"""Which cell is best, and its mark: a sign in the text, which a pipe and NO_COLOR keep, and bold green on a terminal."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from typing import TypeVar

from rich.text import Text

from bnexp.analysis import Comparison, Paired, Ratio

MARK = "*"
STYLE = "bold green"
LOWEST = "lowest mean validation loss: a choice, no test"
BETTER = "a difference from {} is shown: p <= 0.05, for all but the primary question after Holm's correction"
Key = TypeVar("Key", bound=Hashable)


def mark(text: str, best: bool) -> str:
    """`*98.61 ± 0.32` where it is the best, else as it is."""
    return f"{MARK}{text}" if best else text


def marked(text: str) -> Text:
    """A cell for a terminal: the best one in its style."""
    return Text(text, style=STYLE if text.startswith(MARK) else "")


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


def _side(found: Paired | Ratio) -> int:
    """1: shown to be better, -1: shown to be worse, 0: no difference shown."""
    if not found.shown:
        return 0
    above = (found.difference or 0.0) > 0 if isinstance(found, Paired) else (found.factor or 0.0) > 1
    return 1 if above else -1
