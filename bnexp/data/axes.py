"""Which axis of an array holds the channels: whether examples read as [C, *map], or as images and signals in the order of other tools."""

from __future__ import annotations

import numpy as np

from bnexp.data.arrays import Array

MAX_COLOURS = 4
"""Channels of a picture as Keras, PIL and OpenCV store it, [H, W, C]."""
ADDED = "[:, None]"


def repair(shape: tuple[int, ...], *, images: bool = False) -> str | None:
    """What to write behind an array of `shape` [N, ...] in NumPy so that it becomes [N, C, *map]; None where it reads as that already.

    `[N, H, W]` lacks an axis of channels, and `[N, H, W, C]` has it last, as `[N, T, C]` and `[N, D, H, W, C]` have. Of three axes, equal
    sides are taken for a picture's, and a second one that is more than twice the third for the time of `[N, T, C]`; all else may be
    `[N, C, L]`. `images`: the array is said to hold images, so that any three axes are `[N, H, W]`, and four equal sides are a volume's.
    """
    sides = shape[1:]
    if len(sides) == 2:
        if images or (sides[0] == sides[1] and _is_map(*sides)):
            return ADDED
        return ".transpose(0, 2, 1)" if sides[0] > 2 * sides[1] else None
    if len(sides) in (3, 4) and sides[-1] <= MAX_COLOURS and _is_map(*sides[:-1]):
        return f".transpose(0, {len(sides)}, {', '.join(map(str, range(1, len(sides))))})"
    return ADDED if images and len(sides) == 3 and _is_map(*sides) else None


def repaired(x: Array, how: str | None) -> Array:
    """`x` after what `repair` says."""
    if how is None:
        return x
    return x[:, None] if how == ADDED else np.moveaxis(x, -1, 1)


def repaired_shape(shape: tuple[int, ...], how: str | None) -> tuple[int, ...]:
    """The shape that `repaired` gives."""
    if how is None:
        return shape
    return (shape[0], 1, *shape[1:]) if how == ADDED else (shape[0], shape[-1], *shape[1:-1])


def _is_map(*sides: int) -> bool:
    """Whether these may be the sides of one picture: about equal, where the channels of signals or of layers are few or many."""
    least, largest = min(sides), max(sides)
    return least >= 5 if least == largest else least >= 8 and largest <= 2 * least
