"""Which runs belong together on a page, and what their arms are.

A chapter has one data set, one budget and one setting but for the arms, the learning rates, the batch sizes and the seeds. What differs in
the network or the optimizer makes arms; what differs in the data, the budget or the precision makes chapters, because nothing there can be
compared.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bnexp.analysis import NORM, ArmOf, Arms
from bnexp.analysis.comparable import label
from bnexp.analysis.grouping import varying
from bnexp.base.errors import UsageError
from bnexp.config.fields import show
from bnexp.norms import NO_NORM
from bnexp.plots import MAX_ARMS
from bnexp.storage.result import RunResult

MAX_CHAPTERS = 12
"""More make a page that nobody reads: `overview` has a table instead."""
CHAPTER_KEYS = ("config.data.", "config.precision", "config.train.")
"""Keys (and beginnings of keys) that make chapters; the batch size is an axis instead."""
BATCH_SIZE = "config.train.batch_size"


@dataclass(frozen=True)
class Chapter:
    """Runs to be shown together: at least one, results or not."""

    title: str
    runs: tuple[RunResult, ...]
    arms: tuple[str, ...]
    """In the order of the drawings; the baseline is last."""
    baseline: str
    arm_of: ArmOf
    treatment: tuple[str, ...]

    @property
    def batch_sizes(self) -> list[int]:
        return sorted({run.batch_size for run in self.runs})

    @property
    def data(self) -> str:
        return self.runs[0].config.data.name


def chapters(parts: Mapping[str, Sequence[RunResult]], arms: Arms | None = None) -> list[Chapter]:
    """The chapters of the runs, part by part (a part is a sweep's budget; its runs may stand in several). `arms`: those of a comparison
    whose runs all belong together.

    Raises:
        UsageError: there are no runs.
    """
    found = []
    for part, runs in parts.items():
        if arms is not None and runs:
            found.append(_chapter(part if len(parts) > 1 else "", runs, arms.treatment, arms))
        elif runs:
            found += _split(part if len(parts) > 1 else "", runs)
    if not found:
        raise UsageError("None of these runs can be read: there is nothing to report.")
    return found


def _split(part: str, runs: Sequence[RunResult]) -> list[Chapter]:
    keys = [key for key in varying(runs, (*NORM, BATCH_SIZE)) if not key.startswith("config.metrics.")]
    if part:  # its runs have one budget, in the words of epochs or of steps
        keys = [key for key in keys if key not in ("config.train.epochs", "config.train.steps")]
    apart = tuple(key for key in keys if key.startswith(CHAPTER_KEYS))
    treatment = tuple(key for key in keys if key not in apart)
    if len({label(run, (*NORM, *treatment)) for run in runs}) > MAX_ARMS:  # too many for one drawing
        apart, treatment = (*apart, *treatment), ()
    groups: dict[tuple[Any, ...], list[RunResult]] = {}
    for run in runs:
        groups.setdefault(tuple(run.setting(key) for key in apart), []).append(run)
    titles = [", ".join([*([part] if part else []), *_said(values, apart)]) for values in groups]
    return [_chapter(title, own, (*NORM, *treatment), None) for title, own in zip(titles, groups.values(), strict=True)]


def _baseline(labels: Sequence[str], runs: Sequence[RunResult], arm_of: ArmOf) -> str:
    """The arm without a norm, else with batch norm, else the first: of those with results, where any has."""
    norms = {name: {run.norm for run in runs if arm_of(run) == name and run.is_result} for name in labels}
    for norm in (NO_NORM, "batch"):
        if found := [name for name in labels if norm in norms[name]]:
            return found[0]
    return next((name for name in labels if norms[name]), labels[0])


def _said(values: Sequence[Any], keys: Sequence[str]) -> list[str]:
    return [f"{key.removeprefix('config.')}={show(value)}" for value, key in zip(values, keys, strict=True) if value is not None]


def _chapter(title: str, runs: Sequence[RunResult], treatment: Sequence[str], arms: Arms | None) -> Chapter:
    here = varying(runs) if arms is None else treatment
    own = arms or Arms(tuple(key for key in treatment if key in NORM or key in here), (), "")
    labels = sorted({own.arm_of(run) for run in runs})
    baseline = own.baseline if own.baseline in labels else _baseline(labels, runs, own.arm_of)
    ordered = [*(name for name in labels if name != baseline), baseline]
    return Chapter(title, tuple(runs), tuple(ordered), baseline, own.arm_of, own.treatment)
