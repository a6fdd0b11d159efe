"""data=npz: your own arrays, of any dimension, in one .npz file; data.root is the file.

The file holds x and y, or x_train and y_train, with or without x_test and y_test. x is [N, C, *map] or [N, features], of whole numbers or
floats; uint8 stays, all else becomes float32. y is [N] whole numbers of any values. Nothing is ever unpickled, and the shapes are checked
against the memory before anything is read.
"""

from __future__ import annotations

import io
import math
import tokenize
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

from bnexp.config import DataConfig, val_size
from bnexp.data.arrays import Array, Arrays, Report, check_memory
from bnexp.data.cache import check_unchanged, stamp
from bnexp.data.root import is_there, user_path
from bnexp.errors import DataError, UsageError, short

TEST_SHARE = 0.2
NAMES = (("x_train", "y_train", "x_test", "y_test"), ("x_train", "y_train"), ("x", "y"))
"""What a file may hold, in order of preference: training x and y, then test x and y."""
UNREADABLE = (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, NotImplementedError, RuntimeError)
"""What zipfile and NumPy raise on files that are cut short, damaged, encrypted or packed in a way they do not know."""


LARGEST = 1e37
"""Of x: twice the distance between two values is still a float32, so that they can be normalized."""
MOST_HEADER = 10_000
"""Bytes of an array's header; NumPy reads no longer ones either."""


@dataclass(frozen=True)
class Member:
    """An array as its .npy header describes it."""

    shape: tuple[int, ...]
    dtype: np.dtype[np.generic]

    @property
    def bytes(self) -> int:
        """Its size in memory."""
        return math.prod(self.shape) * self.dtype.itemsize


def existing_file(config: DataConfig) -> Path:
    """data.root as a file that is there; else UsageError."""
    path = user_path(config.root or "")
    if not is_there(path):
        raise UsageError(f"data.root={short(str(config.root), 300)} is not there; data=npz needs the path of an .npz file.")
    if not path.is_file():
        wrong = "a folder" if path.is_dir() else "no regular file"
        raise UsageError(f"data.root={short(str(config.root), 300)} is {wrong}; data=npz needs the path of an .npz file.")
    return path


def header(config: DataConfig) -> tuple[tuple[int, ...], int, int]:
    """(shape of an example, training examples before `subset`, classes); reads the headers and the labels."""
    path = existing_file(config)
    members = _checked_headers(path)
    x, *_ = names = list(members)
    count = members[x].shape[0]
    train = count if len(names) == 4 else count - val_size(count, TEST_SHARE)
    labels = _read(path, {name: member for name, member in members.items() if name.startswith("y")})
    return members[x].shape[1:], train, len(_classes(path, labels))


def load_npz(config: DataConfig, report: Report = lambda _: None) -> Arrays:
    """The file's arrays. Without test arrays, a fifth is to be split off.

    `report` is told when x has three axes: signals of many channels, as likely as not images whose axis of channels was forgotten.

    Raises:
        UsageError: data.root is not a file.
        DataError: the file is not an .npz or is damaged; arrays are missing, pickled, of the wrong kind, shape or length; x has NaN or
            infinite values; y has one class; or it all does not fit in memory.
    """
    path = existing_file(config)
    before = stamp(path, "")
    members = _checked_headers(path)
    x_name, _, *test_names = list(members)
    if len(members[x_name].shape) == 3:
        _, channels, length = members[x_name].shape
        report(
            f"{x_name} has shape [N, {channels}, {length}]: taken as {channels} channels of length {length}; "
            "images of one channel need shape [N, 1, H, W]"
        )
    arrays = _read(path, members)
    check_unchanged(path, [before])
    labels = [array for name, array in arrays.items() if name.startswith("y")]
    classes = _classes(path, arrays)
    y = [np.searchsorted(classes, label).astype(np.int64) for label in labels]
    names = tuple(str(value) for value in classes.tolist())
    as_bytes = all(arrays[name].dtype == np.uint8 for name in arrays if name.startswith("x"))
    x = arrays.pop(x_name) if as_bytes else _as_float(path, x_name, arrays.pop(x_name))
    if not test_names:
        return Arrays(x, y[0], names, n_test=val_size(len(x), TEST_SHARE))
    x_test = arrays[test_names[0]] if as_bytes else _as_float(path, test_names[0], arrays[test_names[0]])
    return Arrays(x, y[0], names, x_test, y[1])


