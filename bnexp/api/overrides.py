"""Config values as Python writes them, to overrides as the command line has them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Integral, Real
from pathlib import Path

from bnexp.base.errors import UsageError, short
from bnexp.base.quoting import quoted

One = str | float | bool | Path | None
Value = One | Sequence[One] | range
"""A value of a key: a list is one value (`model__widths=[16, 32]`); a tuple or a range is several (`optim__lr=(0.1, 0.3)`)."""


def overrides_of(texts: Sequence[str], values: Mapping[str, Value]) -> list[str]:
    """The overrides, first those that are texts (`"optim.lr=0.3"`), then the keywords, in which two underscores stand for the dot of a key
    (`optim__lr=0.3`). A text value is read as on the command line: `optim__lr="0.1,0.3"` is two values.

    Raises:
        UsageError: an override is not a text, or a value is of a kind that no key has.
    """
    for text in texts:
        if not isinstance(text, str):
            raise UsageError(f"{short(repr(text))} is not an override; write 'optim.lr=0.3', or the keyword optim__lr=0.3.")
    return [*texts, *(f"{name.replace('__', '.')}={_written(name, value)}" for name, value in values.items())]


def _written(name: str, value: object) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return str(value).lower()
        case Integral():  # NumPy's numbers are Integral or Real, too
            return str(int(value))
        case Real():
            return repr(float(value))
        case str():
            return value
        case Path():
            return quoted(str(value))
        case list():
            return f"[{','.join(_written(name, one) for one in value)}]"
        case tuple() | range() if value:
            return ",".join(_written(name, one) for one in value)
        case _:
            kinds = f"a number, a text, a list, or several values as a tuple: {short(name)}=(0.1, 0.3)"
            raise UsageError(f"{short(name)}={short(repr(value))} is not a value of a key; give {kinds}.")
