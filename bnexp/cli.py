"""The command line: parse, call, print. Owns the exit codes. torch and Hydra are imported inside the commands that need them."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from bnexp import __version__
from bnexp.errors import BnexpError, UsageError

if TYPE_CHECKING:
    from bnexp.config import Config
    from bnexp.launch import Outcome

INTERRUPTED = 130


class Commands(TyperGroup):
    """Turns our errors into one sentence on stderr and an exit code."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except BnexpError as error:
            print(f"Error: {error}" if error.exit_code != INTERRUPTED else str(error), file=sys.stderr)
            raise typer.Exit(error.exit_code) from None
        except BrokenPipeError:
            raise
        except OSError as error:
            where = f": {error.filename}" if error.filename else ""
            print(f"Error: {error.strerror or error}{where}", file=sys.stderr)
            raise typer.Exit(BnexpError.exit_code) from None
        except KeyboardInterrupt:
            print("Interrupted.", file=sys.stderr)
            raise typer.Exit(INTERRUPTED) from None


app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="A laboratory for batch normalization: trains the two-conv BN-ReLU network with and without it, and measures what it did.",
    epilog="`bnexp COMMAND --help` has examples. OVERRIDES are key=value, as in `data=mnist optim.lr=0.3`; `bnexp config` prints them all.",
)
runs_app = typer.Typer(cls=Commands, rich_markup_mode="markdown")
app.add_typer(runs_app, name="runs", invoke_without_command=True)


def _complete_overrides(ctx: typer.Context, incomplete: str) -> list[str]:
    from bnexp.compose import completions

    # Bash splits words at '=', so that key, '=' and the beginning of the value arrive as three arguments.
    before = list(ctx.params.get("overrides") or [])
    typed = before[-2] + "=" if before[-1:] == ["="] and len(before) > 1 else before[-1] + "=" if incomplete == "=" and before else ""
    return [option.removeprefix(typed) for option in completions(typed + ("" if incomplete == "=" else incomplete))]


def _complete_runs(ctx: typer.Context, incomplete: str) -> list[str]:
    from bnexp.run import list_runs

    ids = [run.id for run in list_runs(Path(ctx.params.get("runs_dir") or "runs"))]
    return [name for name in [*ids, "last"] if name.startswith(incomplete)]


Overrides = Annotated[
    list[str] | None,
    typer.Argument(help="Config values as key=value, e.g. data=mnist optim.lr=0.3 model.norm=none.", autocompletion=_complete_overrides),
]
RunName = Annotated[str, typer.Argument(metavar="RUN", help="An id, its beginning, a path, or last.", autocompletion=_complete_runs)]
RunsDir = Annotated[Path, typer.Option("--runs-dir", help="Folder of the runs.", file_okay=False)]
ConfigDir = Annotated[
    Path | None,
    typer.Option("--config-dir", help="Folder with data/, model/, optim/ or experiment/ files of your own; they win over ours."),
]
Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout, and nothing else there.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no messages, only the result.")]
RUNS = Path("runs")
# Every command takes the four common options, so that a script can pass them to any; where one has no effect, the help does not show it.
NoRunsDir = Annotated[Path, typer.Option("--runs-dir", hidden=True)]
NoConfigDir = Annotated[Path | None, typer.Option("--config-dir", hidden=True)]
NoQuiet = Annotated[bool, typer.Option("--quiet", "-q", hidden=True)]


def _version(value: bool) -> None:
    if value:
        print(f"bnexp {__version__}")
        raise typer.Exit


