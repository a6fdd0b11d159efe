"""data=folder: a tree of images of your own, one folder a class; data.root is the tree.

`root/train/<class>/*` and `root/test/<class>/*` where both are there, else `root/<class>/*`, of which a fifth is split off for the test.
The images are decoded once (images.py) and kept in the cache folder, so that the next start maps one file.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

from bnexp.config import DataConfig, val_size
from bnexp.data.arrays import Array, Arrays, Progress, Report, check_memory, human_bytes
from bnexp.data.cache import Stamp, cache_path, check_unchanged, write_whole
from bnexp.data.root import is_folder, is_there, user_path
from bnexp.errors import DataError, UsageError, short

TEST_SHARE = 0.2
SUFFIXES = frozenset((".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp", ".gif"))
"""Files with other names are left alone: folders hold lists, licences and thumbnails."""
MOST_BYTES = 2**29
"""Of an image file: far more than `images.py` decodes. A file with holes may claim terabytes, which would be hashed for hours."""
DECODER_VERSION = 1
"""Bump it when decoding changes, so that cached images are made anew."""


@dataclass(frozen=True)
class Listing:
    """The image files below `root`, training before test, and their classes by number; n_train is None where there is no test folder."""

    root: Path
    classes: tuple[str, ...]
    stamps: list[Stamp]
    labels: Array
    n_train: int | None

    @property
    def n_test(self) -> int:
        """Images of the test part: the test folder's, or a fifth of all."""
        return val_size(len(self.stamps), TEST_SHARE) if self.n_train is None else len(self.stamps) - self.n_train


def list_images(config: DataConfig) -> Listing:
    """Every image below data.root.

    Raises:
        UsageError: data.root is not a folder that is there.
        DataError: it has no class folders, one class, a class without images, classes that differ between train and test, or names that
            are not UTF-8.
    """
    root = user_path(config.root or "")
    if not is_folder(root):
        wrong = "is a file" if is_there(root) else "is not there"
        raise UsageError(f"data.root={short(str(config.root), 300)} {wrong}; data=folder needs a folder with one folder of images a class.")
    real = None if config.follow_links else os.path.realpath(root)
    try:
        top = _folders(root)
        if "train" not in top or "test" not in top:
            if "train" in top and not _has_images(root / "train"):
                raise DataError(f"{root} has a folder train and no folder test; give it both, or one folder a class and nothing else.")
            classes = _class_folders(root, top)
            found = list(_images_of(root, "", classes, real))
            n_train = None
        else:
            for part in ("train", "test"):
                _check_inside(str(root / part), real)
            classes, others = _class_folders(root / "train"), _class_folders(root / "test")
            if classes != others:
                odd = sorted(set(classes) ^ set(others))
                raise DataError(f"{root}: train and test have different classes; only one of them has {', '.join(odd[:5])}.")
            found = list(_images_of(root, "train", classes, real))
            n_train = len(found)
            found += _images_of(root, "test", classes, real)
    except OSError as error:
        raise DataError(f"{error.filename} cannot be read ({error.strerror}).") from error
    if len(classes) < 2:
        raise DataError(f"{root} has one class folder, {classes[0]}; at least 2 are needed.")
    return Listing(root, classes, [item for item, _ in found], np.array([label for _, label in found], dtype=np.int64), n_train)


def header(config: DataConfig) -> tuple[tuple[int, ...], int, int]:
    """(shape of an example, training images before `subset`, classes), from the names of the files."""
    listing = list_images(config)
    return (3, config.image_size, config.image_size), len(listing.stamps) - listing.n_test, len(listing.classes)


def load_folder(config: DataConfig, report: Report, progress: Progress | None) -> Arrays:
    """x_[N, 3, S, S] uint8, mapped from the cache folder; S is data.image_size.

    Raises:
        UsageError, DataError: as `list_images`; also DataError for an image that cannot be read, and when it all does not fit in memory.
    """
    listing = list_images(config)
    shape = (len(listing.stamps), 3, config.image_size, config.image_size)
    train = shape[0] - listing.n_test
    used = min(config.subset or train, train) + listing.n_test
    remedy = "lower data.image_size or data.subset"
    check_memory(used * 3 * config.image_size**2, f"{used} images of {config.image_size}x{config.image_size} pixels", remedy)
    path = cache_path(f"images-v{DECODER_VERSION}-{config.image_size}", listing.root, listing.stamps, ".npy")
    x = _cached(path, shape)
    if x is None:
        from bnexp.data.images import write_npy

        report(f"decoding {shape[0]} images of {listing.root} to {config.image_size}x{config.image_size} pixels")
        files = [listing.root / relative for relative, _, _ in listing.stamps]

        def write(file: IO[bytes]) -> None:
            write_npy(file, files, config.image_size, progress)
            check_unchanged(listing.root, listing.stamps)

        write_whole(path, write)
        x = np.load(path, mmap_mode="r", allow_pickle=False)
    if listing.n_train is None:
        return Arrays(x, listing.labels, listing.classes, n_test=listing.n_test)
    cut = listing.n_train
    return Arrays(x[:cut], listing.labels[:cut], listing.classes, x[cut:], listing.labels[cut:])


