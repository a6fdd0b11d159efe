"""Two runs side by side: what they differ in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from bnexp.config import KEYS
from bnexp.config.fields import show
from bnexp.tables.table import Table

Pairs = Mapping[str, tuple[Any, ...]]
"""Keys, each with the value of the first run and that of the second."""
MAIN = (
    *("status", "steps", "diverged_at_step", "parameters", "test.running.accuracy", "test.precise.accuracy", "test.batch.accuracy"),
    *("train.accuracy", "val.accuracy", "val.loss", "target.reached_step", "speed.step_ms_median"),
)
"""The results that are shown without --verbose."""


def differences_table(ids: Sequence[str], config: Pairs, results: Pairs, verbose: bool) -> RenderableType:
    """The config keys and the results that differ, and how many are the same, or are left out."""
    shown = {key: pair for key, pair in results.items() if verbose or key in MAIN}
    same = len(KEYS) - 1 - len(config)  # without the name, which follows from the other keys, or is chosen freely
    parts: list[RenderableType] = [Text(f"{letter}: {name}", style="bold") for letter, name in zip("AB", ids, strict=True)]
    if config:
        parts.append(_table("config", config, "null").rich(ruled=False))
    parts.append(Text(f"The other {same} config keys are the same." if config else "All config keys are the same.", style="dim"))
    if shown:
        parts.append(_table("result", shown, "n/a").rich(ruled=False))
    elif not results:
        parts.append(Text("So are the results." if not config else "The results are the same.", style="dim"))
    if len(shown) < len(results):
        parts.append(Text(f"--verbose: {len(results) - len(shown)} more keys of the results, the times and the environment.", style="dim"))
    return Group(*parts)


def _table(name: str, pairs: Pairs, missing: str) -> Table:
    return Table(("", "A", "B"), tuple((key, *_cells(pair, missing)) for key, pair in pairs.items()), title=name)


def _cells(pair: tuple[Any, ...], missing: str) -> list[str]:
    """Numbers with as few digits as tell them apart."""
    for digits in (4, 6, 9, 17):
        texts = [f"{value:.{digits}g}" if isinstance(value, float) else missing if value is None else show(value) for value in pair]
        if len(set(texts)) > 1:
            break
    return texts
