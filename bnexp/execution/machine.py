"""The machine that a stack is trained on: its device, threads, memory and open files."""

from __future__ import annotations

import ctypes
import os
import platform
import resource
from contextlib import suppress

import torch

from bnexp import __version__
from bnexp.base.errors import UsageError
from bnexp.base.hardware import cores
from bnexp.base.quoting import command_line
from bnexp.config import Config
from bnexp.config.cost import activation_bytes
from bnexp.storage.facts import Environment

SMALL_STEP_BYTES = 2**20
"""`threads=auto`: a step whose first-layer activations fit into this is computed by one thread."""


def keep_memory() -> None:
    """Sets glibc's malloc to keep freed memory for the next step instead of giving it back to the system, page by page.

    A step of 12 runs (digits, batch 32, one thread) took 2.2 instead of 2.4 ms a run, and 4.6 under the setting that Dask gives its
    workers, which spend 40 % of their time on page faults. Nothing happens where there is no glibc.
    """
    with suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        for option, value in ((-1, 2**30), (-2, 2**26), (-3, 2**28)):  # M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD
            mallopt(option, value)


def resolve_device(config: Config) -> torch.device:
    """The device that `config.device` means on this machine.

    Raises:
        UsageError: it asks for a GPU and there is none.
    """
    if config.device == "cuda" and not torch.cuda.is_available():
        raise UsageError("device=cuda needs a CUDA GPU, and PyTorch sees none here; use device=auto or device=cpu.")
    return torch.device("cuda" if config.device != "cpu" and torch.cuda.is_available() else "cpu")


def device_name(device: torch.device) -> str:
    """The device as it is shown to people."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"cpu ({platform.machine()}, {os.cpu_count()} cores)"


def allow_open_files(runs: int) -> None:
    """Each run keeps three files open; the soft limit is raised as far as it may have to be, and can be."""
    needed = 4 * runs + 200
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < needed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed if hard == resource.RLIM_INFINITY else min(needed, hard), hard))


def set_threads(config: Config, shape: tuple[int, ...], runs: int, auto: int | None = None) -> int:
    """Sets PyTorch's CPU threads, and returns how many. `threads=auto` is `auto` where that is given (a worker beside others has 1), else
    1 for small steps, where more cost more than they give, and the cores for large ones."""
    step_bytes = config.train.batch_size * runs * activation_bytes(config, shape)
    threads = config.threads if config.threads != "auto" else auto or (1 if step_bytes <= SMALL_STEP_BYTES else cores())
    torch.set_num_threads(threads)
    return threads


def environment(device: torch.device, threads: int, config: Config) -> Environment:
    """What computes the numbers."""
    return Environment(
        bnexp=__version__,
        python=platform.python_version(),
        torch=str(torch.__version__),
        platform=platform.platform(),
        device=device_name(device),
        device_type=device.type,
        cpu_kernels=torch.backends.cpu.get_cpu_capability(),
        threads=threads,
        data_root=config.data.root,
        command=command_line(),
    )
