"""data=npz: your own arrays, of any dimension, in one .npz file; data.root is the file.

The file holds x and y, or x_train and y_train, with or without x_val, y_val, x_test and y_test, or other usual names for these. x is
[N, C, *map] or [N, features], of whole numbers or floats; uint8 stays, all else becomes float32. y is [N] or [N, 1] whole numbers of any
values. Nothing is ever unpickled, and the shapes are checked against the memory before anything is read.
"""

from __future__ import annotations

import io
import math
import tokenize
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np

from bnexp.base.errors import DataError, UsageError, short
from bnexp.config import DataConfig, val_size
from bnexp.data.arrays import Array, Arrays, Source, check_memory
from bnexp.data.cache import check_unchanged, is_there, stamp, user_path
from bnexp.data.members import Member, check_member, chosen, repaired, role_of
from bnexp.data.parts import PARTS

TEST_SHARE = 0.2
UNREADABLE = (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, NotImplementedError, RuntimeError)
"""What zipfile and NumPy raise on files that are cut short, damaged, encrypted or packed in a way they do not know."""
LARGEST = 1e37
"""Of x: twice the distance between two values is still a float32, so that they can be normalized."""
MAX_HEADER = 10_000
"""Bytes of an array's header; NumPy reads no longer ones either."""


def existing_file(config: DataConfig) -> Path:
    """data.root as an existing file; else UsageError."""
    path = user_path(config.root or "")
    if not is_there(path):
        raise UsageError(f"data.root={short(str(config.root), 300)} is not there; data=npz needs the path of an .npz file.")
    if not path.is_file():
        wrong = "a folder" if path.is_dir() else "no regular file"
        raise UsageError(f"data.root={short(str(config.root), 300)} is {wrong}; data=npz needs the path of an .npz file.")
    return path


def header(config: DataConfig) -> tuple[tuple[int, ...], int, bool, int]:
    """(shape of an example, training examples before `subset`, whether it has a validation part, classes), from headers and labels."""
    path = existing_file(config)
    members, _ = _checked_headers(path)
    count = members["x_train"].shape[0]
    train = count if "x_test" in members else count - val_size(count, TEST_SHARE)
    labels = _read(path, {role: member for role, member in members.items() if role.startswith("y")})
    return members["x_train"].example, train, "x_val" in members, len(_classes(path, labels))


def read(source: Source) -> Arrays:
    """The file's arrays; without test arrays, a fifth is to be split off. Raises UsageError where data.root is no file; DataError where it
    is no .npz or damaged, arrays are missing, pickled, not finite, or of the wrong kind, shape or length, labels have one class, or memory
    is short."""
    path = existing_file(source.config)
    before = stamp(path, "")
    members, notes = _checked_headers(path)
    arrays = _read(path, members)
    check_unchanged(path, [before])
    classes = _classes(path, arrays)
    as_bytes = all(array.dtype == np.uint8 for role, array in arrays.items() if role.startswith("x"))
    for role, member in members.items():
        if role.startswith("y"):
            arrays[role] = np.searchsorted(classes, arrays[role].reshape(-1)).astype(np.int64)
        else:
            x = arrays.pop(role)
            arrays[role] = repaired(x if as_bytes else _as_float(path, member.name, x), member.repair)
    n_test = 0 if "x_test" in arrays else val_size(len(arrays["x_train"]), TEST_SHARE)
    parts = {part: (arrays[f"x_{part}"], arrays[f"y_{part}"]) for part in PARTS if f"x_{part}" in arrays}
    names = tuple(map(str, classes.tolist()))
    return Arrays(parts["train"], names, parts.get("test"), parts.get("val"), n_test, notes=tuple(notes))


def _checked_headers(path: Path) -> tuple[dict[str, Member], list[str]]:
    """The arrays to use by `x_train`, `y_train`, `x_val`, ..., with all checked that headers tell; and what is to be said of them."""
    members, notes = chosen(path, _headers(path))
    for role, member in members.items():
        check_member(path, role, member)
    first = members["x_train"]
    for x, y in zip(list(members.values())[::2], list(members.values())[1::2], strict=True):
        if x.shape[0] != y.shape[0]:
            raise DataError(f"{path} has {x.shape[0]} examples in {x.name} and {y.shape[0]} labels in {y.name}; they should agree.")
        if x.example != first.example:
            shapes = f"{list(first.example)} in {first.name} and {list(x.example)} in {x.name}"
            raise DataError(f"{path} has examples of shape {shapes}; they should agree.")
    xs, ys = ([member for role, member in members.items() if role.startswith(axis)] for axis in "xy")
    stored = sum(m.bytes if m.dtype == np.uint8 else 4 * math.prod(m.shape) for m in xs)
    raw = sum(member.bytes for member in members.values())
    raw += sum(24 * math.prod(member.shape) for member in ys)  # numbered, and sorted for that
    check_memory(stored + max(raw, stored), f"{path} (x of shape {list(first.shape)})", "put fewer examples into the file")
    if first.repair is not None:
        notes.append(f"{first.name} has shape [N, {first.sides}]: taken as {first.name}{first.repair}")
    elif len(first.shape) == 3 and first.shape[1] > 1 and not first.holds_signals:
        notes.append(
            f"{first.name} has shape [N, {first.sides}]: taken as {first.shape[1]} channels of length {first.shape[2]}; "
            f"if these are pictures of one channel, save {first.name}[:, None]"
        )
    return members, notes


