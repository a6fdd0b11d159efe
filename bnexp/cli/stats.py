"""The command about batch statistics at frozen weights: stats."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from bnexp.base.errors import UsageError, short
from bnexp.cli.app import app
from bnexp.cli.checks import check_out
from bnexp.cli.options import RUNS, ConfigDir, Json, Out, Quiet, RunsDir, complete_items, listed, print_json, runs_and_overrides
from bnexp.cli.results import end, store_results, try_report

LARGEST = 2**16


class Mode(StrEnum):
    """What `--mode` takes."""

    TRAIN = "train"
    FROZEN = "frozen"


@app.command()
def stats(
    items: Annotated[
        list[str] | None,
        typer.Argument(metavar="RUN|OVERRIDE", help="A run, or config values for fresh weights.", autocompletion=complete_items),
    ] = None,
    batch_sizes: Annotated[
        list[str] | None, typer.Option("--batch-sizes", metavar="A,B,...", help="Batch sizes to measure.", show_default="1,2,4,...,512")
    ] = None,
    mode: Annotated[
        Mode, typer.Option("--mode", help="What the norms below a layer use: the batch's statistics, as training does, or frozen ones.")
    ] = Mode.TRAIN,
    out: Out = None,
    runs_dir: RunsDir = RUNS,
    config_dir: ConfigDir = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Measures how noisy the batch's mean and variance are for each batch size, at frozen weights, against what theory says.

    At least 200 random batches of each size are measured. In train mode they are drawn and normalized as in training, and theory, which is
    of independent images, holds at the first layer only. In frozen mode the norms below a layer use precise statistics as constants and
    batches are drawn with replacement, so that theory holds at every layer.

    \b
    Examples:
      bnexp stats
      bnexp stats last --batch-sizes 2,8,32
      bnexp stats last data.root=photos-moved
      bnexp stats last --mode frozen
      bnexp stats data=waveforms model.placement=norm-conv-relu
    """
    from bnexp.base.files import null_nonfinite
    from bnexp.config.compose import compose, placement
    from bnexp.execution.terminal import Terminal
    from bnexp.storage.folder import find_run

    names, overrides = runs_and_overrides(items)
    if len(names) > 1:
        raise UsageError(f"{short(names[0])} names a run, and {short(names[1])} is too much; give one run, or OVERRIDES.")
    sizes = _sizes(batch_sizes)
    check_out(out)
    place = placement(overrides) if names and overrides else {}
    run, config = (find_run(names[0], runs_dir), None) if names else (None, compose(overrides, config_dir))
    from bnexp.studies.noise_law import of_config, of_run

    terminal = Terminal(quiet)
    if run is not None:
        law = of_run(run, sizes, mode.value, terminal, place)
    else:
        assert config is not None
        law = of_config(config, sizes, mode.value, terminal)
    plain = null_nonfinite(law.to_json())
    if json:
        print_json(plain)
    else:
        from bnexp.tables import law_table, show

        show(law_table(law))
    from bnexp.report import write_law_report
    from bnexp.storage.group import law_folder

    stored = store_results("stats", plain, law.rows(), law_folder(runs_dir, plain), out, csv="stats")
    try_report(stored, lambda folder: write_law_report(folder, law), quiet)
    end(stored)


def _sizes(texts: list[str] | None) -> list[int] | None:
    """The batch sizes of `--batch-sizes`, in ascending order, each once.

    Raises:
        UsageError: one is no whole number from 1 to `LARGEST`.
    """
    values = listed(texts, "--batch-sizes")
    if values is None:
        return None
    if not values:
        raise UsageError("--batch-sizes is empty; give batch sizes, as in --batch-sizes 1,8,64.")
    for value in values:
        if not (value.isascii() and value.isdigit() and len(value) <= 5 and 1 <= int(value) <= LARGEST):
            raise UsageError(
                f"--batch-sizes {short(value)} is no batch size; each is a whole number from 1 to {LARGEST}, as in --batch-sizes 1,8,64."
            )
    return sorted({int(value) for value in values})
