"""Many rows of short cells, one line each. Rich's own tables take four seconds for ten thousand rows, and break what does not fit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

Entry = tuple[str, str]
"""A cell: its text and its style."""


@dataclass(frozen=True)
class Column:
    """`spare`: where the columns do not fit side by side, that of the highest goes first; one of 0 stays. `meaning` is said below."""

    name: str
    right: bool = False
    spare: int = 0
    meaning: str = ""
    cells: list[Entry] = field(default_factory=list)

    @property
    def width(self) -> int:
        return max(map(_width, [self.name, *(text for text, _ in self.cells)]))


@dataclass(frozen=True)
class Listing:
    """Columns side by side without rules. Nothing is cut: what does not fit even so becomes lines `column: cell`."""

    columns: Sequence[Column]
    caption: str = ""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType | Segment]:
        shown, widths = list(self.columns), [column.width for column in self.columns]
        out: list[str] = []
        while sum(widths) + len(widths) - 1 > options.max_width and any(column.spare for column in shown):
            index = max(range(len(shown)), key=lambda index: shown[index].spare)
            out.append(shown.pop(index).name)
            widths.pop(index)
        left_out = f"left out at this width: {', '.join(out)}" if out else ""
        if sum(widths) + len(widths) - 1 > options.max_width:
            yield from _records(self.columns)
            shown, left_out = list(self.columns), ""
        else:
            for row in [[(column.name, "bold") for column in shown], *zip(*(column.cells for column in shown), strict=True)]:
                yield from _line(row, shown, widths, console)
        said = "; ".join(filter(None, (*(column.meaning for column in shown), self.caption, left_out)))
        if said:
            yield Text(said, style="dim")


def _line(row: Sequence[Entry], columns: Sequence[Column], widths: Sequence[int], console: Console) -> Iterator[Segment]:
    """The cells side by side. What has no style of its own is one segment with its neighbours: Rich is slow by the segment."""
    plain, last = "", len(row) - 1
    for index, ((text, style), column, width) in enumerate(zip(row, columns, widths, strict=True)):
        room = " " * (width - _width(text))
        before, after = (room, "") if column.right else ("", room)
        if style:
            yield Segment(plain + before)
            yield Segment(text, console.get_style(style))
            plain = ""
        else:
            plain += before + text
        plain += "\n" if index == last else after + " "
    yield Segment(plain)


def _width(text: str) -> int:
    """Terminal columns."""
    return len(text) if text.isascii() and text.isprintable() else cell_len(text)


def _records(columns: Sequence[Column]) -> Iterator[RenderableType]:
    for row in zip(*(column.cells for column in columns), strict=True):
        lines = [Text.assemble(f"{column.name}: ", cell) for column, cell in zip(columns, row, strict=True) if cell[0]]
        yield Text("\n").join([*lines, Text()])
