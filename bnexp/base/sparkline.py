"""A curve in a few characters. No torch, no Rich."""

from __future__ import annotations

import math
from collections.abc import Sequence

BLOCKS = "▁▂▃▄▅▆▇█"
LOST = "✕"
"""Where the curve ends, because its run diverged."""


def sparkline(curve: Sequence[tuple[int, float]], width: int = 8, *, log: bool = True, diverged: bool = False) -> str:
    """The curve's (step, value) pairs in at most `width` characters, from its lowest value ▁ to its highest █.

    A column is an equal stretch of log(step), since most happens early: the mean of what lies in it, and where nothing does, what
    was before. Heights are those of log(value) where `log` is asked for and all values allow it. Values that are not finite are left out;
    ✕ is the last character where the run diverged, or where the last value is not finite. A constant is ▄.
    """
    known = [(step, value) for step, value in curve if math.isfinite(value)]
    lost = LOST if diverged or (bool(curve) and not math.isfinite(curve[-1][1])) else ""
    width -= len(lost)
    if not known or width < 1:
        return lost
    first, last = math.log(max(known[0][0], 1)), math.log(max(known[-1][0], 1))
    columns: list[list[float]] = [[] for _ in range(min(width, len(known)))]
    for step, value in known:
        share = (math.log(max(step, 1)) - first) / (last - first) if last > first else 0.0
        columns[min(int(share * len(columns)), len(columns) - 1)].append(value)
    means: list[float] = []
    for values in columns:
        means.append(math.fsum(value / len(values) for value in values) if values else means[-1])  # the first one has the first value
    return "".join(BLOCKS[min(int(height * len(BLOCKS)), len(BLOCKS) - 1)] for height in _heights(means, log)) + lost


def drawable(encoding: str | None) -> bool:
    try:
        (BLOCKS + LOST).encode(encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def _heights(values: Sequence[float], log: bool) -> list[float]:
    heights = [math.log(value) for value in values] if log and min(values) > 0 else list(values)
    low, high = min(heights), max(heights)
    scale = max(abs(low), abs(high), 1.0)  # the difference of two huge values may be infinite
    if high / scale - low / scale <= 1e-12:
        return [0.5 - 1 / 16] * len(heights)
    return [(height / scale - low / scale) / (high / scale - low / scale) for height in heights]
