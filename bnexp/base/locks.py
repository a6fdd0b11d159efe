"""Lock files: each is held by one living process at a time. The files stay, held or not."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from bnexp.base.files import make_folder, open_descriptor

POLL_S = 0.05


@contextmanager
def holding(path: Path, wait: Callable[[], None]) -> Iterator[None]:
    """Holds the lock, whose file is made where there is none; `wait` is called again and again while another process holds it, and may
    raise. Raises OSError where the file cannot be made or opened, with one of `files.NOT_PLAIN` where it is not a plain file."""
    make_folder(path.parent)
    while (descriptor := _taken(path)) is None:
        wait()
        time.sleep(POLL_S)
    try:
        yield
    finally:
        os.close(descriptor)


def is_held(path: Path) -> bool:
    """Whether a process holds the lock. Nothing is made or changed, so that this works in a folder that cannot be written."""
    try:
        descriptor = open_descriptor(path, os.O_RDONLY)
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

    A file that has a second name (a backup by hard links) would be locked under that, too: once it is held, its name here is given to a
    new file. So a process that has locked a file checks whether the file still has that name.
    """
    while True:
        descriptor = open_descriptor(path, os.O_RDWR | os.O_CREAT)
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


def _is_named(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.lstat())
    except FileNotFoundError:
        return False
