"""YAML of bounded size: a few lines with aliases can stand for gigabytes, and nested ones overflow the stack. Neither is in a config."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from bnexp.base.errors import UsageError, short
from bnexp.base.files import read_plain

MAX_BYTES = 2**16
"""Of a config file: it holds differences from the defaults. Ours have below 1 KiB."""
MAX_DEPTH = 20
MAX_VALUES = 5_000
"""Keys and values of a file."""


def load(path: Path) -> Any:
    """The plain values of a small YAML file. Raises OSError or ValueError where it cannot be read as text, yaml.YAMLError where it is no
    YAML or has tags, and UsageError as `nodes`; the sentence says `it`, for the caller to name the file."""
    text = read_plain(path, MAX_BYTES).decode()
    nodes(text, "it")
    return yaml.safe_load(text)


def nodes(text: str, where: str) -> yaml.Node | None:
    """The text as a tree of YAML nodes, of which nothing is built; None where it is no YAML, which its loader will report. Raises
    UsageError where it nests more than `MAX_DEPTH` deep, has more than `MAX_VALUES` values, or an alias."""
    depth = count = 0
    try:
        for event in yaml.parse(text, yaml.SafeLoader):
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            count += isinstance(event, yaml.NodeEvent)
            if isinstance(event, yaml.AliasEvent):
                raise UsageError(f"{where} has the alias *{short(str(event.anchor), 60)}; write the value itself.")
            if depth > MAX_DEPTH:
                raise UsageError(f"{where} nests too deeply: more than {MAX_DEPTH} levels of brackets or indentation.")
            if count > MAX_VALUES:
                raise UsageError(f"{where} has more than {MAX_VALUES:,} values; a config is small.")
        node: yaml.Node | None = yaml.compose(text, yaml.SafeLoader)
    except yaml.YAMLError:
        return None
    return node
