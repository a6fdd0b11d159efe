"""What a file's pixels mean: 16- and 32-bit values as 8 bits, transparency on white."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from bnexp.data.arrays import Array

LOW_BITS = 16
"""Colours of 16 bits are decoded to their upper byte; where that stays below this in all images, nearly nothing is left of them."""


@dataclass(frozen=True)
class Span:
    """The least and the largest value of pixels."""

    low: float
    high: float


def scale(values: Span) -> Span:
    """What becomes 0 and 255, where the pixels of a whole set have these `values`.

    0 and the largest number of as many bits as hold them, at least 8 bits, or 0 and 1: thus 8-bit values stay as they are, whatever they
    are stored in. Values that begin below 0, or far from it (temperatures), are stretched over the range that they take.
    """
    if values.low >= 0 and values.high <= 255:
        return Span(0, 1 if values.high <= 1 else 255)
    if values.low < 0 or values.low > values.high / 2:
        return values if values.low < values.high else Span(values.low, values.low + 1)
    return Span(0, 2 ** int(values.high).bit_length() - 1)


def wide_values(image: Image.Image) -> Array | None:
    """The pixels of an image of one channel with more than 8 bits, float64; None for others. Raises ValueError for NaN and infinity."""
    if not image.mode.startswith("I") and image.mode != "F":
        return None
    values = np.asarray(image).astype(np.float64)
    if not np.isfinite(values).all():
        raise ValueError("it has pixels that are no numbers")
    return values


def as_bytes(values: Array, span: Span) -> Image.Image:
    """`values` as an RGB image of greys."""
    grey = ((values - span.low) * (255 / (span.high - span.low))).round().clip(0, 255).astype(np.uint8)
    return Image.fromarray(grey).convert("RGB")


def has_wide_colours(image: Image.Image) -> bool:
    """Whether an image that was not loaded yet has several channels of 16 bits, of which PIL reads the upper 8."""
    raw = (args if isinstance(args, str) else args[0] for *_, args in getattr(image, "tile", []) if args)
    return not image.mode.startswith("I") and any(isinstance(mode, str) and ";16" in mode for mode in raw)


def to_rgb(image: Image.Image) -> Image.Image:
    """An image with 8 bits a channel as RGB, transparency on white: a drawing may be black everywhere, with its shape in alpha alone."""
    if not image.has_transparency_data:
        return image.convert("RGB")
    drawn = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", drawn.size, "white"), drawn).convert("RGB")
