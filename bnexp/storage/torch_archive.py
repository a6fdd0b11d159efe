"""What a file must be before `torch.load(weights_only=True)` reads it: an archive that is whole, not compressed, and quick to unpickle.

Unpickling hashes keys. Sixty nested tuples, each of them twice in the next, have 2^60 parts to hash in 700 bytes; a million levels overflow
the C stack; and among large numbers and tuples a file can name any number of keys that have one hash.
"""

from __future__ import annotations

import io
import pickle
import pickletools
import re
import zipfile
from typing import IO, Any, cast

import torch

MAX_PICKLE = 2**24
"""Bytes of the pickle inside, which may make a hundred times as many of memory: it says where the tensors are. A stack of two thousand runs
that all stopped at their target has about as many, one of eight below a hundredth."""
MAX_PARTS = 200
"""Of a tuple, with the parts of its parts; those that describe a tensor have about 20."""
NAMES = re.compile(r"torch \w+Storage|torch\._utils _rebuild_tensor_v2|collections OrderedDict")
"""What a pickle may name: what tensors and state_dicts are made of. `weights_only` allows more kinds of tensors."""
POPPED = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3, "APPEND": 1, "SETITEM": 2, "REDUCE": 2, "BUILD": 1, "BINPERSID": 1}
"""How many values an instruction takes off the stack; those of a whole mark are beside these."""
PUSHING = {"NONE", "NEWTRUE", "NEWFALSE", "EMPTY_TUPLE", "EMPTY_LIST", "EMPTY_DICT", "GLOBAL", "REDUCE", "BINPERSID"}
PUSHING |= {"BINUNICODE", "BINFLOAT", "BININT", "BININT1", "BININT2"}


def read_archive(file: IO[bytes]) -> Any:
    """The value that `torch.save` was given: tensors on the CPU, texts, numbers, None, and lists, tuples and dicts of them.

    Raises:
        ValueError: it is not what `torch.save` makes of these.
        zipfile.BadZipFile, LookupError, RuntimeError and others: it is cut short or damaged.
    """
    data = file.read()
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        if min((record.header_offset for record in archive.infolist()), default=1):  # torch might read what lies before
            raise ValueError("it is no archive of torch.save")
        if any(record.compress_type != zipfile.ZIP_STORED for record in archive.infolist()):
            raise ValueError("it is compressed")
        if damaged := archive.testzip():  # torch writes CRC32 sums and does not compare them
            raise zipfile.BadZipFile(f"Bad CRC-32 for file '{damaged}'")
        (pickled,) = [record for record in archive.infolist() if record.filename.endswith(".pkl")]
        if pickled.file_size > MAX_PICKLE:
            raise ValueError(f"its pickle has more than {MAX_PICKLE:,} bytes")
        _check_pickle(archive.read(pickled))
    try:
        return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:  # in a page on how to trust a file
        raise ValueError("it holds other things than tensors and plain values") from None


def _check_pickle(pickled: bytes) -> None:
    """Follows the pickle, a program for a machine with a stack, marks on the stack and a memo, with the number of each value's parts.

    Raises:
        ValueError: a tuple has more than `MAX_PARTS`, a key is neither a text nor a small number, or `torch.save` writes no such pickle.
    """
    stack: list[int] = []
    marks: list[int] = []
    memo: dict[int, int] = {}
    for opcode, argument, _ in pickletools.genops(pickled):
        name, number = opcode.name, cast(int, argument)
        if name == "GLOBAL" and not NAMES.fullmatch(str(argument)):
            raise ValueError(f"it names {str(argument)[:60]!r}, and should hold tensors and plain values")
        start = marks.pop() if name in ("TUPLE", "APPENDS", "SETITEMS") else len(stack) - POPPED.get(name, 0)
        taken = stack[start:]
        del stack[start:]
        if name.startswith("SETITEM") and max(taken[::2], default=1) > 1:
            raise ValueError("it has keys that are neither texts nor small numbers")
        if name.startswith("TUPLE"):
            stack.append(1 + sum(taken))
            if stack[-1] > MAX_PARTS:
                raise ValueError(f"it has a tuple of more than {MAX_PARTS} parts")
        elif name in PUSHING:
            stack.append(1)
        elif name == "LONG1":
            stack.append(2)
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(memo[number])
        elif name in ("BINPUT", "LONG_BINPUT"):
            memo[number] = stack[-1]
        elif name == "MARK":
            marks.append(len(stack))
        elif name not in (*POPPED, "APPENDS", "SETITEMS", "PROTO", "STOP"):
            raise ValueError(f"it has the instruction {name}, which torch.save does not use")
