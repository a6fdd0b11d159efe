"""The named image sets, read and downloaded by torchvision's own classes, with their checksums.

What this module adds: a download is complete or absent, prints nothing on stdout, and fails in one sentence.
"""

from __future__ import annotations

import importlib
import os
import re
import shutil
import socket
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch

from bnexp.base.errors import DataError, reason
from bnexp.config import DATASETS
from bnexp.data.arrays import Array, Arrays, Report, Source, human_bytes
from bnexp.data.cache import cache_folder, existing_folder

CLASSES = {name: name.upper() for name in ("mnist", "kmnist", "cifar10", "cifar100", "svhn")} | {"fashion_mnist": "FashionMNIST"}
"""Of torchvision, by data set."""
TIMEOUT_S = 20.0
"""How long a download may stay silent."""
MAX_BYTES = 2**30
"""Of a file of any of these sets; the largest has 182 MB. Files are read whole, and one with holes may claim terabytes."""
ARCHIVES = (".gz", ".tgz", ".zip")
SCHEMAS = [f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor" for name in ("nms", "qnms")]
_kept: list[torch.library.Library] = []
"""A library's definitions live as long as the object does."""


def read(source: Source) -> Arrays:
    """x_[N, C, H, W] uint8 of a named set, training and test, from data.root or the cache folder; downloaded where it is missing, if that
    is allowed. Raises UsageError where data.root is not a folder, DataError where the files are damaged or cannot be had."""
    name, root = source.config.name, source.config.root
    hint = f"give data.root=PATH, a folder that holds (or shall hold) {name}, or data.root=null for the cache folder"
    folder = cache_folder() if root is None else existing_folder(root, hint)
    cls = getattr(torchvision_datasets(), CLASSES[name])
    files = _files(cls, folder)
    missing = [path for path, _ in files if not path.is_file()]
    if missing and not source.download:
        raise DataError(
            f"data={name} is not in {folder} ({missing[0].relative_to(folder)} is missing), and a saved run, which may be from "
            f"elsewhere, downloads nothing. `bnexp train data={name}` downloads it."
        )
    if missing:
        _download(cls, name, folder, missing[0], source.report)
    for path, _ in files:
        if path.stat().st_size > MAX_BYTES:
            raise DataError(f"{path} has {human_bytes(path.stat().st_size)} and is no file of {name}; delete it.")
    (x, y, classes), (x_test, y_test, _) = (_read(cls, name, folder, files, train) for train in (True, False))
    return Arrays((x, y), classes, (x_test, y_test))


def _files(cls: Any, folder: Path) -> list[tuple[Path, str | None]]:
    """The files that `cls` reads, with their MD5 sums where torchvision checks them on disk (MNIST's: only as archives, on download)."""
    if hasattr(cls, "resources"):
        return [(folder / cls.__name__ / "raw" / Path(url).stem, None) for url, _ in cls.resources]
    if hasattr(cls, "split_list"):
        return [(folder / cls.split_list[part][1], cls.split_list[part][2]) for part in ("train", "test")]
    listed = [*cls.train_list, *cls.test_list, (cls.meta["filename"], cls.meta["md5"])]
    return [(folder / cls.base_folder / file, md5) for file, md5 in listed]


def _open(cls: Any, folder: Path, train: bool, download: bool = False) -> Any:
    part = {"split": "train" if train else "test"} if hasattr(cls, "split_list") else {"train": train}
    if hasattr(cls, "_check_legacy_exist"):  # MNIST's pickles of before 2021, `processed/training.pt`, would be loaded
        cls = type(cls.__name__, (cls,), {"_check_legacy_exist": lambda self: False})
    return cls(str(folder), download=download, **part)


def _download(cls: Any, name: str, folder: Path, missing: Path, report: Report) -> None:
    """Into a temporary folder inside `folder`; its files are moved into place once all are there, checked and readable."""
    report(f"downloading {name} to {folder}")
    scratch: str | None = None
    try:
        scratch = tempfile.mkdtemp(prefix=".download-", dir=folder)
        with redirect_stdout(sys.stderr), _socket_timeout(TIMEOUT_S):
            for train in (True, False):
                _open(cls, Path(scratch), train, download=True)
        for parent, _, names in os.walk(scratch):
            place = folder / os.path.relpath(parent, scratch)
            place.mkdir(parents=True, exist_ok=True)
            for file in names:
                if not file.endswith(ARCHIVES):  # unpacked by now
                    Path(parent, file).replace(place / file)
    except Exception as error:  # of the network, of archives, of reading: each of its own kind
        why = re.sub(r"<urlopen error (.*?)>", r"\1", " ".join(reason(error).split())).rstrip(".:")
        raise DataError(
            f"data={name} is not in {folder} ({missing.relative_to(folder)} is missing) and cannot be downloaded ({why}); "
            "connect to the network and try again, or set data.root to a folder that holds it."
        ) from error
    finally:
        if scratch is not None:
            shutil.rmtree(scratch, ignore_errors=True)


@contextmanager
def _socket_timeout(seconds: float) -> Iterator[None]:
    """For all new sockets: torchvision's downloads have no timeout of their own."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def _read(cls: Any, name: str, folder: Path, files: list[tuple[Path, str | None]], train: bool) -> tuple[Array, Array, tuple[str, ...]]:
    """x_[N, C, H, W], y_[N] and the classes' names of one part, checked against what the set should be."""
    try:
        with redirect_stdout(sys.stderr):
            part = _open(cls, folder, train)
    except ImportError as error:
        raise DataError(f"data={name} cannot be read without {error.name}; run `pip install {error.name}`.") from error
    except Exception as error:  # a damaged file raises nearly anything, and torchvision does not say which file it is
        damaged = next((path for path, md5 in files if not _is_whole(path, md5)), folder)
        why = "its checksum is not the published one" if "corrupted" in str(error) else "it is cut short, or not what its name says"
        raise DataError(f"{damaged} is damaged ({why}); delete it, and the next start downloads it again.") from error
    x, y = np.asarray(part.data), np.asarray(part.labels if hasattr(part, "labels") else part.targets, dtype=np.int64)
    if x.ndim == 3:
        x = x[:, None]
    elif x.shape[-1] == 3 and not hasattr(part, "labels"):
        x = x.transpose(0, 3, 1, 2)  # CIFAR's NHWC; SVHN's is NCHW
    spec = DATASETS[name]
    if len(x) != len(y) or x.shape[1:] != spec.shape or not len(y) or y.min() < 0 or y.max() >= spec.classes:
        what = f"{len(x)} images of shape {list(x.shape[1:])} and {len(y)} labels from {y.min(initial=0)} to {y.max(initial=0)}"
        raise DataError(f"{files[0][0].parent} does not hold {name}: {what} are in its {'training' if train else 'test'} files.")
    return x, y, tuple(getattr(part, "classes", None) or map(str, range(spec.classes)))


def _is_whole(path: Path, md5: str | None) -> bool:
    """Whether a file has its checksum or, where torchvision has none for it, can be parsed."""
    from torchvision.datasets import mnist, utils

    if md5 is not None:
        return bool(utils.check_integrity(path, md5))
    try:
        (mnist.read_image_file if "images" in path.name else mnist.read_label_file)(str(path))
    except Exception:  # the parser's errors are of every kind: it trusts the header
        return False
    return True


def torchvision_datasets() -> ModuleType:
    """The module `torchvision.datasets`. Raises DataError where torchvision is not installed, or does not work beside this torch.

    The registry has torchvision 0.28 as a CUDA build only. Beside a CPU torch its native library cannot be loaded, so the operators `nms`
    and `qnms` are never defined, and its import ends with `operator torchvision::nms does not exist` when it registers their shapes. The
    data sets need no native operator: it is enough that the two names exist."""
    for is_last in (False, True):
        try:
            return importlib.import_module("torchvision.datasets")
        except ImportError as error:
            raise DataError(f"torchvision cannot be imported ({error}); run `pip install torchvision`.") from error
        except RuntimeError as error:
            if is_last or "torchvision::" not in str(error):
                hint = "install builds that match"
                raise DataError(f"torchvision does not work beside torch {torch.__version__} ({error}); {hint}.") from error
        define_missing_operators()
        for name in [name for name in sys.modules if name == "torchvision" or name.startswith("torchvision.")]:
            del sys.modules[name]  # what the first attempt left half-made
    raise AssertionError


def define_missing_operators() -> list[str]:
    """Defines the schemas (no kernels) of the operators that are missing and returns their names: none where the builds match."""
    missing = [schema for schema in SCHEMAS if not hasattr(torch.ops.torchvision, schema.partition("(")[0])]
    if missing:
        library = torch.library.Library("torchvision", "FRAGMENT")
        for schema in missing:
            library.define(schema)
        _kept.append(library)
    return [schema.partition("(")[0] for schema in missing]
