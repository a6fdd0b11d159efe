"""Fonts for labels in pictures, and what stands for a label whose letters none of the fonts here has.

PIL's own font has Latin letters. For others (Chinese, Cyrillic, Greek, ...) the installed fonts are searched, by matplotlib's list of them,
which brings DejaVu. A box in the place of a letter is of no use.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

from PIL import ImageFont

NOWHERE = "\U0010ffff"
"""No letter, so that a font draws what it draws for those that it lacks."""
LIKELY = ("cjk", "dejavusans.ttf", "wqy", "hei", "song", "gothic", "hiragino", "pingfang", "yahei", "malgun", "unicode", "noto")
"""Parts of the names of font files that have many letters, which are opened before others."""
BOXES = "lastresort"
"""Part of the name of a font that has a box for each letter of the world."""


def labels(names: Sequence[str]) -> tuple[str | None, list[str]]:
    """The file of a font that has the letters of `names` (None: PIL's own), and the names, or `class 3` for one that no font here has."""
    path, whole = _font_file("".join(sorted(set("".join(names)))))
    if whole:
        return path, list(names)
    return path, [name if _has(font(path, 12), name) else f"class {index}" for index, name in enumerate(names)]


def font(path: str | None, size: int) -> Any:
    """The font of `labels` in a size."""
    return ImageFont.load_default(size) if path is None else ImageFont.truetype(path, size)


@functools.cache
def _font_file(letters: str) -> tuple[str | None, bool]:
    """The first font that has all letters, as in `labels`, and true; where none has, DejaVu and false."""
    if letters.isascii() or _has(ImageFont.load_default(12), letters):
        return None, True
    from matplotlib import font_manager  # half a second, for those who need it

    def likely(path: str) -> int:
        name = path.lower()
        return next((place for place, part in enumerate(LIKELY) if part in name), len(LIKELY))

    known = {str(entry.fname) for entry in font_manager.fontManager.ttflist if BOXES not in entry.fname.lower()}
    for path in sorted(known, key=lambda path: (likely(path), path)):
        try:
            if _has(ImageFont.truetype(path, 12), letters):
                return path, True
        except OSError:  # a bitmap font, or one that was removed since the list was made
            continue
    return str(font_manager.findfont("DejaVu Sans")), False


def _has(font: Any, letters: str) -> bool:
    """Whether a font draws each letter other than one that is none."""
    missing = bytes(font.getmask(NOWHERE))
    return all(letter.isspace() or bytes(font.getmask(letter)) != missing for letter in set(letters))
