"""The comparisons and sweeps of a runs folder, one below the other."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.text import Text

from bnexp.storage.stored_studies import StoredStudy

STUDY = "{study.group.id}  {study.kind}, {study.runs} run{s}, {study.date:%Y-%m-%d %H:%M}"


def stored_studies_table(studies: Sequence[StoredStudy], option: str = "") -> RenderableType:
    """Each with its answer's first sentence and its page, or the line to type for what is missing; `option` is the line's --runs-dir."""
    shown: list[RenderableType] = []
    for study in studies:
        shown.append(Text(STUDY.format(study=study, s="s" * (study.runs != 1)), style="bold"))
        if study.answer:
            shown.append(Text(f"  {study.answer[0]}"))
        elif study.runs:
            shown.append(Text(f"  No answer is stored. Write: {study.command}", style="yellow"))
        else:
            shown.append(Text("  All its runs have been removed.", style="yellow"))
        if study.page.is_file():
            shown.append(Text(f"  {study.page}", style="dim"))
        elif study.runs:
            shown.append(Text(f"  It has no page yet. Write: bnexp report {study.group.id}{option}", style="yellow"))
    return Group(*shown)
