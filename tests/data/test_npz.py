"""data=npz: your own arrays, and what can be wrong with them."""

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from faults_hostile_data import npy, npy_header

from bnexp.base.errors import DataError
from bnexp.config import DataConfig
from bnexp.data import Dataset, fingerprint, header, load, npz

pytestmark = pytest.mark.usefixtures("own_cache")

X, Y = np.random.default_rng(0).normal(size=(50, 3, 4)), np.arange(50) % 5


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
    assert header(config(tmp_path / "data.npz")) == (shape, 36, 5)
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
    assert header(config(tmp_path / "data.npz")) == ((3, 4), 45, 5)
    assert len(loaded(tmp_path, x_train=X, y_train=Y).test) == 10  # without test arrays a fifth is split off


def test_the_fingerprint_follows_the_content(tmp_path: Path) -> None:
    first = fingerprint(saved(tmp_path, x=X, y=Y))
    (tmp_path / "copy.npz").write_bytes((tmp_path / "data.npz").read_bytes())
    assert first is not None
    assert fingerprint(config(tmp_path / "copy.npz")) == first
    assert fingerprint(saved(tmp_path, x=X + 1, y=Y)) != first


def test_signals_of_many_channels_are_told_and_of_one_are_not(tmp_path: Path) -> None:
    said = [loaded(tmp_path, x=x, y=Y).notes[1:] for x in (X, X[:, None], X.reshape(50, -1), np.ones((50, 1, 96)) * X[:, :1, :1])]
    assert said == [
        ("x has shape [N, 3, 4]: taken as 3 channels of length 4; if these are pictures of one channel, save x[:, None]",),
        (),
        (),
        (),
    ]


AXES = {
    (28, 28): "x[:, None]",
    (8, 8): "x[:, None]",
    (96, 3): "x.transpose(0, 2, 1)",
    (96, 1): "x.transpose(0, 2, 1)",
    (8, 8, 1): "x.transpose(0, 3, 1, 2)",
    (32, 24, 3): "x.transpose(0, 3, 1, 2)",
    (9, 9, 9, 2): "x.transpose(0, 4, 1, 2, 3)",
}
"""Examples as other tools store them, and what repairs them."""


@pytest.mark.parametrize("shape", AXES)
def test_axes_in_another_order_are_refused_with_the_line_that_repairs_them(tmp_path: Path, shape: tuple[int, ...]) -> None:
    """They were taken as many channels of tiny maps, without a word."""
    x = np.random.default_rng(0).integers(0, 99, (50, *shape))
    for use in (header, lambda c: load(c, torch.device("cpu"))):
        with pytest.raises(DataError) as caught:
            use(saved(tmp_path, x=x, y=Y))
        assert f": save {AXES[shape]}, or " in str(caught.value)
    repaired, kept = str(caught.value).rpartition(": save ")[2].removesuffix(" if the channels do come first.").split(", or ")
    assert loaded(tmp_path, x=eval(repaired, {"x": x}), y=Y).shape[0] == (1 if AXES[shape] == "x[:, None]" else shape[-1])
    name, values = ("x", eval(kept, {"x": x})) if len(shape) > 2 else (kept.removeprefix("call it "), x)
    data = loaded(tmp_path, **{name: values}, y=Y)  # the other line does, too: of signals the network stays one-dimensional
    assert (data.shape[0], len(data.shape)) == (shape[0], len(shape))


@pytest.mark.parametrize("shape", [(64, 128), (24, 32), (128, 96), (12, 9), (306, 200), (5, 6)])
def test_signals_of_many_channels_are_taken_as_they_are_with_one_note(tmp_path: Path, shape: tuple[int, ...]) -> None:
    """[N, 64, 128] of an EEG was refused as pictures, and what was offered instead made a network of two dimensions."""
    x = np.random.default_rng(0).integers(0, 99, (50, *shape))
    data = loaded(tmp_path, x_train=x, y_train=Y)
    assert data.shape == shape
    (note,) = data.notes[1:]
    taken, sentence = note.split("; ")
    assert taken == f"x_train has shape [N, {shape[0]}, {shape[1]}]: taken as {shape[0]} channels of length {shape[1]}"
    pictures = eval(sentence.removeprefix("if these are pictures of one channel, save "), {"x_train": x})
    assert loaded(tmp_path, x_train=pictures, y_train=Y).shape == (1, *shape)


