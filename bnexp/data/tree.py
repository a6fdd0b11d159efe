"""Walking a tree of image files: what is an image, what is not read, and how much of that there is."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from bnexp.base.errors import DataError, short

SUFFIXES = frozenset((".jpg", ".jpeg", ".jfif", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp", ".gif", ".avif"))
"""Files with other names are not read: folders hold lists, licences and thumbnails."""
SYSTEM_FOLDERS = frozenset(("@eaDir", "#recycle", "$RECYCLE.BIN", "__MACOSX", "lost+found"))
"""Of thumbnails, deleted files and the like, made by network storage, Windows, macOS and Linux."""
MAX_KINDS = 8
"""Kinds of files and folders that are named; of the others the number is given."""
Left = Counter[tuple[str, str]]
"""How much of each kind is not read; a kind is a noun in the singular, and what follows it."""
HIDDEN = ("hidden or system folder", "")


def left_in_words(left: Left) -> str:
    """`2 images outside class folders, 1 hidden file`."""
    kinds = left.most_common(MAX_KINDS)
    told = [f"{count:,} {noun}{'s' * (count != 1)}{after}" for (noun, after), count in kinds]
    others = left.total() - sum(count for _, count in kinds)
    return ", ".join([*told, f"{others:,} of other kinds"] if others else told)


def folders_in(root: Path) -> list[str]:
    """The names of the folders in `root`, without the hidden and the system's, sorted."""
    with os.scandir(root) as entries:
        return sorted(entry.name for entry in entries if entry.is_dir() and not _is_system(entry.name))


def count_loose(root: Path, left: Left) -> None:
    """Counts what lies beside the class folders."""
    with os.scandir(root) as entries:
        for entry in entries:
            if not entry.is_dir():
                left[("image", " outside class folders") if _is_image(entry.name) else _kind(entry.name)] += 1
            elif _is_system(entry.name):
                left[HIDDEN] += 1


def images_below(top: Path, left: Left, *, follow_links: bool = False) -> Iterator[str]:
    """The paths of the images below `top`, also in folders that links lead to with `follow_links`; other files and folders are counted in
    `left`. Raises DataError where a link leads back to a folder on the way to it, which would be followed without end."""
    # plain strings: with a Path for each, listing 60,000 images takes four times as long
    for folder, folders, files in os.walk(top, followlinks=follow_links):
        seen = [name for name in folders if not _is_system(name)]
        links = [name for name in seen if os.path.islink(f"{folder}/{name}")]  # noqa: PTH114 (as above)
        for path in (Path(folder, name) for name in links) if follow_links else ():
            if any(on_the_way.resolve().is_relative_to(path.resolve()) for on_the_way in path.parents):
                raise DataError(f"{path} is a link to a folder that it is in; remove it.")
        skipped = 0 if follow_links else len(links)
        for kind, count in ((HIDDEN, len(folders) - len(seen)), (("linked folder", ""), skipped)):
            if count:
                left[kind] += count
        folders[:] = seen
        for file in files:
            if _is_image(file):
                yield f"{folder}/{file}"
            else:
                left[_kind(file)] += 1


def _kind(name: str) -> tuple[str, str]:
    """What a file that is no image is counted as."""
    dot = name.rfind(".")
    if name.startswith("."):
        return "hidden file", ""
    return (f"{short(name[dot:].lower(), 20)} file", "") if dot > 0 else ("file", " without an ending")


def _is_system(name: str) -> bool:
    """Whether a folder is hidden or the system's own: copies of the images may lie there."""
    return name.startswith(".") or name in SYSTEM_FOLDERS


def has_images(folder: Path) -> bool:
    """Whether images lie in the folder itself."""
    with os.scandir(folder) as entries:
        return any(entry.is_file() and _is_image(entry.name) for entry in entries)


def _is_image(name: str) -> bool:
    return name[name.rfind(".") :].lower() in SUFFIXES and not name.startswith(".")
