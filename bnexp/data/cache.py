"""data.root as a path, and the cache folder with downloads, decoded images and fingerprints, which may be deleted."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import IO

from bnexp.base.errors import DataError, UsageError, reason, short
from bnexp.base.files import atomic_write

Stamp = tuple[str, int, int]
"""A file's path relative to its data set, its bytes, and its time of change in ns, by which an unchanged file is recognized."""


def user_path(root: str) -> Path:
    """data.root with a leading ~ or ~user replaced, where that user exists."""
    return Path(os.path.expanduser(root))  # noqa: PTH111 (Path's own raises RuntimeError for an unknown user)


def is_folder(path: Path) -> bool:
    return os.path.isdir(path)  # noqa: PTH112 (Path's own raises OSError for a name that is too long)


def is_there(path: Path) -> bool:
    return os.path.exists(path)  # noqa: PTH110 (as above)


def existing_folder(root: str, hint: str) -> Path:
    """data.root as a path; raises UsageError, with the hint, where that is no folder."""
    path = user_path(root)
    if not is_folder(path):
        raise UsageError(f"data.root={short(root, 300)} {'is a file' if is_there(path) else 'is not there'}; {hint}.")
    return path


def cache_home() -> Path:
    """$XDG_CACHE_HOME, or ~/.cache where that is empty or relative. It may not exist. Raises OSError where the home is unknown."""
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if base.is_absolute():
        return base
    try:
        return Path.home() / ".cache"
    except RuntimeError as error:
        raise OSError(errno.ENOENT, str(error)) from None


def cache_folder() -> Path:
    """The folder bnexp/data in `cache_home`, made where there is none. Raises DataError where that fails."""
    name = ""
    try:
        folder = cache_home() / "bnexp" / "data"
        name = f" {folder}"
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        hint = "set XDG_CACHE_HOME to a folder you may write to"
        raise DataError(f"The cache folder{name} cannot be made ({reason(error)}); {hint}.") from error
    return folder


def stamp(path: Path | str, relative: str) -> Stamp:
    status = os.stat(path)  # noqa: PTH116 (called for each of many images, as `folder` says)
    return relative, status.st_size, status.st_mtime_ns


def check_unchanged(origin: Path, stamps: Iterable[Stamp]) -> None:
    """Raises DataError where a file below `origin` is, after it was read, no longer what its stamp, and so a run's id, stands for."""
    for before in stamps:
        path = os.path.join(origin, before[0]) if before[0] else origin  # noqa: PTH118 (as above)
        try:
            changed = stamp(path, before[0]) != before
        except OSError:
            changed = True
        if changed:
            raise DataError(f"{path} changed while it was read; start again once nothing writes there.")


def cache_path(kind: str, origin: Path, stamps: Iterable[Stamp], suffix: str) -> Path:
    """Where something made from the files of `origin` is kept: `<kind>-<hash of the origin>-<hash of the stamps><suffix>`."""
    place = hashlib.sha256(os.fsencode(origin.resolve())).hexdigest()[:16]
    listing = hashlib.sha256(repr(list(stamps)).encode()).hexdigest()[:16]
    return cache_folder() / f"{kind}-{place}-{listing}{suffix}"


def write_whole(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    """`write` into a file that appears at `path` whole or not at all. Older forms of the same thing (same kind and origin) are removed, so
    that a data set which keeps changing does not fill the disk. Raises DataError where the file cannot be written."""
    try:
        with atomic_write(path) as file:
            write(file)
    except OSError as error:
        raise DataError(f"{path} cannot be written ({reason(error)}); make room there, or set XDG_CACHE_HOME to another folder.") from error
    for old in path.parent.glob(f"{path.name.rpartition('-')[0]}-*{path.suffix}"):
        if old != path:
            old.unlink(missing_ok=True)


def remembered(kind: str, origin: Path, stamps: list[Stamp], compute: Callable[[], str]) -> str:
    """`compute()`, or what it gave the last time for the same files."""
    path = cache_path(kind, origin, stamps, ".txt")
    with suppress(OSError):
        return path.read_text()
    text = compute()
    write_whole(path, lambda file: file.write(text.encode()))
    return text
