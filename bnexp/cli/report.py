"""The command that writes a report on existing runs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from bnexp.base.errors import one_line
from bnexp.cli.app import app
from bnexp.cli.checks import check_out
from bnexp.cli.options import RUNS, Json, NoConfigDir, Quiet, RunsDir, complete_runs_and_sweeps, named_in_utf8, print_json


@app.command()
def report(
    runs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="RUN|SWEEP", help="Runs, or a sweep or comparison by its id; none: all runs.", autocompletion=complete_runs_and_sweeps
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Write it there, instead of into the runs folder.", callback=named_in_utf8)
    ] = None,
    slides: Annotated[bool, typer.Option("--slides", help="Write slides.html instead, one figure a slide, to be projected.")] = False,
    all_figures: Annotated[bool, typer.Option("--all-figures", help="Draw every figure, instead of the 20 that say most.")] = False,
    runs_dir: RunsDir = RUNS,
    config_dir: NoConfigDir = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Writes one self-contained HTML file on existing runs, and every figure as SVG and PNG beside it.

    It has what the runs' data allow: the answer with its interval, curves, accuracy by batch size and learning rate, steps to target,
    activations, gradients, statistics, the audit, and what it takes to do it again. compare, sweep and stats write one of their own.

    \b
    Examples:
      bnexp report
      bnexp report last --out results
      bnexp report last --slides
      bnexp report batch-bs32-lr0.1-s0 none-bs32-lr0.1-s0
    """
    from bnexp.report import write_report
    from bnexp.studies.stored import stored_study

    check_out(out)
    study, group = stored_study(runs or [], runs_dir)
    path = write_report(out or group.results_folder(study.name), study, every_figure=all_figures, slides=slides)
    if json:
        print_json({"report": str(path), "runs": [run.id for run in study.runs]})
    else:
        print(one_line(str(path)) if sys.stdout.isatty() else path)
