"""`bnexp runs`: lists, filters, sorts; shows, removes. `diff.py` and `labels.py` have its other commands."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from bnexp.base.errors import DataError, UsageError, one_line, short
from bnexp.cli.app import WRONG_USAGE, Commands, app
from bnexp.cli.diff import diff
from bnexp.cli.labels import note, tag
from bnexp.cli.options import (
    RUNS,
    Json,
    NoConfigDir,
    NoQuiet,
    Quiet,
    RunName,
    RunsDir,
    complete_runs,
    print_json,
)
from bnexp.cli.streams import say

DRAWN = 50
"""Runs whose sparkline is shown, the newest: metrics.jsonl takes a third of a megabyte a run, and a folder may have ten thousand."""
LIST = ("list", "ls")
FILTERS = "filters"
"""The key of a context under which the command's filters are."""


class RunsCommands(Commands):
    """Commands, and filters where a command could stand: `bnexp runs optim.lr=0.1 --limit 5`. `list` and `ls` are the list itself."""

    def parse_args(self, ctx: Any, args: list[str]) -> Any:
        valued = {name for param in self.params if not getattr(param, "is_flag", False) for name in param.opts}
        words = [at for at, arg in enumerate(args) if not arg.startswith("-") and (at == 0 or args[at - 1] not in valued)]
        if words and args[words[0]] not in self.commands:
            listing = args[words[0]] in LIST
            filters = [at for at in words if "=" in args[at]]
            ctx.meta[FILTERS] = [args[at] for at in filters]
            args = [arg for at, arg in enumerate(args) if at not in filters and not (listing and at == words[0])]
        return super().parse_args(ctx, args)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args[0] not in self.commands:
            from bnexp.cli.meant import runs_line

            if line := runs_line(args):
                raise WRONG_USAGE(f"No such command '{short(args[0])}'. Write: {line}", ctx=ctx)
        return super().resolve_command(ctx, args)


runs_app = typer.Typer(cls=RunsCommands, rich_markup_mode=None, subcommand_metavar="[FILTER... | COMMAND ...]")
app.add_typer(runs_app, name="runs", invoke_without_command=True)


@runs_app.callback()
def list_(
    ctx: typer.Context,
    sort: Annotated[
        str | None,
        typer.Option(
            "--sort",
            metavar="KEY",
            help="accuracy, loss, target, steps, status, run, written, or a config key.",
            show_default="written, oldest first",
        ),
    ] = None,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="List so many: the newest, or with --sort the first.")] = None,
    runs_dir: RunsDir = RUNS,
    config_dir: NoConfigDir = None,
    json: Json = False,
    quiet: NoQuiet = False,
) -> None:
    """Lists the runs, oldest first, the newest 50 with a sparkline of their validation loss; shows, compares, labels or removes some.

    A FILTER is a config value with a comma list where several will do, tag=NAME or status=NAME; filters of different keys must all fit,
    of one key any. Accuracy is sorted from the highest on, written from the newest on, everything else from the lowest.

    \b
    Examples:
      bnexp runs
      bnexp runs model.norm=none optim.lr=0.1,0.3 --sort accuracy --limit 20
      bnexp runs tag=paper
      bnexp runs show last
      bnexp runs rm batch-bs32-lr0.1-s0
    """
    filters: list[str] = ctx.meta.get(FILTERS, [])
    ctx.obj = {"runs_dir": runs_dir, "json": json}
    if ctx.invoked_subcommand is not None:
        if given := [*filters, *["--sort"] * (sort is not None), *["--limit"] * (limit is not None)]:
            raise UsageError(
                f"{short(given[0])} is for the list of runs, and `bnexp runs {ctx.invoked_subcommand}` takes runs by their names."
            )
        return
    from bnexp.storage.folder import listed, rows
    from bnexp.storage.labels import labels_in
    from bnexp.storage.run import Run

    if runs_dir != RUNS and not runs_dir.exists():
        raise UsageError(f"--runs-dir {runs_dir} is not there.")
    if not (filters or sort or limit) and json:
        print_json({"runs": rows(runs_dir)})
        return
    from bnexp.storage.selection import select

    selection = select(filters, sort, limit)
    found = listed(runs_dir, with_config=selection.needs_config)
    labels = labels_in(runs_dir, (run.id for run in found))
    chosen = selection.of(found, labels)
    if json:
        print_json({"runs": rows(runs_dir, [Run(runs_dir, run.id) for run in chosen])})
    elif not found:
        say(f"There are no runs in {runs_dir}; `bnexp train` makes one.")
    elif not chosen:
        say(f"No run of {len(found):,} in {runs_dir} fits {short(' '.join(filters), 300)}.{selection.why_none(found, labels)}")
    else:
        from bnexp.tables import list_table, show

        drawn = {run.id for run in chosen} & {run.id for run in found[-DRAWN:]} if len(chosen) > DRAWN else {run.id for run in chosen}
        curves = {run.id: _val_loss(Run(runs_dir, run.id).metrics_jsonl) for run in chosen if run.id in drawn}
        show(list_table(chosen, curves, labels, len(found)))


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
    from bnexp.storage.labels import NONE, labels_of

    found = find_run(run, runs_dir or ctx.obj["runs_dir"])
    result, labels = found.result(), NONE
    try:
        labels = labels_of(found)
    except DataError as error:
        say(f"Warning: {error}")
    if json or ctx.obj["json"]:
        print_json({**result.tree(), **labels.plain()})
    else:
        from bnexp.storage.curves import curves
        from bnexp.tables import inside_table, run_table, show

        if not found.is_whole(found.metrics_jsonl):
            say(f"Warning: {found.metrics_jsonl} is not what the run wrote: it was damaged or changed.")
        measured = curves(found.metrics_jsonl)
        show(run_table(result, str(found.folder), measured, labels))
        inside = inside_table(measured)
        if inside is not None:
            show(inside)


runs_app.command("diff")(diff)
runs_app.command("tag")(tag)
runs_app.command("note")(note)


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
