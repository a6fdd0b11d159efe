"""Runs of more settings than drawings could keep apart: a table with a run a setting."""

from __future__ import annotations

from collections.abc import Sequence

from bnexp.analysis import cells
from bnexp.analysis.sentences import count
from bnexp.config.fields import show
from bnexp.report.content import Section, Shown, Table
from bnexp.storage.result import STATS, RunResult
from bnexp.tables.text import mean_std, quartiles


def overview(runs: Sequence[RunResult], title: str = "") -> Shown:
    """What each setting scored over its seeds; the answer names the lowest validation loss, where the data are the same."""
    found = cells(runs)
    columns = (*(key.removeprefix("config.") for key in found.keys), "n", *(f"{stats} %" for stats in STATS), "val loss", "steps to target")
    table = []
    for one in found.cells:
        lost = [f"{one.failures.failed} failed"] * bool(one.failures.failed) + [f"{one.n_missing} missing"] * bool(one.n_missing)
        n = f"{one.n}" + (f" ({', '.join(lost)})" if lost else "")
        loss = "n/a" if one.val_loss.mean is None else f"{one.val_loss.mean:.4g}"
        values = ("" if value is None else show(value) for value in one.values)
        table.append((*values, n, *(mean_std(one.accuracy[stats]) for stats in STATS), loss, quartiles(one.steps)))
    caption = "Test accuracy in % ± standard deviation over seeds under three statistics; runs that diverged or ended at chance have none."
    known = [one for one in found.cells if one.n and one.val_loss.mean is not None]
    answer = "No run has a result yet."
    if known and not any(key.startswith("config.data.") for key in found.keys):
        best = min(known, key=lambda one: one.val_loss.mean if one.val_loss.mean is not None else float("inf"))
        setting = ", ".join(f"{key.removeprefix('config.')}={show(value)}" for key, value in zip(found.keys, best.values, strict=True))
        accuracy = f"test accuracy {mean_std(best.accuracy['running'])} %, n = {count(best.n, 'seed')}"
        answer = f"The lowest mean validation loss has {setting}: {best.val_loss.mean:.4g}, {accuracy}."
    elif known:
        answer = "They are on several data, and no one of them is the best."
    question = f"What does each of {count(len(found.cells), 'setting')} score?"
    note = "So many settings have a table and no drawings; name fewer runs for these."
    return Shown(title, question, (answer,), (note,), (Section("Every setting", table=Table(columns, tuple(table), caption)),))
