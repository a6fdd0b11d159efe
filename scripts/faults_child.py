"""`bnexp`, which reports through a pipe where it is, so that it can be killed there: `faults_child.py FD N ARGUMENTS`.

Each touch of a file inside the folder of --runs-dir, which must be absolute, is counted; at the N-th the process kills itself, before the
touch. Each call of a `PHASES` function is reported as it begins and ends, with the touches until then: `<phase> <begin|end> <count>`. The
last line has the number of touches: `files <count>`.
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

PHASES = {
    "planning": (
        "bnexp.execution.launch:plan",
        "bnexp.execution.grid:prepare",
        "bnexp.execution.grid:Group.store_members",
        "bnexp.execution.grid:Group.store_plan",
    ),
    "training": ("bnexp.execution.job:StackTraining.train",),
    "evaluation": ("bnexp.training.fit:evaluate", "bnexp.execution.results:evaluate"),
    "checkpoint": ("bnexp.execution.job:save_checkpoint",),
    "ending": ("bnexp.execution.job:StackTraining.finish",),
    "promotion": ("bnexp.storage.run:Run.promote",),
    "removal": ("bnexp.storage.run:Run.remove",),
    "results": ("bnexp.cli.results:store_results", "bnexp.tensorboard.means:write_means"),
    "report": ("bnexp.report:write_report",),
}
"""What a moment may fall into, by the functions that do it, each where it is looked up."""
TOUCHES = ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.link", "os.symlink", "shutil.rmtree")
"""Audit events of the interpreter that change files or may."""


def main() -> None:
    pipe, at, *args = sys.argv[1:]
    touches = _count_touches(int(pipe), int(at), args[args.index("--runs-dir") + 1])
    _watch(int(pipe), touches)
    from bnexp.cli import main as bnexp

    bnexp(args)


def _watch(pipe: int, touches: Callable[[], int]) -> None:
    """Wraps the phases' functions once the modules that hold them are there; the modules are imported when the command needs them."""

    def wrap(phase: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def reported(*args: Any, **kwargs: Any) -> Any:
            os.write(pipe, f"{phase} begin {touches()}\n".encode())
            try:
                return function(*args, **kwargs)
            finally:
                os.write(pipe, f"{phase} end {touches()}\n".encode())

        return reported

    for phase, places in PHASES.items():
        for place in places:
            module, _, name = place.partition(":")
            *path, last = name.split(".")
            owner: Any = importlib.import_module(module)
            for part in path:
                owner = getattr(owner, part)
            setattr(owner, last, wrap(phase, getattr(owner, last)))


def _count_touches(pipe: int, at: int, folder: str) -> Callable[[], int]:
    """How many there were so far."""
    count = 0

    def hook(event: str, args: tuple[Any, ...]) -> None:
        nonlocal count
        if event not in TOUCHES or not args or not isinstance(args[0], (str, bytes, os.PathLike)):
            return
        path = os.fsdecode(args[0])
        if event in ("os.remove", "os.rmdir") and args[1] >= 0:  # what is removed with a whole folder is named within it
            path = f"{os.readlink(f'/proc/self/fd/{args[1]}')}/{path}"  # noqa: PTH115
        if path.startswith(folder):
            count += 1
            if count == at:
                os.write(pipe, b"killed itself\n")
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)
    import atexit

    atexit.register(lambda: os.write(pipe, f"files {count}\n".encode()))
    return lambda: count


if __name__ == "__main__":
    main()
