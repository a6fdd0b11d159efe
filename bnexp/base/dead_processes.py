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
    """A new name for a flag, which is an empty file, or for a temporary folder; `drop_flags` reads from it which process made it."""
    return f"{kind}-{host()}.{os.getpid()}.{uuid.uuid4().hex[:8]}"


def drop_flags(folder: Path, kind: str) -> None:
    """Removes the flags of that kind which this machine's dead processes left, as far as the disk allows."""
    drop_of_dead(folder, f"{kind}-", "[0-9a-f]{8}")


def drop_of_dead(folder: Path, start: str, end: str) -> None:
    """Removes the files and folders named `<start><host>.<number>.<end>` of processes of this machine that are dead."""
    import psutil  # which commands that write nothing do without

    name = re.compile(rf"{re.escape(start + host())}\.(\d{{1,9}})\.{end}")
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if (found := name.fullmatch(entry.name)) and not psutil.pid_exists(int(found[1])):
                if entry.is_dir(follow_symlinks=False):
                    shutil.rmtree(entry.path, ignore_errors=True)
                else:
                    Path(entry.path).unlink(missing_ok=True)


def host() -> str:
    """What process numbers are unique in: this machine and, inside it, the container (its namespace of processes)."""
    with suppress(OSError):
        return f"{re.sub(r'[^A-Za-z0-9-]', '-', socket.gethostname())[:40]}-{Path('/proc/self/ns/pid').stat().st_ino}"
    return "unknown"
