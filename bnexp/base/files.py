"""The program's own files: written whole or not at all, read within bounds, and never through a link in their place."""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import shutil
import stat
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BufferedReader
from pathlib import Path
from typing import IO, Any

from bnexp.base.dead_processes import drop_of_dead, host

MAX_JSON = 2**24
"""Bytes of a JSON file, which take thirty times as many of memory. A summary with a confusion matrix of 2,000 classes has about 12 MB."""
JsonObject = dict[str, Any]
"""A JSON object of any content, as it is read and written."""
CHECKSUM = b',\n  "checksum": "'
"""The last key of a checked JSON file: CRC32 of all bytes before this text."""


@contextmanager
def atomic_write(path: Path) -> Iterator[IO[bytes]]:
    """A binary file that appears at `path` complete or not at all; a previous one stays until then. Afterwards it is on disk, under its
    name. What a killed process left of an earlier try is removed."""
    temporary = path.with_name(f".{path.name}.{host()}.{os.getpid()}.tmp")
    temporary.unlink(missing_ok=True)  # left by a process that had the same number
    try:
        with open(temporary, "xb") as file:  # noqa: PTH123 (x: a link in its place is not followed)
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        sync_folder(path.parent)
    except BaseException:
        with suppress(OSError):  # the folder may have gone, or become read-only
            temporary.unlink(missing_ok=True)
        raise
    drop_of_dead(path.parent, f".{path.name}.", "tmp")


def sync(path: Path) -> None:
    """Brings to disk what any process wrote to a plain file; raises OSError where that fails."""
    with open_plain(path) as file:
        os.fsync(file.fileno())


def sync_folder(path: Path) -> None:
    """Brings the names in a folder to disk, without which files are lost when the machine goes down, where the file system can."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except PermissionError:  # a folder that may be written and not listed
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)


def make_folder(path: Path) -> None:
    """Makes a folder with those above it. Raises OSError where it cannot be made, or a link is in its place."""
    new = [folder for folder in (path, *path.parents) if not folder.exists()]
    path.mkdir(parents=True, exist_ok=True)
    if path.is_symlink():
        raise OSError(errno.ELOOP, "it is a link, which is not followed", str(path))
    for folder in new:
        sync_folder(folder.parent)


def open_log(path: Path) -> IO[str]:
    """A text file to append to, made where there is none. Raises OSError where it cannot be written, or is not a plain file."""
    return os.fdopen(_open_to_change(path, os.O_APPEND | os.O_CREAT), "a", encoding="utf-8")


def cut_file(path: Path, size: int) -> None:
    """Cuts a file down to its first `size` bytes. Errors as `open_log`."""
    descriptor = _open_to_change(path, 0)
    try:
        os.ftruncate(descriptor, size)
    finally:
        os.close(descriptor)


def _open_to_change(path: Path, flags: int) -> int:
    """A descriptor of a file that is changed in place. One that has a second name (a hard link, as some backups make) is copied first: it
    would change under that name as well."""
    descriptor = open_descriptor(path, os.O_RDWR | flags)
    try:
        if os.fstat(descriptor).st_nlink == 1:
            return descriptor
        with os.fdopen(os.dup(descriptor), "rb") as shared, atomic_write(path) as own:
            shutil.copyfileobj(shared, own)
    except BaseException:
        os.close(descriptor)
        raise
    os.close(descriptor)
    return _open_to_change(path, flags)


NOT_PLAIN = (errno.ELOOP, errno.EINVAL, errno.EISDIR, errno.ENXIO, errno.EFBIG)
"""Why `open_plain` refuses a file; any other error is the system's."""


def open_plain(path: Path | str, most: int | None = None) -> BufferedReader:
    """A plain file of at most `most` bytes, to be read. Raises OSError where it cannot be read, or is something else."""
    file = os.fdopen(open_descriptor(path, os.O_RDONLY), "rb")
    if most is not None and os.fstat(file.fileno()).st_size > most:
        file.close()
        raise OSError(errno.EFBIG, f"it has more than {most:,} bytes", str(path))
    return file


def read_plain(path: Path | str, most: int) -> bytes:
    """The content of such a file; errors as `open_plain`."""
    with open_plain(path, most) as file:
        return file.read()


def open_descriptor(path: Path | str, flags: int) -> int:
    """A descriptor of a plain file. Raises OSError, with one of `NOT_PLAIN`, for a link, a folder, a pipe or a device."""
    try:
        descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o666)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise OSError(errno.ELOOP, "it is a link, which is not followed", str(path)) from None
        raise
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return descriptor
    os.close(descriptor)
    raise OSError(errno.EINVAL, "it is not a plain file", str(path))


