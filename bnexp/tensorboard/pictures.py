"""Pictures for the Images tab, drawn with PIL: examples of the input, the first layer's filters, the confusion matrix.

A picture is uint8 [H, W, 3], and small: TensorBoard's checksum takes 0.1 µs a byte. matplotlib would cost a training half a second of
import.
"""

from __future__ import annotations

import functools
import io
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from tensorboard.compat.proto.summary_pb2 import Summary

from bnexp.data.arrays import Array

SIDE = 48
"""Pixels that a tile has at least; small maps are enlarged to it, each value a square."""
MOST = 64
"""Pixels that a map is brought down to: larger maps show no more and cost bytes."""
CHANNELS = 9
"""Channels and slices that are shown of one example or filter, where channels are not those of a colour."""
FILTERS = 32
"""Filters of the first layer that are shown."""
SHORT = 9
"""A series of so few values is a strip of squares, a longer one a curve."""
GAP, CAPTION, CURVE_HEIGHT = 4, 17, 40
COLORS = ((31, 119, 180), (255, 127, 14), (44, 160, 44), (214, 39, 40), (148, 103, 189), (140, 86, 75), (227, 119, 194), (127, 127, 127))
NOWHERE = "\U0010ffff"
"""No letter, so that a font draws what it draws for those that it lacks."""
LIKELY = ("cjk", "dejavusans.ttf", "wqy", "hei", "song", "gothic", "hiragino", "pingfang", "yahei", "malgun", "unicode", "noto")
"""Parts of the names of font files that have many letters, which are opened before others."""
BOXES = "lastresort"
"""Part of the name of a font that has a box for each letter of the world."""


def value(tag: str, picture: Array) -> Summary.Value:
    """The picture as a point of the Images tab, in as few bytes as 64 colours of its own take (or its exact ones, if they are no more)."""
    image = Image.fromarray(picture).quantize(64, dither=Image.Dither.NONE)
    buffer = io.BytesIO()
    image.save(buffer, "png")
    encoded = Summary.Image(height=image.height, width=image.width, colorspace=3, encoded_image_string=buffer.getvalue())
    return Summary.Value(tag=tag, image=encoded)


