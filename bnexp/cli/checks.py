"""What a command checks before anything starts: where its results go, where it is to run, settings that are seldom meant."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from bnexp.base.errors import UsageError, reason, short
from bnexp.cli.streams import say

if TYPE_CHECKING:
    from bnexp.config import Config


def check_out(out: Path | None) -> None:
    """Says at once that the folder of --out cannot be made: hours later would be too late. It is made and taken away again, so that a
    command that is refused later on leaves nothing behind."""
    if out is None:
        return
    missing = [path for path in (out, *out.parents) if not os.path.lexists(path)]
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"--out {short(str(out), 300)} cannot be a folder ({reason(error)}).") from None
    finally:
        for path in missing:
            with suppress(OSError):
                path.rmdir()


def check_machine(workers: int | None, scheduler: str | None) -> None:
    """Raises UsageError where both are given; warns of a scheduler that others can reach."""
    if workers is not None and scheduler is not None:
        raise UsageError("--workers counts processes on this machine, and --scheduler names another's; give one of them.")
    if scheduler is not None:
        from bnexp.base.network import is_open
        from bnexp.execution.cluster import address_of

        if is_open(address := address_of(scheduler)):
            say(
                f"Warning: whoever reaches the scheduler {short(address)} can run code as you, here and on its workers; "
                "docs/how-to/cluster.md says how to secure it with TLS."
            )


def caution(configs: Sequence[Config], quiet: bool) -> None:
    """Says on stderr what is doubtful about the configs, each sentence once."""
    from bnexp.config.fits import doubtful

    if not quiet and (sentence := doubtful(configs)):
        say(f"Warning: {sentence}")
