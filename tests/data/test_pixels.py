"""data=folder: what becomes of 16 and 32 bits, of transparency, and of pictures that say nothing."""

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from bnexp.base.errors import DataError
from bnexp.config import DataConfig
from bnexp.data import Dataset, load

COUNT = 10
pytestmark = pytest.mark.usefixtures("own_cache")


def greys() -> np.ndarray[Any, Any]:
    """[2 * COUNT, 8, 8] uint8 from 0 to 255, no two alike; the least and the largest value in different images."""
    x = np.random.default_rng(0).integers(20, 200, (2 * COUNT, 8, 8)).astype(np.uint8)
    x[0, 0, 0], x[-1, -1, -1] = 0, 255
    return x


def saved(root: Path, pixels: np.ndarray[Any, Any], suffix: str = "png") -> Path:
    """Images of two classes, one from each of the `pixels`."""
    for index, x in enumerate(pixels):
        folder = root / ("cat" if index < COUNT else "dog")
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(x).save(folder / f"{index:02}.{suffix}")
    return root


def loaded(root: Path, said: list[str] | None = None) -> Dataset:
    return load(DataConfig(name="folder", root=str(root), image_size=8), torch.device("cpu"), [].append if said is None else said.append)


def pictures(data: Dataset) -> list[list[int]]:
    """The first channel of all images, sorted; the channels are equal."""
    x = torch.cat([split.x for split in (data.train, data.val, data.test)])
    assert torch.equal(x, x[:, :1].expand_as(x))
    return sorted(x[:, 0].flatten(1).tolist())


