"""Settings that are valid and seldom meant, told before anything is trained with them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from bnexp.cli.streams import say

if TYPE_CHECKING:
    from bnexp.config import Config


def caution(configs: Sequence[Config], quiet: bool) -> None:
    """Says on stderr what is doubtful about the configs, each sentence once."""
    from bnexp.norms import NORMS

    if not quiet and any(config.train.batch_size == 1 and NORMS[config.model.norm].batch_statistics for config in configs):
        say(
            "Warning: with train.batch_size=1 batch norm normalizes each image with its own mean and variance, as instance norm does; "
            "evaluation uses the running statistics of many images, and its results may be far off."
        )
