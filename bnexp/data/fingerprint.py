"""The content of the user's own data as one hash, part of a run's id: other data are another run. Without torch."""

from __future__ import annotations

import hashlib

from bnexp.config import OWN_FILES, DataConfig
from bnexp.data import folder, npz
from bnexp.data.cache import check_unchanged, remembered, stamp
from bnexp.errors import DataError


def fingerprint(config: DataConfig) -> str | None:
    """32 hex digits that hash the files' bytes (data=folder: and their paths below data.root); None for the named sets.

    The hash is remembered by the files' paths, sizes and times of change, so that only a first start reads them all.

    Raises:
        UsageError: data.root is not there.
        DataError: the files cannot be read.
    """
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