@app.callback()
def root(version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")] = False) -> None:
    pass


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

    Examples:

        bnexp train

        bnexp train model.norm=none optim.lr=0.03 --seeds 5

        bnexp train data=mnist train.epochs=2 train.batch_size=64
    """
    from bnexp.compose import compose
    from bnexp.launch import launch

    config = compose(overrides or [], config_dir)
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

    Examples:

        bnexp evaluate last --stats all

        bnexp evaluate last --folded
    """
    from bnexp.loggers import Terminal
    from bnexp.run import find_run
    from bnexp.saved import evaluate_saved

    which = ("running", "precise", "batch") if stats is Stats.ALL else (stats.value,)
    result = evaluate_saved(find_run(run, runs_dir), which, folded, Terminal(quiet))
    if json:
        _print_json(result)
    else:
        from bnexp.tables import evaluation_table, show

        show(evaluation_table(result))


@app.command()
def resume(run: RunName, runs_dir: RunsDir = RUNS, config_dir: NoConfigDir = None, json: Json = False, quiet: Quiet = False) -> None:
    """Goes on with an interrupted run from its last checkpoint, and with all that were started in one stack with it.

    On a CPU the result is the same, bit for bit, as without the interruption.

    Example:

        bnexp resume last
    """
    from bnexp.launch import resume as go_on
    from bnexp.run import find_run

    _print_outcome(go_on(find_run(run, runs_dir), quiet=quiet), json, quiet)


@app.command()
def config(
    overrides: Overrides = None, runs_dir: NoRunsDir = RUNS, config_dir: ConfigDir = None, json: Json = False, quiet: NoQuiet = False
) -> None:
    """Prints the composed config as YAML, before anything runs.

    Examples:

        bnexp config

        bnexp config data=cifar10 optim=adam train.epochs=20
    """
    from bnexp.compose import compose
    from bnexp.config import to_mapping
    from bnexp.run import to_yaml

    composed = compose(overrides or [], config_dir)
    if json:
        _print_json(to_mapping(composed))
    else:
        print(to_yaml(composed), end="")


@runs_app.callback()
def list_(ctx: typer.Context, runs_dir: RunsDir = RUNS, config_dir: NoConfigDir = None, json: Json = False, quiet: NoQuiet = False) -> None:
    """Lists the runs; shows or removes some.

    Examples:

        bnexp runs

        bnexp runs show last

        bnexp runs rm batch-bs32-lr0.1-s0
    """
    ctx.obj = {"runs_dir": runs_dir, "json": json}
    if ctx.invoked_subcommand is not None:
        return
    if runs_dir != RUNS and not runs_dir.exists():
        raise UsageError(f"--runs-dir {runs_dir} is not there.")
    from bnexp.run import rows

    found = rows(runs_dir)
    if json:
        _print_json({"runs": found})
    elif not found:
        print(f"There are no runs in {runs_dir}; `bnexp train` makes one.", file=sys.stderr)
    else:
        from bnexp.tables import list_table, show

        show(list_table(found))


@runs_app.command("show")
def show_run(
    ctx: typer.Context,
    run: RunName,
    runs_dir: RunsDir | None = None,
    config_dir: NoConfigDir = None,
    json: Json = False,
    quiet: NoQuiet = False,
) -> None:
    """Prints a run's summary.

    Example:

        bnexp runs show last --json
    """
    from bnexp.run import find_run

    found = find_run(run, runs_dir or ctx.obj["runs_dir"])
    if json or ctx.obj["json"]:
        _print_json(found.summary())
    else:
        from bnexp.tables import run_table, show

        show(run_table(found.summary(), str(found.folder)))


@runs_app.command("rm")
def remove(
    ctx: typer.Context,
    runs: Annotated[
        list[str], typer.Argument(metavar="RUN...", help="Ids, their beginnings, paths, or last.", autocompletion=_complete_runs)
    ],
    runs_dir: RunsDir | None = None,
    config_dir: NoConfigDir = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Deletes runs with all their files. All names are looked up before the first is deleted; a run in work is not deleted.

    Example:

        bnexp runs rm batch-bs32-lr0.1-s0 none-bs32-lr0.1-s0
    """
    from bnexp.launch import remove as delete
    from bnexp.run import find_run

    found = list(dict.fromkeys(find_run(name, runs_dir or ctx.obj["runs_dir"]) for name in runs))
    delete(found)
    if json or ctx.obj["json"]:
        _print_json({"removed": [run.id for run in found]})
    elif not quiet:
        for run in found:
            print(f"Removed {run.folder}")


@app.command()
def tensorboard(
    port: Annotated[int | None, typer.Option("--port", min=1, max=65535, help="Port; without it the first free one from 6006 on.")] = None,
    runs_dir: RunsDir = RUNS,
    config_dir: NoConfigDir = None,
    json: Json = False,
    quiet: NoQuiet = False,
) -> None:
    """Serves TensorBoard on the runs folder, on 127.0.0.1, until Ctrl-C.

    Example:

        bnexp tensorboard --port 6007
    """
    if not runs_dir.is_dir():
        raise UsageError(f"There is no folder {runs_dir}; `bnexp train` makes one, and --runs-dir names another.")
    from bnexp.board import serve

    def announce(url: str) -> None:
        if json:
            _print_json({"url": url, "runs_dir": str(runs_dir)})
        else:
            print(f"TensorBoard shows {runs_dir} at {url} (Ctrl-C stops it)")
        sys.stdout.flush()

    serve(runs_dir, port, announce)


def _seeds(config: Config, count: int) -> list[Config]:
    """The config under `count` seeds from its own on."""
    return [config.replace(seed=config.seed + offset) for offset in range(count)]


def _print_outcome(outcome: Outcome, json: bool, quiet: bool) -> None:
    summaries = outcome.summaries
    if outcome.reused and not quiet:
        which = summaries[0]["id"] if len(summaries) == 1 else f"{len(outcome.reused)} of {len(summaries)} runs"
        print(f"{which}: finished before, not trained again. `bnexp train --fresh` trains anew.", file=sys.stderr)
    if json:
        _print_json(summaries[0] if len(summaries) == 1 else {"runs": summaries})
        return
    from bnexp.tables import run_table, seeds_table, show

    show(run_table(summaries[0], str(outcome.runs[0].folder)) if len(summaries) == 1 else seeds_table(summaries))


def _print_json(value: Any) -> None:
    from bnexp.files import dump_json

    print(dump_json(value))


def main(args: Sequence[str] | None = None) -> None:
    """The console script."""
    # GNU OpenMP's threads spin at barriers, and with any competitor on the machine a two-thread step took 12 times as long (25 to 297 ms,
    # MNIST-sized, batch 64, 2 cores); spinning shortly costs a quarter when alone and only doubles then (31, 64 ms). Read when torch loads.
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal that cannot show ± shows a question mark, and the run is not lost
    app(args=args, prog_name="bnexp")
