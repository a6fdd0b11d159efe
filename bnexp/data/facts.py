"""What is known of a data set without torch: its header, which is enough to check a config before training, and the fingerprint of the
user's own data, which is part of a run's id: other data are another run."""

from __future__ import annotations

import hashlib

from bnexp.base.errors import DataError
from bnexp.config import DATASETS, OWN_FILES, DataConfig, val_size
from bnexp.config.fits import check_subset
from bnexp.data import folder, npz
from bnexp.data.cache import check_unchanged, remembered, stamp


def header(config: DataConfig) -> tuple[tuple[int, ...], int, int]:
    """(an example's shape [C, *map], training examples after `subset` and without validation, classes). Raises UsageError where data.root
    does not exist or data.subset is too large, DataError where the files cannot be used."""
    spec = DATASETS[config.name]
    if spec.shape:
        shape, train, own_validation, classes = spec.shape, spec.train, False, spec.classes
    else:
        shape, train, own_validation, classes = (folder if config.name == "folder" else npz).header(config)
    check_subset(config, train)
    train = config.subset or train
    return shape, train if own_validation else train - val_size(train, config.val_fraction), classes


def fingerprint(config: DataConfig) -> str | None:
    """32 hex digits that hash the files' bytes (data=folder: and their paths below data.root); None for the named sets. The hash is kept by
    the files' paths, sizes and times of change, so that only a first start reads them all. Errors as `header`."""
    if config.name not in OWN_FILES:
        return None
    if config.name == "npz":
        origin = npz.existing_file(config)
        stamps = [stamp(origin, "")]
    else:
        listing = folder.list_images(config)
        origin, stamps = listing.root, listing.stamps

    def compute() -> str:
        total = hashlib.sha256()
        for relative, _, _ in stamps:
            with (origin / relative).open("rb") as file:
                total.update(relative.encode(errors="surrogateescape") + b"\0" + hashlib.file_digest(file, "sha256").digest())
        check_unchanged(origin, stamps)
        return total.hexdigest()[:32]

    try:
        return remembered("hash", origin, stamps, compute)
    except OSError as error:
        raise DataError(f"{error.filename} cannot be read ({error.strerror}).") from error
