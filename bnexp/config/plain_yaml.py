"""YAML from strangers, looked at before any loader builds it: a few lines can stand for gigabytes, or for something outside their folder.

PyYAML's parser makes events one by one and its composer shares what aliases name, so that both take memory in proportion to the text.
Loaders (and OmegaConf, which copies what an alias names) do not.
"""

from __future__ import annotations

import codecs
import errno
import math
import os
import shlex
from pathlib import Path
from typing import Any

import yaml

from bnexp.base.errors import UsageError, short
from bnexp.base.files import read_plain

MAX_BYTES = 2**16
"""Of a config file: it holds differences from the defaults. Ours have below 1 KiB."""
MAX_DEPTH = 20
MAX_VALUES = 5_000
"""Keys and values of a file, with what its aliases name counted each time."""


def read_small(file: Path, inside: Path) -> str:
    """The text of a regular file, at most `MAX_BYTES` long, that is in the folder `inside` (a real path) or below it; a link may lead
    there, and nowhere else.

    Raises:
        UsageError: it leads out of `inside`, is too long, no file, not UTF-8, or cannot be read.
    """
    where = short(str(file), 200)
    real = Path(os.path.realpath(file))
    if not real.is_relative_to(inside):
        raise UsageError(f"{where} is a link that leads out of {short(str(inside), 200)}; put the file itself there.")
    try:
        data = read_plain(Path(real), MAX_BYTES)
        return data.decode()
    except UnicodeDecodeError:
        encoding = "UTF-16" if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "ISO-8859-1"
        raise UsageError(f"{where} is not UTF-8; mend it: iconv -f {encoding} -t UTF-8 {shlex.quote(str(file))} > NEW.yaml") from None
    except OSError as error:
        if error.errno == errno.EFBIG:
            many = f"{where} has more than {MAX_BYTES // 1024} KiB"
            raise UsageError(f"{many}; a config holds differences from the defaults, and is small.") from None
        if error.errno == errno.EINVAL:
            raise UsageError(f"{where} is no file; a config is a text file.") from None
        raise UsageError(f"{where} cannot be read ({error.strerror}).") from None


def load(path: Path) -> Any:
    """What a small YAML file of ours holds: plain values, built once the text is known to stand for few.

    Raises:
        OSError: it cannot be read, or is a link or no file.
        ValueError: it is not UTF-8.
        yaml.YAMLError: it is no YAML, or has tags.
        UsageError: as `compose`; the sentence says `it`, for the caller to name the file.
    """
    text = read_plain(path, MAX_BYTES).decode()
    compose(text, "it")
    return yaml.safe_load(text)


def compose(text: str, where: str) -> yaml.Node | None:
    """The text as a graph of YAML nodes of bounded size, of which nothing is built; None where it is no YAML, which its loader will say.

    Raises:
        UsageError: it nests more than `MAX_DEPTH` deep or without end, or has more than `MAX_VALUES` values, aliases written out.
    """
    try:
        depth = count = 0
        for event in yaml.parse(text, yaml.SafeLoader):
            opens, closes = isinstance(event, yaml.CollectionStartEvent), isinstance(event, yaml.CollectionEndEvent)
            depth, count = depth + opens - closes, count + isinstance(event, yaml.NodeEvent)
            if depth > MAX_DEPTH:
                raise _too_deep(where)
            if count > MAX_VALUES:
                raise _too_many(where)
        node: yaml.Node | None = yaml.compose(text, yaml.SafeLoader)
        values = 0 if node is None else _values(node, {})
    except yaml.YAMLError:
        return None
    except RecursionError:
        raise _too_deep(where) from None
    if values > MAX_VALUES:
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
    return UsageError(f"{where} nests too deeply: more than {MAX_DEPTH} levels of brackets or indentation, or aliases without end.")


def _too_many(where: str) -> UsageError:
    return UsageError(f"{where} has more than {MAX_VALUES:,} values, with what its aliases name written out; a config is small.")
