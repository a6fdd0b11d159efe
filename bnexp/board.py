"""TensorBoard on a runs folder, or on some runs and sweeps of it."""

from __future__ import annotations

import signal
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, suppress
from io import StringIO
from pathlib import Path

from bnexp.errors import UsageError
from bnexp.group import Group
from bnexp.run import Run, list_runs

HOST = "127.0.0.1"
FIRST_PORT = 6006
RELOAD_S = 5
TICKED = 40
"""TensorBoard ticks all runs where there are so many at most, and none where there are more: its charts are empty then."""


def serve(runs_dir: Path, shown: Sequence[Run | Group], port: int | None, announce: Callable[[str], None]) -> None:
    """Serves until Ctrl-C, SIGTERM or a closed terminal; `announce` gets the URL once it answers. Without `shown` the whole folder.

    Raises:
        UsageError: the port is taken.
    """
    done = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # before there is anything to clean up
        signal.signal(number, lambda *_: done.set())
    import logging
    import warnings

    logging.getLogger("tensorboard").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="tensorboard|pkg_resources")  # its own affairs, not the user's

    with _narrowed(shown) if shown else _whole(runs_dir) as (folder, refresh):
        announce(_launch(folder, port))
        while not done.wait(RELOAD_S):
            refresh()


def count(runs_dir: Path, shown: Sequence[Run | Group]) -> int:
    """How many runs TensorBoard will list, means over seeds among them."""
    if not shown:
        return len(list_runs(runs_dir)) + len(list(runs_dir.glob(".groups/*/*-mean*")))
    return sum(1 if isinstance(item, Run) else len(item.members()) + len(list(item.folder.glob("*-mean*"))) for item in shown)


@contextmanager
def _whole(runs_dir: Path) -> Iterator[tuple[Path, Callable[[], None]]]:
    yield runs_dir, lambda: None


@contextmanager
def _narrowed(shown: Sequence[Run | Group]) -> Iterator[tuple[Path, Callable[[], None]]]:
    """A temporary folder with a link to each run, and to each sweep's runs and means; `refresh` adds the runs that a sweep has begun since.

    TensorBoard follows links, and shows a run under the name of its link.
    """
    with tempfile.TemporaryDirectory(prefix="bnexp-tensorboard-") as name:
        folder = Path(name)

        def refresh() -> None:
            for item in shown:
                for target, place in _links(item):
                    link = folder / place
                    if not link.is_symlink():
                        link.parent.mkdir(exist_ok=True)
                        link.symlink_to(target.absolute())

        refresh()
        yield folder, refresh


def _links(item: Run | Group) -> list[tuple[Path, str]]:
    """The folders to be linked, with their places under TensorBoard's folder: those of the runs folder."""
    if isinstance(item, Run):
        return [(item.folder, item.id)]
    return [(item.folder, f".groups/{item.id}"), *((run.folder, run.id) for run in item.members())]


def _launch(folder: Path, port: int | None) -> str:
    """Starts the server on the port asked for, or the first free one; its URL."""
    from tensorboard import program

    for candidate in [port] if port is not None else range(FIRST_PORT, FIRST_PORT + 100):
        if not _is_free(candidate):
            continue
        board = program.TensorBoard()
        options = ["--logdir", str(folder), "--host", HOST, "--port", str(candidate), "--reload_interval", str(RELOAD_S)]
        board.configure(argv=["tensorboard", *options])
        with suppress(program.TensorBoardPortInUseError), redirect_stderr(StringIO()):  # an advertisement; what fails is raised
            return str(board.launch())  # somebody may have taken the port since it was free
    raise UsageError(f"Port {port} is taken; leave out --port for the first free one." if port else "No port from 6006 to 6105 is free.")


def _is_free(port: int) -> bool:
    with socket.socket() as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind((HOST, port))
        except OSError:
            return False
    return True
