"""`bnexp runs tag` and `bnexp runs note`: what people write down about runs."""

from __future__ import annotations

from typing import Annotated

import typer

from bnexp.base.errors import UsageError, one_line, short
from bnexp.cli.options import Json, NoConfigDir, Quiet, RunName, RunsDir, complete_runs, print_json


def tag(
    ctx: typer.Context,
    runs: Annotated[
        list[str], typer.Argument(metavar="RUN...", help="Ids, their beginnings, paths, or last.", autocompletion=complete_runs)
    ],
    add: Annotated[
        list[str] | None, typer.Option("--add", metavar="NAME", help="A tag that the runs get; more than once for more.")
    ] = None,
    remove: Annotated[list[str] | None, typer.Option("--remove", metavar="NAME", help="A tag that is taken from them.")] = None,
    runs_dir: RunsDir | None = None,
    config_dir: NoConfigDir = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Gives runs tags, or takes some away. The list shows them, and `bnexp runs tag=NAME` lists the runs that have one.

    A tag is kept in labels.json in the run's folder: resuming, and training anew with --fresh, keep it, and rm deletes it with the run.

    \b
    Examples:
      bnexp runs tag last --add paper
      bnexp runs tag batch-bs32-lr0.1-s0 none-bs32-lr0.1-s0 --add figure-2 --remove draft
    """
    from bnexp.storage.folder import find_run
    from bnexp.storage.labels import checked_tag, labels_of, retagged, store_labels

    if not add and not remove:
        *some, last = [*runs, "NAME"] if len(runs) == 1 else runs
        raise UsageError(f"Say which tag the runs get or lose. Write: bnexp runs tag {short(' '.join(some), 300)} --add {short(last)}")
    more, less = [checked_tag(name) for name in add or []], remove or []
    found = list(dict.fromkeys(find_run(name, runs_dir or ctx.obj["runs_dir"]) for name in runs))
    new = {run: retagged(labels_of(run), more, less) for run in found}
    for run, labels in new.items():
        store_labels(run, labels)
    if json or ctx.obj["json"]:
        print_json({"runs": [{"id": run.id, "tags": list(labels.tags)} for run, labels in new.items()]})
    elif not quiet:
        for run, labels in new.items():
            print(one_line(f"{run.id}: {', '.join(labels.tags) or 'no tags'}"))


def note(
    ctx: typer.Context,
    run: RunName,
    text: Annotated[list[str], typer.Argument(metavar="TEXT", help="The note, which takes the place of an earlier one; '' removes it.")],
    runs_dir: RunsDir | None = None,
    config_dir: NoConfigDir = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Writes a note on a run, which the list and `bnexp runs show` have. It is kept as tags are.

    \b
    Example:
      bnexp runs note last 'loss spike at step 200; look at block3'
    """
    from msgspec import structs

    from bnexp.storage.folder import find_run
    from bnexp.storage.labels import checked_note, labels_of, store_labels

    line = checked_note(" ".join(text))
    found = find_run(run, runs_dir or ctx.obj["runs_dir"])
    store_labels(found, structs.replace(labels_of(found), note=line))
    if json or ctx.obj["json"]:
        print_json({"id": found.id, "note": line})
    elif not quiet:
        print(one_line(f"{found.id}: {line or 'no note'}"))
