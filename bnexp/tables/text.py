"""How numbers are written, and how a table is put on stdout."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

from rich.console import Console, RenderableType

from bnexp.analysis import Cell, Paired, Quartiles, Ratio


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


def mean_std(cell: Cell) -> str:
    """`98.61 ± 0.32`, in percent."""
    if cell.mean is None:
        return "n/a"
    return f"{100 * cell.mean:.2f}" + ("" if cell.std is None else f" ± {100 * cell.std:.2f}")


def difference(pairs: Paired, p: float | None = None) -> str:
    """`+1.28 [+0.93, +1.62] p 0.0625`: percentage points with the 95 % interval."""
    if pairs.difference is None:
        return "n/a"
    interval = "" if pairs.low is None or pairs.high is None else f" [{100 * pairs.low:+.2f}, {100 * pairs.high:+.2f}]"
    p = pairs.p if p is None else p
    return f"{100 * pairs.difference:+.2f}{interval}" + ("" if p is None else f" p {p:.3g}")


def quartiles(found: Quartiles, digits: int = 0) -> str:
    """`66 (56 to 79)`: the median and the quartiles, a miss as inf; with the share that arrived where some did not."""

    def one(value: float | None) -> str:
        return "n/a" if value is None else "inf" if math.isinf(value) else f"{value:,.{digits}f}"

    if found.median is None:
        return "n/a"
    range_ = "" if found.low == found.high else f" ({one(found.low)} to {one(found.high)})"
    return f"{one(found.median)}{range_}" + ("" if found.reached == found.n else f", {found.reached} of {found.n} reach it")


def times_faster(ratio: Ratio) -> str:
    """`3.1x [2.4, 4.0]`: how many times faster, a bound where one side misses the target."""
    sign = {"at_least": "≥ ", "at_most": "≤ "}.get(ratio.bound, "")
    if ratio.factor is None:
        return {"at_least": "only this arm arrives", "at_most": "only the baseline arrives"}.get(ratio.bound, "n/a")
    interval = "" if ratio.low is None or ratio.high is None else f" [{ratio.low:.3g}, {ratio.high:.3g}]"
    return f"{sign}{ratio.factor:.3g}x{interval}"
