"""data=npz: your own arrays, and what can be wrong with them."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bnexp.config import DataConfig
from bnexp.data import Dataset, fingerprint, header, load, npz
from bnexp.errors import BnexpError, DataError, UsageError

X, Y = np.random.default_rng(0).normal(size=(50, 3, 4)), np.arange(50) % 5


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def config(path: Path) -> DataConfig:
    return DataConfig(name="npz", root=str(path))


def saved(path: Path, **arrays: Any) -> DataConfig:
    np.savez(path / "data.npz", **arrays)
    return config(path / "data.npz")


def loaded(path: Path, **arrays: Any) -> Dataset:
    return load(saved(path, **arrays), torch.device("cpu"))


@pytest.mark.parametrize("shape", [(3,), (3, 4), (3, 4, 5), (1, 4, 3, 2)])
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int64, np.float16, np.float32, np.dtype(">f8"), np.bool_])
def test_any_shape_and_type(tmp_path: Path, shape: tuple[int, ...], dtype: Any) -> None:
    x = np.random.default_rng(0).integers(0, 2, (50, *shape)).astype(dtype)
    data = loaded(tmp_path, x=np.asfortranarray(x), y=Y)
    assert data.shape == shape
    assert data.train.x.dtype == (torch.uint8 if dtype == np.uint8 else torch.float32)
    assert (len(data.train), len(data.val), len(data.test)) == (36, 4, 10)
    assert data.test.y.bincount().tolist() == [2] * 5
    assert header(config(tmp_path / "data.npz")) == (shape, 40, 5)
    rows = sorted(map(tuple, np.concatenate([s.x.flatten(1).numpy() for s in (data.train, data.val, data.test)]).tolist()))
    assert rows == sorted(map(tuple, x.reshape(50, -1).astype(np.float32).tolist()))


def test_own_test_arrays_and_labels_of_any_values(tmp_path: Path) -> None:
    labels = np.array([-7, 3, 900, 5000, 2**40])
    arrays = {"x_train": X, "y_train": labels[Y % 4], "x_test": X[:10] + 100, "y_test": labels[[4] + [0] * 9]}
    data = loaded(tmp_path, **arrays)
    assert data.classes == ("-7", "3", "900", "5000", str(2**40))  # over training and test
    assert (len(data.train) + len(data.val), len(data.test)) == (50, 10)
    torch.testing.assert_close(data.test.x, torch.tensor(X[:10] + 100, dtype=torch.float32))
    assert data.test.y.tolist() == [4] + [0] * 9
    assert header(config(tmp_path / "data.npz")) == ((3, 4), 50, 5)
    assert len(loaded(tmp_path, x_train=X, y_train=Y).test) == 10  # without test arrays a fifth is split off


def test_the_fingerprint_follows_the_content(tmp_path: Path) -> None:
    first = fingerprint(saved(tmp_path, x=X, y=Y))
    (tmp_path / "copy.npz").write_bytes((tmp_path / "data.npz").read_bytes())
    assert first is not None
    assert fingerprint(config(tmp_path / "copy.npz")) == first
    assert fingerprint(saved(tmp_path, x=X + 1, y=Y)) != first


def test_three_axes_are_told_since_they_may_be_images_without_channels(tmp_path: Path) -> None:
    """Images [N, H, W] trained in silence as signals of H channels."""
    said: list[str] = []
    for x in (X, X[:, None], X.reshape(50, -1)):
        load(saved(tmp_path, x=x, y=Y), torch.device("cpu"), said.append)
    assert said == ["x has shape [N, 3, 4]: taken as 3 channels of length 4; images of one channel need shape [N, 1, H, W]"]


WRONG = {
    "length": ({"x": X, "y": Y[:49]}, "50 examples in x and 49 labels in y"),
    "names": ({"X": X, "labels": Y}, r"lacks arrays: it should hold x and y, .* holds X, labels"),
    "nothing": ({}, "it holds none"),
    "nan": ({"x": np.where(np.arange(50)[:, None, None] == 17, np.nan, X), "y": Y}, "NaN or infinite values in x .* first in example 17"),
    "overflow": ({"x": np.full((50, 2), 1e200), "y": Y}, "NaN or infinite"),
    "float labels": ({"x": X, "y": Y.astype(float)}, "float64 in y; it should be whole numbers"),
    "text": ({"x": np.full((50, 2), "a"), "y": Y}, r"<U1 in x; it should be whole numbers or floats"),
    "complex": ({"x": X + 1j, "y": Y}, "complex128 in x"),
    "one class": ({"x": X, "y": Y * 0 + 3}, "one class: every label is 3"),
    "label shape": ({"x": X, "y": Y[:, None]}, r"y of shape \[50, 1\]; it should be \[N\]"),
    "flat": ({"x": X[:, 0, 0], "y": Y}, r"x of shape \[50\]; it should be \[N, C"),
    "empty": ({"x": X[:0], "y": Y[:0]}, "which is empty"),
    "shapes": ({"x_train": X, "y_train": Y, "x_test": X[:, :2], "y_test": Y}, r"\[3, 4\] in x_train and \[2, 4\] in x_test"),
    "pickle": ({"x": X, "y": np.array([{}] * 50, dtype=object)}, "pickled Python objects in y, which are never loaded"),
}


@pytest.mark.parametrize("name", list(WRONG))
def test_one_sentence_for_each_mistake(tmp_path: Path, name: str) -> None:
    arrays, sentence = WRONG[name]
    with pytest.raises(DataError, match=sentence) as caught:
        loaded(tmp_path, **arrays)
    assert str(tmp_path / "data.npz") in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_or_a_folder(tmp_path: Path) -> None:
    for path, sentence in ((tmp_path / "none.npz", "is not there"), (tmp_path, "is a folder")):
        for use in (header, fingerprint, lambda c: load(c, torch.device("cpu"))):
            with pytest.raises(UsageError, match=sentence):
                use(config(path))


def test_files_cut_short_damaged_or_of_another_kind(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "good.npz", x=X, y=Y)
    good = (tmp_path / "good.npz").read_bytes()
    flipped = bytearray(good)
    flipped[len(good) // 2] ^= 255
    bad = {"empty": b"", "text": b"not a zip", "half": good[: len(good) // 2], "flipped": bytes(flipped), "short": good[:-30]}
    for name, content in bad.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError, match=r"is not a whole \.npz file"):
            load(config(tmp_path / name), torch.device("cpu"))
    np.save(tmp_path / "x.npy", X)
    with pytest.raises(DataError, match=r"save x and y with numpy\.savez"):
        header(config(tmp_path / "x.npy"))


def with_header(path: Path, shape: tuple[int, ...], payload: bytes) -> DataConfig:
    """An .npz whose x claims `shape`."""
    with zipfile.ZipFile(path, "w") as archive:
        buffer = io.BytesIO()
        np.lib.format.write_array_header_1_0(buffer, {"descr": "<f4", "fortran_order": False, "shape": shape})
        archive.writestr("x.npy", buffer.getvalue() + payload)
        buffer = io.BytesIO()
        np.save(buffer, Y)
        archive.writestr("y.npy", buffer.getvalue())
    return config(path)


def test_headers_that_claim_more_than_there_is(tmp_path: Path) -> None:
    """Refused by the header: nothing of the claimed size is ever allocated."""
    for use in (header, lambda c: load(c, torch.device("cpu"))):
        for payload in (b"", b"\0" * 800):
            with pytest.raises(DataError, match=r"needs [0-9.,]+ (GiB|TiB|PiB) of memory and .* put fewer examples|is cut short"):
                use(with_header(tmp_path / "bomb.npz", (50, 10**12), payload))
        with pytest.raises(DataError, match="x is cut short"):
            use(with_header(tmp_path / "short.npz", (50, 10), b"\0" * 800))
    assert issubclass(DataError, BnexpError)


def test_what_is_checked_is_what_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`numpy.load` prefers a member `x` to `x.npy`, and finds an archive behind other bytes: it read what nobody had looked at."""
    saved(tmp_path, x=X, y=Y)
    path = tmp_path / "data.npz"
    good = path.read_bytes()
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("x", b"hello")
    for use in (header, lambda c: load(c, torch.device("cpu"))):
        with pytest.raises(DataError, match="it holds more than one x"):
            use(config(path))
    np.save(tmp_path / "array.npy", X)
    path.write_bytes((tmp_path / "array.npy").read_bytes() + good)
    with pytest.raises(DataError, match="it does not begin as one"):
        load(config(path), torch.device("cpu"))
    with zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA) as archive:
        archive.write(tmp_path / "array.npy", "x.npy")
    with pytest.raises(DataError, match="packed in a way that NumPy does not write"):
        header(config(path))
    other = saved(tmp_path, x=X[:, :, :2], y=Y)
    checked = npz._checked_headers(path)
    saved(tmp_path, x=X, y=Y)  # between the check and the reading
    monkeypatch.setattr(npz, "_checked_headers", lambda path: checked)
    with pytest.raises(DataError, match="x changed while it was read"):
        load(other, torch.device("cpu"))


def test_members_that_are_no_arrays_are_passed_over(tmp_path: Path) -> None:
    saved(tmp_path, x=X, y=Y)
    with zipfile.ZipFile(tmp_path / "data.npz", "a") as archive:
        archive.writestr("README", "mine")
    assert len(load(config(tmp_path / "data.npz"), torch.device("cpu")).test) == 10
