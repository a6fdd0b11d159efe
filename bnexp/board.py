"""TensorBoard on a runs folder."""

from __future__ import annotations

import signal
import socket
import threading
from collections.abc import Callable
from pathlib import Path

from bnexp.errors import UsageError

HOST = "127.0.0.1"
FIRST_PORT = 6006


def serve(runs_dir: Path, port: int | None, announce: Callable[[str], None]) -> None:
    """Serves until Ctrl-C or SIGTERM; `announce` gets the URL once it answers.

    Raises:
        UsageError: the port is taken.
    """
    chosen = _free_port(port)
    import logging
    import warnings

    logging.getLogger("tensorboard").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="tensorboard|pkg_resources")  # its own affairs, not the user's
    from tensorboard import program

    board = program.TensorBoard()
    board.configure(argv=["tensorboard", "--logdir", str(runs_dir), "--host", HOST, "--port", str(chosen), "--reload_interval", "5"])
    done = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: done.set())
    announce(board.launch())
    done.wait()


def _free_port(port: int | None) -> int:
    """The port asked for, or the first free one."""
    for candidate in [port] if port is not None else range(FIRST_PORT, FIRST_PORT + 100):
        with socket.socket() as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                trial.bind((HOST, candidate))
            except OSError:
                continue
            return candidate
    raise UsageError(f"Port {port} is taken; leave out --port for the first free one." if port else "No port from 6006 to 6105 is free.")
