"""stdout and stderr that outlive their readers: a terminal that is closed, or `| head`, ends no sweep and loses no report."""

from __future__ import annotations

import errno
import io
import os
import sys
from contextlib import suppress

from bnexp.base.errors import one_line

UNREAD = (errno.EIO, errno.EPIPE)
"""The terminal was closed; the other end of the pipe was."""


class _Lasting(io.FileIO):
    """A file that discards what its reader no longer takes. Another failure (a full disk) is raised, once: what is left in
    buffers is then given up."""

    given_up = False

    def write(self, data: bytes) -> int:  # type: ignore[override] # any buffer, in truth
        take_away_waiting()
        if not self.given_up:
            try:
                return super().write(data)
            except OSError as error:
                self.given_up = True
                if error.errno not in UNREAD:
                    raise
        return memoryview(data).nbytes


def lasting(stream: io.TextIOWrapper) -> io.TextIOWrapper:
    """`stream` as it should be: it outlives its reader, and where it cannot show a character it shows a question mark."""
    stream.flush()
    raw = _Lasting(stream.fileno(), "wb", closefd=False)
    buffer = raw if stream.write_through else io.BufferedWriter(raw)  # type: ignore[type-var] # unbuffered where Python is run with -u
    return io.TextIOWrapper(
        buffer, stream.encoding, errors="replace", line_buffering=stream.line_buffering, write_through=stream.write_through
    )


def outlive_readers() -> None:
    """Replaces sys.stdout and sys.stderr, where they are files of the system."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if isinstance(stream, io.TextIOWrapper):
            setattr(sys, name, lasting(stream))


_waiting = False


def show_waiting(message: str) -> None:
    """Shows on a terminal that the command is being started, until anything else is written to the streams that outlive their readers."""
    global _waiting
    buffer = getattr(sys.stderr, "buffer", None)
    if isinstance(getattr(buffer, "raw", buffer), _Lasting) and sys.stderr.isatty() and os.environ.get("TERM") != "dumb":
        print(message, end="", file=sys.stderr, flush=True)
        _waiting = True


def take_away_waiting() -> None:
    """Removes what `show_waiting` shows."""
    global _waiting
    if _waiting:
        _waiting = False
        with suppress(OSError):
            os.write(sys.stderr.fileno(), b"\r\x1b[K")  # past its buffer, which may be what is being written


def say(message: str) -> None:
    """A sentence on stderr. Names of folders and of runs may hold anything, and a terminal obeys escape sequences."""
    print(one_line(message), file=sys.stderr, flush=True)
