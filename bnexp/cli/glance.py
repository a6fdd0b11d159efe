"""Command-line values that need no conversion, or next to none, taken as they are.

Typer has Pydantic convert every value, even one that nobody gave, and importing Pydantic takes longer than listing a hundred runs. What is
plain at a glance is converted here instead, to the same value; everything else (numbers and choices that somebody typed, whatever will be
refused) goes to Typer, whose messages these are. Typers from before they had Pydantic are left alone.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any


def at_a_glance(command: Any, ctx: Any) -> None:
    """Has the command's parameters look at values here first; `ctx` is its context, or that of the group it is in. Calling it again changes
    nothing."""
    for param in command.get_params(ctx):
        ask = getattr(param, "get_runtime_param", None)
        if ask is not None and not isinstance(ask, _Glance):
            param.get_runtime_param = _Glance(ask)


class _Glance:
    """Stands in for a parameter's `get_runtime_param`, and for what that gives."""

    def __init__(self, ask: Any) -> None:
        self._ask = ask

    def __call__(self) -> _Glance:
        return self

    def coerce(self, value: Any, param: Any, ctx: Any) -> Any:
        """The value as the parameter's type.

        Raises:
            typer.BadParameter: Typer says so.
        """
        kind = param.type_descriptor.annotation
        if value is None:
            return () if param.multiple or param.nargs == -1 else None
        if kind == list[str] and isinstance(value, (list, tuple)) and all(isinstance(item, str) for item in value):
            return list(value)
        if kind is Path and _will_do(value, param.type_descriptor.parameter_info):
            return Path(value)
        if type(value) is kind:  # text that is wanted as text; a default
            return value
        return self._ask().coerce(value, param=param, ctx=ctx)


def _will_do(path: str | Path, wanted: Any) -> bool:
    """Whether Typer would take the path: nothing is there yet, or a folder that can be read."""
    try:
        mode = os.stat(path).st_mode  # noqa: PTH116 (it may be text)
    except OSError:
        return True
    except ValueError:  # a NUL, or half a character
        return False
    return stat.S_ISDIR(mode) and wanted.dir_okay and os.access(path, os.R_OK)