def _headers(path: Path) -> dict[str, Member]:
    """Every array's header. A few hundred bytes are read of each, whatever they claim to hold."""
    members = {}
    with _opened(path) as archive:
        for name, info in _stored(archive).items():
            with archive.open(info) as file:
                shape, dtype = _header(file)
                members[name] = Member(shape, dtype, name)
                if not dtype.hasobject and 0 <= info.file_size - file.tell() != members[name].bytes < 2**40:
                    raise ValueError(f"{name} is cut short")
    return members


@contextmanager
def _opened(path: Path) -> Iterator[zipfile.ZipFile]:
    """The archive that begins with the file's first byte (`zipfile` would find one behind anything). Raises DataError where it, or what is
    read inside, is damaged."""
    try:
        with path.open("rb") as file:
            if file.read(2) != b"PK":
                raise ValueError("it does not begin as one")
            with zipfile.ZipFile(file) as archive:
                yield archive
    except UNREADABLE as error:
        hint = "; if it is a .npy file, save x and y with numpy.savez" if path.suffix == ".npy" else ""
        raise DataError(f"{path} is not a whole .npz file ({str(error).rstrip('.')}){hint}.") from error


def _stored(archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """The array files by the arrays' names. Raises ValueError for a second one of a name, and one that NumPy would not write so."""
    found: dict[str, zipfile.ZipInfo] = {}
    for info in archive.infolist():
        name = info.filename.removesuffix(".npy")
        if role_of(name) is not None and (name == info.filename or name in found):
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
    if int.from_bytes(size, "little") > MAX_HEADER:
        raise ValueError(f"a header claims {int.from_bytes(size, 'little'):,} bytes")
    try:
        shape, _, dtype = read(io.BytesIO(size + file.read(int.from_bytes(size, "little"))))
    except (tokenize.TokenError, SyntaxError, TypeError, MemoryError) as error:  # what NumPy lets through of Python's own parser
        raise ValueError(f"a header is no description of an array ({type(error).__name__})") from None
    return shape, dtype


def _read(path: Path, members: dict[str, Member]) -> dict[str, Array]:
    """The arrays whose headers were checked, by their roles: the very files of these, which `numpy.load` does not promise."""
    found = {}
    with _opened(path) as archive:
        stored = _stored(archive)
        for role, member in members.items():
            name = member.name
            if name not in stored:
                raise ValueError(f"{name} is gone")
            with archive.open(stored[name]) as file:
                if Member(*_header(file), name) != member:
                    raise ValueError(f"{name} changed while it was read")
            with archive.open(stored[name]) as file:
                found[role] = np.lib.format.read_array(file, allow_pickle=False)
                if file.read(1):  # at its end the checksum is compared
                    raise ValueError(f"{name} is longer than its header says")
    return found


def _classes(path: Path, arrays: dict[str, Array]) -> Array:
    """The distinct labels, sorted, over all parts."""
    classes = np.unique(np.concatenate([np.unique(array) for role, array in arrays.items() if role.startswith("y")]))
    if len(classes) < 2:
        raise DataError(f"{path} has one class: every label is {classes[0]}; at least 2 are needed.")
    return classes


def _as_float(path: Path, name: str, x: Array) -> Array:
    """x as float32, every value finite."""
    with np.errstate(over="ignore"):  # reported below
        x = x.astype(np.float32, copy=False)
    rows = max(1, 2**24 // x[0].size)  # a mask of all would be a quarter of x
    for start in range(0, len(x), rows):
        part = x[start : start + rows]
        if not (within := np.abs(part) <= LARGEST).all():  # false for NaN as well
            first = int(np.flatnonzero(~within.reshape(len(part), -1).all(1))[0])
            bad = start + first
            if np.isfinite(part[first]).all():
                raise DataError(f"{path} has values beyond {LARGEST:g} in {name}, first in example {bad}; scale them down.")
            raise DataError(f"{path} has NaN or infinite values in {name} (as float32), first in example {bad}; clean or leave them out.")
    return x
