"""The parts of a data set by their names, in the spellings that people use: `train`, `Training`, `seg_train`, `test_set`, `valid`."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

from bnexp.base.errors import DataError, short
from bnexp.data.tree import Left, count_loose, folders_in, has_images, images_below

PARTS = ("train", "val", "test")
_PART = re.compile(
    r"(?:.*[\W\d_])?(?:(?P<train>train(?:ing)?)|(?P<val>val(?:id(?:ation)?)?|dev)|(?P<test>test(?:ing)?))"
    r"[\W\d_]*(?:(?:set|split|part|data|dataset|images?|imgs?|pictures|photos|folder)[\W\d_]*)?"
)


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
