"""What every computation on this machine opens first: the device, the data on it, the threads, and the checks that all of it fits."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Self

import torch
from torch import nn

from bnexp.base.errors import BnexpError, lacks_memory, refused_as_usage
from bnexp.config import Config, check_fits
from bnexp.data import Dataset, load
from bnexp.execution.machine import allow_open_files, environment, keep_memory, resolve_device, set_threads
from bnexp.execution.terminal import Display
from bnexp.models import memory_format
from bnexp.planning.plan import check_memory
from bnexp.storage.facts import Environment


@dataclass(frozen=True)
class Session:
    """A config's data on its device, and how many threads compute."""

    config: Config
    device: torch.device
    data: Dataset
    threads: int

    @classmethod
    def open(
        cls,
        config: Config,
        terminal: Display,
        *,
        runs: int = 1,
        threads: int | None = None,
        download: bool = False,
        like: Self | None = None,
    ) -> Self:
        """A session for a stack of `runs` runs.

        Args:
            threads: what `threads=auto` means; None: what it means for a single run.
            download: whether missing data may be fetched, which they are not for a saved run.
            like: an earlier session, whose data are used again if they are the same.

        Raises:
            UsageError: the data or the device do not fit.
            DataError: the data cannot be used.
        """
        keep_memory()
        device = resolve_device(config)
        allow_open_files(runs)
        if like is not None and (like.config.data, like.device) == (config.data, device):
            data = like.data
        else:
            data = load_data(config, device, terminal, download)
        check_fits(config, *data.header)  # the files may hold fewer than is known of the set
        return cls(config, device, data, set_threads(config, data.shape, runs, threads))

    def check_memory(self, runs: int = 1) -> None:
        """Raises UsageError where a stack of `runs` runs needs more memory than is available."""
        check_memory(self.config, self.data.header, runs)

    def place(self, network: nn.Module) -> None:
        """Moves a network to the device, in the layout of its data."""
        network.to(device=self.device, memory_format=memory_format(len(self.data.shape) - 1, self.device))  # type: ignore[call-overload]

    @property
    def environment(self) -> Environment:
        return environment(self.device, self.threads, self.config)


def load_data(config: Config, device: torch.device, terminal: Display, download: bool = False) -> Dataset:
    """The data of `config` on the device; what takes time is shown on the terminal. Nothing is downloaded for a saved run."""
    shown = False

    def progress(done: int, total: int) -> None:
        nonlocal shown
        if not shown:
            terminal.begin(f"Reading {config.data.name}", total)
            shown = True
        terminal.advance(done, f"{done:,} of {total:,}")

    try:
        with refused_as_usage():
            return load(config.data, device, terminal.say, progress, download=download)
    finally:
        terminal.end()


@contextmanager
def memory_in_one_sentence(runs: int = 1) -> Iterator[None]:
    """Raises BnexpError where there was not enough memory for so many runs at once, whatever raised it first."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, torch.OutOfMemoryError) or lacks_memory(error):
            what, lower = "this run", "train.batch_size or model.widths"
            if runs > 1:
                what, lower = f"{runs} runs at once", "train.batch_size, model.widths or --seeds"
            raise BnexpError(f"There is not enough memory for {what}; lower {lower}.") from error
        raise


@contextmanager
def threads_restored() -> Iterator[None]:
    """Gives PyTorch back the threads that it had before."""
    before = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(before)
