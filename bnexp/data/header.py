"""What is known of a data set without reading it all, and without torch: enough to check a config before training, and to name a run."""

from __future__ import annotations

from bnexp.config import DATASETS, DataConfig
from bnexp.data import folder, npz
from bnexp.errors import UsageError


def header(config: DataConfig) -> tuple[tuple[int, ...], int, int]:
    """(an example's shape [C, *map], training examples with validation and after `subset`, classes).

    Raises:
        UsageError: data.root is not there, or data.subset is more than there is.
        DataError: the files cannot be used.
    """
    spec = DATASETS[config.name]
    if config.name == "folder":
        shape, train, classes = folder.header(config)
    elif config.name == "npz":
        shape, train, classes = npz.header(config)
    else:
        assert spec is not None
        shape, train, classes = spec.shape, spec.train, spec.classes
    if config.subset is not None:
        check_subset(config, train)
        train = config.subset
    return shape, train, classes


def check_subset(config: DataConfig, train: int) -> None:
    """Raises UsageError when data.subset is more than the `train` training examples (validation included)."""
    if config.subset is not None and config.subset > train:
        raise UsageError(f"data.subset={config.subset} is more than the {train} training images of data={config.name}.")
