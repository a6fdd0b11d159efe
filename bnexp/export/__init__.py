"""A study for other programs: tables for papers and spreadsheets, runs for experiment trackers. It renders a study and computes nothing.

Every target is a function `(study, name, out) -> files`: `name` is the study's (`study_name`), `out` a folder, or the database of MLflow.
"""

from __future__ import annotations

from bnexp.analysis import Study
from bnexp.storage.group import Group

__all__ = ["study_name"]


def study_name(study: Study, group: Group) -> str:
    """As its report's folder: `compare-digits-bn-vs-none-be012eb3`; of one run its id."""
    return study.runs[0].id if study.kind == "report" and len(study.runs) == 1 else f"{study.name}-{group.id}"
