"""How numbers are written, and how a table is put on stdout."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

from rich.console import Console, RenderableType


def show(table: RenderableType) -> None:
    """Prints on stdout, with colour only on a terminal."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = max(console.width, 200)  # a pipe has no width: one line a row, for whoever reads it
    console.print(table)


def spread(values: Sequence[float | None]) -> str:
    known = [value for value in values if value is not None]
    if len(known) < len(values) or not known:
        return f"{len(values) - len(known)} missing"
    std = f" ± {100 * statistics.stdev(known):.2f}" if len(known) > 1 else ""
    return f"{100 * statistics.fmean(known):.2f}{std}"


def percent(value: float | None) -> str:
    return "n/a" if value is None or not math.isfinite(value) else f"{100 * value:.2f} %"


def number(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.4g}"


def count(value: float | None) -> str:
    return "n/a" if value is None else f"{value:,.0f}"
