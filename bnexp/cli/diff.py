"""`bnexp runs diff`: two runs side by side."""

from __future__ import annotations

from typing import Annotated

import typer

from bnexp.base.errors import UsageError, short
from bnexp.cli.options import Json, NoConfigDir, NoQuiet, RunsDir, Verbose, complete_runs, print_json


def diff(
    ctx: typer.Context,
    a: Annotated[str, typer.Argument(metavar="A", help="A run: an id, its beginning, a path, or last.", autocompletion=complete_runs)],
    b: Annotated[str, typer.Argument(metavar="B", help="Another one.", autocompletion=complete_runs)],
    runs_dir: RunsDir | None = None,
    config_dir: NoConfigDir = None,
    json: Json = False,
    quiet: NoQuiet = False,
    verbose: Verbose = False,
) -> None:
    """Shows what two runs differ in: their config keys and their results.

    \b
    Example:
      bnexp runs diff batch-bs32-lr0.1-s0 none-bs32-lr0.1-s0
    """
    from bnexp.storage.differences import differing_config, differing_results
    from bnexp.storage.folder import find_run, results_of

    runs = [find_run(name, runs_dir or ctx.obj["runs_dir"]) for name in (a, b)]
    if runs[0] == runs[1]:
        raise UsageError(f"{short(a)} and {short(b)} name the same run, {runs[0].id}; give two.")
    first, second = (results_of([run]).get(run.id) or run.result() for run in runs)
    config, results = differing_config([first.config, second.config]), differing_results(first, second)
    ids = [run.id for run in runs]
    if json or ctx.obj["json"]:
        print_json({"runs": ids, "config": config, "results": results})
    else:
        from bnexp.tables import differences_table, show

        show(differences_table(ids, config, results, verbose))