def test_square_signals_are_taken_where_the_array_is_called_so(tmp_path: Path) -> None:
    x = np.random.default_rng(0).integers(0, 99, (50, 64, 64))
    with pytest.raises(DataError, match=r"save train_X\[:, None\], or call it train_signals if the channels do come first"):
        loaded(tmp_path, train_X=x, train_y=Y)
    data = loaded(tmp_path, train_signals=x, train_y=Y)
    assert (data.shape, data.notes[1:]) == ((64, 64), ())


@pytest.mark.parametrize(
    "shape", [(3, 32, 32), (1, 8, 8), (64, 4, 4), (512, 1, 1), (8, 8, 8), (64, 256), (3, 96), (1, 6, 6, 6), (16, 2)[::-1]]
)
def test_channels_that_come_first_are_left_alone(tmp_path: Path, shape: tuple[int, ...]) -> None:
    assert loaded(tmp_path, x=np.random.default_rng(0).integers(0, 99, (50, *shape)), y=Y).shape == shape


@pytest.mark.parametrize("shape", [(28, 28), (20, 40), (28, 28, 3), (12, 12, 12), (3, 28, 28)])
def test_arrays_called_images_are_brought_into_order(tmp_path: Path, shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    images = {
        f"{part}_images": rng.integers(0, 256, (n, *shape)).astype(np.uint8) for part, n in (("train", 50), ("val", 20), ("test", 10))
    }
    labels = {f"{part}_labels": (np.arange(n) % 5)[:, None].astype(np.uint8) for part, n in (("train", 50), ("val", 20), ("test", 10))}
    data = loaded(tmp_path, **images, **labels)
    expected = images["val_images"]
    if shape[0] != 3:
        expected = np.moveaxis(expected, -1, 1) if shape[-1] == 3 else expected[:, None]
    np.testing.assert_array_equal(data.val.x, expected)
    assert (len(data.train), len(data.val), len(data.test)) == (50, 20, 10)
    assert data.val.y.tolist() == [n % 5 for n in range(20)]
    assert header(config(tmp_path / "data.npz")) == (expected.shape[1:], 50, 5)


@pytest.mark.parametrize("names", [("X_train", "y_train", "X_test", "y_test"), ("train_x", "train_y", "test_x", "test_y")])
def test_usual_names_of_arrays(tmp_path: Path, names: tuple[str, ...]) -> None:
    data = loaded(tmp_path, **dict(zip(names, (X, Y, X[:10] + 100, Y[:10]), strict=True)))
    assert (len(data.train) + len(data.val), len(data.test), float(data.test.x.min()) > 90) == (50, 10, True)
    assert len(loaded(tmp_path, X=X, labels=Y).test) == 10


def test_validation_arrays_are_used_and_what_is_not_used_is_told(tmp_path: Path) -> None:
    data = loaded(tmp_path, x_train=X, y_train=Y, x_val=X[:20] + 50, y_val=Y[:20], ids=Y)
    assert (len(data.train), len(data.val), len(data.test)) == (40, 20, 10)
    torch.testing.assert_close(data.val.x, torch.tensor(X[:20] + 50, dtype=torch.float32))
    first, left, _, no_test = data.notes
    assert first == "5 classes: 0, 1, 2, 3, 4; 40 training, 20 validation, 10 test examples"
    assert left == "Not read: 1 array (ids)"
    assert no_test.startswith("There is no test part, so 10 of the training part are the test data")
    assert header(config(tmp_path / "data.npz")) == ((3, 4), 40, 5)
    data = loaded(tmp_path, x=X, y=Y, x_test=X[:10], y_test=Y[:10])
    assert (len(data.train) + len(data.val), len(data.test)) == (50, 10)


def test_test_labels_that_training_lacks(tmp_path: Path) -> None:
    """Labels that count from 1 in one part and from 0 in the other gave 0 %."""
    part = {"x_train": X, "y_train": Y % 2, "x_test": X[:10]}
    told = "Test data have classes that training data lack (2): 4 of 10 are wrong whatever is learned"
    assert told in loaded(tmp_path, **part, y_test=Y[:10] % 2 + 1).notes
    with pytest.raises(
        DataError, match=r"No label of the test data \(7, 8\) is among those of the training data \(0, 1\); number both alike"
    ):
        loaded(tmp_path, **part, y_test=Y[:10] % 2 + 7)
    with pytest.raises(DataError, match="Numbers to be predicted are no classes"):
        loaded(tmp_path, x=X, y=np.random.default_rng(0).permutation(10_000)[:50])


WRONG = {
    "length": ({"x": X, "y": Y[:49]}, "50 examples in x and 49 labels in y"),
    "names": ({"pixels": X, "species": Y}, r"lacks arrays: it should hold x and y, .* holds pixels, species"),
    "half a part": ({"x_train": X, "y_train": Y, "x_val": X}, "lacks y_val: it should hold"),
    "half a pair": ({"x": X, "ys": Y}, "lacks y: it should hold"),
    "two of one": ({"x": X, "X": X, "y": Y}, "holds x and X, which mean the same; leave one of them out"),
    "one-hot": (
        {"x": X, "y": np.eye(5)[Y]},
        r"y of shape \[50, 5\]; it should be \[N\], one label an example \(y.argmax\(1\), if they are one-hot\)",
    ),
    "names as labels": ({"x": X, "y": Y.astype(str)}, r"should be whole numbers: save numpy\.unique\(y, return_inverse=True\)\[1\]"),
    "nothing": ({}, "it holds none"),
    "nan": ({"x": np.where(np.arange(50)[:, None, None] == 17, np.nan, X), "y": Y}, "NaN or infinite values in x .* first in example 17"),
    "overflow": ({"x": np.full((50, 2), 1e200), "y": Y}, "NaN or infinite"),
    "float labels": ({"x": X, "y": Y.astype(float)}, "float64 in y; it should be whole numbers"),
    "text": ({"x": np.full((50, 2), "a"), "y": Y}, r"<U1 in x; it should be whole numbers or floats"),
    "complex": ({"x": X + 1j, "y": Y}, "complex128 in x"),
    "one class": ({"x": X, "y": Y * 0 + 3}, "one class: every label is 3"),
    "label shape": ({"x": X, "y": np.stack([Y, Y], 1)}, r"y of shape \[50, 2\]; it should be \[N\]"),
    "flat": ({"x": X[:, 0, 0], "y": Y}, r"x of shape \[50\]; it should be \[N, C"),
    "empty": ({"x": X[:0], "y": Y[:0]}, "which is empty"),
    "shapes": ({"x_train": X, "y_train": Y, "x_test": X[:, :2], "y_test": Y}, r"\[3, 4\] in x_train and \[2, 4\] in x_test"),
}


@pytest.mark.parametrize("name", list(WRONG))
def test_one_sentence_for_each_mistake(tmp_path: Path, name: str) -> None:
    arrays, sentence = WRONG[name]
    with pytest.raises(DataError, match=sentence) as caught:
        loaded(tmp_path, **arrays)
    assert str(tmp_path / "data.npz") in str(caught.value)
    assert "\n" not in str(caught.value)


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


def test_an_array_that_is_shorter_than_its_header_claims(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "data.npz", "w") as archive:
        archive.writestr("x.npy", npy_header("{'descr': '<f4', 'fortran_order': False, 'shape': (50, 10), }") + bytes(800))
        archive.writestr("y.npy", npy(Y))
    with pytest.raises(DataError, match="x is cut short"):
        header(config(tmp_path / "data.npz"))


def test_what_is_checked_is_what_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What `numpy.load` would read in its place is in `faults_hostile_data.py`."""
    other = saved(tmp_path, x=X[:, :2], y=Y)
    checked = npz._checked_headers(tmp_path / "data.npz")
    saved(tmp_path, x=X, y=Y)  # between the check and the reading
    monkeypatch.setattr(npz, "_checked_headers", lambda path: checked)
    with pytest.raises(DataError, match="x changed while it was read"):
        load(other, torch.device("cpu"))