def _cached(path: Path, shape: tuple[int, ...]) -> Array | None:
    """The mapped array, or None when it is not there or not what was written."""
    try:
        x: Array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return x if x.shape == shape and x.dtype == np.uint8 else None


def _class_folders(root: Path, folders: list[str] | None = None) -> tuple[str, ...]:
    names = _folders(root) if folders is None else folders
    if not names:
        raise DataError(f"{root} has no class folders; data=folder needs one folder of images a class.")
    for name in names:
        _check_utf8(root, name)
    return tuple(names)


def _folders(root: Path) -> list[str]:
    with os.scandir(root) as entries:
        return sorted(entry.name for entry in entries if entry.is_dir() and not entry.name.startswith("."))


def _images_of(root: Path, part: str, classes: tuple[str, ...], real: str | None) -> Iterator[tuple[Stamp, int]]:
    """The stamps of the images below root/part/<class>, at any depth and in order of their paths, each with its class. `real` is the real
    path of `root`, which no link leads out of; None: links may lead anywhere."""
    for label, name in enumerate(classes):
        top = root / part / name
        _check_inside(str(top), real)
        # plain strings: with a Path for each, listing 60,000 images takes four times as long
        names = (f"{folder}/{file}" for folder, files in _walk(top, real is None) for file in files if _is_image(file))
        below = str(Path(part, name))
        stamps = sorted(_image_stamp(file, below + file[len(str(top)) :], real) for file in names)
        if not stamps:
            raise DataError(f"The class folder {top} has no images ({', '.join(sorted(SUFFIXES))}); fill it or remove it.")
        for item in stamps:
            _check_utf8(root, item[0])
            yield item, label


def _walk(top: Path, follow_links: bool) -> Iterator[tuple[str, list[str]]]:
    """Each folder below `top` with the names of its files, those that links lead to with `follow_links`.

    Raises:
        DataError: a link leads back to a folder on the way to it, and would be followed without end.
    """
    for folder, inner, files in os.walk(top, followlinks=follow_links):
        for path in (Path(folder, name) for name in inner) if follow_links else ():
            if path.is_symlink() and any(Path(on_the_way).resolve().is_relative_to(path.resolve()) for on_the_way in path.parents):
                raise DataError(f"{path} is a link to a folder that it is in; remove it.")
        yield folder, files


def _image_stamp(path: str, relative: str, root: str | None) -> Stamp:
    """The stamp of a regular file that is in `root` (a real path; None: anywhere). Only links are followed up: for 60,000 files that would
    take seconds.

    Raises:
        DataError: it is a link that leads out of `root`, no regular file (a FIFO would be waited for, a device read without end), or longer
            than any image.
    """
    status = os.lstat(path)
    if stat.S_ISLNK(status.st_mode):
        _check_inside(path, root)
        status = os.stat(path)  # noqa: PTH116 (as below)
    if not stat.S_ISREG(status.st_mode):
        raise DataError(f"{path} is no regular file; remove it, or rename it if it is no image.")
    if status.st_size > MOST_BYTES:
        raise DataError(f"{path} has {human_bytes(status.st_size)}, more than an image of ours may have; make it smaller or remove it.")
    return relative, status.st_size, status.st_mtime_ns


def _check_inside(path: str, root: str | None) -> None:
    """Refuses a link that leads out of data.root: the files there are others', and no part of what was given as data; `root` is None where
    data.follow_links says that they are."""
    if root is None:
        return
    real = os.path.realpath(path)
    if real != root and not real.startswith(root.rstrip("/") + "/"):
        raise DataError(f"{path} is a link that leads out of data.root; give data.follow_links=true, copy what it names, or remove it.")


def _check_utf8(root: Path, relative: str) -> None:
    """Names go into hashes, messages and YAML, where the surrogates that stand for other bytes cannot be written."""
    try:
        relative.encode()
    except UnicodeEncodeError:
        raise DataError(f"{root} holds {relative!r}, whose name is not UTF-8; rename it.") from None


def _has_images(folder: Path) -> bool:
    with os.scandir(folder) as entries:
        return any(entry.is_file() and _is_image(entry.name) for entry in entries)


def _is_image(name: str) -> bool:
    return name[name.rfind(".") :].lower() in SUFFIXES and not name.startswith(".")
