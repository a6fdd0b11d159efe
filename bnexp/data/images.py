"""Decoding image files: in parallel, to one size, with bounded memory."""

from __future__ import annotations

import os
import warnings
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import IO

import numpy as np
from PIL import Image, UnidentifiedImageError

from bnexp.data.arrays import Array, Progress, available_memory
from bnexp.errors import DataError, reason

BLOCK_BYTES = 64 * 2**20
DECODED_BYTES = 12 * 90_000_000
"""Memory that a thread takes for the largest image that is decoded: PIL's limit of pixels, as read, as 8 bits and as RGB."""
FORMATS = ("JPEG", "PNG", "PPM", "BMP", "TIFF", "WEBP", "GIF")
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


def write_npy(file: IO[bytes], paths: list[Path], side: int, progress: Progress | None) -> None:
    """Writes the images at `paths` to `file` as one .npy array_[N, 3, side, side] uint8, block by block.

    Threads suffice: PIL gives the interpreter free while it decodes and resizes.

    Raises:
        DataError: an image cannot be read. OSError: `file` cannot be written.
    """
    shape = (len(paths), 3, side, side)
    np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = max(1, min(cores, available_memory() // DECODED_BYTES))
    block = max(threads, min(512, BLOCK_BYTES // (3 * side * side)))
    # the filters are the process's, so they are set here and not in the threads
    with warnings.catch_warnings(), ThreadPoolExecutor(threads) as pool:
        warnings.simplefilter("ignore")  # of odd metadata; pixels that cannot be read raise
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        for start in range(0, len(paths), block):
            stop = min(start + block, len(paths))
            share = -(-(stop - start) // (4 * threads))  # a task of several images: one each would cost as much as a small image
            tasks = [paths[first : min(first + share, stop)] for first in range(start, stop, share)]
            for x_NCHW in pool.map(partial(_read_images, side=side), tasks):
                file.write(x_NCHW.tobytes())
            if progress is not None:
                progress(stop, len(paths))


def _read_images(paths: list[Path], side: int) -> Array:
    return np.stack([read_image(path, side) for path in paths])


def read_image(path: Path, side: int) -> Array:
    """The image at `path` upright, as RGB, its shorter side brought to `side` pixels and its centre cut out: x_[3, side, side] uint8.

    Raises:
        DataError: it is damaged, not an image, or claims more pixels than PIL's limit (a few bytes can claim terabytes).
    """
    try:
        with Image.open(path, formats=FORMATS) as image:
            if Image.MAX_IMAGE_PIXELS is not None and image.width * image.height > Image.MAX_IMAGE_PIXELS:
                raise Image.DecompressionBombError
            image.draft(None, _covering(image.size, 2 * side))  # JPEG: decode an eighth, a quarter or half of each side, as suffices
            upright = UPRIGHT.get(image.getexif().get(ORIENTATION_TAG, 1))
            rgb = _to_rgb(image)
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
        said = "not an image, or its header is damaged" if isinstance(error, UnidentifiedImageError) else reason(error)
        raise DataError(f"The image {path} cannot be read ({said}); replace it or remove it.") from error
    return np.ascontiguousarray(np.asarray(small).transpose(2, 0, 1))


def _covering(size: tuple[int, int], side: int) -> tuple[int, int]:
    """The size in the same proportions whose shorter side is `side`."""
    shorter = min(size)
    return -(-size[0] * side // shorter), -(-size[1] * side // shorter)


def _to_rgb(image: Image.Image) -> Image.Image:
    """As 8-bit RGB. 16-bit greys are scaled, which PIL's own conversion would clip; transparency is dropped."""
    if image.mode.startswith("I"):
        return Image.fromarray((np.asarray(image) >> 8).clip(0, 255).astype(np.uint8)).convert("RGB")
    if image.mode == "F":
        raise ValueError("its pixels are floats; save it with 8 bits a channel")
    return image.convert("RGB")
