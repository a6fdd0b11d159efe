"""A table before it is drawn: the terminal and the page show the same ones."""

from __future__ import annotations

from dataclasses import dataclass

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

    def rich(self) -> Group:
        """The same for a terminal; the caption is as wide as that, not as the table."""
        table = RichTable(title=Text(self.title, style="bold"), title_justify="left")
        for name in self.columns:
            table.add_column(Text(name), justify="left" if name in LEFT else "right", overflow="fold")
        for index, row in enumerate(self.rows):
            if self.grouped and index and row[0] != self.rows[index - 1][0]:
                table.add_section()
            table.add_row(*map(marked, row))
        return Group(Whole(table), *([Text(self.caption, style="dim")] if self.caption else []))
