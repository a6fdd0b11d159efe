"""What the groups of faults share: the count of what was tried with its problems, and commands in copies of this process."""

from __future__ import annotations

import os
import signal
import sys
import threading
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NoReturn

LIMIT_S = 120
STOPPED = """import sys
from bnexp.base.signals import Stop
from bnexp.cli import main
polled = iter([False] * int(sys.argv.pop(1)))
Stop.__call__ = lambda self: next(polled, True)
main(sys.argv[1:])"""
"""`bnexp` that is stopped when it polls for the N-th time: `python -c STOPPED N ARGUMENTS`."""


@dataclass
class Tried:
    """How often each kind of thing was tried or came of it, and what broke a promise."""

    counts: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)


def silent(line: str) -> None:
    """Prints nothing of what is tried."""


def forked(work: Callable[[], object], out: int) -> tuple[int, int]:
    """Exit code and peak bytes of a copy of this process that does `work` and writes to `out`; it has imported everything already."""
    child = os.fork()
    if child == 0:
        _be(work, out)
    timer = threading.Timer(LIMIT_S, os.kill, (child, signal.SIGKILL))
    timer.start()
    _, status, usage = os.wait4(child, 0)
    timer.cancel()
    timer.join()
    return os.waitstatus_to_exitcode(status), usage.ru_maxrss * 1024


def _be(work: Callable[[], object], out: int) -> NoReturn:
    code: Any = 70
    try:
        os.dup2(out, 1)
        os.dup2(out, 2)
        try:
            work()
            code = 0
        except SystemExit as end:
            code = end.code or 0
        except BaseException:
            traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)