def _checked_headers(path: Path) -> dict[str, Member]:
    """The arrays to use, x before y and training before test, with everything checked that headers tell."""
    found = _headers(path)
    names = next((names for names in NAMES if all(name in found for name in names)), None)
    if names is None:
        there = short(", ".join(sorted(found)[:100]), 200) or "none"
        raise DataError(f"{path} lacks arrays: it should hold x and y, or x_train, y_train, x_test and y_test, and it holds {there}.")
    members = {name: found[name] for name in names}
    for name, member in members.items():
        _check_member(path, name, member)
    for x, y in zip(names[::2], names[1::2], strict=True):
        if members[x].shape[0] != members[y].shape[0]:
            raise DataError(f"{path} has {members[x].shape[0]} examples in {x} and {members[y].shape[0]} labels in {y}; they should agree.")
        if members[x].shape[1:] != members[names[0]].shape[1:]:
            shapes = f"{list(members[names[0]].shape[1:])} in {names[0]} and {list(members[x].shape[1:])} in {x}"
            raise DataError(f"{path} has examples of shape {shapes}; they should agree.")
    stored = sum(m.bytes if m.dtype == np.uint8 else 4 * math.prod(m.shape) for n, m in members.items() if n.startswith("x"))
    raw = sum(member.bytes for member in members.values())
    raw += sum(24 * math.prod(member.shape) for name, member in members.items() if name.startswith("y"))  # numbered, and sorted for that
    check_memory(stored + max(raw, stored), f"{path} (x of shape {list(members[names[0]].shape)})", "put fewer examples into the file")
    return members


def _check_member(path: Path, name: str, member: Member) -> None:
    if member.dtype.hasobject:
        raise DataError(f"{path} holds pickled Python objects in {name}, which are never loaded; save it as an array of numbers.")
    kinds, wanted = ("iub", "whole numbers") if name.startswith("y") else ("iubf", "whole numbers or floats")
    if member.dtype.kind not in kinds:
        raise DataError(f"{path} holds {member.dtype} in {name}; it should be {wanted}.")
    if name.startswith("y") and len(member.shape) != 1:
        raise DataError(f"{path} has {name} of shape {list(member.shape)}; it should be [N], one label an example.")
    if name.startswith("x") and len(member.shape) < 2:
        raise DataError(f"{path} has {name} of shape {list(member.shape)}; it should be [N, C, ...] or [N, features].")
    if math.prod(member.shape) == 0:
        raise DataError(f"{path} has {name} of shape {list(member.shape)}, which is empty.")


def _headers(path: Path) -> dict[str, Member]:
    """Every array's header. A few hundred bytes are read of each, whatever they claim to hold."""
    members = {}
    try:
        with _opened(path) as archive:
            for name, info in _stored(archive).items():
                with archive.open(info) as file:
                    shape, dtype = _header(file)
                    members[name] = Member(shape, dtype)
                    if not dtype.hasobject and 0 <= info.file_size - file.tell() != members[name].bytes < 2**40:
                        raise ValueError(f"{name} is cut short")
    except UNREADABLE as error:
        raise _unreadable(path, error) from error
    return members


@contextmanager
def _opened(path: Path) -> Iterator[zipfile.ZipFile]:
    """The archive that the file is from its first byte on; `zipfile` would find one behind anything."""
    with path.open("rb") as file:
        if file.read(2) != b"PK":
            raise ValueError("it does not begin as one")
        with zipfile.ZipFile(file) as archive:
            yield archive


