"""A study's answer and tables as Markdown that GitHub shows."""

from __future__ import annotations

import re
from pathlib import Path

from bnexp.analysis import Study
from bnexp.base.files import atomic_write, make_folder
from bnexp.tables.marks import MARK
from bnexp.tables.study import tables, title
from bnexp.tables.table import LEFT, Table


def write_markdown(study: Study, name: str, out: Path) -> list[Path]:
    """Writes `study.md`: part by part the answer, the tables of `bnexp report`, and the notes."""
    lines = [f"# {escaped(study.title)}"]
    for part in study.parts:
        if len(study.parts) > 1 or part.setting:
            lines.append(f"## {escaped(title(part))}")
        lines += [escaped(sentence) for sentence in part.answer]
        lines += [as_markdown(table) for table in tables(part, study.kind) if table.rows]
        lines += [f"Note: {escaped(note)}" for note in part.notes]
    make_folder(out)
    path = out / "study.md"
    with atomic_write(path) as file:
        file.write(("\n\n".join(lines) + "\n").encode())
    return [path]


def as_markdown(table: Table) -> str:
    """A table as GitHub's Markdown has it, with its title above and its caption below; the best cells are bold."""
    rules = [":--" if name in LEFT else "--:" for name in table.columns]
    rows = [[_cell(text) for text in row] for row in table.rows]
    lines = [f"| {' | '.join(cells)} |" for cells in ([escaped(name) for name in table.columns], rules, *rows)]
    above, below = [f"**{escaped(table.title)}**\n"] * bool(table.title), [f"\n{escaped(table.caption)}"] * bool(table.caption)
    return "\n".join([*above, *lines, *below])


def _cell(text: str) -> str:
    if text.startswith(MARK):
        return f"**{escaped(text.removeprefix(MARK))}** \\{MARK}"
    return "&emsp;" * text.startswith(" ") + escaped(text)


def escaped(text: str) -> str:
    """Text in which Markdown finds no markup, in one line."""
    line = re.sub(r"\s+", " ", text.strip())
    return re.sub(r"^([-+#])(?=\s)", r"\\\1", re.sub(r"([\\`*_\[\]<>|~])", r"\\\1", line))
