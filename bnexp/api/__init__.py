"""bnexp from Python: what the commands do, with results as objects. `bnexp` itself exports all of it."""

from bnexp.api.calls import compare, sweep, train
from bnexp.api.reading import curves, dataset, frame, load, runs
from bnexp.base.errors import BnexpError, DataError, UsageError

__all__ = ["BnexpError", "DataError", "UsageError", "compare", "curves", "dataset", "frame", "load", "runs", "sweep", "train"]
