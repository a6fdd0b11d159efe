"""YAML from strangers, looked at before any loader builds it: a few lines can stand for gigabytes, or for something outside their folder.

PyYAML's parser makes events one by one and its composer shares what aliases name, so that both take memory in proportion to the text.
Loaders (and OmegaConf, which copies what an alias names) do not.
"""

from __future__ import annotations

import math
import os
import stat
from pathlib import Path

import yaml

from bnexp.errors import UsageError, short

MOST_BYTES = 2**16
"""Of a config file: it holds differences from the defaults. Ours have below 1 KiB."""
MOST_DEPTH = 20
MOST_VALUES = 5_000
"""Keys and values of a file, with what its aliases name counted each time."""


def read_small(file: Path, inside: Path) -> str:
    """The text of a regular file, at most `MOST_BYTES` long, that is in the folder `inside` (a real path) or below it; a link may lead
    there, and nowhere else. What is not UTF-8 is replaced.

    Raises:
        UsageError: it leads out of `inside`, is too long, no file, or cannot be read.
    """
    where = short(str(file), 200)
    real = Path(os.path.realpath(file))
    if not real.is_relative_to(inside):
        raise UsageError(f"{where} is a link that leads out of {short(str(inside), 200)}; put the file itself there.")
    try:
        with os.fdopen(os.open(real, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0)), "rb") as opened:  # which a FIFO would block
            if not stat.S_ISREG(os.fstat(opened.fileno()).st_mode):
                raise UsageError(f"{where} is no file; a config is a text file.")
            content = opened.read(MOST_BYTES + 1)
    except OSError as error:
        raise UsageError(f"{where} cannot be read ({error.strerror}).") from None
    if len(content) > MOST_BYTES:
        raise UsageError(f"{where} has more than {MOST_BYTES // 1024} KiB; a config holds differences from the defaults, and is small.")
    return content.decode(errors="replace")


def compose(text: str, where: str) -> yaml.Node | None:
    """The text as a graph of YAML nodes of bounded size, of which nothing is built; None where it is no YAML, which its loader will say.

    Raises:
        UsageError: it nests more than `MOST_DEPTH` deep or without end, or has more than `MOST_VALUES` values, aliases written out.
    """
    try:
        depth = count = 0
        for event in yaml.parse(text, yaml.SafeLoader):
            opens, closes = isinstance(event, yaml.CollectionStartEvent), isinstance(event, yaml.CollectionEndEvent)
            depth, count = depth + opens - closes, count + isinstance(event, yaml.NodeEvent)
            if depth > MOST_DEPTH:
                raise _too_deep(where)
            if count > MOST_VALUES:
                raise _too_many(where)
        node: yaml.Node | None = yaml.compose(text, yaml.SafeLoader)
        values = 0 if node is None else _values(node, {})
    except yaml.YAMLError:
        return None
    except RecursionError:
        raise _too_deep(where) from None
    if values > MOST_VALUES:
        raise _too_deep(where) if values == math.inf else _too_many(where)
    return node


def _values(node: yaml.Node, known: dict[int, float]) -> float:
    """How many nodes the graph has, written out as a tree; infinity where it leads back to itself."""
    if id(node) not in known:
        known[id(node)] = math.inf  # until it is left again
        items = node.value if isinstance(node, yaml.CollectionNode) else ()
        children = (part for item in items for part in (item if isinstance(item, tuple) else (item,)))
        known[id(node)] = 1 + sum(_values(child, known) for child in children)
    return known[id(node)]


def _too_deep(where: str) -> UsageError:
    return UsageError(f"{where} nests too deeply: more than {MOST_DEPTH} levels of brackets or indentation, or aliases without end.")


def _too_many(where: str) -> UsageError:
    return UsageError(f"{where} has more than {MOST_VALUES:,} values, with what its aliases name written out; a config is small.")
