"""A tree of frozen dataclasses as the description of a config: each field's type, range and meaning, and what turns plain values into it.

Nothing here knows the fields themselves (config.py has them). Types are read off the annotations once for a class.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Union

from bnexp.base.errors import UsageError, did_you_mean, one_of, short
from bnexp.config.names import name_hint

Value = str | int | float | bool | tuple[int, ...] | None
"""What a key can have."""


@dataclass(frozen=True)
class Key:
    """What is known of one key. `low` and `high` are inclusive; with `above`, `low` itself is excluded. They bind each item of a list."""

    doc: str
    choices: tuple[str, ...] = ()
    low: float = -math.inf
    high: float = math.inf
    above: bool = False
    meant: Mapping[str, str] = field(default_factory=dict)
    """Words that people type for one of the choices, with that choice."""
    example: str = ""
    """Overrides that set it to something else; empty where its choices, or true and false, give one."""
    types: tuple[Any, ...] = ()
    """The types that it takes, as annotations: a union's members, or the one."""

    @property
    def values(self) -> tuple[str, ...]:
        """The words that it takes, where it takes words: its choices, true and false, auto, null."""
        literals = [str(arg) for option in self.types if typing.get_origin(option) is Literal for arg in typing.get_args(option)]
        return (
            *self.choices,
            *(("true", "false") if bool in self.types else ()),
            *literals,
            *(("null",) if type(None) in self.types else ()),
        )

    @property
    def type_name(self) -> str:
        """`a number`, `a whole number or null`, ..."""
        return one_of([_type_name(option) for option in self.types])

    @property
    def range(self) -> str:
        """`at least 0 and at most 1`; empty where any value of its type is in range."""
        if self.low == -math.inf:
            return ""
        low, high = (str(bound) if isinstance(bound, int) else f"{bound:g}" for bound in (self.low, self.high))
        return f"{'above' if self.above else 'at least'} {low}" + (f" and at most {high}" if self.high < math.inf else "")


def key(doc: str, default: Any, **known: Any) -> Any:
    """A field that is a config key; `known` are fields of its `Key`."""
    return field(default=default, metadata={"key": Key(doc, **known)})


_hints = functools.cache(typing.get_type_hints)


@functools.cache
def keys_of(cls: Any) -> Mapping[str, Key]:
    """Every key of a config class by its dotted name, in the order of the fields."""
    hints, known = _hints(cls), {}
    for item in dataclasses.fields(cls):
        hint: Any = hints[item.name]
        if dataclasses.is_dataclass(hint):
            known.update({f"{item.name}.{name}": found for name, found in keys_of(typing.cast(Any, hint)).items()})
        else:
            options = typing.get_args(hint) if typing.get_origin(hint) in (Union, types.UnionType) else (hint,)
            known[item.name] = dataclasses.replace(item.metadata["key"], types=options)
    return types.MappingProxyType(known)


def leaves(config: Any, prefix: str = "") -> Iterator[tuple[str, Value]]:
    for item in dataclasses.fields(config):
        value = getattr(config, item.name)
        if dataclasses.is_dataclass(value):
            yield from leaves(value, f"{prefix}{item.name}.")
        else:
            yield prefix + item.name, value


def check_name(name: str, known: Mapping[str, Key]) -> None:
    """Raises UsageError with the key that was meant, or the nearest one, when `name` is none of the `known` ones."""
    if name in known:
        return
    inside = [full for full in known if full.startswith(f"{name}.")]
    if inside:
        raise UsageError(f"'{name}' is a group of keys; set one of them, for example {inside[0]}=...")
    raise UsageError(f"There is no config key '{short(name)}'.{name_hint(name, known)} `bnexp config` prints them all.")


