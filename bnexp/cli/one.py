"""Commands about one run, or the seeds of one: train, evaluate, resume, config, tensorboard."""

from __future__ import annotations

import sys
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from bnexp.base.errors import UsageError, short
from bnexp.cli.app import app
from bnexp.cli.cautions import caution
from bnexp.cli.options import (
    RUNS,
    ConfigDir,
    Json,
    NoConfigDir,
    NoQuiet,
    NoRunsDir,
    Overrides,
    Place,
    Quiet,
    RunName,
    RunsDir,
    complete_runs_and_sweeps,
    placed,
    print_json,
)
from bnexp.cli.streams import say

if TYPE_CHECKING:
    from bnexp.config import Config
    from bnexp.execution.launch import Outcome


@app.command()
def train(
    overrides: Overrides = None,
    seeds: Annotated[int, typer.Option("--seeds", min=1, max=1024, help="Train so many seeds (seed, seed+1, ...) in one stack.")] = 1,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Train finished runs again; each is replaced once its successor is complete.")
    ] = False,
    runs_dir: RunsDir = RUNS,
    config_dir: ConfigDir = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Trains one run, or several seeds at once; evaluates it in eval mode with running statistics; logs it.

    A finished run of the same config is not trained again. An interrupted one goes on where it was.

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
    outcome = launch(_seeds(config, seeds), runs_dir, fresh=fresh, quiet=quiet)
    _print_outcome(outcome, json, quiet)


class Stats(StrEnum):
    """What `--stats` takes."""

    RUNNING = "running"
    PRECISE = "precise"
    BATCH = "batch"
    ALL = "all"


@app.command()
def evaluate(
    run: RunName,
    place: Place = None,
    stats: Annotated[Stats, typer.Option("--stats", help="Which statistics the norm layers use.")] = Stats.RUNNING,
    folded: Annotated[
        bool, typer.Option("--folded", help="Also fold each batch norm into the layer before it; compare outputs, speed.")
    ] = False,
    runs_dir: RunsDir = RUNS,
    config_dir: NoConfigDir = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Evaluates a saved run again on its test data. Nothing in its folder changes.

    \b
    Examples:
      bnexp evaluate last --stats all
      bnexp evaluate last --folded
      bnexp evaluate last data.root=photos-moved
    """
    from bnexp.execution.terminal import Terminal
    from bnexp.storage.folder import find_run
    from bnexp.studies.re_evaluation import evaluate_saved

    which = ("running", "precise", "batch") if stats is Stats.ALL else (stats.value,)
    now = placed(place)
    result = evaluate_saved(find_run(run, runs_dir), which, folded, Terminal(quiet), now)
    if json:
        print_json(result)
    else:
        from bnexp.tables import evaluation_table, show

        show(evaluation_table(result))


@app.command()
def resume(
    run: RunName,
    place: Place = None,
    runs_dir: RunsDir = RUNS,
    config_dir: NoConfigDir = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Goes on with an interrupted run from its last checkpoint, and with all that were started in one stack with it.

    On a CPU the result is the same, bit for bit, as without the interruption.

    \b
    Example:
      bnexp resume last
    """
    from bnexp.execution.launch import resume as go_on
    from bnexp.storage.folder import find_run

    now = placed(place)
    _print_outcome(go_on(find_run(run, runs_dir), quiet=quiet, place=now), json, quiet)


@app.command()
def config(
    overrides: Overrides = None, runs_dir: NoRunsDir = RUNS, config_dir: ConfigDir = None, json: Json = False, quiet: NoQuiet = False
) -> None:
    """Prints the composed config as YAML, before anything runs.

    \b
    Examples:
      bnexp config
      bnexp config data=cifar10 optim=adam train.epochs=20
    """
    from bnexp.config import to_mapping
    from bnexp.config.compose import compose
    from bnexp.storage.run import to_yaml

    composed = compose(overrides or [], config_dir)
    if json:
        print_json(to_mapping(composed))
    else:
        print(to_yaml(composed), end="")


@app.command()
def tensorboard(
    items: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="RUN|SWEEP",
            help="Show only these: runs, or the 8 hex digits or the folder of a sweep's or comparison's results.",
            autocompletion=complete_runs_and_sweeps,
        ),
    ] = None,
    host: Annotated[str, typer.Option("--host", help="Address to listen on; 0.0.0.0 lets the whole network read the runs.")] = "127.0.0.1",
    port: Annotated[int | None, typer.Option("--port", min=1, max=65535, help="Port; without it the first free one from 6006 on.")] = None,
    runs_dir: RunsDir = RUNS,
    config_dir: NoConfigDir = None,
    json: Json = False,
    quiet: NoQuiet = False,
) -> None:
    """Serves TensorBoard on the runs folder, or on some of its runs, on 127.0.0.1 (or --host), until Ctrl-C.

    \b
    Examples:
      bnexp tensorboard
      bnexp tensorboard last --port 6007
      bnexp tensorboard batch-bs32-lr0.1-s0 none-bs32-lr0.1-s0
    """
    if not items and not runs_dir.is_dir():
        raise UsageError(f"There is no folder {runs_dir}; `bnexp train` makes one, and --runs-dir names another.")
    from bnexp.base.network import is_loopback
    from bnexp.storage.group import find_all
    from bnexp.tensorboard.server import TICKED, count, serve

    shown = find_all(items or [], runs_dir)
    what = ", ".join(item.id for item in shown) or str(runs_dir)

    def announce(url: str) -> None:
        if json:
            print_json({"url": url, "runs_dir": str(runs_dir), "shown": [item.id for item in shown]})
        else:
            print(f"TensorBoard shows {short(what, 300)} at {url} (Ctrl-C stops it)")
        sys.stdout.flush()
        if not is_loopback(host):
            say(f"Warning: with --host {host} everybody on the network can read these runs; nothing asks for a password.")
        if (runs := count(runs_dir, shown)) > TICKED:
            say(f"It ticks none of more than {TICKED} runs, and these are {runs}: tick some, as the filter `mean` finds.")

    serve(runs_dir, shown, host, port, announce)


def _seeds(config: Config, count: int) -> list[Config]:
    """The config under `count` seeds from its own on."""
    return [config.replace(seed=config.seed + offset) for offset in range(count)]


def _print_outcome(outcome: Outcome, json: bool, quiet: bool) -> None:
    summaries = outcome.summaries
    if outcome.reused and not quiet:
        which = summaries[0]["id"] if len(summaries) == 1 else f"{len(outcome.reused)} of {len(summaries)} runs"
        say(f"{which}: finished before, not trained again. `bnexp train --fresh` trains anew.")
    if json:
        print_json(summaries[0] if len(summaries) == 1 else {"runs": summaries})
        return
    from bnexp.storage.curves import curve, curves
    from bnexp.tables import run_table, seeds_table, show

    if len(summaries) == 1:
        show(run_table(outcome.runs[0].result(), str(outcome.runs[0].folder), curves(outcome.runs[0].metrics_jsonl)))
    else:
        show(seeds_table([run.result() for run in outcome.runs], [curve(run.metrics_jsonl, "val/loss") for run in outcome.runs]))