def _stored(archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """The array files by the arrays' names. What is none is passed over, unless another reader might take it for an array that we use.

    Raises:
        ValueError: an array that may be used is there twice, or packed in a way that NumPy does not write.
    """
    found: dict[str, zipfile.ZipInfo] = {}
    used = {name for names in NAMES for name in names}
    for info in archive.infolist():
        name = info.filename.removesuffix(".npy")
        if name in used and (name == info.filename or name in found):
            raise ValueError(f"it holds more than one {name}" if name in found else f"{name} is no .npy file")
        if name != info.filename:
            if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):  # others unfold by the gigabyte before one can stop
                raise ValueError(f"{short(name)} is packed in a way that NumPy does not write")
            found[name] = info
    return found


def _header(file: IO[bytes]) -> tuple[tuple[int, ...], np.dtype[np.generic]]:
    """Shape and type of the .npy file that begins here. NumPy reads as much as a header claims to have, up to 4 GiB, and measures then."""
    version = np.lib.format.read_magic(file)
    size_bytes, read = (2, np.lib.format.read_array_header_1_0) if version == (1, 0) else (4, np.lib.format.read_array_header_2_0)
    size = file.read(size_bytes)
    if int.from_bytes(size, "little") > MOST_HEADER:
        raise ValueError(f"a header claims {int.from_bytes(size, 'little'):,} bytes")
    try:
        shape, _, dtype = read(io.BytesIO(size + file.read(int.from_bytes(size, "little"))))
    except (tokenize.TokenError, SyntaxError, TypeError, MemoryError) as error:  # what NumPy lets through of Python's own parser
        raise ValueError(f"a header is no description of an array ({type(error).__name__})") from None
    return shape, dtype


def _read(path: Path, members: dict[str, Member]) -> dict[str, Array]:
    """The arrays whose headers were checked: the very files of these, which `numpy.load` does not promise."""
    found = {}
    try:
        with _opened(path) as archive:
            stored = _stored(archive)
            for name, member in members.items():
                if name not in stored:
                    raise ValueError(f"{name} is gone")
                with archive.open(stored[name]) as file:
                    if Member(*_header(file)) != member:
                        raise ValueError(f"{name} changed while it was read")
                with archive.open(stored[name]) as file:
                    found[name] = np.lib.format.read_array(file, allow_pickle=False)
                    if file.read(1):  # at its end the checksum is compared
                        raise ValueError(f"{name} is longer than its header says")
    except UNREADABLE as error:
        raise _unreadable(path, error) from error
    return found


def _unreadable(path: Path, error: Exception) -> DataError:
    hint = "; if it is a .npy file, save x and y with numpy.savez" if path.suffix == ".npy" else ""
    return DataError(f"{path} is not a whole .npz file ({str(error).rstrip('.')}){hint}.")


def _classes(path: Path, arrays: dict[str, Array]) -> Array:
    """The distinct labels, sorted, over training and test."""
    classes = np.unique(np.concatenate([np.unique(array) for name, array in arrays.items() if name.startswith("y")]))
    if len(classes) < 2:
        raise DataError(f"{path} has one class: every label is {classes[0]}; at least 2 are needed.")
    return classes


def _as_float(path: Path, name: str, x: Array) -> Array:
    """x as float32, every value finite."""
    with np.errstate(over="ignore"):  # found below, and said
        x = x.astype(np.float32, copy=False)
    rows = max(1, 2**24 // x[0].size)  # a mask of all would be a quarter of x
    for start in range(0, len(x), rows):
        part = x[start : start + rows]
        if not (within := np.abs(part) <= LARGEST).all():  # which NaN is not either
            first = int(np.flatnonzero(~within.reshape(len(part), -1).all(1))[0])
            bad = start + first
            if np.isfinite(part[first]).all():
                raise DataError(f"{path} has values beyond {LARGEST:g} in {name}, first in example {bad}; scale them down.")
            raise DataError(f"{path} has NaN or infinite values in {name} (as float32), first in example {bad}; clean or leave them out.")
    return x
