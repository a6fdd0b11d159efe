"""Where workers come from: a Dask cluster of our own on this machine, or a given scheduler, whose workers are checked."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bnexp import __version__
from bnexp.base.dead_processes import flag_name
from bnexp.base.errors import BnexpError, UsageError, reason, short, shortage
from bnexp.base.hardware import cores, on_gpu, visible_gpus
from bnexp.storage.run import hidden_folder

if TYPE_CHECKING:
    from distributed import Client

CONNECT_S = 10


@contextlib.contextmanager
def connected(device: str, stacks: int, workers: int | None, scheduler: str | None) -> Iterator[Client]:
    """A client of the scheduler, or of a cluster of our own that ends with it: `workers` processes, but no more than `stacks`.

    Raises:
        UsageError: the scheduler does not answer, or not without keys; or Dask's configuration files cannot be used.
        BnexpError: no workers can be started on this machine.
    """
    _import_dask()
    import dask
    from distributed import Client

    for name in ("distributed", "distributed.client"):  # Dask gives the second a level of its own
        logging.getLogger(name).setLevel(logging.CRITICAL)  # bnexp words what happens to workers itself
    if scheduler is not None:
        try:
            client = Client(address_of(scheduler), timeout=CONNECT_S)
        except (OSError, ValueError) as error:
            raise UsageError(f"The scheduler {scheduler} does not answer within {CONNECT_S} s ({type(error).__name__}).") from None
        except TypeError:  # how Dask reports a tls:// address without keys in its configuration
            raise UsageError(
                f"The scheduler {scheduler} asks for keys (TLS); docs/how-to/cluster.md says how to make them, and where to name them."
            ) from None
        with client:
            yield client
        return
    from bnexp.execution.local_cluster import SETTINGS, local_cluster

    with dask.config.set(SETTINGS):
        try:
            cluster = local_cluster(min(workers or local_workers(device), stacks))
        except Exception as error:  # no memory, no processes, or whatever a value in Dask's configuration leads to
            raise BnexpError(f"The workers could not be started ({_why(error)}); --workers 0 trains without them.") from None
        with cluster, Client(cluster) as client:
            try:
                yield client
            except KeyboardInterrupt:  # kills them: workers that are asked to end first save their stacks, for seconds
                for nanny in cluster.workers.values():
                    nanny.auto_restart = False
                    with contextlib.suppress(OSError, TypeError):  # it is gone, or was never there
                        os.kill(nanny.pid, signal.SIGKILL)
                raise


def _why(error: BaseException) -> str:
    """What began a chain of errors: a shortage of memory or threads, which others often hide; else the first cause."""
    chain, cause = [error], error
    while (before := chain[-1].__cause__ or chain[-1].__context__) is not None:
        chain.append(before)
    while cause.__cause__ is not None:
        cause = cause.__cause__
    return next(filter(None, map(shortage, chain)), None) or short(reason(cause), 200)


def _import_dask() -> None:
    """Imports Dask, which reads its configuration files as it is imported.

    Raises:
        UsageError: one of them is no YAML, or has a value that Dask stumbles over.
    """
    try:
        import distributed  # noqa: F401
    except (ImportError, MemoryError):
        raise
    except Exception as error:  # of any kind, as the value has it
        why = short(" ".join(reason(error).split()), 300)
        raise UsageError(
            f"Dask's configuration cannot be used ({why}). Mend its files, in ~/.config/dask unless DASK_CONFIG names others."
        ) from None


def address_of(scheduler: str) -> str:
    """The address that `--scheduler` gives, itself or in a scheduler file.

    Raises:
        UsageError: it is neither.
    """
    if re.match(r"(tcp|tls|ucx|ws|wss)://[^/]+:\d+/?$", scheduler):
        return scheduler
    try:
        address = json.loads(Path(scheduler).read_text())["address"]
    except FileNotFoundError:
        raise UsageError(f"--scheduler {scheduler} is neither an address (tcp://HOST:PORT) nor an existing scheduler file.") from None
    except (OSError, ValueError, KeyError, TypeError):
        raise UsageError(f"--scheduler {scheduler} is not a scheduler file; `dask scheduler --scheduler-file FILE` writes one.") from None
    return str(address)


def local_workers(device: str) -> int:
    """Workers on this machine: one a GPU where there are GPUs to be used, else one a core."""
    gpus = visible_gpus() if on_gpu(device) else 0
    return gpus or cores()


def check_workers(client: Client, runs_dir: Path, addresses: Sequence[str]) -> dict[str, str | None]:
    """What is wrong with each worker: None if it has this version of bnexp and sees the runs folder. One that is gone has no answer."""
    if not addresses:
        return {}
    token = hidden_folder(runs_dir, ".stacks") / flag_name("seen")
    token.touch()
    try:
        answers = client.run(_sees, str(token), workers=list(addresses), on_error="return")
    finally:
        token.unlink(missing_ok=True)
    return {address: _problem(address, answer, runs_dir) for address, answer in answers.items() if not isinstance(answer, OSError)}


def _problem(address: str, answer: object, runs_dir: Path) -> str | None:
    if isinstance(answer, BaseException):
        return f"The worker {address} cannot run bnexp ({type(answer).__name__}: {str(answer)[:200]}); install it there."
    if answer == (__version__, True):
        return None
    if isinstance(answer, tuple) and answer[0] != __version__:
        return f"The worker {address} has bnexp {answer[0]}, and this is {__version__}; install the same everywhere."
    return f"The worker {address} does not see {runs_dir}; --runs-dir must be a folder that all machines share."


def _sees(token: str) -> tuple[str, bool]:
    return __version__, Path(token).exists()
