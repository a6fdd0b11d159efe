"""Files of our own: written whole or not at all, read within bounds, and never through a link that somebody put in their place."""

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
from pathlib import Path
from typing import IO, Any

from bnexp.base.dead_processes import drop_of_dead, host

MAX_JSON = 2**24
"""Bytes of a JSON file that is read, which take thirty times as many of memory: the largest of ours is a summary with a confusion matrix of
2,000 classes, of about 12 MB."""
CHECKSUM = b',\n  "checksum": "'
"""The last key of a checked JSON file: CRC32 of all bytes before this text."""


@contextmanager
def atomic_write(path: Path) -> Iterator[IO[bytes]]:
    """A binary file that appears at `path` complete or not at all; what was there before stays until then. Afterwards it is on disk, under
    its name.

    What a killed process left of an earlier try is removed.
    """
    temporary = path.with_name(f".{path.name}.{host()}.{os.getpid()}.tmp")
    temporary.unlink(missing_ok=True)  # of a process that had our number
    try:
        with open(temporary, "xb") as file:  # noqa: PTH123 (x: a link that waits there is not followed)
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
    """Brings to disk what was written to a plain file, by whomever.

    Raises:
        OSError: it cannot be.
    """
    with open_plain(path) as file:
        os.fsync(file.fileno())


def sync_folder(path: Path) -> None:
    """Brings the names in a folder to disk: a file that is not under its name is lost, too, when the machine goes down.

    Raises:
        OSError: it cannot be. File systems and folders that do not have it are left alone.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except PermissionError:  # one that may be written and not listed
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)


def make_folder(path: Path) -> None:
    """Makes a folder of ours with those above it.

    Raises:
        OSError: it cannot be made, or a link is in its place.
    """
    new = [folder for folder in (path, *path.parents) if not folder.exists()]
    path.mkdir(parents=True, exist_ok=True)
    if path.is_symlink():
        raise OSError(errno.ELOOP, "it is a link, which is not followed", str(path))
    for folder in new:
        sync_folder(folder.parent)


def open_log(path: Path) -> IO[str]:
    """A text file to append to, made if it is not there.

    Raises:
        OSError: it cannot be written, or a link or something else than a file has its name.
    """
    return os.fdopen(_open_to_change(path, os.O_APPEND | os.O_CREAT), "a", encoding="utf-8")


def cut_file(path: Path, size: int) -> None:
    """Cuts a file of ours down to its first `size` bytes. Errors as `open_log`."""
    descriptor = _open_to_change(path, 0)
    try:
        os.ftruncate(descriptor, size)
    finally:
        os.close(descriptor)


def _open_to_change(path: Path, flags: int) -> int:
    """A descriptor of a file that is changed where it is. One that has another name (a hard link, as some backups make) is copied first:
    it would change under that name as well."""
    descriptor = _opened(path, os.O_RDWR | flags)
    try:
        _check_plain(descriptor, path)
        if os.fstat(descriptor).st_nlink == 1:
            return descriptor
        with os.fdopen(os.dup(descriptor), "rb") as shared, atomic_write(path) as own:
            shutil.copyfileobj(shared, own)
    except BaseException:
        os.close(descriptor)
        raise
    os.close(descriptor)
    return _open_to_change(path, flags)


NOT_PLAIN = (errno.ELOOP, errno.EINVAL, errno.EISDIR, errno.EFBIG)
"""Why `open_plain` refuses what lies there; any other error is the system's."""


def open_plain(path: Path, most: int | None = None) -> IO[bytes]:
    """A file of ours to be read: no link, no pipe and no device, and of at most `most` bytes.

    Raises:
        OSError: it cannot be read, or is something else; FileNotFoundError where there is nothing.
    """
    descriptor = _opened(path, os.O_RDONLY)
    try:
        size = _check_plain(descriptor, path)
        if most is not None and size > most:
            raise OSError(errno.EFBIG, f"it has more than {most:,} bytes", str(path))
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def read_plain(path: Path, most: int) -> bytes:
    """The content of such a file.

    Raises:
        OSError: as `open_plain`.
    """
    with open_plain(path, most) as file:
        return file.read()


def _opened(path: Path, flags: int) -> int:
    """A descriptor of what is under this name, which waits for nobody."""
    try:
        return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o666)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise OSError(errno.ELOOP, "it is a link, which is not followed", str(path)) from None
        raise


def _check_plain(descriptor: int, path: Path) -> int:
    """The file's size in bytes."""
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "it is not a plain file", str(path))
    return status.st_size


def digest(path: Path, most: int | None = None) -> str:
    """SHA-256 of a plain file of at most `most` bytes, in hex.

    Raises:
        OSError: as `open_plain`.
    """
    found = hashlib.sha256()
    with open_plain(path, most) as file:
        while block := file.read(2**20):
            found.update(block)
    return found.hexdigest()


def write_json(path: Path, value: Any) -> None:
    """`value` as indented JSON, atomically."""
    with atomic_write(path) as file:
        file.write(dump_json(value).encode() + b"\n")


def write_checked_json(path: Path, value: dict[str, Any], version: int) -> None:
    """`checked_json` as a file, atomically."""
    with atomic_write(path) as file:
        file.write(checked_json(value, version))


def checked_json(value: dict[str, Any], version: int) -> bytes:
    """An object of ours as JSON, with its `format` version and a `checksum` of all before it at the end: what `read_checked_json` reads."""
    content = {key: part for key, part in value.items() if key != "checksum"}  # of the file that it was read from
    body = dump_json({**content, "format": version}).encode().removesuffix(b"\n}")
    return body + CHECKSUM + f'{zlib.crc32(body):08x}"\n}}\n'.encode()


def read_checked_json(path: Path, version: int, most: int = MAX_JSON) -> dict[str, Any]:
    """The object that `write_checked_json` wrote, of at most `most` bytes. One that has neither format nor checksum is taken as it is: it
    was written before there were any.

    Raises:
        OSError: it is not there, or the system does not let it be read.
        ValueError: it is no plain file or too large, cut short or damaged, it holds no object, or its format is newer than `version`.
    """
    data = read_checked(path, most)
    value = decode_json(data)
    if not isinstance(value, dict):
        raise ValueError("it holds no object")
    check_format(value.get("format", 0), data, version)
    return value


def read_checked(path: Path, most: int = MAX_JSON) -> bytes:
    """The bytes of such a file, whose checksum fits where there is one; errors as `read_checked_json`."""
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
    """JSON as a `kind`, to which msgspec holds it: numbers that no float holds and halves of characters are refused.

    Raises:
        ValueError: it is something else.
    """
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


def null_nonfinite(tree: dict[str, Any]) -> dict[str, Any]:
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

    cleaned: dict[str, Any] = clean(tree, "")
    return {**cleaned, "nonfinite": lost} if lost else cleaned
