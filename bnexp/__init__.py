"""bnexp: a laboratory for batch normalization.

`bnexp.runs(folder)` gives one flat row a run, for `pandas.DataFrame`; `bnexp.load(run)` a trained network as a plain `nn.Module`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn

    from bnexp.storage.result import Row

__all__ = ["__version__", "load", "runs"]
__version__ = "0.1.0"


def load(run: str | Path, runs_dir: str | Path = "runs") -> nn.Sequential:
    """A run's trained network: normalized x_[B, C, *map] -> logits_[B, K], in eval mode.

    Args:
        run: an id, a unique prefix of one, a path, or `last`.
        runs_dir: the folder the run is in.

    Raises:
        bnexp.base.errors.UsageError: there is no such run.
        bnexp.base.errors.DataError: its files are missing or damaged.
    """
    from bnexp.storage.checkpoint import load_network
    from bnexp.storage.folder import find_run

    return load_network(find_run(str(run), Path(runs_dir)))


def runs(folder: str | Path = "runs") -> list[Row]:
    """One flat row a run, oldest first: `id`, `status`, `test.running.accuracy`, `config.optim.lr`, ..."""
    from bnexp.storage.folder import rows

    return rows(Path(folder))