KINDS = {
    "8 bits in 16": (lambda x: x.astype(np.uint16), "png", "0 to 255 became 0 to 255"),
    "8 bits in 32": (lambda x: x.astype(np.int32), "tif", "0 to 255 became 0 to 255"),
    "12 bits in 16": (lambda x: np.rint(x / 255 * 4095).astype(np.uint16), "png", "0 to 4095 became 0 to 255"),
    "16 bits": (lambda x: x.astype(np.uint16) * 257, "png", "0 to 65535 became 0 to 255"),
    "shares": (lambda x: x.astype(np.float32) / 255, "tif", "0 to 1 became 0 to 255"),
    "temperatures": (lambda x: x.astype(np.uint16) + 30_000, "png", "30000 to 30255 became 0 to 255"),
    "Hounsfield units": (lambda x: x.astype(np.int32) * 10 - 1000, "tif", "-1000 to 1550 became 0 to 255"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_pixels_are_scaled_by_the_range_of_the_set(tmp_path: Path, kind: str) -> None:
    """8 bits in 16 were all black."""
    stored, suffix, sentence = KINDS[kind]
    said: list[str] = []
    data = loaded(saved(tmp_path / "s", stored(greys()), suffix), said)
    assert pictures(data) == sorted(greys().reshape(2 * COUNT, -1).tolist())
    note = data.notes[1]
    assert note.startswith("20 images have 16 or 32 bits a pixel")
    assert note.endswith(sentence)
    again = loaded(tmp_path / "s", said)
    assert (len(said), pictures(again)) == (1, pictures(data))  # decoded once
    assert again.notes == data.notes  # and said each time
    (text,) = (tmp_path / "cache/bnexp/data").glob("images-*.txt")
    text.unlink()
    assert loaded(tmp_path / "s", said).notes == data.notes
    assert len(said) == 2


def test_images_of_8_bits_beside_wide_ones_stay_as_they_are(tmp_path: Path) -> None:
    x = greys()
    saved(tmp_path / "s", x)
    Image.fromarray(x[3].astype(np.uint16) * 257).save(tmp_path / "s/cat/03.png")
    x[3, 0, 0] = 255  # so that the one wide image tells its number of bits
    Image.fromarray(x[3].astype(np.uint16) * 257).save(tmp_path / "s/cat/03.png")
    assert pictures(loaded(tmp_path / "s")) == sorted(x.reshape(2 * COUNT, -1).tolist())


def test_colours_that_use_only_the_low_bits_are_refused(tmp_path: Path) -> None:
    """PIL reads the upper byte of 16-bit colours. Pillow writes none, so these are PNG files made by hand."""

    def png(pixels: np.ndarray[Any, Any]) -> bytes:
        rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
        chunks = b""
        for name, body in ((b"IHDR", struct.pack(">IIBBBBB", 8, 8, 16, 2, 0, 0, 0)), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")):
            chunks += struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        return b"\x89PNG\r\n\x1a\n" + chunks

    for factor, name in ((1, "low"), (257, "full")):
        saved(tmp_path / name, greys())
        for index, x in enumerate(greys()):
            path = tmp_path / name / ("cat" if index < COUNT else "dog") / f"{index:02}.png"
            path.write_bytes(png(np.stack([x] * 3, -1).astype(np.uint16) * factor))
    with pytest.raises(DataError, match=r"20 colour images \(the first is .*00\.png\) have 16 bits a channel and use the lower ones only"):
        loaded(tmp_path / "low")
    assert pictures(loaded(tmp_path / "full")) == sorted(greys().reshape(2 * COUNT, -1).tolist())


def test_pixels_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    x = greys().astype(np.float32)
    x[4, 2, 2] = np.nan
    with pytest.raises(DataError, match=r"04\.tif cannot be read \(it has pixels that are no numbers\)"):
        loaded(saved(tmp_path / "s", x, "tif"))


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "RGB"])
def test_transparency_is_composited_on_white(tmp_path: Path, mode: str) -> None:
    """Drawings that are black everywhere, with the shape in the alpha channel alone, were all black."""
    root, alpha = saved(tmp_path / "s", greys()), greys()
    for index, opacity in enumerate(alpha):
        path = root / ("cat" if index < COUNT else "dog") / f"{index:02}.png"
        if mode in ("RGBA", "LA"):
            image = Image.merge(mode, [*[Image.new("L", (8, 8))] * (len(mode) - 1), Image.fromarray(opacity)])
            image.save(path)
        else:  # one colour is transparent: black
            drawn = np.where(opacity > 100, 90, 0).astype(np.uint8)
            alpha[index] = np.where(opacity > 100, 165, 0)
            image = Image.fromarray(drawn).convert(mode)
            image.save(
                path, transparency=(0, 0, 0) if mode == "RGB" else image.getpixel((int(drawn.argmin()) % 8, int(drawn.argmin()) // 8))
            )
    assert pictures(loaded(root)) == sorted((255 - alpha).reshape(2 * COUNT, -1).tolist())


def test_pictures_that_say_nothing_are_told(tmp_path: Path) -> None:
    black = np.zeros((2 * COUNT, 8, 8), np.uint8)
    assert loaded(saved(tmp_path / "black", black)).notes[-1] == "All training examples are equal: there is nothing to learn from"
    same = np.repeat(greys()[:1], 2 * COUNT, axis=0)
    assert loaded(saved(tmp_path / "same", same)).notes[-1] == "All training examples are equal: there is nothing to learn from"
    red = np.stack([greys(), black, black], -1)
    told = "2 of 3 channels (the first is number 1) are constant over all training examples and say nothing"
    assert loaded(saved(tmp_path / "red", red)).notes[-1] == told
    assert len(loaded(saved(tmp_path / "fine", greys())).notes) == 1


@pytest.mark.parametrize(("suffix", "kind"), [("jfif", "JPEG"), ("avif", "AVIF"), ("webp", "WEBP"), ("JPG", "JPEG")])
def test_files_of_usual_formats_are_images(tmp_path: Path, suffix: str, kind: str) -> None:
    root = saved(tmp_path / "s", greys())
    Image.fromarray(greys()[0]).save(root / f"cat/more.{suffix}", format=kind)
    data = loaded(root)
    assert len(data.train) + len(data.val) + len(data.test) == 2 * COUNT + 1
