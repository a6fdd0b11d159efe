"""Measures bnexp and writes docs/benchmarks.md and docs/benchmarks.json. Run it on an idle machine.

Groups, the usual ones (no argument; about 10 minutes) first:
{groups}
`all` means all. Rows that need packages which are not installed say so; they come with
    .venv/bin/pip install -c constraints.txt -e '.[bench]'
Reasons for what misses its target are written by hand in scripts/benchmarks/notes.md, which ends the page (--page writes it anew).
"""

from __future__ import annotations

import argparse
import importlib
import sys
import time
from collections.abc import Iterator, Sequence
from datetime import date
from pathlib import Path
from types import ModuleType

from benchmarks import page
from benchmarks.group import Request
from benchmarks.machine import machine
from benchmarks.rows import NOT_MEASURED, Row, not_measured
from benchmarks.turns import NotMeasured

USUAL = ("steps", "stacks", "startup", "peers", "memory", "growth", "gpu")
OTHERS = ("profile", "precision", "metrics", "sweeps", "report", "load")
DOCS = Path(__file__).parent.parent.parent / "docs"


def modules() -> dict[str, ModuleType]:
    return {name: importlib.import_module(f"benchmarks.{name}") for name in (*USUAL, *OTHERS)}


def _rows(module: ModuleType, request: Request) -> Iterator[Row]:
    """A group's rows; where it cannot go on, the last one says why."""
    try:
        yield from module.rows(request)
    except NotMeasured as error:
        yield not_measured(module.NAME, "the rest of the group", str(error))


def main(arguments: Sequence[str] | None = None) -> int:
    found = modules()
    titles = {name: module.__doc__ or "" for name, module in found.items()}
    listed = "\n".join(f"  {name:10} {text.strip().splitlines()[0]}" for name, text in titles.items())
    parser = argparse.ArgumentParser(
        prog="scripts/bench", description=(__doc__ or "").replace("{groups}", listed), formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("groups", nargs="*", metavar="GROUP", help=f"{', '.join(found)}, all; default: {', '.join(USUAL)}")
    parser.add_argument("--repetitions", type=int, metavar="N", help="how often to measure; default: a number of each group's own")
    parser.add_argument("--mnist", metavar="FOLDER", help="the folder that holds MNIST/raw (default: noise of its size)")
    parser.add_argument("--out", metavar="FOLDER", type=Path, default=DOCS, help="where the page is written (default: docs)")
    parser.add_argument("--page", action="store_true", help="measure nothing; only write the page anew, after the notes were edited")
    options = parser.parse_args(arguments)
    unknown = [name for name in options.groups if name not in (*found, "all")]
    if unknown:
        parser.error(f"there is no {unknown[0]}; choose from {', '.join(found)}, all")
    if options.repetitions is not None and options.repetitions < 1:
        parser.error("--repetitions counts from 1")
    if options.mnist is not None and not Path(options.mnist, "MNIST", "raw").is_dir():
        parser.error("--mnist: there is no MNIST/raw in this folder")
    try:
        groups = page.load(options.out / "benchmarks.json")
    except ValueError as error:
        parser.exit(1, f"scripts/bench: {error}\n")
    if options.page:
        page.write(options.out, groups, titles)
        return 0
    chosen = [name for name in found if name in (options.groups or USUAL) or "all" in options.groups]
    mnist = str(Path(options.mnist).absolute()) if options.mnist else None
    for name in chosen:
        repetitions = options.repetitions or found[name].REPETITIONS
        rows, start = [], time.perf_counter()
        for row in _rows(found[name], Request(repetitions, mnist)):
            rows.append(row)
            mark = " NOISY" if row.noisy else ""
            result = row.remark if row.verdict == NOT_MEASURED else page.value(row.result)
            print(f"{name}: {row.name}: {result}  {row.target or ''} {row.verdict}{mark}", file=sys.stderr, flush=True)
        groups[name] = page.entry(rows, machine(), date.today().isoformat(), repetitions, time.perf_counter() - start)
        page.write(options.out, groups, titles)
        print(f"{name}: {groups[name]['seconds']} s; the page is written", file=sys.stderr, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
