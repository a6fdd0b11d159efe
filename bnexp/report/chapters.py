"""Which runs belong together on a page, and what their arms are.

A chapter has one data set, one budget and one setting but for the arms, the learning rates, the batch sizes and the seeds. What differs in
the network or the optimizer makes arms; what differs in the data, the budget or the precision makes chapters, because nothing there can be
compared.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bnexp.analysis import NORM, ArmOf, Arms, Row
from bnexp.analysis.comparable import label
from bnexp.analysis.rows import batch_size_of, is_result, lr_of, norm_of, seed_of, setting, varying
from bnexp.base.errors import UsageError
from bnexp.config.fields import show
from bnexp.norms import NO_NORM
from bnexp.plots import MAX_ARMS

MAX_CHAPTERS = 12
"""More make a page that nobody reads: `overview` has a table instead."""
CHAPTER_KEYS = ("config.data.", "config.precision", "config.train.")
"""Keys (and beginnings of keys) that make chapters; the batch size is an axis instead."""
LARGEST = 2**63
BATCH_SIZE = "config.train.batch_size"


@dataclass(frozen=True)
class Chapter:
    """Runs to be shown together: at least one, results or not."""

    title: str
    rows: tuple[Row, ...]
    arms: tuple[str, ...]
    """In the order of the drawings; the baseline is last."""
    baseline: str
    arm_of: ArmOf
    treatment: tuple[str, ...]

    @property
    def batch_sizes(self) -> list[int]:
        return sorted({batch_size_of(row) for row in self.rows})

    @property
    def data(self) -> str:
        return str(self.rows[0]["config.data.name"])


def chapters(parts: Mapping[str, Sequence[Row]], arms: Arms | None = None) -> list[Chapter]:
    """The chapters of the runs, part by part (a part is a sweep's budget; its runs may stand in several). `arms`: those of a comparison
    whose runs all belong together.

    Raises:
        UsageError: there are no readable runs.
    """
    found = []
    for part, rows in parts.items():
        known = [row for row in rows if readable(row)]
        if arms is not None:
            found.append(_chapter(part if len(parts) > 1 else "", known, arms.treatment, arms))
        else:
            found += _split(part if len(parts) > 1 else "", known)
    if not found:
        raise UsageError("None of these runs can be read: there is nothing to report.")
    return found


def readable(row: Row) -> bool:
    """Whether a row says which run it is: its summary could be read, and has what every chapter asks for."""
    try:
        numbers = (0 <= seed_of(row) < LARGEST, 0 < lr_of(row) < math.inf, 0 < batch_size_of(row) < LARGEST)
        whole = (value for key, value in row.items() if isinstance(value, int) and not isinstance(value, bool))
        shares = (value for key, value in row.items() if key.endswith(".accuracy") and isinstance(value, (int, float)))
        reached = row.get("target.reached_step")
        texts = (row["config.model.norm"], row["config.data.name"], row["status"])
        return (
            all(numbers)
            and all(abs(value) < LARGEST for value in whole)
            and all(0 <= share <= 1 for share in shares)
            and (reached is None or reached > 0)
            and all(isinstance(text, str) for text in texts)
        )
    except (KeyError, TypeError, ValueError, OverflowError):
        return False


def _split(part: str, rows: Sequence[Row]) -> list[Chapter]:
    if not rows:
        return []
    keys = [key for key in varying(rows, (*NORM, BATCH_SIZE)) if not key.startswith("config.metrics.")]
    if part:  # its runs have one budget, in the words of epochs or of steps
        keys = [key for key in keys if key not in ("config.train.epochs", "config.train.steps")]
    apart = tuple(key for key in keys if key.startswith(CHAPTER_KEYS))
    treatment = tuple(key for key in keys if key not in apart)
    if len({label(row, (*NORM, *treatment)) for row in rows}) > MAX_ARMS:  # too many for one drawing
        apart, treatment = (*apart, *treatment), ()
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(setting(row, key) for key in apart), []).append(row)
    titles = [", ".join([*([part] if part else []), *_said(values, apart)]) for values in groups]
    return [_chapter(title, own, (*NORM, *treatment), None) for title, own in zip(titles, groups.values(), strict=True)]


def _baseline(labels: Sequence[str], rows: Sequence[Row], arm_of: ArmOf) -> str:
    """The arm without a norm, else with batch norm, else the first: of those with results, where any has."""
    norms = {name: {norm_of(row) for row in rows if arm_of(row) == name and is_result(row)} for name in labels}
    for norm in (NO_NORM, "batch"):
        if found := [name for name in labels if norm in norms[name]]:
            return found[0]
    return next((name for name in labels if norms[name]), labels[0])


def _said(values: Sequence[Any], keys: Sequence[str]) -> list[str]:
    return [f"{key.removeprefix('config.')}={show(value)}" for value, key in zip(values, keys, strict=True) if value is not None]


def _chapter(title: str, rows: Sequence[Row], treatment: Sequence[str], arms: Arms | None) -> Chapter:
    here = varying(rows) if arms is None else treatment
    own = arms or Arms(tuple(key for key in treatment if key in NORM or key in here), (), "")
    labels = sorted({own.arm_of(row) for row in rows})
    baseline = own.baseline if own.baseline in labels else _baseline(labels, rows, own.arm_of)
    ordered = [*(name for name in labels if name != baseline), baseline]
    return Chapter(title, tuple(rows), tuple(ordered), baseline, own.arm_of, own.treatment)