def digest(path: Path, most: int | None = None) -> str:
    """SHA-256 of a plain file of at most `most` bytes, in hex; errors as `open_plain`."""
    with open_plain(path, most) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_json(path: Path, value: Any) -> None:
    with atomic_write(path) as file:
        file.write(dump_json(value).encode() + b"\n")


def write_checked_json(path: Path, value: JsonObject, version: int) -> None:
    with atomic_write(path) as file:
        file.write(checked_json(value, version))


def checked_json(value: JsonObject, version: int) -> bytes:
    """An object as JSON, with its `format` version and a `checksum` of all before it at the end: what `read_checked_json` reads."""
    content = {key: part for key, part in value.items() if key != "checksum"}  # of the file that it was read from
    body = dump_json({**content, "format": version}).encode().removesuffix(b"\n}")
    return body + CHECKSUM + f'{zlib.crc32(body):08x}"\n}}\n'.encode()


def read_checked_json(path: Path, version: int, most: int = MAX_JSON) -> JsonObject:
    """The object that `write_checked_json` wrote, of at most `most` bytes. One that has neither format nor checksum, as earlier versions
    wrote it, is taken as it is.

    Raises:
        OSError: it is missing, or the system does not let it be read.
        ValueError: it is no plain file or too large, cut short or damaged, it holds no object, or its format is newer than `version`.
    """
    data = read_checked(path, most)
    value = decode_json(data)
    if not isinstance(value, dict):
        raise ValueError("it holds no object")
    check_format(value.get("format", 0), data, version)
    return value


def read_checked(path: Path | str, most: int = MAX_JSON) -> bytes:
    """The bytes of such a file, whose checksum fits where it has one; errors as `read_checked_json`."""
    try:
        data = read_plain(path, most)
    except OSError as error:
        if error.errno in NOT_PLAIN:
            raise ValueError(error.strerror) from None
        raise
    body, found, end = data.rpartition(CHECKSUM)
    if found and end != f'{zlib.crc32(body):08x}"\n}}\n'.encode():
        raise ValueError("it is damaged: its checksum does not fit")
    return data


def decode_json(data: bytes, kind: Any = Any) -> Any:
    """JSON as a `kind`, validated by msgspec; raises ValueError for anything else, numbers that no float holds and half characters too."""
    import msgspec

    try:
        return msgspec.json.decode(data, type=kind)
    except msgspec.ValidationError as error:
        raise ValueError(f"it does not hold what it should: {error}") from None
    except msgspec.DecodeError as error:
        raise ValueError(f"it is not JSON: {error}") from None
    except RecursionError:
        raise ValueError("its brackets are nested too deeply") from None


def check_format(kind: object, data: bytes, version: int) -> None:
    """Raises ValueError where a file of the format `kind` is newer than this program, or has lost its checksum."""
    if not isinstance(kind, int) or kind > version:
        raise ValueError(f"its format {str(kind)[:20]} is newer than this program, which reads up to {version}")
    if kind and CHECKSUM not in data:
        raise ValueError("it is damaged: its checksum is missing")


def dump_json(value: Any) -> str:
    """Indented JSON with rows of numbers on one line each, so that a confusion matrix reads as one."""

    def dump(item: Any, indent: str) -> str:
        inner = indent + "  "
        if isinstance(item, dict) and item:
            rows = [f"{inner}{json.dumps(key)}: {dump(part, inner)}" for key, part in item.items()]
        elif isinstance(item, list) and any(isinstance(part, (dict, list)) for part in item):
            rows = [inner + dump(part, inner) for part in item]
        else:
            return json.dumps(item, ensure_ascii=False, allow_nan=False)
        start, end = "{}" if isinstance(item, dict) else "[]"
        return f"{start}\n" + ",\n".join(rows) + f"\n{indent}{end}"

    return dump(value, "")


def null_nonfinite(tree: JsonObject) -> JsonObject:
    """`tree` with every non-finite number as null, and their slashed keys in a list under `nonfinite` where there are any."""
    lost: list[str] = []

    def clean(value: Any, key: str) -> Any:
        if isinstance(value, dict):
            return {str(name): clean(part, f"{key}/{name}" if key else str(name)) for name, part in value.items()}
        if isinstance(value, (list, tuple)):
            return [clean(part, f"{key}/{index}") for index, part in enumerate(value)]
        if isinstance(value, float) and not math.isfinite(value):
            lost.append(key)
            return None
        return value

    cleaned: JsonObject = clean(tree, "")
    return {**cleaned, "nonfinite": lost} if lost else cleaned
