"""TensorBoard on a runs folder, or on some runs and sweeps of it."""

from __future__ import annotations

import functools
import os
import shutil
import socket
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, suppress
from fnmatch import fnmatch
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bnexp.base.dead_processes import drop_flags, flag_name
from bnexp.base.errors import BnexpError, UsageError, short
from bnexp.base.network import is_own_name
from bnexp.base.signals import handle
from bnexp.storage.folder import list_runs
from bnexp.storage.group import Group
from bnexp.storage.run import Run, hidden_folder
from bnexp.tensorboard.files import PATTERN
from bnexp.tensorboard.names import mean_names, run_name
from bnexp.tensorboard.opening import in_our_colours, link

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment

HOST = "127.0.0.1"
PREFIX = "bnexp-tensorboard"
FIRST_PORT = 6006
RELOAD_S = 5


def serve(runs_dir: Path, shown: Sequence[Run | Group], host: str, port: int | None, announce: Callable[[str, str], None]) -> None:
    """Serves the runs shown, or all, until a signal; `announce` gets the URL, and the link that opens on the means over seeds. UsageError
    where the host or the port cannot be used."""
    done = threading.Event()
    handle(lambda number, frame: done.set())  # before there is anything to clean up
    try:
        _listen(host, 0)
    except (OSError, UnicodeError):
        raise UsageError(f"--host {short(host)} is no address of this machine; 0.0.0.0 is all of them.") from None
    import logging
    import warnings

    logging.getLogger("tensorboard").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="tensorboard|pkg_resources")  # its own affairs, not the user's

    with _linked(runs_dir, shown) as (folder, refresh):
        names = functools.partial(_names, folder)
        url = _launch(folder, host, port, names)
        announce(url, link(url, names()))
        while not done.wait(RELOAD_S):
            with suppress(OSError, BnexpError):  # what is removed or damaged meanwhile is shown as it was
                refresh()


@contextmanager
def _linked(runs_dir: Path, shown: Sequence[Run | Group]) -> Iterator[tuple[Path, Callable[[], None]]]:
    """A temporary folder with a link to every event file of each run and each mean over seeds, in folders that say what they are
    (`names`); `refresh` brings it up to date. TensorBoard itself would follow the links inside a run, which may lead anywhere."""
    drop_flags(Path(tempfile.gettempdir()), PREFIX)
    folder = Path(tempfile.gettempdir(), flag_name(PREFIX))
    folder.mkdir(0o700)
    made: set[str] = set()

    def refresh() -> None:
        wanted = {f"{place}/{path.name}": path for place, shows in _places(runs_dir, shown) for path in _event_files(shows)}
        for gone in made - wanted.keys():  # removed, or replaced by a successor with a file of its own
            (folder / gone).unlink(missing_ok=True)
            with suppress(OSError):  # others are still in it
                (folder / gone).parent.rmdir()
        for new in wanted.keys() - made:
            (folder / new).parent.mkdir(parents=True, exist_ok=True)
            (folder / new).symlink_to(wanted[new])
        made.clear()
        made.update(wanted)

    try:
        refresh()
        yield folder, refresh
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _places(runs_dir: Path, shown: Sequence[Run | Group]) -> list[tuple[str, Path]]:
    """What TensorBoard is to list: names, and the folders with the event files."""
    runs = [run for item in shown for run in ([item] if isinstance(item, Run) else item.members())]
    groups = [item for item in shown if isinstance(item, Group)]
    if not shown:
        fresh = [Run(runs_dir, path.name, fresh=True) for path in _folders(hidden_folder(runs_dir, ".fresh"))]
        runs = [*list_runs(runs_dir), *fresh]
        groups = [Group(runs_dir, path.name) for path in _folders(hidden_folder(runs_dir, ".groups"))]
    means = mean_names(path for group in dict.fromkeys(groups) for path in _folders(group.folder) if "-mean" in path.name)
    return [*means.items(), *((run_name(run), run.folder) for run in dict.fromkeys(runs))]


def _names(folder: Path) -> list[str]:
    """The names under which `_linked` shows runs and means at the moment."""
    return sorted({path.parent.relative_to(folder).as_posix() for path in folder.rglob(PATTERN)})


