"""data=folder: a tree of images of your own, one folder a class; data.root is the tree.

`root/train/<class>/*`, with `root/val/<class>/*` and `root/test/<class>/*` where these exist (or other spellings: parts.py), else
`root/<class>/*`. Without a test part a fifth is split off for it. The images are decoded once (images.py) and kept in the cache folder, so
that the next start maps one file.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

from bnexp.base.errors import DataError
from bnexp.config import DataConfig, val_size
from bnexp.data.arrays import Array, Arrays, Progress, Report, Source, check_memory, human_bytes
from bnexp.data.cache import Stamp, cache_path, check_unchanged, existing_folder, write_whole
from bnexp.data.parts import SUFFIXES, Left, count_loose, find_parts, folders_in, images_below, left_in_words

TEST_SHARE = 0.2
MAX_BYTES = 2**29
"""Of an image file: far more than `images.py` decodes. A file with holes may claim terabytes, which would be hashed for hours."""
DECODER_VERSION = 2
"""Bump it when decoding changes, so that cached images are made anew."""

NOTE = ".txt"
"""The suffix of the file beside a cached array that says how its pixels were scaled; it is empty where they were not."""


@dataclass(frozen=True)
class Listing:
    """The image files below `root`, training before validation before test, and their classes by number."""

    root: Path
    classes: tuple[str, ...]
    stamps: list[Stamp]
    labels: Array
    sizes: Mapping[str, int]
    """Images of each part that has a folder of its own; all are training images where none has."""
    notes: tuple[str, ...]

    @property
    def n_test(self) -> int:
        """Images of the test part: the test folder's, or a fifth of the training images."""
        return self.sizes.get("test", val_size(self.sizes["train"], TEST_SHARE))


def list_images(config: DataConfig) -> Listing:
    """Every image below data.root. Raises UsageError where that is no folder; DataError where it has no class folders, one class, a class
    without images, classes that differ between its parts, parts that look like classes, or names that are not UTF-8."""
    root = existing_folder(config.root or "", "data=folder needs a folder with one folder of images a class")
    real = None if config.follow_links else os.path.realpath(root)
    left: Left = Counter()
    try:
        parts, notes = find_parts(root, left)
        found: list[tuple[Stamp, int]] = []
        sizes: dict[str, int] = {}
        classes: tuple[str, ...] = ()
        for part, name in parts.items():
            _check_inside(str(root / name), real)
            count_loose(root / name, left)
            own = tuple(folders_in(root / name))
            if not own:
                raise DataError(f"{root / name} has no class folders; data=folder needs one folder of images a class.")
            if classes and own != classes:
                odd = ", ".join(sorted(set(classes) ^ set(own))[:5])
                raise DataError(f"{root}: {parts['train']} and {name} have different classes; only one of them has {odd}.")
            classes = own
            images = list(_images_of(root, name, classes, left, real))
            sizes[part] = len(images)
            found += images
    except OSError as error:
        raise DataError(f"{error.filename} cannot be read ({error.strerror}).") from error
    if len(classes) < 2:
        only = root / parts["train"] / classes[0]
        deeper = f"; if its folders are the classes, give data.root={only}" if len(folders_in(only)) > 1 else ""
        raise DataError(f"{only.parent} has one class folder, {classes[0]}; at least 2 are needed{deeper}.")
    if left:
        notes.append(f"Not read: {left_in_words(left)}")
    labels = np.array([label for _, label in found], dtype=np.int64)
    return Listing(root, classes, [item for item, _ in found], labels, sizes, tuple(notes))


def header(config: DataConfig) -> tuple[tuple[int, ...], int, bool, int]:
    """(shape of an example, training images before `subset`, whether validation has a part of its own, classes), from the files' names."""
    listing = list_images(config)
    train = listing.sizes["train"] - (0 if "test" in listing.sizes else listing.n_test)
    return (3, config.image_size, config.image_size), train, "val" in listing.sizes, len(listing.classes)


def read(source: Source) -> Arrays:
    """x_[N, 3, S, S] uint8, mapped from the cache folder; S is data.image_size. Errors as `list_images`, and for unreadable images."""
    config = source.config
    listing = list_images(config)
    shape = (len(listing.stamps), 3, config.image_size, config.image_size)
    rest = listing.n_test + listing.sizes.get("val", 0)
    train = shape[0] - rest
    used = min(config.subset or train, train) + rest
    remedy = "lower data.image_size or data.subset"
    check_memory(used * 3 * config.image_size**2, f"{used} images of {config.image_size}x{config.image_size} pixels", remedy)
    path = cache_path(f"images-v{DECODER_VERSION}-{config.image_size}", listing.root, listing.stamps, ".npy")
    x, scaled = _cached(path, shape) or _decoded(listing, path, config.image_size, source.report, source.progress)
    digests = _digests(listing, x)
    cuts = np.cumsum(list(listing.sizes.values()))[:-1]
    parts = dict(zip(listing.sizes, zip(np.split(x, cuts), np.split(listing.labels, cuts), strict=True), strict=True))
    return Arrays(**parts, classes=listing.classes, n_test=listing.n_test, digests=digests, notes=(*listing.notes, *scaled))


