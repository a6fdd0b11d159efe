"""`bnexp evaluate`: a saved run again, under other statistics or folded."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from bnexp.cli.app import app
from bnexp.cli.options import RUNS, Json, NoConfigDir, Place, Quiet, RunName, RunsDir, placed, print_json


class Stats(StrEnum):
    """What `--stats` takes."""

    RUNNING = "running"
    PRECISE = "precise"
    BATCH = "batch"
    ALL = "all"


@app.command()
def evaluate(
    run: RunName,
    place: Place = None,
    stats: Annotated[Stats, typer.Option("--stats", help="Which statistics the norm layers use.")] = Stats.RUNNING,
    folded: Annotated[
        bool, typer.Option("--folded", help="Also fold each batch norm into the layer before it; compare outputs, speed.")
    ] = False,
    runs_dir: RunsDir = RUNS,
    config_dir: NoConfigDir = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Evaluates a saved run again on its test data. Nothing in its folder changes.

    \b
    Examples:
      bnexp evaluate last --stats all
      bnexp evaluate last --folded
      bnexp evaluate last data.root=photos-moved
    """
    from bnexp.execution.terminal import Terminal
    from bnexp.storage.folder import find_run
    from bnexp.studies.re_evaluation import evaluate_saved

    which = ("running", "precise", "batch") if stats is Stats.ALL else (stats.value,)
    now = placed(place)
    result = evaluate_saved(find_run(run, runs_dir), which, folded, Terminal(quiet), now)
    if json:
        print_json(result)
    else:
        from bnexp.tables import evaluation_table, show

        show(evaluation_table(result))