def _folders(folder: Path) -> list[Path]:
    """Those inside, links not among them; none where nothing is."""
    with suppress(FileNotFoundError), os.scandir(folder) as entries:
        return [Path(entry.path) for entry in entries if entry.is_dir(follow_symlinks=False)]
    return []


def _event_files(folder: Path) -> list[Path]:
    """The plain ones: a link leads out, and a pipe would keep TensorBoard waiting. None where no folder is, or a link in its place."""
    if not folder.is_symlink():
        with suppress(OSError), os.scandir(folder) as entries:
            names = [entry.name for entry in entries if fnmatch(entry.name, PATTERN) and entry.is_file(follow_symlinks=False)]
            return [folder.absolute() / name for name in names]
    return []


def _plugins() -> list[Any]:
    """TensorBoard's plugins for what runs write, without the projector, which serves any file that a run names."""
    from tensorboard.plugins.core.core_plugin import CorePluginLoader
    from tensorboard.plugins.custom_scalar.custom_scalars_plugin import CustomScalarsPlugin
    from tensorboard.plugins.distribution.distributions_plugin import DistributionsPlugin
    from tensorboard.plugins.graph.graphs_plugin import GraphsPlugin
    from tensorboard.plugins.histogram.histograms_plugin import HistogramsPlugin
    from tensorboard.plugins.hparams.hparams_plugin import HParamsPlugin
    from tensorboard.plugins.image.images_plugin import ImagesPlugin
    from tensorboard.plugins.metrics.metrics_plugin import MetricsPlugin
    from tensorboard.plugins.scalar.scalars_plugin import ScalarsPlugin
    from tensorboard.plugins.text.text_plugin import TextPlugin

    # The order is that of the tabs.
    shown = [MetricsPlugin, ScalarsPlugin, CustomScalarsPlugin, ImagesPlugin, GraphsPlugin]
    return [CorePluginLoader(), *shown, DistributionsPlugin, HistogramsPlugin, TextPlugin, HParamsPlugin]


def _launch(folder: Path, host: str, port: int | None, names: Callable[[], Sequence[str]]) -> str:
    """Starts the server on the port asked for, or the first free one; its URL."""
    from tensorboard import program

    for candidate in [port] if port is not None else range(FIRST_PORT, FIRST_PORT + 100):
        if not _is_free(host, candidate):
            continue
        board = program.TensorBoard(plugins=_plugins(), server_class=functools.partial(_server, names))
        options = ["--logdir", str(folder), "--host", host, "--port", str(candidate), "--reload_interval", str(RELOAD_S)]
        board.configure(argv=["tensorboard", *options])
        with suppress(program.TensorBoardPortInUseError), redirect_stderr(StringIO()):  # an advertisement; what fails is raised
            return str(board.launch())  # another process may have taken the port since it was free
    raise UsageError(f"Port {port} is taken; leave out --port for the first free one." if port else "No port from 6006 to 6105 is free.")


def _server(names: Callable[[], Sequence[str]], app: Any, flags: Any) -> Any:
    """TensorBoard's server, which refuses requests for hosts that are not its own: a page that is open in the user's browser could have its
    own name resolve to this machine, and read the runs (DNS rebinding)."""
    from tensorboard.program import WerkzeugServer

    inner = in_our_colours(app, names)

    def checked(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if is_own_name(environ.get("HTTP_HOST", ""), flags.host):
            return inner(environ, start_response)
        start_response("403 Forbidden", [("Content-Type", "text/plain; charset=utf-8")])
        return [b"This server accepts requests for its own addresses, such as localhost; the Host header names another.\n"]

    return WerkzeugServer(checked, flags)


def _is_free(host: str, port: int) -> bool:
    try:
        _listen(host, port)
    except OSError:
        return False
    return True


def _listen(host: str, port: int) -> None:
    """Listens there for a moment, as TensorBoard will; raises OSError, or UnicodeError for some names, where that is not possible."""
    family, *_ = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    socket.create_server((host, port), family=family).close()
