"""What a page is made of."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from bnexp.analysis import Audit
from bnexp.plots import Picture
from bnexp.tables.table import Table


@dataclass(frozen=True)
class Section:
    """A heading with what stands below it."""

    title: str
    text: tuple[str, ...] = ()
    pictures: tuple[Picture, ...] = ()
    tables: tuple[Table, ...] = ()
    folded: bool = False
    """Shown when asked for."""


@dataclass(frozen=True)
class Shown:
    """A chapter, ready to be written."""

    title: str
    question: str
    answer: tuple[str, ...]
    answers: tuple[str, ...]
    """The tests behind the answer, where there are any."""
    notes: tuple[str, ...]
    """What makes the answers weaker than they look."""
    sections: tuple[Section, ...]
    audit: Audit | None = None


def there(pictures: Iterable[Picture | None]) -> tuple[Picture, ...]:
    """The pictures that their data allow."""
    return tuple(picture for picture in pictures if picture is not None)


def slug(text: str) -> str:
    """Letters, digits and underscores that a file name can have."""
    return "".join(letter if letter.isascii() and letter.isalnum() else "_" for letter in text).strip("_").lower()[:40]
