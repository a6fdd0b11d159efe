"""Results as notebooks show them: the same objects, with the HTML that Jupyter and others ask for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from html import escape
from typing import Self

from bnexp.analysis.part import Study
from bnexp.analysis.wording import label
from bnexp.storage.result import RunResult
from bnexp.tables.study import brief, title
from bnexp.tables.table import LEFT, Table
from bnexp.tables.text import count, number, percent

PARTS = 4
"""Parts of a study that are shown; more are counted."""
COLUMNS = ("run", "status", "network", "learning rate", "batch", "test accuracy", "validation accuracy", "steps to target", "training")


class ShownResult(RunResult, frozen=True):
    """A run's result, as a small table."""

    @classmethod
    def of(cls, result: RunResult) -> Self:
        return cls(*(getattr(result, name) for name in result.__struct_fields__))

    def __repr__(self) -> str:
        """What it scored; the fields are those of summary.json."""
        return f"<{', '.join(f'{name} {cell}' for name, cell in zip(COLUMNS, _row(self), strict=True))}>"

    def _repr_html_(self) -> str:
        return _html(Table(("", self.id), tuple(zip(COLUMNS[1:], _row(self)[1:], strict=True))))


class ShownResults(list[RunResult]):
    """Results of several seeds, as a table with a row each."""

    def _repr_html_(self) -> str:
        return _html(Table(COLUMNS, tuple(map(_row, self))))


@dataclass(frozen=True, repr=False)
class ShownStudy(Study):
    """A study, as its short answer and a table."""

    @classmethod
    def of(cls, study: Study) -> Self:
        return cls(**{field.name: getattr(study, field.name) for field in fields(study)})

    def __repr__(self) -> str:
        """The short answers; all fields of all runs would be megabytes, which IPython stores in a notebook beside the HTML."""
        return "\n".join([self.title, *(sentence for part in self.parts for sentence in part.answer)])

    def _repr_html_(self) -> str:
        texts = [f"<p>{escape(self.title)}</p>"]
        for part in self.parts[:PARTS]:
            if len(self.parts) > 1 or part.setting:
                texts.append(f"<p><em>{escape(title(part))}</em></p>")
            texts += [f"<p><strong>{'<br>'.join(map(escape, part.answer))}</strong></p>", _html(brief(part, self.kind))]
        if len(self.parts) > PARTS:
            texts.append(f"<p>and {len(self.parts) - PARTS} more parts</p>")
        return "\n".join(texts)


def _row(result: RunResult) -> tuple[str, ...]:
    """The cells of `COLUMNS`."""
    at = f" at step {result.diverged_at_step:,}" if result.diverged_at_step is not None else ""
    step, seconds = result.target.reached_step, result.speed.train_s
    return (
        result.id,
        result.status + at,
        label(result.norm),
        f"{result.lr:g}",
        str(result.batch_size),
        percent(result.test.running.accuracy),
        percent(result.val.accuracy),
        "not reached" if step is None else count(step),
        "n/a" if seconds is None else f"{number(seconds)} s",
    )


def _html(table: Table) -> str:
    """A table of a study, or of runs; colours and fonts are the notebook's."""
    align = ["left" if name in LEFT else "right" for name in table.columns]

    def row(cells: Sequence[str], tag: str) -> str:
        return "".join(f'<{tag} style="text-align: {side}">{escape(cell)}</{tag}>' for cell, side in zip(cells, align, strict=True))

    body = "".join(f"<tr>{row(cells, 'td')}</tr>" for cells in table.rows)
    caption = f"<p><small>{escape(table.caption)}</small></p>" if table.caption else ""
    return f"<table><thead><tr>{row(table.columns, 'th')}</tr></thead><tbody>{body}</tbody></table>{caption}"
