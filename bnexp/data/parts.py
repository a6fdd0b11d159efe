"""A tree of image files: what is read of it, and its parts (`train`, `Training`, `seg_train`, `test_set`, `valid`) by their names."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from bnexp.base.errors import DataError, short

PARTS = ("train", "val", "test")
_PART = re.compile(
    r"(?:.*[\W\d_])?(?:(?P<train>train(?:ing)?)|(?P<val>val(?:id(?:ation)?)?|dev)|(?P<test>test(?:ing)?))"
    r"[\W\d_]*(?:(?:set|split|part|data|dataset|images?|imgs?|pictures|photos|folder)[\W\d_]*)?"
)
SUFFIXES = frozenset((".jpg", ".jpeg", ".jfif", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp", ".gif", ".avif"))
"""Files with other names are not read: folders hold lists, licences and thumbnails."""
SYSTEM_FOLDERS = frozenset(("@eaDir", "#recycle", "$RECYCLE.BIN", "__MACOSX", "lost+found"))
"""Of thumbnails, deleted files and the like, made by network storage, Windows, macOS and Linux."""
MAX_KINDS = 8
"""Kinds of files and folders that are named; of the others the number is given."""
Left = Counter[tuple[str, str]]
"""How much of each kind is not read; a kind is a noun in the singular, and what follows it."""
HIDDEN = ("hidden or system folder", "")


def part_of(name: str) -> str | None:
    """Which part a folder or an array is called after, in any case and with or without `set`, `images` or numbers; None: after none."""
    found = _PART.fullmatch(name.lower())
    return found.lastgroup if found is not None else None


def find_parts(root: Path, left: Left) -> tuple[dict[str, str], list[str]]:
    """The folders of the parts by `train`, `val` and `test`, and notes; one training part with an empty name where `root` has class
    folders. Where there are parts, what lies beside them is counted in `left`. Raises DataError where it is ambiguous which folders are
    parts, or where the training images are.

    A folder with the name of a part that holds images itself may be a class of that name (`train`, beside `car` and `bus`). Two with the
    names of different parts are no classes."""
    top = folders_in(root)
    named = {name: part for name in top if (part := part_of(name)) is not None}
    flat = [name for name in named if has_images(root / name)]
    if not named or (len(named) == len(flat) and len(set(named.values())) == 1):
        return {"train": ""}, _alike(root, top)
    others = [name for name in top if name not in named and any(images_below(root / name, Counter()))]
    names = ", ".join(named)
    for part in PARTS:
        if len(same := [name for name in named if named[name] == part]) > 1:
            raise DataError(f"{root} has the folders {' and '.join(same)}, which are called after the same part; rename all but one.")
    parts = {part: name for part in PARTS for name in named if named[name] == part}
    if flat:
        rest = f", or give data.root={root / parts['train']}" if parts.get("train") not in (None, *flat) else ""
        raise DataError(
            f"{root} has the folders {names}, which are called after parts of a set, and {flat[0]} has images outside class folders, so "
            f"their classes are unknown; put them into one folder a class{rest}."
        )
    if "train" not in parts:
        raise DataError(f"{root} has the folders {names} and no training part; call the folder of the training images train.")
    if others and len(parts) == 1:
        raise DataError(
            f"{root} has the folder {names}, called after a part of a set, beside {', '.join(others[:5])}; give it train, val and test, or "
            "one folder a class and nothing else."
        )
    count_loose(root, left)
    if beside := [name for name in top if name not in named]:
        left["folder", f" called after no part ({short(', '.join(beside[:8]), 200)}{', ...' * (len(beside) > 8)})"] += len(beside)
    return parts, []


def _alike(root: Path, names: list[str]) -> list[str]:
    """A note where all class folders hold the same folders and nothing else, as parts or kinds of pictures do."""
    inner = {tuple(folders_in(root / name)) for name in names if not has_images(root / name)} if len(names) > 1 else set()
    below = next(iter(inner), ())
    if len(inner) != 1 or len(below) < 2 or any(has_images(root / name) for name in names):
        return []
    classes, same = ", ".join(names[:5]), ", ".join(below[:5])
    return [
        f"Each class folder ({classes}) has the same folders in it ({same}), whose images are taken together; parts go on top: train/CLASS"
    ]


def left_in_words(left: Left) -> str:
    """`2 images outside class folders, 1 hidden file`."""
    kinds = left.most_common(MAX_KINDS)
    texts = [f"{count:,} {noun}{'s' * (count != 1)}{after}" for (noun, after), count in kinds]
    others = left.total() - sum(count for _, count in kinds)
    return ", ".join([*texts, f"{others:,} of other kinds"] if others else texts)


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
        kept = [name for name in folders if not _is_system(name)]
        links = [name for name in kept if os.path.islink(f"{folder}/{name}")]  # noqa: PTH114 (as above)
        for path in (Path(folder, name) for name in links) if follow_links else ():
            if any(on_the_way.resolve().is_relative_to(path.resolve()) for on_the_way in path.parents):
                raise DataError(f"{path} is a link to a folder that it is in; remove it.")
        skipped = 0 if follow_links else len(links)
        for kind, count in ((HIDDEN, len(folders) - len(kept)), (("linked folder", ""), skipped)):
            if count:
                left[kind] += count
        folders[:] = kept
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
