"""The page: pictures to files, chapters through the template, all of it in one HTML file that loads nothing from elsewhere."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bnexp import __version__
from bnexp.base.files import atomic_write, make_folder, open_plain
from bnexp.plots import Picture
from bnexp.report.content import Shown
from bnexp.report.glossary import GLOSSARY
from bnexp.tables.study import audit_word
from bnexp.tables.table import Table

MARK = {True: ("ok", "passed"), False: ("NO", "failed"), None: ("?", "unknown")}


@dataclass(frozen=True)
class Page:
    """Everything that a report says."""

    title: str
    chapters: Sequence[Shown]
    commands: Sequence[str]
    config: Table | None
    environment: Table | None
    command: str
    """The one whose study it is."""
    unreadable: Sequence[str] = ()
    """Runs that are left out."""
    damaged: Sequence[str] = ()
    """Runs whose curves are not what they wrote."""
    left_out: int = 0
    """Figures that were not asked for."""


@dataclass(frozen=True)
class Slide:
    """A figure with its drawing as a page's element; or words alone."""

    title: str
    texts: Sequence[str] = ()
    picture: Picture | None = None
    drawing: str = ""


def write(page: Page, folder: Path) -> Path:
    """Writes `index.html` and `figures/<name>.{svg,png}` into the folder, and gives the page's path.

    The figures of an earlier report that this one does not have are removed, those of others (files that are no figure's) are left.
    """
    pictures = [picture for chapter in page.chapters for picture in chapter.pictures]
    figures = folder / "figures"
    make_folder(figures)
    drawings = {picture.name: picture.save(figures) for picture in pictures}
    _forget(figures, pictures)
    return _render(
        "template.html", folder / "index.html", page=page, drawings=drawings, mark=MARK, audit_word=audit_word, glossary=GLOSSARY
    )


def write_slides(page: Page, folder: Path) -> Path:
    """Writes `slides.html` into the folder, and gives its path: the answers, and each figure, one to a slide."""
    slides = []
    for chapter in page.chapters:
        slides.append(Slide(chapter.title or page.title, chapter.answer))
        slides += [Slide(picture.title, (), picture, picture.for_projector()) for picture in chapter.pictures]
    make_folder(folder)
    return _render("slides.html", folder / "slides.html", page=page, slides=slides)


def _render(template: str, path: Path, **values: object) -> Path:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("bnexp.report", ""), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    text = environment.get_template(template).render(**values, version=__version__, written=time.strftime("%Y-%m-%d %H:%M"))
    with atomic_write(path) as file:
        file.write(text.encode())
    return path


MAX_LIST = 2**20
LIST = "figures.txt"
"""In `figures/`: the names of the report's own pictures."""


def _forget(figures: Path, pictures: Sequence[Picture]) -> None:
    """Removes the pictures that an earlier report listed and this one has not."""
    names = {picture.name for picture in pictures}
    try:
        with open_plain(figures / LIST, MAX_LIST) as file:
            before = file.read().decode(errors="replace").split()
    except OSError:
        before = []
    for name in before:
        if name not in names and Path(name).name == name:
            for end in ("svg", "png"):
                (figures / f"{name}.{end}").unlink(missing_ok=True)
    with atomic_write(figures / LIST) as file:
        file.write("".join(f"{name}\n" for name in sorted(names)).encode())
