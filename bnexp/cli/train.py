"""`bnexp train`: one run, or the seeds of one."""

from __future__ import annotations

from typing import Annotated

import typer

from bnexp.cli.app import app
from bnexp.cli.checks import caution
from bnexp.cli.options import RUNS, ConfigDir, Fresh, Json, Overrides, Quiet, RunsDir
from bnexp.cli.results import print_outcome


@app.command()
def train(
    overrides: Overrides = None,
    seeds: Annotated[int, typer.Option("--seeds", min=1, max=1024, help="Train so many seeds (seed, seed+1, ...) in one stack.")] = 1,
    fresh: Fresh = False,
    runs_dir: RunsDir = RUNS,
    config_dir: ConfigDir = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Trains one run, or several seeds at once; evaluates it in eval mode with running statistics; logs it.

    A finished run of the same config is not trained again. An interrupted one is resumed.

    \b
    Examples:
      bnexp train
      bnexp train model.norm=none optim.lr=0.03 --seeds 5
      bnexp train data=mnist train.epochs=2 train.batch_size=64
    """
    from bnexp.config.compose import compose
    from bnexp.execution.launch import launch

    config = compose(overrides or [], config_dir)
    caution([config], quiet)
    outcome = launch([config.replace(seed=config.seed + offset) for offset in range(seeds)], runs_dir, fresh=fresh, quiet=quiet)
    print_outcome(outcome, json, quiet)
