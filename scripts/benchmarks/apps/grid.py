"""The runs of the short sweep, for the scripts that train it in ways of their own: norm x learning rate x seed."""

from __future__ import annotations

import json
import sys
from typing import Any

NORMS, LRS, SEEDS = ("batch", "none"), (0.03, 0.1), (0, 1)


def arguments() -> dict[str, int]:
    """workers, batch and epochs: the script's argument."""
    found: dict[str, int] = json.loads(sys.argv[1])
    return found


def one(norm: str, lr: float, seed: int, batch: int, epochs: int) -> dict[str, Any]:
    """One run on one thread; imports what it needs where it is."""
    from benchmarks.apps.plain import train

    return train(norm=norm, lr=lr, seed=seed, batch=batch, epochs=epochs, threads=1)
