"""The keys of summary.json, with the type that `RunResult` declares for each and what is written beside it."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator

from msgspec import inspect as types

from bnexp.base.errors import one_of
from bnexp.storage.result import RunResult


def summary_keys() -> Iterator[tuple[str, str, str]]:
    """(key, type, meaning) of each, a group before the keys in it. `config` is explained key by key elsewhere."""
    info = types.type_info(RunResult)
    assert isinstance(info, types.StructType)
    yield from _keys(info, "")


def _keys(struct: types.StructType, prefix: str) -> Iterator[tuple[str, str, str]]:
    said = _said(struct.cls)
    for field in struct.fields:
        key, kind = f"{prefix}{field.name}", _without_null(field.type)
        if key == "more":  # what a later version wrote
            continue
        if isinstance(kind, types.StructType):
            yield f"**`{key}`**", "", _as_json(inspect.getdoc(kind.cls) or "")
            yield from _keys(kind, f"{key}.")
        else:
            yield f"`{key}`", _words(kind), said.get(field.name, "")


def _without_null(kind: types.Type) -> types.Type:
    if not isinstance(kind, types.UnionType):
        return kind
    (one,) = (member for member in kind.types if not isinstance(member, types.NoneType))
    return one


def _words(kind: types.Type) -> str:
    kind = _without_null(kind)
    match kind:
        case types.IntType():
            return "whole number"
        case types.FloatType(ge=0, le=1):
            return "number from 0 to 1"
        case types.FloatType():
            return "number"
        case types.BoolType():
            return "true or false"
        case types.StrType():
            return "text"
        case types.LiteralType(values=values):
            return one_of(map(str, values))
        case types.VarTupleType(item_type=item):
            return f"list: {_words(item)}"
        case types.DictType() | types.DataclassType():
            return "object"
    raise TypeError(f"{kind} has no words yet")


def _said(cls: type) -> dict[str, str]:
    """The text below each field of a class and of those it inherits from."""
    said: dict[str, str] = {}
    for one in cls.__mro__[:-1]:
        if one.__module__.startswith("bnexp."):
            (tree,) = ast.parse(inspect.getsource(one)).body
            assert isinstance(tree, ast.ClassDef)
            for field, text in zip(tree.body, tree.body[1:], strict=False):
                match field, text:
                    case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(found))):
                        said[name] = _as_json(found)
    return said


def _as_json(text: str) -> str:
    return re.sub(r"\bNone\b", "null", " ".join(text.split()))
