"""A study's parts as tables, for the terminal and for the page; and all that the terminal says of it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from rich.console import Group, RenderableType
from rich.table import Table as RichTable
from rich.text import Text

from bnexp.analysis import Audit, Part, Study
from bnexp.analysis.wording import count
from bnexp.config.fields import show
from bnexp.tables import compare, sweep
from bnexp.tables.table import Table

MAX_NOTES = 1
"""Notes that are shown without --verbose."""
SIGN = {True: ("ok", "green"), False: ("NO", "red"), None: ("?", "yellow")}
"""How a check of the audit came out."""


def tables(part: Part, kind: str) -> list[Table]:
    """The numbers that a part's answers rest on. A sweep over learning rates or norms shows all arms at the same rates; a comparison also
    shows each seed at its own."""
    if part.grid is not None:
        return [sweep.cells(part.grid, part.name)]
    if part.by_size:
        return [sweep.batch_sizes(part), *(sweep.small_batch_costs(cost) for cost in part.small_batches if cost.reference is not None)]
    if kind in ("sweep lr", "sweep norm"):
        return [compare.same_lr(part, choose=True), compare.targets(part)]
    several = part.comparison is not None and len(part.comparison.same_lr) > 1
    return [compare.headline(part), *([compare.same_lr(part)] if several else [])]


def brief(part: Part, kind: str) -> Table:
    """The one table that is shown without --verbose."""
    if part.grid is not None:
        return sweep.brief_cells(part.grid)
    if part.by_size:
        return sweep.brief_sizes([part])
    if kind in ("sweep lr", "sweep norm"):
        whole, width = compare.same_lr(part, choose=True), len(part.arms.labels) + 1
        return replace(whole, columns=whole.columns[:width], rows=tuple(row[:width] for row in whole.rows), caption="")
    return compare.headline(part, brief=True)


def study_summary(study: Study) -> RenderableType:
    """What a command says of its study without --verbose, on one screen: part by part the answer, its main numbers, whether the comparison
    is fair, and what weakens it. Budgets of a sweep over batch sizes share a table, and leave what holds under batch statistics out."""
    parts = study.parts[:1] if study.kind == "sweep grid" else study.parts
    budgets = len(parts) > 1 and all(part.by_size and not part.setting for part in parts)
    shown: list[RenderableType] = []
    for part in parts:
        if len(parts) > 1 or part.setting:
            shown.append(Text(title(part), style="bold underline"))
        if budgets:
            kept = [text for text, cost in zip(part.answer, part.small_batches, strict=True) if cost.stats == "running"]
            shown.append(Text("\n".join(kept), style="bold"))
        else:
            shown += [Text("\n".join(part.answer), style="bold"), Text(), brief(part, study.kind).rich(ruled=False)]
        if study.kind == "compare" and part.audit is not None:
            shown.append(Text(f"Fairness audit: {audit_word(part.audit)}"))
            shown += [Text(f"{check.name}: {check.detail}", style="red") for check in part.audit.checks if check.passed is False]
        most = MAX_NOTES if len(parts) == 1 else 0
        shown += notes(part.notes[:most])
        if len(part.notes) > most:
            shown.append(Text(f"{count(len(part.notes) - most, 'more note' if most else 'note')}.", style="yellow"))
        shown += [] if budgets else [Text()]
    if budgets:
        shown += [sweep.brief_sizes(parts).rich(ruled=False), Text()]
    return Group(*shown[:-1], Text("--verbose: every table, the tests behind the answer, the audit, all notes.", style="dim"))


def study_tables(study: Study) -> RenderableType:
    """Everything that a command says of its study on the terminal: part by part: answer, tables, the audit of a comparison, notes."""
    parts = study.parts[:1] if study.kind == "sweep grid" else study.parts
    shown: list[RenderableType] = []
    for part in parts:
        if len(parts) > 1 or part.setting:
            shown.append(Text(title(part), style="bold underline"))
        shown.append(Text("\n".join(part.answer), style="bold"))
        for table in tables(part, study.kind):
            shown += [Text(), table.rich()]
        if part.answers != part.answer:
            shown += [Text(), Text("The tests behind the answer", style="bold"), Text("\n".join(part.answers))]
        if study.kind == "compare" and part.audit is not None:
            shown += [Text(), audit_table(part.audit)]
        shown += [Text(), *notes(part.notes), Text()]
    return Group(*shown[:-1])


def title(part: Part) -> str:
    """`equal epochs (10 epochs), data.augment=true`: what tells a part from the others of its study."""
    texts = ["Every setting"] * (part.grid is not None) + [part.name] * bool(part.name)
    return ", ".join([*texts, *(f"{key}={show(value)}" for key, value in part.setting.items())])


def audit_word(audit: Audit) -> str:
    """`passed`, or how many checks failed or could not be made."""
    failed = sum(check.passed is False for check in audit.checks)
    unknown = sum(check.passed is None for check in audit.checks)
    return ", ".join([f"{failed} failed"] * bool(failed) + [f"{unknown} unknown"] * bool(unknown)) or "passed"


def audit_table(audit: Audit) -> RichTable:
    """The fairness audit, one check a row."""
    table = RichTable(
        title=Text(f"Fairness audit: {audit_word(audit)}", style="bold"),
        title_justify="left",
        show_header=False,
        box=None,
        padding=(0, 1, 0, 0),
    )
    table.add_column()
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for check in audit.checks:
        mark, style = SIGN[check.passed]
        table.add_row(Text(mark, style=style), Text(check.name), Text(check.detail))
    return table


def notes(texts: Iterable[str]) -> list[RenderableType]:
    """What makes the numbers weaker than they look."""
    return [Text(f"Note: {text}", style="yellow") for text in texts]
