"""What the commands print on stdout when nobody asked for JSON."""

from bnexp.tables.compare import comparison_tables
from bnexp.tables.inside import inside_table
from bnexp.tables.runs import evaluation_table, list_table, notes, run_table, seeds_table
from bnexp.tables.stats import law_table
from bnexp.tables.sweep import plan_table, sweep_tables
from bnexp.tables.text import show

__all__ = [
    "comparison_tables",
    "evaluation_table",
    "inside_table",
    "law_table",
    "list_table",
    "notes",
    "plan_table",
    "run_table",
    "seeds_table",
    "show",
    "sweep_tables",
]
