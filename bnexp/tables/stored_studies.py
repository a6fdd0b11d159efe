"""The comparisons and sweeps of a runs folder, one below the other."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from bnexp.storage.stored_studies import StoredStudy

STUDY = "{study.group.id}  {study.kind}, {study.runs} run{s}, {study.date:%Y-%m-%d %H:%M}"


def stored_studies_table(studies: Sequence[StoredStudy], option: str = "") -> RenderableType:
    """Each with its answer's first sentence and its page, or the line to type for what is missing; `option` is the line's --runs-dir."""
    shown: list[RenderableType] = []
    for study in studies:
        shown.append(Text(STUDY.format(study=study, s="s" * (study.runs != 1)), style="bold"))
        below: list[Text] = []
        if study.answer:
            below.append(Text(study.answer[0]))
        elif study.runs:
            below.append(Text(f"No answer is stored yet. The same command again adds it: {study.command}", style="yellow"))
        else:
            below.append(Text("All its runs have been removed.", style="yellow"))
        if study.page.is_file():
            below.append(Text(str(study.page), style="dim"))
        elif study.runs:
            below.append(Text(f"It has no page yet. Write: bnexp report {study.group.id}{option}", style="yellow"))
        shown += [Padding(text, (0, 0, 0, 2), expand=False) for text in below]
    return Group(*shown)
