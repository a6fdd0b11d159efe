"""`bnexp tensorboard`: TensorBoard on the runs folder."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from bnexp.base.errors import UsageError, short
from bnexp.cli.app import app
from bnexp.cli.options import RUNS, Json, NoConfigDir, NoQuiet, RunsDir, complete_runs_and_sweeps, print_json
from bnexp.cli.streams import say


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
    open_: Annotated[bool, typer.Option("--open", help="Also open the link in the browser.")] = False,
    runs_dir: RunsDir = RUNS,
    config_dir: NoConfigDir = None,
    json: Json = False,
    quiet: NoQuiet = False,
) -> None:
    """Serves TensorBoard on the runs folder, or on some of its runs, on 127.0.0.1 (or --host), until Ctrl-C.

    \b
    Examples:
      bnexp tensorboard --open
      bnexp tensorboard last --port 6007
      bnexp tensorboard batch-bs32-lr0.1-s0 none-bs32-lr0.1-s0
    """
    if not items and not runs_dir.is_dir():
        raise UsageError(f"There is no folder {runs_dir}; `bnexp train` makes one, and --runs-dir names another.")
    from bnexp.base.network import is_loopback
    from bnexp.storage.group import find_all
    from bnexp.tensorboard.server import serve

    shown = find_all(items or [], runs_dir)
    what = ", ".join(item.id for item in shown) or str(runs_dir)

    def announce(url: str, link: str) -> None:
        if json:
            print_json({"url": url, "link": link, "runs_dir": str(runs_dir), "shown": [item.id for item in shown]})
        else:
            print(f"TensorBoard shows {short(what, 300)} at {url} (Ctrl-C stops it)")
            print(f"Accuracy and loss first, means over seeds if there are any, a colour an arm:\n{link}")
        sys.stdout.flush()
        if not is_loopback(host):
            say(f"Warning: with --host {host} everybody on the network can read these runs; nothing asks for a password.")
        if open_:
            import webbrowser

            if not webbrowser.open(link):
                say("No browser could be opened here; open the link above in one.")

    serve(runs_dir, shown, host, port, announce)
