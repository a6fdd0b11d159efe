"""The torchvision sets, from tiny files in their true formats, and from a server on this machine."""

import functools
import gzip
import hashlib
import http.server
import io
import pickle
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io
import torch

from bnexp.base.errors import DataError
from bnexp.config import DATASETS, DataConfig
from bnexp.data import load
from bnexp.data.vision import CLASSES, torchvision_datasets

N_TRAIN, N_TEST = 60, 20
CLOSED = "http://127.0.0.1:9/"
"""The discard port, where nothing listens: a download fails at once."""


def md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def idx(array: np.ndarray) -> bytes:
    """The format of MNIST's files: magic (type 8: bytes; dimensions), big-endian sizes, bytes."""
    return bytes([0, 0, 8, array.ndim]) + b"".join(size.to_bytes(4, "big") for size in array.shape) + array.astype(np.uint8).tobytes()


def examples(name: str, count: int) -> tuple[np.ndarray, np.ndarray]:
    spec, rng = DATASETS[name], np.random.default_rng(count)
    return rng.integers(0, 256, (count, *spec.shape), dtype=np.uint8), rng.permutation(np.arange(count) % min(10, spec.classes))


def write(name: str, root: Path) -> dict[str, bytes]:
    """The files of the set `name` with 60 training and 20 test images, written below `root`; returns them by path."""
    (x, y), (x_test, y_test) = examples(name, N_TRAIN), examples(name, N_TEST)
    files: dict[str, bytes] = {}
    if name.endswith("mnist"):
        for part, images, labels in (("train", x, y), ("t10k", x_test, y_test)):
            files[f"{CLASSES[name]}/raw/{part}-images-idx3-ubyte"] = idx(images[:, 0])
            files[f"{CLASSES[name]}/raw/{part}-labels-idx1-ubyte"] = idx(labels)
    elif name == "svhn":
        for part, images, labels in (("train", x, y), ("test", x_test, y_test)):
            buffer = io.BytesIO()  # [H, W, C, N], and the digit 0 has the label 10
            scipy.io.savemat(buffer, {"X": images.transpose(2, 3, 1, 0), "y": np.where(labels == 0, 10, labels)[:, None].astype(np.uint8)})
            files[f"{part}_32x32.mat"] = buffer.getvalue()
    else:
        cls = getattr(torchvision_datasets(), CLASSES[name])
        key = "labels" if name == "cifar10" else "fine_labels"
        parts = np.array_split(np.arange(N_TRAIN), len(cls.train_list))
        for (file, _), index in zip(cls.train_list, parts, strict=True):
            files[f"{cls.base_folder}/{file}"] = pickle.dumps({"data": x[index].reshape(len(index), -1), key: y[index].tolist()})
        files[f"{cls.base_folder}/{cls.test_list[0][0]}"] = pickle.dumps({"data": x_test.reshape(N_TEST, -1), key: y_test.tolist()})
        names = [f"class {i}" for i in range(10 if name == "cifar10" else 100)]
        files[f"{cls.base_folder}/{cls.meta['filename']}"] = pickle.dumps({cls.meta["key"]: names})
    for path, content in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(content)
    return files


def trust(monkeypatch: pytest.MonkeyPatch, name: str, files: dict[str, bytes], url: str = CLOSED) -> None:
    """Makes torchvision's class expect the sums of our tiny `files` in place of the published ones, and look for downloads at `url`."""
    cls: Any = getattr(torchvision_datasets(), CLASSES[name])
    sums = {Path(path).name: md5(content) for path, content in files.items()}
    if name.endswith("mnist"):
        monkeypatch.setattr(cls, "mirrors", [url])
        archives = [
            (Path(file).name, md5(gzip.compress(files[f"{cls.__name__}/raw/{Path(file).stem}"], mtime=0))) for file, _ in cls.resources
        ]
        monkeypatch.setattr(cls, "resources", archives)
    elif name == "svhn":
        monkeypatch.setattr(
            cls, "split_list", {part: [url + file, file, sums[file]] for part, (_, file, _) in cls.split_list.items() if file in sums}
        )
    else:
        monkeypatch.setattr(cls, "url", url + cls.filename)
        monkeypatch.setattr(cls, "train_list", [[file, sums[file]] for file, _ in cls.train_list])
        monkeypatch.setattr(cls, "test_list", [[file, sums[file]] for file, _ in cls.test_list])
        monkeypatch.setattr(cls, "meta", {**cls.meta, "md5": sums[cls.meta["filename"]]})


def check(name: str, root: Path | None) -> None:
    """Loads the set and compares every image and label with what was written."""
    said: list[str] = []
    data = load(DataConfig(name=name, root=None if root is None else str(root)), torch.device("cpu"), said.append)
    (x, y), (x_test, y_test) = examples(name, N_TRAIN), examples(name, N_TEST)
    assert torch.equal(data.test.x, torch.from_numpy(x_test))
    assert torch.equal(data.test.y, torch.from_numpy(y_test))
    both = torch.cat([data.train.x, data.val.x]), torch.cat([data.train.y, data.val.y])
    pairs = sorted((label, image.tobytes()) for image, label in zip(both[0].numpy(), both[1].tolist(), strict=True))
    assert pairs == sorted((int(label), image.tobytes()) for image, label in zip(x, y, strict=True))
    assert len(data.classes) == (100 if name == "cifar100" else 10)
    assert data.train.x.dtype == torch.uint8
    assert len(data.val) == 6


