"""`bnexp runs`: lists, shows, removes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bnexp.base.errors import UsageError, one_line
from bnexp.cli.app import Commands, app
from bnexp.cli.options import RUNS, Json, NoConfigDir, NoQuiet, Quiet, RunName, RunsDir, complete_runs, print_json
from bnexp.cli.streams import say

DRAWN = 50
"""Runs whose sparkline is shown, the newest: metrics.jsonl takes a third of a megabyte a run, and a folder may have ten thousand."""

runs_app = typer.Typer(cls=Commands, rich_markup_mode=None)
app.add_typer(runs_app, name="runs", invoke_without_command=True)


@runs_app.callback()
def list_(ctx: typer.Context, runs_dir: RunsDir = RUNS, config_dir: NoConfigDir = None, json: Json = False, quiet: NoQuiet = False) -> None:
    """Lists the runs, oldest first, the newest 50 with a sparkline of their validation loss; shows or removes some.

    \b
    Examples:
      bnexp runs
      bnexp runs show last
      bnexp runs rm batch-bs32-lr0.1-s0
    """
    ctx.obj = {"runs_dir": runs_dir, "json": json}
    if ctx.invoked_subcommand is not None:
        return
    if runs_dir != RUNS and not runs_dir.exists():
        raise UsageError(f"--runs-dir {runs_dir} is not there.")
    from bnexp.storage.folder import listed, rows
    from bnexp.storage.run import Run

    if json:
        print_json({"runs": rows(runs_dir)})
        return
    from bnexp.tables import list_table, show

    found = listed(runs_dir)
    if not found:
        say(f"There are no runs in {runs_dir}; `bnexp train` makes one.")
    else:
        newest = [run.id for run in found[-DRAWN:]]
        show(list_table(found, {name: _val_loss(Run(runs_dir, name).metrics_jsonl) for name in newest}))


def _val_loss(path: Path) -> list[tuple[int, float]]:
    """The curve; empty where it cannot be read: one run must not keep the others from being listed."""
    from bnexp.storage.curves import curve

    try:
        return curve(path, "val/loss")
    except OSError:
        return []


@runs_app.command("show")
def show_run(
    ctx: typer.Context,
    run: RunName,
    runs_dir: RunsDir | None = None,
    config_dir: NoConfigDir = None,
    json: Json = False,
    quiet: NoQuiet = False,
) -> None:
    """Prints a run's summary, and what the metrics said last of each layer.

    \b
    Example:
      bnexp runs show last --json
    """
    from bnexp.storage.folder import find_run

    found = find_run(run, runs_dir or ctx.obj["runs_dir"])
    if json or ctx.obj["json"]:
        print_json(found.result().tree())
    else:
        from bnexp.storage.curves import curves
        from bnexp.tables import inside_table, run_table, show

        result = found.result()
        if not found.is_whole(found.metrics_jsonl):
            say(f"Warning: {found.metrics_jsonl} is not what the run wrote: it was damaged or changed.")
        measured = curves(found.metrics_jsonl)
        show(run_table(result, str(found.folder), measured))
        inside = inside_table(measured)
        if inside is not None:
            show(inside)


@runs_app.command("rm")
def remove(
    ctx: typer.Context,
    runs: Annotated[
        list[str], typer.Argument(metavar="RUN...", help="Ids, their beginnings, paths, or last.", autocompletion=complete_runs)
    ],
    runs_dir: RunsDir | None = None,
    config_dir: NoConfigDir = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Deletes runs with all their files. All names are looked up before the first is deleted; a running run is not deleted.

    \b
    Example:
      bnexp runs rm batch-bs32-lr0.1-s0 none-bs32-lr0.1-s0
    """
    from bnexp.execution.launch import remove as delete
    from bnexp.storage.folder import find_run

    found = list(dict.fromkeys(find_run(name, runs_dir or ctx.obj["runs_dir"]) for name in runs))
    delete(found)
    if json or ctx.obj["json"]:
        print_json({"removed": [run.id for run in found]})
    elif not quiet:
        for run in found:
            print(one_line(f"Removed {run.folder}"))