def examples(x_NC: Array, y: Sequence[int], classes: Sequence[str]) -> Array:
    """Examples x_[N, C, *map] as they are stored, each over the name of its class y_[N]: series as curves, volumes by their middle slice.
    All share one scale: from 0 (uint8) or the least value to the largest. Three channels are colours; others are side by side."""
    x = x_NC.astype(np.float32)
    finite = x[np.isfinite(x)] if np.isfinite(x).any() else np.array([0.0, 1.0])
    low, high = 0.0 if x_NC.dtype == np.uint8 else float(finite.min()), float(finite.max())
    x = np.nan_to_num((x - low) / ((high - low) or 1.0), posinf=1, neginf=0).clip(0, 1)
    if x.ndim == 5:
        x = x[:, :, x.shape[2] // 2]
    file, names = labels_of(classes)
    return _grid([_tile(one, curves=True) for one in x], [names[label] for label in y], file=file)


def filters(weight_OI: Array) -> Array | None:
    """The first filters of the first layer [O, I, *kernel]: gray is 0, white and black are plus and minus a filter's largest weight. The
    slices of a 3d kernel are side by side; of a larger volume (an mlp's input) the middle one is shown. None where one is not finite."""
    weight = weight_OI[:FILTERS].astype(np.float32)
    if not np.isfinite(weight).all():
        return None
    largest = np.abs(weight).reshape(len(weight), -1).max(1).clip(min=1e-30)
    scaled = 0.5 + 0.5 * weight / largest.reshape(-1, *[1] * (weight.ndim - 1))
    if scaled.ndim == 5:
        scaled = scaled[:, :, scaled.shape[2] // 2, None] if scaled.shape[2] > 3 else scaled
        scaled = scaled.reshape(len(scaled), -1, *scaled.shape[3:])
    return _grid([_tile(one, colors=weight.ndim == 4) for one in scaled], background=(255, 236, 179))


def confusion(counts_KK: Sequence[Sequence[int]], classes: Sequence[str]) -> Array:
    """Counts by true class (rows) and predicted class (columns). A cell is the darker, the larger the root of its share of the row: rare
    errors are to be visible. Up to 20 classes have counts in the cells and labels beside them."""
    counts = np.asarray(counts_KK)
    written = len(counts) <= 20
    file, readable = labels_of(classes) if written else (None, [])
    font, names = font_of(file, 12), [name if len(name) <= 10 else name[:9] + "…" for name in readable]
    legend = "No font here has the letters of some classes: they have numbers." if readable != list(classes)[: len(readable)] else ""
    cell = max(30, 8 + max(_width(font, str(count)) for count in counts.ravel())) if written else max(1, 480 // len(counts))
    labels = max(_width(font, name) for name in names) + 8 if written else 0
    left, top = labels + 18, 18 + (labels if written and labels > cell else 18 * written)
    size = cell * len(counts)
    width, height = left + max(size, (size + _width(font, "predicted class")) // 2) + 6, top + size + 6
    if legend:
        width, height = max(width, _width(font, legend) + 8), height + 18
    image = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(image)
    draw.text((4, height - 4), legend, "black", font, anchor="ls")
    _upright(image, "true class", font, (2, top + size // 2))
    draw.text((left + size // 2, 2), "predicted class", "black", font, anchor="ma")
    share = np.sqrt(counts / counts.sum(1, keepdims=True).clip(min=1))
    colors = np.round(255 + share[..., None] * (np.array((8, 48, 107)) - 255)).astype(np.uint8)
    image.paste(Image.fromarray(colors.repeat(cell, 0).repeat(cell, 1)), (left, top))
    for row, column in np.ndindex(*counts.shape) if written else ():
        x, y = left + column * cell, top + row * cell
        draw.rectangle((x, y, x + cell - 1, y + cell - 1), outline=(225, 225, 225))
        if counts[row, column]:
            color = "white" if share[row, column] > 0.6 else "black"
            draw.text((x + cell / 2, y + cell / 2), str(counts[row, column]), color, font, anchor="mm")
    for index, name in enumerate(names if written else ()):
        middle = index * cell + cell // 2
        draw.text((left - 6, top + middle), name, "black", font, anchor="rm")
        if labels > cell:
            _upright(image, name, font, (left + middle - 7, top - 4), below=True)
        else:
            draw.text((left + middle, top - 4), name, "black", font, anchor="ms")
    return np.asarray(image)


def _tile(x: Array, *, curves: bool = False, colors: bool = True) -> Array:
    """One example or filter [C, *map] in [0, 1]."""
    if x.ndim == 1:
        x = x[None]
    if x.ndim == 2:
        return _curve(x) if x.shape[1] > SHORT else _enlarged(_bytes(x))
    if colors and len(x) == 3:
        return _enlarged(_bytes(x.transpose(1, 2, 0)))
    shown = [_enlarged(_bytes(channel)) for channel in x[:CHANNELS]]
    gap = np.full((shown[0].shape[0], 1, 3), 255, np.uint8)
    return np.concatenate([part for one in shown for part in (gap, one)][1:], axis=1)


def _curve(x_CL: Array) -> Array:
    """A line a channel, upwards from 0 to 1."""
    width = 2 * MOST
    image = Image.new("RGB", (width, CURVE_HEIGHT), (245, 245, 245))
    draw = ImageDraw.Draw(image)
    places = np.linspace(1, width - 2, x_CL.shape[1])
    for channel, color in zip(x_CL, COLORS, strict=False):
        heights = CURVE_HEIGHT - 3 - channel * (CURVE_HEIGHT - 6)
        draw.line(list(zip(places.tolist(), heights.tolist(), strict=True)), fill=color, width=1)
    return np.asarray(image)


def _bytes(x: Array) -> Array:
    """[h, w] or [h, w, 3] in [0, 1] as uint8 [h, w, 3]."""
    gray = (x * 255).round().astype(np.uint8)
    return np.repeat(gray[..., None], 3, axis=2) if x.ndim == 2 else gray


def _enlarged(x: Array) -> Array:
    """A small map enlarged in whole steps, a large one brought down to `MOST` pixels."""
    height, width = x.shape[:2]
    if max(height, width) > MOST:
        scale = MOST / max(height, width)
        return np.asarray(Image.fromarray(x).resize((max(1, round(width * scale)), max(1, round(height * scale))), Image.Resampling.BOX))
    times = max(1, math.ceil(SIDE / max(height, width)))
    return x.repeat(times, 0).repeat(times, 1)


def _grid(
    tiles: Sequence[Array], labels: Sequence[str] | None = None, background: tuple[int, int, int] = (255, 255, 255), file: str | None = None
) -> Array:
    """Tiles of one size in rows, somewhat wider than high, with a label under each: a large one, as TensorBoard shows 350 pixels."""
    height, width = tiles[0].shape[:2]
    caption = CAPTION if labels else 0
    wanted = max(1, min(len(tiles), round(math.sqrt(1.6 * len(tiles) * (height + caption) / width))))
    nearby = range(max(1, wanted - 2), min(len(tiles), wanted + 2) + 1)
    columns = min(nearby, key=lambda count: (-len(tiles) % count, abs(count - wanted)))  # as few empty places as can be
    rows = math.ceil(len(tiles) / columns)
    image = Image.new("RGB", (columns * (width + GAP) + GAP, rows * (height + caption + GAP) + GAP), background)
    draw, font = ImageDraw.Draw(image), font_of(file, 14)
    for index, tile in enumerate(tiles):
        x, y = GAP + index % columns * (width + GAP), GAP + index // columns * (height + caption + GAP)
        image.paste(Image.fromarray(tile), (x, y))
        if labels:
            draw.text((x + width // 2, y + height), _fitting(labels[index], font, width), "black", font, anchor="ma")
    return np.asarray(image)


def _fitting(label: str, font: Any, width: int) -> str:
    """As much of a label as `width` pixels hold: its beginning and its end, which may tell it from others."""
    head, end = label, ""
    while len(head) > 1 and _width(font, head + end) > width:
        head, end = head[:-1] if end else label[:-4], "…" + label[-3:]
    return head + end


def _upright(image: Image.Image, text: str, font: Any, at: tuple[int, int], *, below: bool = False) -> None:
    """Text from bottom to top: centred at a height, or ending its last letter above `at` (`below`)."""
    width = _width(font, text)
    strip = Image.new("RGB", (width, 15), "white")
    ImageDraw.Draw(strip).text((0, 0), text, "black", font)
    image.paste(strip.rotate(90, expand=True), (at[0], at[1] - (width if below else width // 2)))


def _width(font: Any, text: str) -> int:
    width: float = font.getlength(text)
    return math.ceil(width)


def labels_of(names: Sequence[str]) -> tuple[str | None, list[str]]:
    """The file of a font that has the letters of `names` (None: PIL's own, which has Latin letters), and the names, or `class 3` for one
    whose letters no installed font has: a box in the place of a letter is of no use."""
    path, whole = _font_file("".join(sorted(set("".join(names)))))
    if whole:
        return path, list(names)
    return path, [name if _has(font_of(path, 12), name) else f"class {index}" for index, name in enumerate(names)]


def font_of(path: str | None, size: int) -> Any:
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
    missing = bytes(font.getmask(NOWHERE))
    return all(letter.isspace() or bytes(font.getmask(letter)) != missing for letter in set(letters))