@pytest.mark.parametrize("name", list(CLASSES))
def test_tiny_files_in_the_true_format(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trust(monkeypatch, name, write(name, tmp_path))
    check(name, tmp_path)


@pytest.mark.parametrize("name", list(CLASSES))
def test_without_files_and_network_one_sentence(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "empty").mkdir()
    trust(monkeypatch, name, write(name, tmp_path / "elsewhere"))
    with pytest.raises(
        DataError, match=rf"^data={name} is not in {tmp_path / 'empty'} \(.+ is missing\) and cannot be downloaded"
    ) as caught:
        check(name, tmp_path / "empty")
    assert "\n" not in str(caught.value)
    assert list((tmp_path / "empty").iterdir()) == []  # nothing half-written
    captured = capfd.readouterr()
    assert captured.out == ""
    assert captured.err == ""


@pytest.mark.parametrize("name", ["mnist", "cifar10", "svhn"])
@pytest.mark.parametrize("damage", ["short", "flipped", "empty"])
def test_a_damaged_file_is_named(name: str, damage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = write(name, tmp_path)
    trust(monkeypatch, name, files)
    path, content = list(files.items())[1 if name == "mnist" else 0]
    flipped = bytes([content[0] ^ 255]) + content[1:]  # MNIST has no sums for the unpacked files: only its header can be checked
    (tmp_path / path).write_bytes({"short": content[:-10], "flipped": flipped, "empty": b""}[damage])
    with pytest.raises(DataError, match=rf"^{tmp_path / path} is damaged \(.*\); delete it") as caught:
        check(name, tmp_path)
    assert "\n" not in str(caught.value)


def test_checksums_are_never_skipped(tmp_path: Path) -> None:
    """Tiny files with torchvision's own table of sums: refused, before their pickles are opened."""
    write("cifar10", tmp_path)
    with pytest.raises(DataError, match="its checksum is not the published one"):
        check("cifar10", tmp_path)


def test_files_of_another_set_are_refused(tmp_path: Path) -> None:
    write("mnist", tmp_path)
    (tmp_path / "MNIST/raw/train-labels-idx1-ubyte").write_bytes(idx(np.arange(59) % 10))
    with pytest.raises(DataError, match=r"does not hold mnist: 60 images of shape \[1, 28, 28\] and 59 labels"):
        check("mnist", tmp_path)


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Nothing."""


class Server(http.server.ThreadingHTTPServer):
    def handle_error(self, request: object, client_address: object) -> None:
        """A client may hang up early; a traceback printed from this thread would meet a stderr that pytest has closed."""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A folder, and the address on this machine that serves it."""
    folder = tmp_path / "served"
    folder.mkdir()
    with Server(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder))) as http_server:
        thread = threading.Thread(target=http_server.serve_forever)
        thread.start()
        yield folder, f"http://127.0.0.1:{http_server.server_port}/"
        http_server.shutdown()
        thread.join()


@pytest.mark.parametrize("name", ["mnist", "cifar100", "svhn"])
def test_a_download_arrives_whole_in_the_cache_folder_and_is_used_again(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], server: tuple[Path, str]
) -> None:
    folder, url = server
    files = write(name, tmp_path / "source")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    trust(monkeypatch, name, files, url)
    cls: Any = getattr(torchvision_datasets(), CLASSES[name])
    if name == "cifar100":
        with tarfile.open(folder / cls.filename, "w:gz") as archive:
            archive.add(tmp_path / "source" / cls.base_folder, cls.base_folder)
        monkeypatch.setattr(cls, "tgz_md5", md5((folder / cls.filename).read_bytes()))
    else:
        for path, content in files.items():
            packed = gzip.compress(content, mtime=0) if name == "mnist" else content
            (folder / (Path(path).name + ".gz" * (name == "mnist"))).write_bytes(packed)
    check(name, None)
    assert capfd.readouterr().out == ""
    root = tmp_path / "cache/bnexp/data"
    assert {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()} == set(files)  # and no scratch, no archives
    for path in folder.iterdir():
        path.unlink()
    check(name, None)


def test_a_download_with_the_wrong_content_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: tuple[Path, str]) -> None:
    folder, url = server
    files = write("svhn", tmp_path / "source")
    trust(monkeypatch, "svhn", files, url)
    for path, content in files.items():
        (folder / path).write_bytes(content[:-1])
    (tmp_path / "root").mkdir()
    with pytest.raises(DataError, match=r"cannot be downloaded \(File not found or corrupted\)"):
        check("svhn", tmp_path / "root")
    assert list((tmp_path / "root").iterdir()) == []


def test_the_guard_makes_torchvision_importable_and_acts_once() -> None:
    """In a process of its own, since the operators cannot be undefined. Where the builds match, the guard must define nothing."""
    code = """
import torch
try:
    import torchvision
    broken = False
except RuntimeError:
    broken = True
from bnexp.data import vision as guard
datasets = guard.torchvision_datasets()
assert bool(guard._kept) is broken
kept = list(guard._kept)
assert 'float iou_threshold' in str(torch.ops.torchvision.nms.default._schema)
assert guard.define_missing_operators() == []
assert guard.torchvision_datasets() is datasets and guard._kept == kept
import torchvision.transforms.v2, torchvision.utils
assert datasets.MNIST.__name__ == 'MNIST'
"""
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, env={"PYTHONPATH": ":".join(sys.path)})
