"""Arguments and options that several commands take, with their completion, and how a command prints JSON."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Collection, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import typer

from bnexp.base.errors import UsageError, short
from bnexp.base.quoting import typed


def complete_overrides(ctx: typer.Context, incomplete: str) -> list[str]:
    from bnexp.config.compose import completions

    # Bash splits words at '=', so that key, '=' and the beginning of the value arrive as three arguments.
    before = list(ctx.params.get("overrides") or ctx.params.get("items") or [])
    typed = before[-2] + "=" if before[-1:] == ["="] and len(before) > 1 else before[-1] + "=" if incomplete == "=" and before else ""
    return [option.removeprefix(typed) for option in completions(typed + ("" if incomplete == "=" else incomplete))]


def complete_runs(ctx: typer.Context, incomplete: str) -> list[str]:
    from bnexp.storage.folder import list_runs

    ids = [run.id for run in list_runs(Path(ctx.params.get("runs_dir") or "runs"))]
    return [name for name in [*ids, "last"] if name.startswith(incomplete)]


def complete_runs_and_sweeps(ctx: typer.Context, incomplete: str) -> list[str]:
    groups = Path(ctx.params.get("runs_dir") or "runs") / ".groups"
    sweeps = sorted(path.parent.name for path in groups.glob("*/members.json"))
    return [*complete_runs(ctx, incomplete), *(name for name in sweeps if name.startswith(incomplete))]


def named_in_utf8(folder: Path | None) -> Path | None:
    """A folder that is to be written to, whose path every file that names it can hold.

    Raises:
        UsageError: the path, or that of the working directory in front of it, is not UTF-8.
    """
    if folder is not None:
        path = str(folder)
        with suppress(FileNotFoundError):  # the working directory is gone, which is said elsewhere
            path = str(folder.absolute())
        try:
            path.encode()
        except UnicodeEncodeError:
            raise UsageError(f"The path {short(path, 300)} is not UTF-8, as stored results must be; rename it, or name another.") from None
    return folder


Overrides = Annotated[
    list[str] | None,
    typer.Argument(help="Config values as key=value, e.g. data=mnist optim.lr=0.3 model.norm=none.", autocompletion=complete_overrides),
]
RunName = Annotated[str, typer.Argument(metavar="RUN", help="An id, its beginning, a path, or last.", autocompletion=complete_runs)]
Place = Annotated[
    list[str] | None,
    typer.Argument(metavar="data.root=PATH", help="Where the run's data are now, if they moved.", autocompletion=complete_overrides),
]
RunsDir = Annotated[Path, typer.Option("--runs-dir", help="Folder of the runs.", file_okay=False, callback=named_in_utf8)]
ConfigDir = Annotated[
    Path | None,
    typer.Option("--config-dir", help="Folder with data/, model/, optim/ or experiment/ files of your own; they win over ours."),
]
Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout, and nothing else there.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no messages, only the result.")]
Out = Annotated[
    Path | None,
    typer.Option(
        "--out", metavar="DIR", help="Write the report, the result as JSON and its rows as CSV there, too.", callback=named_in_utf8
    ),
]
Lrs = Annotated[list[str] | None, typer.Option("--lrs", metavar="A,B,...", help="Learning rates; of sweep lr, the same as --values.")]
BatchSizes = Annotated[
    list[str] | None, typer.Option("--batch-sizes", metavar="A,B,...", help="Batch sizes; of sweep batch-size, the same as --values.")
]
Seeds = Annotated[
    int | None, typer.Option("--seeds", min=1, max=1024, help="Seeds a cell (seed, seed+1, ...), which pair the arms.", show_default="10")
]
Workers = Annotated[
    int | None,
    typer.Option(
        "--workers", min=0, max=1024, help="Processes on this machine; 0 trains in this one.", show_default="one a core, or one a GPU"
    ),
]
Scheduler = Annotated[
    str | None,
    typer.Option(
        "--scheduler",
        metavar="ADDRESS",
        help="A Dask scheduler, tls://HOST:PORT or tcp://HOST:PORT, or its scheduler file: train on its workers.",
    ),
]
Fresh = Annotated[bool, typer.Option("--fresh", help="Train finished runs again; each is replaced once its successor is complete.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print the plan and what it will take; train nothing.")]
Verbose = Annotated[bool, typer.Option("--verbose", help="Print every table, the tests behind the answer, the audit and all notes.")]
RUNS = Path("runs")
# Every command takes the four common options, so that a script can pass them to any; where one has no effect, the help does not show it.
NoRunsDir = Annotated[Path, typer.Option("--runs-dir", hidden=True)]
NoConfigDir = Annotated[Path | None, typer.Option("--config-dir", hidden=True)]
NoQuiet = Annotated[bool, typer.Option("--quiet", "-q", hidden=True)]


def runs_and_overrides(items: list[str] | None) -> tuple[list[str], list[str]]:
    """What names runs, and what are config values. A folder whose name has an `=` in it is a run.

    Raises:
        UsageError: the shell has split a path of data.root at its spaces.
    """
    from bnexp.data.cache import is_folder, is_there, user_path

    overrides = [item for item in items or [] if ("=" in item or item.startswith("~")) and not is_folder(Path(item))]
    for first, second in itertools.pairwise(items or []):
        root = first.removeprefix("data.root=")
        if root != first and second not in overrides and is_there(user_path(f"{root} {second}")):
            raise UsageError(f"{short(first, 300)} and {short(second)} came as two words; type {typed('data.root', f'{root} {second}')}.")
    return [item for item in items or [] if item not in overrides], overrides


def placed(overrides: list[str] | None) -> dict[str, Any]:
    """Where a run's data are now, as overrides beside it say.

    Raises:
        UsageError: an override says something else.
    """
    if not overrides:
        return {}
    from bnexp.config.compose import placement  # Hydra

    return placement(overrides)


def complete_items(ctx: typer.Context, incomplete: str) -> list[str]:
    """Completes both."""
    return [*complete_runs(ctx, incomplete), *complete_overrides(ctx, incomplete)]


def listed(texts: list[str] | None, option: str) -> list[str] | None:
    """The values of a comma list.

    Raises:
        UsageError: the option is given more than once, or one of several values is empty.
    """
    if not texts:
        return None
    if len(texts) > 1:
        raise UsageError(f"{option} is given {len(texts)} times; give all values at once: {option} {','.join(texts)}.")
    (text,) = texts
    values = [value.strip() for value in text.split(",")] if text.strip() else []
    if not all(values):
        raise UsageError(f"{option} {text} has an empty value; write {option} A,B,C.")
    return values


def refuse_loose_values(words: Sequence[str], option: str, values: list[str] | None, known: Collection[str] = ()) -> None:
    """Raises UsageError where words are lists of numbers, or of `known` words, which were to be given to an option."""

    def is_value(text: str) -> bool:
        with suppress(ValueError):
            return math.isfinite(float(text))
        return text in known

    loose = [word for word in words if all(map(is_value, word.split(",")))]
    if loose:
        raise UsageError(
            f"Values follow an option, with commas between them. Write: {option} {','.join(filter(None, [*(values or []), *loose]))}"
        )


def print_json(value: Any) -> None:
    """One JSON document on stdout. What cannot be printed (controls that a terminal would obey, marks that turn the writing around) stands
    there as JSON's escapes."""
    import json

    from bnexp.base.files import dump_json

    print(re.sub("[^ -~\n]", lambda found: found[0] if found[0].isprintable() else json.dumps(found[0])[1:-1], dump_json(value)))
