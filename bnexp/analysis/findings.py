"""What a figure shows, in one sentence that is computed from what it draws."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

SAME = 0.1
"""A value that changed by less than this share of the larger one is said to stay."""

Write = Callable[[float], str]


def short(value: float) -> str:
    """Three digits, whole numbers up to a million: `0.0123`, `12.3`, `12,345`, `9.46e+16`."""
    return "infinite" if math.isinf(value) else f"{value:,.0f}" if 1000 <= abs(value) < 1e6 else f"{value:.3g}"


def in_percent(value: float) -> str:
    return f"{100 * value:.1f} %"


def change(noun: str, arms: Sequence[tuple[str, float, float]], write: Write = short, until: str = "") -> str:
    """`Without BN, the spread rises from 1 to 9; with BN, it stays at 2.4.`

    Args:
        arms: of each arm its label, the first and the last value.
        until: what the last values are of, where that is not the end of every run.
    """
    texts = [f"{label}, {'it' if index else noun} {_moved(first, last, write)}" for index, (label, first, last) in enumerate(arms)]
    return sentence("; ".join(texts) + f" ({until})" * bool(until))


def each(begin: str, arms: Sequence[tuple[str, str]]) -> str:
    """`Half of the runs have reached the target: after 66 steps with BN; after 120 without BN.`

    Args:
        arms: of each arm its label and what is said of it.
    """
    return sentence(f"{begin}: {'; '.join(f'{text} {label}' for label, text in arms)}")


def sentence(text: str) -> str:
    """With a capital letter and a full stop."""
    return f"{text[:1].upper()}{text[1:]}."


def _moved(first: float, last: float, write: Write) -> str:
    if write(first) == write(last):
        return f"stays at {write(last)}"
    if math.isfinite(first) and math.isfinite(last) and abs(last - first) <= SAME * max(abs(first), abs(last)):
        return f"stays about the same ({write(first)} to {write(last)})"
    return f"{'rises' if last > first else 'falls'} from {write(first)} to {write(last)}"
