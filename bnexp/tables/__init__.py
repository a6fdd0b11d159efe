"""What the commands print on stdout when nobody asked for JSON."""

from bnexp.tables.runs import evaluation_table, list_table, notes, run_table, seeds_table
from bnexp.tables.text import show

__all__ = ["evaluation_table", "list_table", "notes", "run_table", "seeds_table", "show"]
