"""What is known of a data set without reading it all, and without torch: enough to check a config before training, and to name a run."""

from __future__ import annotations

from bnexp.config import DATASETS, DataConfig, val_size
from bnexp.data import folder, npz
from bnexp.errors import UsageError


def header(config: DataConfig) -> tuple[tuple[int, ...], int, int]:
    """(an example's shape [C, *map], training examples after `subset` and without validation, classes).

    Raises:
        UsageError: data.root is not there, or data.subset is more than there is.
        DataError: the files cannot be used.
    """
    spec = DATASETS[config.name]
    if spec is not None:
        shape, train, own_validation, classes = spec.shape, spec.train, False, spec.classes
    else:
        shape, train, own_validation, classes = (folder if config.name == "folder" else npz).header(config)
    if config.subset is not None:
        check_subset(config, train)
        train = config.subset
    return shape, train if own_validation else train - val_size(train, config.val_fraction), classes


def check_subset(config: DataConfig, train: int) -> None:
    """Raises UsageError when data.subset is more than the `train` training examples (with the validation split off them)."""
    if config.subset is not None and config.subset > train:
        raise UsageError(f"data.subset={config.subset} is more than the {train} training images of data={config.name}.")
