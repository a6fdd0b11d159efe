"""A study for other programs: tables for papers and spreadsheets, runs for experiment trackers. It renders a study and computes nothing.

Every target is a function `(study, name, out) -> files`: `name` is the study's (`study_name`), `out` a folder, or the database of MLflow.
"""

from __future__ import annotations

from bnexp.analysis import Study
from bnexp.storage.group import Group

__all__ = ["study_name"]


def study_name(study: Study, group: Group) -> str:
    """`compare-be012eb3`, `sweep-lr-62587f60`; of runs that were not asked for together the run's id, or `runs-3f2a1b2c`."""
    if study.kind == "report":
        return study.runs[0].id if len(study.runs) == 1 else f"runs-{group.id}"
    return f"{study.kind.replace(' ', '-')}-{group.id}"
