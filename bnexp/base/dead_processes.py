"""Files and folders that are named after the process which made them, and go when it is dead: temporary ones, and flags."""

from __future__ import annotations

import os
import re
import shutil
import socket
import uuid
from contextlib import suppress
from pathlib import Path


def flag_name(kind: str) -> str:
    """A new name for a flag, a file whose mere being there says something, or for a folder; `drop_flags` knows by it whose it is."""
    return f"{kind}-{host()}.{os.getpid()}.{uuid.uuid4().hex[:8]}"


def drop_flags(folder: Path, kind: str) -> None:
    """Removes the flags of that kind which this machine's dead processes left, as far as the disk allows."""
    drop_of_dead(folder, f"{kind}-", "[0-9a-f]{8}")


def drop_of_dead(folder: Path, start: str, end: str) -> None:
    """Removes the files and folders named `<start><host>.<number>.<end>` of processes of this machine that are dead."""
    name = re.compile(rf"{re.escape(start + host())}\.(\d+)\.{end}")
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if (found := name.fullmatch(entry.name)) and not _is_alive(int(found[1])):
                if entry.is_dir(follow_symlinks=False):
                    shutil.rmtree(entry.path, ignore_errors=True)
                else:
                    Path(entry.path).unlink(missing_ok=True)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):  # somebody else's
        return True
    return True


def host() -> str:
    """Where a process's number means what it does here: this machine and, inside it, the container (its namespace of processes)."""
    with suppress(OSError):
        return f"{re.sub(r'[^A-Za-z0-9-]', '-', socket.gethostname())[:40]}-{Path('/proc/self/ns/pid').stat().st_ino}"
    return "unknown"
