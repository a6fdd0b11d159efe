"""A table before it is drawn: the terminal and the page show the same ones."""

from __future__ import annotations

from dataclasses import dataclass

from rich.box import HEAVY_HEAD, SIMPLE_HEAD
from rich.console import Group
from rich.table import Table as RichTable
from rich.text import Text

from bnexp.tables.marks import marked
from bnexp.tables.text import Whole

LEFT = ("", "arm")
"""Columns of text; all others have numbers, and are aligned on the right."""


@dataclass(frozen=True)
class Table:
    """Cells of text; the first column names the row. A cell that begins with `marks.MARK` is the best one, and the caption says by what."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    caption: str = ""
    title: str = ""
    grouped: bool = False
    """Rows that share their first cell are one group, set apart from the others."""

    def rich(self, ruled: bool = True) -> Group:
        """The same for a terminal; title and caption are as wide as that, not as the table. Not `ruled`: one rule, below its head."""
        table = RichTable(box=HEAVY_HEAD if ruled else SIMPLE_HEAD, show_edge=ruled, pad_edge=ruled)
        for name in self.columns:
            table.add_column(Text(name), justify="left" if name in LEFT else "right", overflow="fold")
        for index, row in enumerate(self.rows):
            if self.grouped and index and row[0] != self.rows[index - 1][0]:
                table.add_section()
            table.add_row(*map(marked, row))
        above, below = [Text(self.title, style="bold")] * bool(self.title), [Text(self.caption, style="dim")] * bool(self.caption)
        return Group(*above, Whole(table), *below)
