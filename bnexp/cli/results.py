"""What sweep, compare and stats do with what they found: files beside the runs, or where --out says, and a report with them."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bnexp.base.errors import BnexpError, UsageError, failure, reason, short
from bnexp.cli.options import named_in_utf8
from bnexp.cli.streams import say

if TYPE_CHECKING:
    from bnexp.analysis import Arms, StepMs
    from bnexp.storage.group import Group
    from bnexp.storage.result import RunResult
    from bnexp.storage.run import Run

Out = Annotated[
    Path | None,
    typer.Option(
        "--out", metavar="DIR", help="Write the report, the result as JSON and its rows as CSV there, too.", callback=named_in_utf8
    ),
]
TITLES = {
    "compare": "Comparison",
    "sweep batch-size": "Sweep over the batch size",
    "sweep lr": "Sweep over the learning rate",
    "sweep norm": "Sweep over the norms",
    "sweep grid": "Sweep over a grid",
}
"""The reports' headings, by what was asked for."""


def check_out(out: Path | None) -> None:
    """Says at once that the folder of --out cannot be made: hours later would be too late. It is made and taken away again, so that a
    command that is refused later on leaves nothing behind."""
    if out is None:
        return
    missing = [path for path in (out, *out.parents) if not os.path.lexists(path)]
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"--out {short(str(out), 300)} cannot be a folder ({reason(error)}).") from None
    finally:
        for path in missing:
            with suppress(OSError):
                path.rmdir()


def store_results(
    name: str, plain: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], group: Path, out: Path | None, csv: str = "runs"
) -> Path | None:
    """Writes the rows and the result; the folder to look into, or None where that failed: what was found is still shown."""
    from bnexp.storage.group import store

    written = []
    for folder in ([out] if out else []) + [group]:
        try:
            store(folder, name, plain, rows, csv)
            written.append(folder)
        except OSError as error:
            say(f"Error: the results could not be written to {folder} ({reason(error)}).")
    return written[0] if written else None


def store_means(group: Group, runs: Sequence[Run]) -> None:
    """The means over seeds that TensorBoard shows; a disk that does not take them ends nothing."""
    from bnexp.tensorboard.means import write_means

    try:
        write_means(group, runs)
    except OSError as error:
        say(f"Warning: TensorBoard's means over seeds could not be written ({reason(error)}).")


def report_on(
    folder: Path,
    kind: str,
    runs: Sequence[Run],
    parts: Mapping[str, Sequence[RunResult]],
    arms: Arms | None = None,
    step_ms: Mapping[str, StepMs] | None = None,
    margin: float | None = None,
) -> Path:
    """The report of what was asked for as `kind`; arguments as `bnexp.report.write_report`, which is imported here: drawing needs
    matplotlib, and training does not."""
    from bnexp.report import write_report

    return write_report(folder, TITLES.get(kind, kind), runs, parts, arms=arms, step_ms=step_ms, margin=margin)


def try_report(stored: Path | None, write: Callable[[Path], Path], quiet: bool) -> None:
    """Writes a report beside stored results. What keeps it from being written is said, and is no reason to lose them."""
    if stored is None:
        return
    if not quiet:
        say("Drawing the report ...")
    try:
        path = write(stored)
    except (BnexpError, OSError) as error:
        say(f"No report: {failure(error)}")
        path = stored
    if not quiet:
        say(f"Report, rows and results: {path}")


def end(stored: Path | None) -> None:
    """Ends with 1 where the results could not be written."""
    if stored is None:
        raise typer.Exit(BnexpError.exit_code)
