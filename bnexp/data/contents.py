"""What a data set holds, in one line: for the terminal, a run's table and a report. No torch."""

from __future__ import annotations

from collections.abc import Sequence

from bnexp.base.errors import short
from bnexp.config import DATASETS

SHOWN = 10
"""Classes that are named; of more, the first ones."""


def contents(name: str, classes: Sequence[str], train: int, val: int, test: int) -> str:
    """`2 classes: cat, dog; 64 training, 16 validation, 20 test images` of the data set `name`."""
    shown = [short(label, 40) for label in classes[:SHOWN]]
    more = f" and {len(classes) - len(shown):,} more" if len(classes) > len(shown) else ""
    kind = "examples" if name in DATASETS and not DATASETS[name].images else "images"
    return f"{len(classes):,} classes: {', '.join(shown)}{more}; {train:,} training, {val:,} validation, {test:,} test {kind}"
