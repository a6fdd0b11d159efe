"""docs/benchmarks.json, and the page that is made of it. Both are written anew after every group, so that a crash loses nothing."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from benchmarks.rows import BY_CONSTRUCTION, MISSED, NO_TARGET, NOISY_CORES, NOT_MEASURED, Figure, Row, row_of

NOTES = Path(__file__).parent / "notes.md"
HEAD = f"""# Benchmarks

Written by `scripts/bench`; do not edit. Figures are medians (least to largest of n). A ratio is the median of the ratios of what was
measured in one turn, with their range. *beside* is how many cores others used meanwhile; a row is **noisy** where that was above
{NOISY_CORES:g}. A group that was not run again keeps its rows, with their date.
"""


def load(file: Path) -> dict[str, Any]:
    """What was measured before, by group.

    Raises:
        ValueError: the file is damaged, or of another kind.
    """
    if not file.exists():
        return {}
    try:
        groups: dict[str, Any] = json.loads(file.read_text())["groups"]
        for held in groups.values():
            for tree in held["rows"]:
                row_of(tree)
            _about(held)
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"{file} cannot be used ({type(error).__name__}: {error}); move it away.") from None
    return groups


def entry(rows: Sequence[Row], machine: Mapping[str, Any], date: str, repetitions: int, seconds: float) -> dict[str, Any]:
    """What is kept of a group."""
    return {"date": date, "seconds": round(seconds), "repetitions": repetitions, "machine": machine, "rows": [asdict(row) for row in rows]}


def write(out: Path, groups: Mapping[str, Any], titles: Mapping[str, str]) -> None:
    """The two files in `out`; `titles` gives each group's docstring, in the order of the page."""
    out.mkdir(parents=True, exist_ok=True)
    ordered = {name: groups[name] for name in titles if name in groups}
    _replace(out / "benchmarks.json", json.dumps({"groups": ordered}, indent=1) + "\n")
    _replace(out / "benchmarks.md", page(ordered, titles, NOTES.read_text()))


def _replace(file: Path, text: str) -> None:
    beside = file.with_name(f".{file.name}.{os.getpid()}")
    beside.write_text(text)
    beside.replace(file)


def page(groups: Mapping[str, Any], titles: Mapping[str, str], notes: str) -> str:
    """The whole page as Markdown."""
    rows = {name: [row_of(tree) for tree in held["rows"]] for name, held in groups.items()}
    parts = [HEAD, "\n".join(_verdicts([row for own in rows.values() for row in own]))]
    for name, held in groups.items():
        title, _, more = titles[name].strip().partition("\n")
        parts.append(f"## {title.rstrip('.')}\n\n{more.strip()}\n\n{_about(held)}")
        parts += tables(rows[name])
    return "\n\n".join(part.strip("\n") for part in [*parts, notes]) + "\n"


def _verdicts(rows: Sequence[Row]) -> Iterator[str]:
    judged = [row for row in rows if row.target is not None and row.verdict != NOT_MEASURED]
    missed = [row for row in judged if row.verdict == MISSED]
    given = sum(row.remark == BY_CONSTRUCTION for row in judged)
    absent = [row for row in rows if row.target is not None and row.verdict == NOT_MEASURED]
    met = f"{len(judged) - len(missed)} of {len(judged)} targets that were measured are met, {given} of these by construction"
    yield f"{met}; {len(absent)} were not measured; {sum(row.noisy for row in rows)} noisy rows."
    if missed:
        yield "Missed, with reasons and the next ideas at the end of this page:\n"
        yield from (f"- {row.group}: {row.name}: {value(row.result)}, target {row.target}" for row in missed)
    if absent:
        yield "\nNot measured:\n"
        yield from (f"- {row.group}: {row.name}, target {row.target}: {row.remark}" for row in absent)


def _about(held: Mapping[str, Any]) -> str:
    machine = held["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    where = f"{machine['processor']}, {machine['cores']} cores, {machine['memory_gib']} GiB, {machine['platform']}"
    python = f"Python {machine['python']}"
    return f"Measured {held['date']} in {held['seconds']} s, {held['repetitions']} repetitions. {where}; {python}, {versions}."


def tables(rows: Sequence[Row]) -> Iterator[str]:
    """Rows that have the same figures share a table; what was not measured comes last."""
    shared: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        if row.verdict != NOT_MEASURED:
            shared.setdefault(tuple(f"{one.name}, {one.unit}" for one in row.figures), []).append(row)
    for heads, own in shared.items():
        yield _table(["case", *heads, "result", "", "target", "verdict", "n", "load; beside"], map(_cells, own))
    if absent := [row for row in rows if row.verdict == NOT_MEASURED]:
        yield _table(["case", "target", "not measured"], ([row.name, row.target or NO_TARGET, row.remark] for row in absent))


def _table(heads: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    return "\n".join([_line(heads), "|---" * len(heads) + "|", *map(_line, lines)])


def _cells(row: Row) -> list[str]:
    verdict = {MISSED: f"**{MISSED}**", NO_TARGET: ""}.get(row.verdict, row.verdict)
    said = [part for part in (verdict, row.remark, "**noisy**" if row.noisy else "") if part]
    counts = {one.n for one in [*row.figures, *([row.result] if row.result else [])]}
    load = f"{row.load.before:g} to {row.load.after:g}; {row.load.beside:g}" if row.load else ""
    result = [row.result.name, value(row.result)] if row.result else ["", ""]
    figures = [value(replace(one, unit="")) for one in row.figures]
    return [row.name, *figures, *result, row.target or NO_TARGET, "; ".join(said), ", ".join(map(str, sorted(counts))), load]


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"


def value(figure: Figure | None) -> str:
    if figure is None:
        return ""
    unit = f" {figure.unit}" if figure.unit else ""
    return (
        f"{number(figure.median)}{unit} ({number(figure.low)} to {number(figure.high)})"
        if figure.n > 1
        else f"{number(figure.median)}{unit}"
    )


def number(value: float) -> str:
    """Three digits at the least: 0.0123, 1.23, 12.3, 12,345."""
    if value == 0 or not abs(value) < 1e15:  # a NaN, too
        return f"{value:g}"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) < 10 else f"{value:.1f}"
