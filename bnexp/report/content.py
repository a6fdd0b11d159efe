"""What a page is made of."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import chain, zip_longest

from bnexp.analysis import Audit
from bnexp.analysis.numbers import Number
from bnexp.plots import Picture
from bnexp.tables.table import Table


@dataclass(frozen=True)
class Section:
    """A heading, and what unfolds below it."""

    title: str
    text: tuple[str, ...] = ()
    pictures: tuple[Picture, ...] = ()
    tables: tuple[Table, ...] = ()


@dataclass(frozen=True)
class Shown:
    """A chapter, ready to be written."""

    title: str
    question: str
    answer: tuple[str, ...]
    data: str
    notes: tuple[str, ...]
    """What makes the answers weaker than they look."""
    sections: tuple[Section, ...]
    numbers: tuple[Number, ...] = ()
    hero: Picture | None = None
    """The figure that stands beside the answer."""
    audit: Audit | None = None

    @property
    def pictures(self) -> tuple[Picture, ...]:
        """All figures, the one beside the answer first."""
        return (*there([self.hero]), *(picture for section in self.sections for picture in section.pictures))

    def with_figures(self, most: int) -> Shown:
        """The chapter with so many figures besides that of the answer: the first of each section, then the second of each, and so on."""
        in_turn = chain.from_iterable(zip_longest(*(section.pictures for section in self.sections)))
        kept = list(there(in_turn))[:most]
        sections = (replace(section, pictures=tuple(p for p in section.pictures if p in kept)) for section in self.sections)
        return replace(self, sections=tuple(section for section in sections if section.pictures or section.tables or section.text))


def there(pictures: Iterable[Picture | None]) -> tuple[Picture, ...]:
    """The pictures that their data allow."""
    return tuple(picture for picture in pictures if picture is not None)


def fewer(chapters: Sequence[Shown], most: int) -> list[Shown]:
    """The chapters with at most so many figures in all, evenly."""
    each = max(0, most // max(1, len(chapters)) - 1)
    return [chapter.with_figures(each) for chapter in chapters]
