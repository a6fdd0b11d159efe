"""Lock files: each is held by one process at a time, and by none that is dead. They stay, held or not."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from bnexp.base.files import make_folder

POLL_S = 0.05
NO_FILE = (errno.ELOOP, errno.EISDIR, errno.ENXIO)
"""What the system answers about a link, a folder and a socket."""


@contextmanager
def holding(path: Path, wait: Callable[[], None]) -> Iterator[None]:
    """Holds the lock, made where it is not there; `wait` is called again and again while another process holds it, and may raise.

    Raises:
        OSError: it cannot be made or opened; ELOOP where a link, or something else than a file, is in its place.
    """
    make_folder(path.parent)
    while (descriptor := _taken(path)) is None:
        wait()
        time.sleep(POLL_S)
    try:
        yield
    finally:
        os.close(descriptor)


def is_held(path: Path) -> bool:
    """Whether some process holds the lock. Nothing is made or changed, so that it can be asked of a folder that cannot be written."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _taken(path: Path) -> int | None:
    """A descriptor that holds the lock until it is closed; None while another process does.

    A file that has a second name (a backup by hard links) would be locked under that, too: it is not written, and once it is held its name
    here is given to a new one. So whoever has locked a file looks whether it still has that name.
    """
    while True:
        descriptor = _opened(path)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_named(descriptor, path):
                if os.fstat(descriptor).st_nlink == 1:
                    return descriptor
                path.unlink()
        except BlockingIOError:
            os.close(descriptor)
            return None
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _opened(path: Path) -> int:
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o666)
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            return descriptor
        os.close(descriptor)
    except OSError as error:
        if error.errno not in NO_FILE:
            raise
    raise OSError(errno.ELOOP, "it is a link, or no file, and is not followed", str(path))


def _is_named(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.lstat())
    except FileNotFoundError:
        return False