def _digests(listing: Listing, x: Array) -> Array:
    """64 bits of a hash of each decoded image_[N] uint64, by which identical pictures are found; kept in the cache folder."""
    path = cache_path(f"digests-v{DECODER_VERSION}-{x.shape[-1]}", listing.root, listing.stamps, ".npy")
    if (found := _mapped(path, (len(x),), np.uint64)) is not None:
        return found
    made = b"".join(hashlib.blake2b(image.tobytes(), digest_size=8).digest() for image in x)
    digests = np.frombuffer(made, dtype="<u8").astype(np.uint64)
    write_whole(path, lambda file: np.save(file, digests, allow_pickle=False))
    return digests


def _decoded(listing: Listing, path: Path, side: int, report: Report, progress: Progress | None) -> tuple[Array, list[str]]:
    """Decodes the images into the file at `path`, for `_cached`."""
    from bnexp.data.images import write_npy

    report(f"decoding {len(listing.stamps)} images of {listing.root} to {side}x{side} pixels")
    files = [listing.root / relative for relative, _, _ in listing.stamps]
    notes: list[str] = []

    def write(file: IO[bytes]) -> None:
        scaled = write_npy(file, files, side, progress)
        check_unchanged(listing.root, listing.stamps)
        notes.extend([scaled] if scaled is not None else [])
        write_whole(path.with_suffix(NOTE), lambda beside: beside.write("".join(notes).encode()))  # before the array appears

    write_whole(path, write)
    return np.load(path, mmap_mode="r", allow_pickle=False), notes


def _cached(path: Path, shape: tuple[int, ...]) -> tuple[Array, list[str]] | None:
    """The mapped array, and the note on how wide pixels were scaled, if there were any; None where they are missing or damaged."""
    x = _mapped(path, shape, np.uint8)
    with suppress(OSError, ValueError):
        note = path.with_suffix(NOTE).read_text("utf-8")
        return None if x is None else (x, [note] * bool(note))
    return None


def _mapped(path: Path, shape: tuple[int, ...], dtype: type[np.generic]) -> Array | None:
    """The array in a file; None where it is missing, or has another shape or type."""
    with suppress(OSError, ValueError, EOFError):
        x: Array = np.load(path, mmap_mode="r", allow_pickle=False)
        return x if x.shape == shape and x.dtype == dtype else None
    return None


def _images_of(root: Path, part: str, classes: tuple[str, ...], left: Left, real: str | None) -> Iterator[tuple[Stamp, int]]:
    """The stamps of the images below root/part/<class>, in order, each with its class. No link leads out of `real`, unless it is None."""
    for label, name in enumerate(classes):
        top = root / part / name
        _check_inside(str(top), real)
        below = str(Path(part, name))
        images = images_below(top, left, follow_links=real is None)
        stamps = sorted(_image_stamp(file, below + file[len(str(top)) :], real) for file in images)
        if not stamps:
            raise DataError(f"The class folder {top} has no images ({', '.join(sorted(SUFFIXES))}); fill it or remove it.")
        for item in stamps:
            try:
                item[0].encode()  # names go into hashes, messages and YAML
            except UnicodeEncodeError:
                raise DataError(f"{root} holds {item[0]!r}, whose name is not UTF-8; rename it.") from None
            yield item, label


def _image_stamp(path: str, relative: str, root: str | None) -> Stamp:
    """The stamp of a regular file. Only links are resolved: for 60,000 files that would take seconds. Raises DataError for a link out of
    `root` (a real path; None: any link is followed), for a FIFO or a device, whose reading would not end, and for large files."""
    status = os.lstat(path)
    if stat.S_ISLNK(status.st_mode):
        _check_inside(path, root)
        status = os.stat(path)  # noqa: PTH116 (as below)
    if not stat.S_ISREG(status.st_mode):
        raise DataError(f"{path} is no regular file; remove it, or rename it if it is no image.")
    if status.st_size > MAX_BYTES:
        raise DataError(f"{path} has {human_bytes(status.st_size)}, more than an image may have; make it smaller or remove it.")
    return relative, status.st_size, status.st_mtime_ns


def _check_inside(path: str, root: str | None) -> None:
    """Refuses a link that leads out of data.root, unless data.follow_links allows it (`root` is None then)."""
    if root is None:
        return
    real = os.path.realpath(path)
    if real != root and not real.startswith(root.rstrip("/") + "/"):
        raise DataError(f"{path} is a link that leads out of data.root; give data.follow_links=true, copy what it names, or remove it.")
