"""What `torch.save` wrote of tensors and plain values, read without `pickle`, which a stranger's file can keep busy for ever: sixty nested
tuples, each there twice, have 2^60 parts to hash, and a million deep they overflow C's stack. Here nothing is hashed but texts and small
numbers, nothing is called, and each byte of the file is looked at once."""

from __future__ import annotations

import io
import math
import pickletools
import sys
import zipfile
from collections.abc import Callable
from typing import IO, Any, cast

import torch
from torch import Tensor

MAX_PICKLE = 2**24
"""Bytes of the pickle inside, which may make a hundred times as many of memory: it says where the tensors are. A stack of two thousand runs
that all stopped at their target has about as many, one of eight below a hundredth."""
MAX_AXES = 16
"""Of a tensor; ours have up to five, and the runs."""
MAX_KEY = 2**31
"""A whole number that is a key is below: among larger ones a stranger finds any number that have one hash."""
STORAGES = {
    **{"torch FloatStorage": torch.float32, "torch DoubleStorage": torch.float64},
    **{"torch HalfStorage": torch.float16, "torch BFloat16Storage": torch.bfloat16},
    **{"torch LongStorage": torch.int64, "torch IntStorage": torch.int32, "torch ShortStorage": torch.int16},
    **{"torch CharStorage": torch.int8, "torch ByteStorage": torch.uint8, "torch BoolStorage": torch.bool},
}
TENSOR, DICT = "torch._utils _rebuild_tensor_v2", "collections OrderedDict"
NAMES = (*STORAGES, TENSOR, DICT)
"""All that a pickle may name: what tensors are made of."""
VALUES = ("BINUNICODE", "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT")
CONSTANTS: dict[str, Callable[[], Any]] = {
    **{"NONE": lambda: None, "NEWTRUE": lambda: True, "NEWFALSE": lambda: False},
    **{"EMPTY_TUPLE": tuple, "EMPTY_LIST": list, "EMPTY_DICT": dict},
}
TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


def read_archive(file: IO[bytes]) -> Any:
    """The value that `torch.save` was given: tensors on the CPU, texts, numbers, None, and lists, tuples and dicts of them.

    Raises:
        ValueError: it is not what `torch.save` makes of these.
        zipfile.BadZipFile, OSError, LookupError, TypeError, RuntimeError and others: it is cut short or damaged.
    """
    records = _records(file)
    (name,) = [name for name in records if name.endswith("data.pkl")] or [""]
    folder = name.removesuffix("data.pkl")
    if records.get(f"{folder}byteorder", sys.byteorder.encode()) != sys.byteorder.encode():
        raise ValueError("its numbers have their bytes in another order")
    storages: dict[str, Tensor] = {}

    def storage(kind: _Name, key: str) -> Tensor:
        if key not in storages:
            content, dtype = records[f"{folder}data/{key}"], STORAGES[kind.text]
            storages[key] = torch.frombuffer(bytearray(content), dtype=dtype).clone() if content else torch.empty(0, dtype=dtype)
        return storages[key]

    return _built(records[name], storage)


def _records(file: IO[bytes]) -> dict[str, bytes]:
    """The records of an archive by name.

    Raises:
        ValueError: something is compressed, so that it would take more memory than it has bytes, a name is there twice, or the pickle is
            not a small one.
        zipfile.BadZipFile: it is no archive, or a record does not fit its CRC32, which torch writes and does not look at.
    """
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    if file.read(4) != b"PK\3\4":
        raise ValueError("it is no archive")
    with zipfile.ZipFile(file) as archive:
        records = archive.infolist()
        if len({record.filename for record in records}) < max(len(records), 1):
            raise ValueError("it has a name twice, or no records")
        if any(record.compress_type != zipfile.ZIP_STORED for record in records) or sum(record.file_size for record in records) > size:
            raise ValueError("it is compressed")
        if any(record.filename.endswith(".pkl") and record.file_size > MAX_PICKLE for record in records):
            raise ValueError(f"its pickle has more than {MAX_PICKLE:,} bytes")
        return {record.filename: archive.read(record) for record in records}


class _Name:
    """One of `NAMES`."""

    def __init__(self, text: str) -> None:
        if text not in NAMES:
            raise ValueError(f"it names {text[:60]!r}, and should hold tensors and plain values")
        self.text = text


def _built(pickled: bytes, storage: Callable[[_Name, str], Tensor]) -> Any:
    """What the pickle describes. It is a program for a machine with a stack, a memo, and marks on the stack; of its instructions these are
    the ones that `torch.save` uses."""
    stack: list[Any] = []
    marks: list[int] = []
    memo: dict[int, Any] = {}

    def pop(count: int) -> list[Any]:
        items = stack[len(stack) - count :]
        del stack[len(stack) - count :]
        return items

    for opcode, argument, _ in pickletools.genops(pickled):
        name, number = opcode.name, cast(int, argument)
        if name in VALUES:
            stack.append(argument)
        elif name in CONSTANTS:
            stack.append(CONSTANTS[name]())
        elif name == "GLOBAL":
            stack.append(_Name(str(argument)))
        elif name in ("BINPUT", "LONG_BINPUT"):
            memo[number] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(memo[number])
        elif name == "MARK":
            marks.append(len(stack))
        elif name in TUPLES:
            stack.append(tuple(pop(TUPLES[name])))
        elif name == "TUPLE":
            stack.append(tuple(pop(len(stack) - marks.pop())))
        elif name in ("APPEND", "APPENDS"):
            items = pop(1 if name == "APPEND" else len(stack) - marks.pop())
            _own(stack[-1], list).extend(items)
        elif name in ("SETITEM", "SETITEMS"):
            items = pop(2 if name == "SETITEM" else len(stack) - marks.pop())
            _own(stack[-1], dict).update(zip(map(_key, items[::2]), items[1::2], strict=True))
        elif name == "BINPERSID":
            _, kind, key, _, _ = stack.pop()
            stack.append(storage(kind, key))
        elif name == "REDUCE":
            stack.append(_made(*pop(2)))
        elif name == "BUILD":  # what a state_dict says of modules' versions
            stack.pop()
        elif name not in ("PROTO", "STOP"):
            raise ValueError(f"it has the instruction {name}, which torch.save does not use")
    (value,) = stack
    return value


def _own(value: Any, kind: type) -> Any:
    if type(value) is not kind:
        raise ValueError(f"it fills a {type(value).__name__} as if it were a {kind.__name__}")
    return value


def _key(value: Any) -> str | int:
    if type(value) is str or (type(value) is int and abs(value) < MAX_KEY):
        return value
    raise ValueError("it has keys that are neither texts nor small numbers")


def _made(what: _Name, arguments: tuple[Any, ...]) -> Any:
    """A dict, or a tensor that is no larger than its storage.

    Raises:
        ValueError: it would be.
    """
    if what.text == DICT and not arguments:
        return {}
    if what.text != TENSOR:
        raise ValueError(f"it calls {what.text}")
    storage, offset, shape, strides = arguments[:4]
    if not isinstance(storage, Tensor) or not len(shape) == len(strides) <= MAX_AXES or min(offset, *shape, *strides, 0) < 0:
        raise ValueError("it holds tensors of impossible shapes")
    reach = offset + sum((length - 1) * stride for length, stride in zip(shape, strides, strict=True)) + 1
    if max(math.prod(shape), reach if all(shape) else 0) > len(storage):
        raise ValueError("it holds tensors that are larger than what is stored of them")
    return storage.as_strided(shape, strides, offset)
