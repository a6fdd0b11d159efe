"""`bnexp resume`: an interrupted run, from its last checkpoint."""

from __future__ import annotations

from bnexp.cli.app import app
from bnexp.cli.options import RUNS, Json, NoConfigDir, Place, Quiet, RunName, RunsDir, placed
from bnexp.cli.results import print_outcome


@app.command()
def resume(
    run: RunName,
    place: Place = None,
    runs_dir: RunsDir = RUNS,
    config_dir: NoConfigDir = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Resumes an interrupted run from its last checkpoint, and all that were started in one stack with it.

    On a CPU the result is the same, bit for bit, as without the interruption.

    \b
    Example:
      bnexp resume last
    """
    from bnexp.execution.launch import resume as resume_run
    from bnexp.storage.folder import find_run

    now = placed(place)
    print_outcome(resume_run(find_run(run, runs_dir), quiet=quiet, place=now), json, quiet)
