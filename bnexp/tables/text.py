"""How numbers are written, and how a table is put on stdout."""

from __future__ import annotations

import copy
import math
import statistics
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from bnexp.analysis import Paired, Quartiles, Ratio
from bnexp.analysis.wording import decisive, points, times
from bnexp.base.errors import one_line
from bnexp.base.sparkline import BLOCKS, drawable
from bnexp.base.sparkline import LOST as DIVERGED

FASTER = "faster: how many times fewer, the geometric mean of the seeds' ratios (their median where runs miss the target) [95 % interval]"
LOST = "accuracies are those of runs that trained; runs that diverged or ended at chance are counted as failures"


PLAIN = {"± ": "+-", "≥ ": ">=", "≤ ": "<=", "…": ".", DIVERGED: "x", **dict(zip(BLOCKS, "_.,-=+%#", strict=True))}
"""What stands for a sign that the stream's encoding does not have: as wide, so that columns stay where they are."""


def show(table: RenderableType) -> None:
    """Prints on stdout, with colour only on a terminal."""
    console, table = Console(highlight=False), _Printable(table)
    if not console.is_terminal:
        console.width = max(console.width, 200)  # a pipe has no width: one line a row
    if drawable(console.encoding):
        console.print(table)
        return
    with console.capture() as captured:
        console.print(table)
    text = captured.get()
    for sign, plain in PLAIN.items():
        text = text.replace(sign, plain)
    sys.stdout.write(text.encode(console.encoding, "replace").decode(console.encoding))


@dataclass(frozen=True)
class _Printable:
    """Anything, with the letters that a terminal may have: another user's run may hold escape sequences or right-to-left marks."""

    inner: RenderableType

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Segment]:
        for segment in console.render(self.inner, options):
            if segment.control or segment.text.replace("\n", "").isprintable():
                yield segment
            else:
                yield Segment("\n".join(one_line(line, len(line)) for line in segment.text.split("\n")), segment.style)


@dataclass(frozen=True)
class Whole:
    """A table of text that breaks no word, as half a number is a wrong one. Rich makes columns narrower than their longest word.

    Where these do not fit side by side, the rules between them go; where that is not enough, each row becomes lines `column: cell`.
    """

    table: Table

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        texts = [[_plain(column.header), *map(_plain, column.cells)] for column in self.table.columns]
        least = [max((cell_len(word) for text in column for word in text.split()), default=1) for column in texts]
        most = [max(map(cell_len, column)) for column in texts]
        count = len(texts)
        table = copy.copy(self.table)
        room = options.max_width - (3 * count + 1)  # a rule on each side of a column, and its padding
        if sum(least) > room:
            table.box, table.padding, table.pad_edge = None, (0, 1, 0, 0), False
            room = options.max_width - (count - 1)
        if sum(least) > room:
            yield from _records(self.table, texts)
            return
        widths = list(least)
        for _ in range(room - sum(least)):  # the next character goes to the column with most lines
            lines = [whole / max(width, 1) for whole, width in zip(most, widths, strict=True)]
            if max(lines) <= 1:
                break
            widths[lines.index(max(lines))] += 1
        table.columns = [replace(column, width=width, overflow="fold") for column, width in zip(self.table.columns, widths, strict=True)]
        yield table


def _records(table: Table, columns: Sequence[Sequence[str]]) -> Iterator[RenderableType]:
    yield table.title or ""
    names = [column[0] for column in columns]
    for cells in zip(*(column[1:] for column in columns), strict=True):
        lines = [f"{name}: {text}" if name else text for name, text in zip(names, cells, strict=True) if text]
        yield Text("\n".join([*lines, ""]))
    if table.caption:
        yield table.caption


def _plain(text: RenderableType) -> str:
    return text.plain if isinstance(text, Text) else str(text)


def spread(values: Sequence[float | None]) -> str:
    known = [value for value in values if value is not None]
    if len(known) < len(values) or not known:
        return f"{len(values) - len(known)} missing"
    std = f" ± {100 * statistics.stdev(known):.2f}" if len(known) > 1 else ""
    return f"{100 * statistics.fmean(known):.2f}{std}"


def percent(value: float | None, digits: int = 2) -> str:
    return "n/a" if value is None or not math.isfinite(value) else f"{100 * value:.{digits}f} %"


def number(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.4g}"


def count(value: float | None) -> str:
    return "n/a" if value is None else f"{value:,.0f}"


def difference(pairs: Paired) -> str:
    """`+1.28 [+0.93, +1.62], p = 0.0021`: percentage points with the interval and p, Holm's too where that decides."""
    if pairs.difference is None:
        return "n/a"
    interval = "" if pairs.low is None or pairs.high is None else f" [{points(pairs.low)}, {points(pairs.high)}]"
    return ", ".join([f"{points(pairs.difference)}{interval}", *([decisive(pairs)] if pairs.p is not None else [])])


def picks(counts: Mapping[float, int]) -> str:
    """`0.1 (6), 0.03 (4)`: learning rates with the number of seeds that chose them, the most frequent first."""
    return ", ".join(f"{lr:g} ({n})" for lr, n in sorted(counts.items(), key=lambda item: (-item[1], item[0]))) or "n/a"


def quartiles(found: Quartiles, digits: int = 0) -> str:
    """`66 (56 to 79)`: the median and the quartiles, a miss as inf; with the share that arrived where some did not."""

    def one(value: float | None) -> str:
        return "n/a" if value is None else "inf" if math.isinf(value) else f"{value:,.{digits}f}"

    if found.median is None:
        return "n/a"
    range_ = "" if found.low == found.high else f" ({one(found.low)} to {one(found.high)})"
    return f"{one(found.median)}{range_}" + ("" if found.reached == found.n else f", {found.reached} of {found.n} reach it")


def times_faster(ratio: Ratio) -> str:
    """`1.40x [0.78x, 4.3x], p = 0.2`: how many times faster, seed by seed, with the 95 % interval."""
    if ratio.factor is None or ratio.misses == (ratio.n, ratio.n):
        return "n/a"
    interval = "" if ratio.low is None or ratio.high is None else f" [{times(ratio.low)}, {times(ratio.high)}]"
    return ", ".join([f"{times(ratio.factor)}{interval}", *([decisive(ratio)] if ratio.p is not None else [])])
