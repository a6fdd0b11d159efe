"""Runs and estimates as tables for spreadsheets and data frames: CSV and Parquet."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bnexp.analysis import Study, to_table
from bnexp.base.files import atomic_write, make_folder
from bnexp.config.fields import show
from bnexp.export.estimates import estimates
from bnexp.storage.group import to_csv
from bnexp.storage.result import Row


def tables_of(study: Study) -> dict[str, list[Row]]:
    """`runs`: one row a run, as `to_table` has it; `estimates`: one row a number of the study's tables."""
    return {"runs": to_table(study.results.values()), "estimates": estimates(study)}


def write_csv(study: Study, name: str, out: Path) -> list[Path]:
    """Writes `runs.csv` and `estimates.csv`. Infinite numbers are `inf`, and what is not known is empty."""
    make_folder(out)
    written = []
    for table, rows in tables_of(study).items():
        written.append(out / f"{table}.csv")
        with atomic_write(written[-1]) as file:
            file.write(to_csv(rows).encode())
    return written


def write_parquet(study: Study, name: str, out: Path) -> list[Path]:
    """Writes `runs.parquet` and `estimates.parquet`. What is not known is null."""
    from pyarrow import Table, parquet

    make_folder(out)
    written = []
    for table, rows in tables_of(study).items():
        written.append(out / f"{table}.parquet")
        columns = {column: _one_type([row[column] for row in rows]) for column in (rows[0] if rows else ())}
        with atomic_write(written[-1]) as file:
            parquet.write_table(Table.from_pydict(columns), file)
    return written


def _one_type(values: Sequence[object]) -> list[object]:
    """A column's values, all of one type, as Parquet needs them: numbers become floats beside floats, and text beside text."""
    kinds = {type(value) for value in values if value is not None}
    if len(kinds) < 2:
        return list(values)
    if kinds == {int, float}:
        return [None if value is None else float(value) for value in values]  # type: ignore[arg-type]
    return [value if value is None or isinstance(value, str) else show(value) for value in values]
