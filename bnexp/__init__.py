"""bnexp: a laboratory for batch normalization.

`bnexp.train`, `bnexp.compare` and `bnexp.sweep` do what the commands of these names do; config values are texts as on the command line
(`"optim.lr=0.3"`), or keywords in which two underscores stand for the dot (`optim__lr=0.3`). `bnexp.runs`, `bnexp.curves` and `bnexp.frame`
give the numbers of runs, `bnexp.load` a trained network, `bnexp.dataset` the data as that network saw them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bnexp.api import BnexpError, DataError, UsageError, compare, curves, dataset, frame, load, runs, sweep, train

__all__ = [
    "BnexpError",
    "DataError",
    "UsageError",
    "__version__",
    "compare",
    "curves",
    "dataset",
    "frame",
    "load",
    "runs",
    "sweep",
    "train",
]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Imports what is used, when it is first used: commands import this package, and need none of it."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from bnexp import api

    return getattr(api, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
