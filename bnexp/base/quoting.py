"""How a value is typed so that it arrives as it is: quoted for Hydra's grammar of overrides, and around that for the shell."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path


def quoted(value: str) -> str:
    """`value` in Hydra's single quotes, where a backslash is itself unless it stands before a quote or at the end."""
    body = re.sub(r"(\\*)('|\Z)", lambda found: 2 * found[1] + ("\\'" if found[2] else ""), value)
    return f"'{body}'"


def typed(key: str, value: str) -> str:
    """The override that gives `key` exactly this value, as a POSIX shell reads it: `"data.root='a,b'"`."""
    override = f"{key}={quoted(value)}"
    return shlex.quote(override) if re.search(r'["$`\\!]', override) else f'"{override}"'


def command_line() -> str:
    """The command as it was typed, quoted so that a shell reads the same again; bytes that are not UTF-8 are escaped."""
    return shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]).encode(errors="backslashreplace").decode()


def slug(text: str, between: str = "_") -> str:
    """Small letters and digits that a file name can have, at most 40 in all; `between` stands in place of what is neither."""
    return re.sub("[^a-z0-9]+", between, text.lower()).strip(between)[:40]
