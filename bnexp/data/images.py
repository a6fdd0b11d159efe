"""Decoding image files: in parallel, to one size, with bounded memory; 16- and 32-bit values as 8 bits, transparency on white."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np
from PIL import Image, UnidentifiedImageError

from bnexp.base.errors import DataError, reason
from bnexp.base.hardware import cores
from bnexp.data.arrays import Array, Progress, available_memory

BLOCK_BYTES = 64 * 2**20
DECODED_BYTES = 28 * 90_000_000
"""Memory that a thread takes for the largest image that is decoded: PIL's limit of pixels, as read, and twice as float64 (or three times
as RGB, for transparency)."""
FORMATS = ("JPEG", "PNG", "PPM", "BMP", "TIFF", "WEBP", "GIF", "AVIF")
"""What is decoded, whatever a file's name says. PIL would also take EPS, for which it starts Ghostscript, and tens of rare formats."""
ORIENTATION_TAG = 0x0112
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""Exif's orientations (tag 274) and what undoes them: cameras store the sensor's view and how they were held."""
LOW_BITS = 16
"""Colours of 16 bits are decoded to their upper byte; where that stays below this in all images, nearly nothing is left of them."""


class Decoded(NamedTuple):
    """x_[3, side, side] uint8; the values of an image of one channel with more than 8 bits; the largest upper byte of 16-bit colours."""

    x: Array
    wide: Span | None
    upper: int | None


def write_npy(file: IO[bytes], paths: Sequence[Path], side: int, progress: Progress | None) -> str | None:
    """Writes the images at `paths` to `file` as one .npy array_[N, 3, side, side] uint8, block by block. Raises DataError where an image
    cannot be read, or little is left of colours with 16 bits.

    Images with 16 or 32 bits a pixel share one scale, that of all of them, so they are decoded again once that is known; a note says so,
    None where there are none. Threads suffice: PIL releases the interpreter while it decodes and resizes."""
    image_bytes = 3 * side * side
    np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": (len(paths), 3, side, side)})
    begin = file.tell()
    threads = max(1, min(cores(), available_memory() // DECODED_BYTES))
    block = max(threads, min(512, BLOCK_BYTES // image_bytes))
    wide: dict[int, Span] = {}
    upper: dict[int, int] = {}
    # the filters are the process's, so they are set here and not in the threads
    with warnings.catch_warnings(), ThreadPoolExecutor(threads) as pool:
        warnings.simplefilter("ignore")  # of odd metadata; pixels that cannot be read raise
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        for start in range(0, len(paths), block):
            stop = min(start + block, len(paths))
            share = -(-(stop - start) // (4 * threads))  # a task of several images: one each would cost as much as a small image
            tasks = [paths[first : min(first + share, stop)] for first in range(start, stop, share)]
            images = (image for task in pool.map(lambda task: [read_image(path, side) for path in task], tasks) for image in task)
            for index, image in enumerate(images, start):
                file.write(image.x.tobytes())
                wide |= {} if image.wide is None else {index: image.wide}
                upper |= {} if image.upper is None else {index: image.upper}
            if progress is not None:
                progress(stop, len(paths))
        if upper and max(upper.values()) < LOW_BITS:
            raise DataError(
                f"{len(upper):,} colour images (the first is {paths[next(iter(upper))]}) have 16 bits a channel and use the lower ones "
                "only, so that next to nothing is left of them in 8 bits; save them with 8 bits a channel."
            )
        if not wide:
            return None
        values = Span(min(span.low for span in wide.values()), max(span.high for span in wide.values()))
        span = scale(values)
        for index, x in zip(wide, pool.map(lambda index: read_image(paths[index], side, span).x, wide), strict=True):
            file.seek(begin + index * image_bytes)
            file.write(x.tobytes())
        file.seek(0, os.SEEK_END)
    return (
        f"{len(wide):,} images have 16 or 32 bits a pixel, with values from {values.low:g} to {values.high:g}: "
        f"{span.low:g} to {span.high:g} became 0 to 255"
    )


def read_image(path: Path, side: int, span: Span | None = None) -> Decoded:
    """The image at `path` upright, as RGB, its shorter side brought to `side` pixels and its centre cut out. `span` becomes 0 to 255 where
    pixels have more than 8 bits; None: what this image alone suggests. Raises DataError where it is damaged, not an image, or claims more
    pixels than PIL's limit (a few bytes can claim terabytes)."""
    wide, upper = None, None
    try:
        with Image.open(path, formats=FORMATS) as image:
            if Image.MAX_IMAGE_PIXELS is not None and image.width * image.height > Image.MAX_IMAGE_PIXELS:
                raise Image.DecompressionBombError
            wide_colours = has_wide_colours(image)  # first: asking a PNG for its Exif loads it
            least = [-(-2 * side * edge // min(image.size)) for edge in image.size]
            image.draft(None, (least[0], least[1]))  # JPEG: decode an eighth, a quarter or half of each side, as suffices
            upright = UPRIGHT.get(image.getexif().get(ORIENTATION_TAG, 1))
            values = wide_values(image)
            if values is None:
                rgb = to_rgb(image)
                upper = int(np.asarray(image.convert("RGB")).max()) if wide_colours else None
            else:
                wide = Span(float(values.min()), float(values.max()))
                rgb = as_bytes(values, span or scale(wide))
        width, height = rgb.size
        edge = min(width, height)
        left, top = (width - edge) / 2, (height - edge) / 2
        small = rgb.resize((side, side), Image.Resampling.BILINEAR, box=(left, top, left + edge, top + edge))
        if upright is not None:
            small = small.transpose(upright)  # a square about the centre may be turned after cutting
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        limit = f"{Image.MAX_IMAGE_PIXELS:,} pixels"
        raise DataError(f"The image {path} claims more than {limit} and is not decoded; make it smaller or remove it.") from error
    except Exception as error:  # PIL's decoders let nearly anything through on damaged files: SyntaxError, struct.error, IndexError, ...
        why = "not an image, or its header is damaged" if isinstance(error, UnidentifiedImageError) else reason(error)
        raise DataError(f"The image {path} cannot be read ({why}); replace it or remove it.") from error
    return Decoded(np.ascontiguousarray(np.asarray(small).transpose(2, 0, 1)), wide, upper)


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
