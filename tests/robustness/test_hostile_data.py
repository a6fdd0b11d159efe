"""Data files from strangers (scripts/faults_hostile_data.py): nothing is executed or read outside, memory is bounded, nothing hangs."""

import os
import pickle
from pathlib import Path
from typing import Any

import faults_hostile
import faults_hostile_data
import numpy as np
import pytest
import torch
from faults_hostile import Payload, Place
from PIL import Image

from bnexp.base.errors import DataError
from bnexp.config import DataConfig
from bnexp.data import fingerprint, load
from bnexp.data import folder as folders

PAYLOADS = faults_hostile_data.payloads()
CPU = torch.device("cpu")


@pytest.mark.parametrize("payload", PAYLOADS, ids=[payload.name for payload in PAYLOADS])
def test_hostile_data_are_refused(tmp_path: Path, payload: Payload) -> None:
    """One sentence, exit code 1 or 2, no marker, at most 1 GiB and 30 s; or it is harmless and trains."""
    broken, executed = faults_hostile.try_one(payload, Place(tmp_path))
    assert broken == []
    assert not executed


def test_the_payloads_are_live(tmp_path: Path) -> None:
    pickle.loads(pickle.dumps(faults_hostile_data.Bomb(tmp_path / "marker")))
    assert (tmp_path / "marker").exists()
    place = Place(tmp_path)
    place.folder.mkdir()
    args = next(payload for payload in PAYLOADS if payload.name == "npz: pickled objects in y").write(place)
    (tmp_path / "marker").unlink()
    root = next(arg for arg in args if arg.startswith("data.root=")).partition("=")[2].strip("'")
    with np.load(root, allow_pickle=True) as file:
        file["y"]
    assert place.marker.exists()


@pytest.fixture
def images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for label in ("cat", "dog"):
        (tmp_path / "images" / label).mkdir(parents=True)
        for number in range(10):
            Image.new("RGB", (6, 6), (number, 1, 1)).save(tmp_path / "images" / label / f"{number}.png")
    return tmp_path / "images"


def meddle(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, change: Any) -> None:
    """Lets `change()` happen at the end of `owner.name`."""
    original = getattr(owner, name)

    def meddled(*args: Any, **kwargs: Any) -> Any:
        result = original(*args, **kwargs)
        change()
        return result

    monkeypatch.setattr(owner, name, meddled)


def test_images_that_change_while_they_are_read(images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was decoded would have been kept, and trained on, under the fingerprint of the files before."""
    from bnexp.data import images as decoding

    config = DataConfig(name="folder", root=str(images), image_size=8)
    before = fingerprint(config)
    changes = iter((lambda: (images / "cat" / "3.png").write_bytes(b"other"), lambda: (images / "dog" / "3.png").unlink()))
    meddle(monkeypatch, decoding, "write_npy", lambda: next(changes)())
    for name in ("cat/3.png", "dog/3.png"):
        with pytest.raises(DataError, match=rf"{name} changed while it was read"):
            load(config, CPU)
        Image.new("RGB", (6, 6), (7, 7, 7)).save(images / name)
    assert not list((tmp_path / "cache" / "bnexp" / "data").glob("images-*"))
    monkeypatch.undo()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert len(load(config, CPU).train) == 14
    assert fingerprint(config) != before


def test_an_npz_that_changes_while_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from bnexp.data import npz

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    path = tmp_path / "data.npz"
    np.savez(path, x=faults_hostile_data.X, y=faults_hostile_data.Y)
    config = DataConfig(name="npz", root=str(path))
    meddle(monkeypatch, npz, "_read", lambda: os.utime(path, ns=(1, 1)))
    with pytest.raises(DataError, match=r"data\.npz changed while it was read"):
        load(config, CPU)


def test_a_fingerprint_is_of_files_that_stayed_the_same(images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import hashlib

    path = images / "dog" / "9.png"  # read last
    original = hashlib.file_digest

    def digest(file: Any, name: str) -> Any:
        found = original(file, name)
        if file.name == str(path):
            path.write_bytes(b"other")
        return found

    monkeypatch.setattr(hashlib, "file_digest", digest)
    with pytest.raises(DataError, match="changed while it was read"):
        fingerprint(DataConfig(name="folder", root=str(images), image_size=8))


def test_links_are_looked_at_and_other_files_only_once(images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With 60,000 images a second look at each would be felt."""
    (images / "cat" / "linked.png").symlink_to("../dog/1.png")
    looked: list[str] = []
    original = os.path.realpath
    monkeypatch.setattr(os.path, "realpath", lambda path, **kwargs: (looked.append(str(path)), original(path, **kwargs))[1])
    found = folders.list_images(DataConfig(name="folder", root=str(images), image_size=8))
    assert len(found.stamps) == 21
    assert sum(name.endswith(".png") for name in looked) == 1