def build(cls: Any, tree: Any, known: Mapping[str, Key], prefix: str = "") -> Any:
    """An instance of the config class `cls` from nested plain values and its defaults; UsageError for an unknown key or a wrong type."""
    if not isinstance(tree, Mapping):
        raise UsageError(f"{prefix.rstrip('.') or 'The config'} should be a group of keys, and is {show(tree)}.")
    hints, values = _hints(cls), {}
    for name, value in tree.items():
        if not isinstance(name, str):
            raise UsageError(
                f"{prefix.rstrip('.') or 'The config'} has the key {show(name)}, which is not text; keys are names such as seed."
            )
        full = f"{prefix}{name}"
        if name not in hints:
            if full in known:
                *path, last = name.split(".")
                nested = ": {".join([*path, last]) + f": {show(value)}" + "}" * len(path)
                raise UsageError(f"'{full}' is written with a dot; in a file it is nested, as in `{nested}`.")
            check_name(full, known)
        hint = hints[name]
        values[name] = build(hint, value, known, f"{full}.") if dataclasses.is_dataclass(hint) else _convert(full, value, known[full])
    return cls(**values)


def checked(name: str, value: Any, known: Key) -> Value:
    """`value` as the key's type and in its range; UsageError for any other."""
    found: Value = _convert(name, value, known)
    check_range(name, found, known)
    return found


def _convert(name: str, value: Any, known: Key) -> Any:
    """`value` as the key's type, or a UsageError that names the types it takes. An int passes for a float, a bool for neither."""
    for option in known.types:
        if option is type(None) and value is None:
            return None
        if typing.get_origin(option) is Literal and value in typing.get_args(option):
            return value
        if option is float and isinstance(value, (int, float)) and not isinstance(value, bool):
            return value if abs(value) > 1e300 else float(value)  # a whole number beyond floats: its range refuses it
        if option is int and isinstance(value, int) and not isinstance(value, bool):
            return value
        if option in (str, bool) and isinstance(value, option):
            return value
        if typing.get_origin(option) is tuple and isinstance(value, (list, tuple)):
            each = dataclasses.replace(known, types=typing.get_args(option)[:1])
            return tuple(_convert(name, item, each) for item in value)
        if option is str and name == "name" and isinstance(value, (int, float)) and not isinstance(value, bool):
            return _text(value)  # name=1 reads as a number
    if known.choices:
        raise _no_choice(name, value, known)
    raise UsageError(f"{name}={show(value)} is not {known.type_name}.")


def _no_choice(name: str, value: Any, known: Key) -> UsageError:
    """That the value is none of the key's choices, with the one that may have been meant."""
    text = _text(value)
    meant = known.meant.get(text.lower())
    hint = f" Did you mean '{meant}'?" if meant else did_you_mean(text, known.choices)
    return UsageError(f"{name}={show(value)} is not one of {one_of(known.choices)}.{hint}")


def _type_name(option: Any) -> str:
    if typing.get_origin(option) is Literal:
        return one_of([str(arg) for arg in typing.get_args(option)])
    if typing.get_origin(option) is tuple:
        return "a list of whole numbers, for example [16,32,64]"
    return {int: "a whole number", float: "a number", bool: "true or false", str: "text", type(None): "null"}[option]


def check_range(name: str, value: Any, known: Key) -> None:
    """Raises UsageError when `value` is none of the key's choices, or out of its range."""
    if known.choices and value not in known.choices:
        raise _no_choice(name, value, known)
    low, high = known.low, known.high
    for number in value if isinstance(value, tuple) else (value,):
        if not isinstance(number, (int, float)) or isinstance(number, bool):
            continue
        if not low <= number <= high or abs(number) == math.inf or (known.above and number == low):  # NaN is in no range
            raise UsageError(f"{name}={show(value)} is out of range: it must be {known.range}.")


def show(value: Any) -> str:
    """Any value as an override or YAML has it, in one line of bounded length."""
    return short(_text(value))


def _text(value: Any, depth: int = 0) -> str:
    if value is None or isinstance(value, bool):
        return {True: "true", False: "false", None: "null"}[value]
    if isinstance(value, int) and value.bit_length() > 4000:
        return hex(value)  # Python writes no more than 4300 decimal digits
    if isinstance(value, (list, tuple, Mapping)) and depth == 3:
        return "..."
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(_text(item, depth + 1) for item in value[:40]) + (",..." if len(value) > 40 else "") + "]"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_text(name, depth + 1)}: {_text(item, depth + 1)}" for name, item in list(value.items())[:40]) + "}"
    return str(value)
