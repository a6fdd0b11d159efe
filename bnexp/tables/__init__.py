"""What the commands print on stdout without --json. A study's tables are also those of its page."""

from bnexp.tables.differences import differences_table
from bnexp.tables.inside import inside_table
from bnexp.tables.runs import evaluation_table, list_table, run_table, seeds_table
from bnexp.tables.stats import law_table
from bnexp.tables.stored_studies import stored_studies_table
from bnexp.tables.study import study_summary, study_tables
from bnexp.tables.sweep import plan_table
from bnexp.tables.text import show

__all__ = [
    "differences_table",
    "evaluation_table",
    "inside_table",
    "law_table",
    "list_table",
    "plan_table",
    "run_table",
    "seeds_table",
    "show",
    "stored_studies_table",
    "study_summary",
    "study_tables",
]
