"""`bnexp reports`: the comparisons and sweeps of a runs folder, with their answers and their pages."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from bnexp.base.errors import DataError, UsageError
from bnexp.cli.app import app
from bnexp.cli.options import RUNS, Json, NoConfigDir, NoQuiet, RunsDir, print_json
from bnexp.cli.streams import say


def complete_groups(ctx: typer.Context, incomplete: str) -> list[str]:
    groups = Path(ctx.params.get("runs_dir") or RUNS) / ".groups"
    names = [*sorted(path.parent.name for path in groups.glob("*/members.json")), "last"]
    return [name for name in names if name.startswith(incomplete)]


@app.command()
def reports(
    group: Annotated[
        str | None,
        typer.Argument(
            metavar="GROUP", help="Only this one: the 8 hex digits before it, their beginning, or last.", autocompletion=complete_groups
        ),
    ] = None,
    open_: Annotated[bool, typer.Option("--open", help="Open its page in the browser; without GROUP that of the newest.")] = False,
    runs_dir: RunsDir = RUNS,
    config_dir: NoConfigDir = None,
    json: Json = False,
    quiet: NoQuiet = False,
) -> None:
    """Lists comparisons and sweeps, oldest first: the first sentence of the answer, the number of runs, the date, the page.

    \b
    Examples:
      bnexp reports
      bnexp reports --open
    """
    from bnexp.storage.stored_studies import find_study, stored_studies

    if runs_dir != RUNS and not runs_dir.exists():
        raise UsageError(f"--runs-dir {runs_dir} is not there.")
    option = "" if runs_dir == RUNS else f" --runs-dir {shlex.quote(str(runs_dir))}"
    studies = [find_study(group, runs_dir)] if group is not None else stored_studies(runs_dir)
    if open_:
        studies = studies[-1:]
    if open_ and not studies:
        raise UsageError(f"There are no comparisons and no sweeps in {runs_dir}; `bnexp compare --no-bn` makes one.")
    if open_ and not studies[0].page.is_file():
        raise UsageError(f"{studies[0].group.id} has no page yet. Write: bnexp report {studies[0].group.id}{option}")
    if json:
        print_json({"reports": [study.plain() for study in studies]})
    elif not studies:
        say(f"There are no comparisons and no sweeps in {runs_dir}; `bnexp compare --no-bn` makes one.")
    else:
        from bnexp.tables import show, stored_studies_table

        show(stored_studies_table(studies, option))
    if open_:
        import webbrowser

        if not webbrowser.open(studies[0].page.absolute().as_uri()):
            raise DataError(f"No browser could be started; open {studies[0].page} yourself.")
