"""Every command with its arguments, options and examples, as Markdown: what its `--help` says, read off the functions of `bnexp.cli`."""

from __future__ import annotations

import inspect
import re
import types
import typing
from collections.abc import Callable, Iterator
from enum import Enum
from pathlib import Path
from typing import Any

from typer.models import ArgumentInfo, OptionInfo

from bnexp.cli import COMMANDS, app


def commands() -> str:
    """A section for each command, in the order of the help; a command's own commands follow it."""
    functions = {_name(info): [(_name(info), info.callback)] for info in app.registered_commands}
    for group in app.registered_groups:
        inside: Any = group.typer_instance
        own = [(f"{group.name} {_name(info)}", info.callback) for info in inside.registered_commands]
        functions[str(group.name)] = [(group.name, inside.registered_callback.callback), *own]
    return "\n".join(_section(f"bnexp {path}", function) for name in COMMANDS for path, function in functions[name])


def _name(info: Any) -> str:
    return str(info.name or info.callback.__name__)


def _section(path: str, function: Callable[..., None]) -> str:
    text, _, examples = (inspect.getdoc(function) or "").partition("\b\n")
    rows = list(_rows(function))
    usage = " ".join([path, *(left for left, _, _ in rows if not left.startswith("-")), "[OPTIONS]"])
    section = f"## `{path}`\n\n{_paragraphs(text)}\n\n```text\n{usage}\n```\n\n| argument or option | does | default |\n|---|---|---|\n"
    section += "".join(f"| `{_cell(left)}` | {_cell(does)} |{_cell(f' {default}')} |\n" for left, does, default in rows)
    lines = [line.strip() for line in examples.splitlines() if line.startswith("  ")]
    return section + "\n```console\n" + "".join(f"$ {line}\n" for line in lines) + "```\n"


def _rows(function: Callable[..., None]) -> Iterator[tuple[str, str, str]]:
    """(argument or option, what it does, default) of each that the help shows."""
    hints = typing.get_type_hints(function, include_extras=True)
    for name, parameter in inspect.signature(function).parameters.items():
        kind, *known = typing.get_args(hints[name]) or (hints[name],)
        info = next((one for one in known if isinstance(one, (ArgumentInfo, OptionInfo))), None)
        if info is None or info.hidden:
            continue
        options = [kind for kind in typing.get_args(kind) or (kind,) if kind is not types.NoneType]
        several = list in (typing.get_origin(options[0]), typing.get_origin(kind))
        required = parameter.default is inspect.Parameter.empty
        does = info.help or ""
        if info.min is not None:
            does += f" From {info.min} to {info.max}."
        yield _left(name, info, options[0], several, required), does, "" if required else _default(info, parameter.default)


def _left(name: str, info: ArgumentInfo | OptionInfo, kind: Any, several: bool, required: bool) -> str:
    choices = "|".join(str(choice.value) for choice in kind) if inspect.isclass(kind) and issubclass(kind, Enum) else ""
    if isinstance(info, ArgumentInfo):
        word = (info.metavar or choices or name.upper()).removesuffix("...")
        return (word if required else f"[{word}]") + ("..." if several else "")
    flags = ", ".join(sorted((flag for flag in (info.default, *(info.param_decls or ())) if isinstance(flag, str)), key=len))
    value = info.metavar or choices or {bool: "", int: "N", float: "NUMBER", Path: "DIR"}.get(kind, "TEXT")
    return f"{flags} {value}".strip()


def _default(info: ArgumentInfo | OptionInfo, value: Any) -> str:
    if isinstance(info.show_default, str):
        return info.show_default
    return f"`{getattr(value, 'value', value)}`" if value is not None and value is not False else ""


def _paragraphs(text: str) -> str:
    return "\n\n".join(" ".join(part.split()) for part in re.split(r"\n\s*\n", text.strip()))


def _cell(text: str) -> str:
    return text.rstrip().replace("|", "\\|")
