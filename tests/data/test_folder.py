"""data=folder: images of your own, the cache of decoded ones, and what can be wrong with a tree of files."""

import io
import os
import shutil
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from faults_hostile_data import png
from PIL import Image

from bnexp.base.errors import DataError
from bnexp.config import DataConfig
from bnexp.data import Dataset, fingerprint, header, load
from bnexp.data.images import read_image

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def cache(own_cache: Path) -> Path:
    return own_cache / "bnexp" / "data"


def colour(label: int, number: int) -> tuple[int, int, int]:
    return (40 * label + 5, 3 * number, 200)


def fill(folder: Path, classes: tuple[str, ...] = ("cat", "dog", "owl"), count: int = 10) -> Path:
    """`count` plain PNG images a class, each of a colour of its own, of various sizes."""
    for label, name in enumerate(classes):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            Image.new("RGB", (20 + number, 31 - number), colour(label, number)).save(folder / name / f"{number:02}.png")
    return folder


def config(root: Path, **changes: int) -> DataConfig:
    return DataConfig(name="folder", root=str(root), image_size=8, **changes)


def colours(data: Dataset) -> list[tuple[int, ...]]:
    """(label, R, G, B) of every image, sorted."""
    x, y = (torch.cat([getattr(split, part) for split in (data.train, data.val, data.test)]) for part in "xy")
    assert torch.equal(x, x[..., :1, :1].expand_as(x))
    return sorted((label, *rgb) for label, rgb in zip(y.tolist(), x[..., 0, 0].tolist(), strict=True))


def test_a_folder_a_class(tmp_path: Path) -> None:
    root = fill(tmp_path / "images")
    (root / "notes.txt").write_text("not an image")
    (root / "cat" / "Thumbs.db").write_text("not an image")
    (root / ".hidden").mkdir()
    data = load(config(root), CPU)
    assert data.classes == ("cat", "dog", "owl")
    assert data.shape == (3, 8, 8)
    assert data.train.x.dtype == torch.uint8
    assert (len(data.train), len(data.val), len(data.test)) == (22, 2, 6)
    assert data.test.y.bincount().tolist() == [2, 2, 2]
    assert colours(data) == sorted((label, *colour(label, number)) for label in range(3) for number in range(10))
    assert header(config(root)) == ((3, 8, 8), 22, 3)
    assert header(config(root, subset=12)) == ((3, 8, 8), 11, 3)
    assert len(load(config(root, subset=12), CPU).train) == 11


def test_own_train_and_test_and_images_in_subfolders(tmp_path: Path) -> None:
    fill(tmp_path / "t" / "train")
    fill(tmp_path / "t" / "test", count=3)
    shutil.move(tmp_path / "t/test/dog/00.png", fill(tmp_path / "t" / "test" / "dog", ("deeper",), 1) / "deeper" / "moved.png")
    data = load(config(tmp_path / "t"), CPU)
    assert (len(data.train) + len(data.val), len(data.test)) == (30, 10)
    assert data.test.y.bincount().tolist() == [3, 4, 3]
    assert header(config(tmp_path / "t")) == ((3, 8, 8), 27, 3)


def test_the_second_start_decodes_nothing_and_a_change_is_seen(tmp_path: Path, cache: Path) -> None:
    root, said, steps = fill(tmp_path / "images"), [], []
    first = load(config(root), CPU, said.append, lambda done, total: steps.append((done, total)))
    assert len(said) == 1
    assert steps[-1] == (30, 30)
    print_of_first = fingerprint(config(root))
    path = root / "dog" / "04.png"
    status, good = path.stat(), path.read_bytes()
    path.write_bytes(bytes(len(good)))  # garbled, but its size and time are as before: it is not opened again
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    second = load(config(root), CPU, said.append, lambda done, total: steps.append((done, total)))
    assert (len(said), len(steps)) == (1, 1)
    assert colours(second) == colours(first)
    assert fingerprint(config(root)) == print_of_first

    Image.new("RGB", (9, 9), (1, 2, 3)).save(path)
    third = load(config(root), CPU, said.append)
    assert len(said) == 2
    assert (1, 1, 2, 3) in colours(third)
    assert fingerprint(config(root)) != print_of_first
    assert len(list(cache.iterdir())) == 4  # of images, a note on them, their hashes and a fingerprint: the older forms are gone

    images = next(cache.glob("images-*.npy"))
    images.write_bytes(images.read_bytes()[:-10])  # a damaged cache is made anew
    assert colours(load(config(root), CPU, said.append)) == colours(third)
    assert len(said) == 3


def test_a_relative_root_is_the_same_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    absolute = fingerprint(config(fill(tmp_path / "images")))
    for folder, root in ((tmp_path / "images", "."), (tmp_path, "images/"), (tmp_path / "images" / "cat", "..")):
        monkeypatch.chdir(folder)
        assert fingerprint(config(Path(root))) == absolute
        assert len(colours(load(config(Path(root)), CPU))) == 30


def test_the_fingerprint_is_of_the_content_not_the_place(tmp_path: Path) -> None:
    first = fingerprint(config(fill(tmp_path / "a")))
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    assert first is not None
    assert fingerprint(config(tmp_path / "b")) == first
    (tmp_path / "b/cat/00.png").rename(tmp_path / "b/cat/zz.png")
    assert fingerprint(config(tmp_path / "b")) != first


