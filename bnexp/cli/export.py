"""`bnexp export`: runs and studies for spreadsheets, papers and experiment trackers."""

from __future__ import annotations

import sys
from collections.abc import Callable
from enum import StrEnum
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bnexp.base.errors import UsageError, did_you_mean, one_line, one_of, short
from bnexp.cli.app import app
from bnexp.cli.checks import check_out
from bnexp.cli.options import RUNS, Json, NoConfigDir, Quiet, RunsDir, complete_runs_and_sweeps, named_in_utf8, print_json
from bnexp.cli.streams import say

if TYPE_CHECKING:
    from bnexp.analysis import Study


class Target(StrEnum):
    """What `--to` takes."""

    CSV = "csv"
    PARQUET = "parquet"
    LATEX = "latex"
    MARKDOWN = "markdown"
    MLFLOW = "mlflow"
    WANDB = "wandb"


EXTRAS = {Target.PARQUET: ("pyarrow",), Target.MLFLOW: ("mlflow", "sqlalchemy", "alembic"), Target.WANDB: ("wandb",)}
"""The packages that a target needs, which come with the extra of its name."""
WRITERS = {
    Target.CSV: ("rows", "write_csv"),
    Target.PARQUET: ("rows", "write_parquet"),
    Target.LATEX: ("latex", "write_latex"),
    Target.MARKDOWN: ("markdown", "write_markdown"),
    Target.MLFLOW: ("mlflow_store", "write_mlflow"),
    Target.WANDB: ("wandb_folder", "write_wandb"),
}
"""The module of `bnexp.export` and the function in it."""
ENDINGS = (".csv", ".parquet", ".tex", ".md", ".pdf")
"""Of files. A folder is seldom meant where --out has one."""
MEANT = {"tex": Target.LATEX, "md": Target.MARKDOWN, "excel": Target.CSV, "xlsx": Target.CSV, "pandas": Target.PARQUET, "w&b": Target.WANDB}
"""What people call them."""


def _target(text: str) -> Target:
    if text not in tuple(Target):
        meant = MEANT.get(text.lower())
        hint = f" Did you mean '{meant}'?" if meant else did_you_mean(text, tuple(Target))
        raise UsageError(f"'{short(text)}' is no format of an export; choose {one_of(Target)}.{hint}")
    return Target(text)


@app.command()
def export(
    runs: Annotated[
        list[str],
        typer.Argument(metavar="RUN|STUDY", help="Runs, or a sweep or comparison by its id.", autocompletion=complete_runs_and_sweeps),
    ],
    to: Annotated[Target, typer.Option("--to", metavar="FORMAT", parser=_target, help=f"The format, or the tracker: {one_of(Target)}.")],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="PATH",
            help="The folder to write to; of mlflow the SQLite file.",
            show_default="a folder in RUNS/exports",
            callback=named_in_utf8,
        ),
    ] = None,
    runs_dir: RunsDir = RUNS,
    config_dir: NoConfigDir = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Exports runs, or a comparison or sweep, for a spreadsheet, a paper or an experiment tracker.

    csv, parquet: a table of the runs, and one of all estimates with their intervals. latex: tables for booktabs, figures as PDF, and a
    document with all of them. markdown: the answer and its tables. mlflow: a SQLite store. wandb: an offline folder, which `wandb sync`
    uploads. A second export replaces the first.

    \b
    Examples:
      bnexp export last --to csv
      bnexp export last --to latex --out paper/results
      bnexp export last --to mlflow
    """
    if any(find_spec(package) is None for package in EXTRAS.get(to, ())):
        raise UsageError(f"--to {to} needs packages that are not installed. Type: pip install 'bnexp[{to}]'")
    _check(to, out)
    from bnexp.export import study_name
    from bnexp.studies.stored import stored_study

    study, group = stored_study(runs, runs_dir)
    if study.kind == "report":
        _refuse_unfinished(study)
    name = study_name(study, group)
    place = out or {Target.MLFLOW: runs_dir / "exports" / "mlflow.db", Target.WANDB: runs_dir / "exports"}.get(
        to, runs_dir / "exports" / name
    )
    _announce(study, to, quiet)
    files = _writer(to)(study, name, place)
    if json:
        print_json({"to": to, "export": str(place), "files": list(map(str, files)), "runs": [run.id for run in study.runs]})
        return
    print(one_line(str(place)) if sys.stdout.isatty() else place)
    if not quiet:
        _next(to, place)


def _check(to: Target, out: Path | None) -> None:
    """Raises UsageError where --out is not what the target is written to."""
    if out is None:
        return
    if to is Target.MLFLOW:
        from bnexp.export.mlflow_store import check_database

        check_out(out.parent)
        check_database(out)
        return
    if out.suffix in ENDINGS and not out.is_dir():
        raise UsageError(f"--out names a folder, which gets the files of the export. Write: --out {short(str(out.with_suffix('')), 300)}")
    check_out(out)


def _refuse_unfinished(study: Study) -> None:
    """Raises UsageError where a run that was named has no result, and DataError where it cannot be read."""
    for run in study.runs:
        result = study.results.get(run.id) or run.result()
        if result.status == "running":
            raise UsageError(f"Run {run.id} is still being trained; export it once it is finished.")
        if not result.is_result:
            raise UsageError(f"Run {run.id} is {result.status}, and has no result to export. Resume it: bnexp resume {run.id}")


def _announce(study: Study, to: Target, quiet: bool) -> None:
    """Says what is about to be written, and what is missing from it. Raises UsageError where there is nothing."""
    count, lost = len(study.runs), [run.id for run in study.runs if run.id not in study.results or not study.results[run.id].is_result]
    if len(lost) == count:
        raise UsageError(f"None of the {count:,} runs has a result to export; the command that made them resumes them.")
    if quiet:
        return
    if lost:
        left_out = "are left out" if to in (Target.MLFLOW, Target.WANDB) else "are counted as missing"
        say(f"Note: {len(lost)} of {count} runs have no result and {left_out}: {short(', '.join(lost), 300)}.")
    damaged = [run.id for run in study.runs if run.id not in lost and not run.is_whole(run.metrics_jsonl, study.results[run.id])]
    if damaged and to in (Target.LATEX, Target.MLFLOW, Target.WANDB):
        say(f"Warning: metrics.jsonl is not what the run wrote, it was damaged or changed: {short(', '.join(damaged), 300)}.")
    runs = f"{count:,} {'run' if count == 1 else 'runs'}"
    slow = "; MLflow takes up to half a second for each" if to is Target.MLFLOW else ""
    say("Drawing the figures ..." if to is Target.LATEX else f"Exporting {runs}{slow} ...")


def _writer(to: Target) -> Callable[[Study, str, Path], list[Path]]:
    """The function that writes a format; only its own module is imported, as the others need matplotlib or a tracker."""
    module, function = WRITERS[to]
    write: Callable[[Study, str, Path], list[Path]] = getattr(import_module(f"bnexp.export.{module}"), function)
    return write


def _next(to: Target, place: Path) -> None:
    """Says what to type next."""
    from shlex import quote

    if to is Target.LATEX:
        say(f"A document with all of it: cd {quote(str(place))} && pdflatex study.tex")
    if to is Target.MLFLOW:
        say(f"To look at them: pip install mlflow, then mlflow ui --backend-store-uri {quote(f'sqlite:///{place.absolute()}')}")
    if to is Target.WANDB:
        say(f"To upload them: wandb sync {quote(str(place / 'wandb'))}/offline-run-*")