def jpeg(side: int = 64) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)).save(buffer, "JPEG")
    return buffer.getvalue()


BAD = {
    "empty": (b"", "cannot be read (not an image"),
    "cut JPEG": (jpeg()[:-900], "cannot be read (image file is truncated"),
    "large": (png(12_000, 12_000), "claims more than 89,478,485 pixels and is not decoded"),
}


@pytest.mark.parametrize("name", list(BAD))
def test_an_image_that_cannot_be_used_is_named(name: str, tmp_path: Path, cache: Path) -> None:
    content, sentence = BAD[name]
    root = fill(tmp_path / "images")
    (root / "dog" / "bad.jpg").write_bytes(content)
    with pytest.raises(DataError) as caught:
        load(config(root), CPU)
    assert str(caught.value).startswith(f"The image {root / 'dog' / 'bad.jpg'} {sentence}")
    assert "\n" not in str(caught.value)
    assert list(cache.iterdir()) == []  # nothing half-written


def test_trees_that_do_not_fit(tmp_path: Path) -> None:
    (tmp_path / "bare").mkdir()
    fill(tmp_path / "hollow")
    (tmp_path / "hollow" / "wolf").mkdir()
    fill(tmp_path / "single", ("cat",))
    fill(tmp_path / "odd" / "train")
    fill(tmp_path / "odd" / "test", ("cat", "dog", "yak"))
    for name, sentence in {
        "bare": "bare has no class folders",
        "hollow": f"The class folder {tmp_path / 'hollow' / 'wolf'} has no images",
        "single": "has one class folder, cat; at least 2 are needed",
        "odd": "train and test have different classes; only one of them has owl, yak",
    }.items():
        with pytest.raises(DataError, match=sentence):
            header(config(tmp_path / name))


@pytest.mark.parametrize("name", ["cat\udcff/1.png", "cat/\udcff.png", "cat/\udcff/1.png"])
def test_names_that_are_not_utf8(name: str, tmp_path: Path) -> None:
    """They ended in a UnicodeEncodeError."""
    root = fill(tmp_path / "images")
    (root / name).parent.mkdir(exist_ok=True)
    shutil.copy(root / "cat" / "00.png", root / name)
    for use in (header, fingerprint):
        with pytest.raises(DataError, match=r"\\udcff.*, whose name is not UTF-8; rename it") as caught:
            use(config(root))
        assert str(caught.value).isascii()
    (root / name).unlink()
    (root / "cat" / "\udcff.txt").touch()  # what is no image is left alone
    if not name.startswith("cat\udcff"):
        assert header(config(root))[2] == 3


def test_a_place_that_is_not_utf8(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder above is not the user's to rename."""
    fill(tmp_path / "\udcff" / "images")
    monkeypatch.chdir(tmp_path / "\udcff")
    assert fingerprint(config(Path("images"))) is not None


def test_what_does_not_fit_in_memory_is_refused_before_decoding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """30 images of 1024x1024 take 90 MiB, so the memory's report is the one thing that is made up here."""
    memory = psutil.virtual_memory()
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory._replace(available=50 * 2**20))
    big = DataConfig(name="folder", root=str(fill(tmp_path / "images")), image_size=1024)
    with pytest.raises(DataError, match=r"90\.0 MiB of memory and 50\.0 MiB are available; lower data\.image_size or data\.subset"):
        load(big, CPU)


def test_modes_orientation_and_cropping(tmp_path: Path) -> None:
    path = tmp_path / "image.png"
    left_red = np.zeros((8, 8, 3), dtype=np.uint8)
    left_red[:, :4, 0] = 255
    wide = np.concatenate([np.full((8, 8, 3), 9, dtype=np.uint8), left_red, np.full((8, 8, 3), 9, dtype=np.uint8)], 1)
    Image.fromarray(wide).save(path)
    np.testing.assert_array_equal(read_image(path, 8).x, left_red.transpose(2, 0, 1))  # the centre

    exif = Image.Exif()
    exif[0x0112] = 6  # held so that the stored left is at the top
    Image.fromarray(left_red).save(path, exif=exif)
    np.testing.assert_array_equal(read_image(path, 8).x, left_red.transpose(2, 1, 0))

    grey = np.arange(64, dtype=np.uint16).reshape(8, 8) * 1000
    Image.fromarray(grey).save(path)
    np.testing.assert_array_equal(read_image(path, 8).x, np.stack([np.rint(grey / 257)] * 3))
    for mode in ("1", "L", "LA", "P", "RGBA"):
        Image.new("RGB", (16, 12), (255, 255, 255)).convert(mode).save(path)
        np.testing.assert_array_equal(read_image(path, 8).x, np.full((3, 8, 8), 255))


def test_large_jpegs_are_shrunk_while_decoding_to_nearly_the_same_pixels(tmp_path: Path) -> None:
    smooth = Image.fromarray(np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)).resize(
        (512, 512), Image.Resampling.BICUBIC
    )
    smooth.save(tmp_path / "a.jpg", quality=95)
    smooth.save(tmp_path / "a.png")
    difference = read_image(tmp_path / "a.jpg", 32).x.astype(int) - read_image(tmp_path / "a.png", 32).x
    assert np.abs(difference).max() <= 12
