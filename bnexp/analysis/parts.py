"""Which runs of a study belong together, and what their arms are.

A part has one data set, one budget and one setting but for the arms, the learning rates, the batch sizes and the seeds. A sweep compares
norms, and every other key that it varies makes parts. Of runs that were not trained by one command, what differs in the
network or the optimizer makes arms; what differs in the data, the budget or the precision makes parts, because nothing there can be
compared.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from bnexp.analysis.arms import Arms, arm_label
from bnexp.analysis.grouping import BUDGET, NORM, ArmOf, varying
from bnexp.analysis.part import Part
from bnexp.config import KEYS
from bnexp.norms import NO_NORM
from bnexp.storage.result import RunResult

Setting = tuple[Any, ...]
MAX_ARMS = 8
"""Arms that one drawing keeps apart by colour."""
APART = ("config.data.", "config.precision", "config.train.")
"""Keys (and beginnings of keys) in which runs cannot be compared; the batch size is an axis instead."""
METRICS = tuple(f"config.{key}" for key in KEYS if key.startswith("metrics."))
BATCH_SIZE = "config.train.batch_size"
SWEPT: Mapping[str, tuple[str, ...]] = {"sweep batch-size": (BATCH_SIZE, *BUDGET), "sweep lr": (), "sweep norm": ()}
"""The keys that a named sweep varies beside norms, learning rates and seeds. Batch sizes have one budget, in epochs or in steps."""


def split(kind: str, parts: Mapping[str, Sequence[RunResult]], arms: Arms | None = None) -> list[Part]:
    """The parts of a study of this kind, not analysed yet, from the runs of each budget that was asked for (a run may stand in several).

    Args:
        arms: those of a comparison, whose runs all belong together.
    """
    found: list[Part] = []
    for name, runs in parts.items():
        if arms is not None and runs:
            found.append(_part(name, {}, runs, arms.treatment, arms))
        elif runs:
            found += _by_setting(name, runs, SWEPT[kind]) if kind in SWEPT else _comparable(name, runs, several=len(parts) > 1)
    return found


def _by_setting(name: str, runs: Sequence[RunResult], swept: Sequence[str]) -> Iterator[Part]:
    """One part a setting of the keys that are not swept. A run that does not read a key stands in each setting of those that do and that
    agree with it in all that it reads."""
    keys = [*varying(runs, (*NORM, *swept)), *(key for key in METRICS if len({run.setting(key) for run in runs}) > 1)]
    settings = {tuple(run.setting(key) for key in keys): {key for key in keys if run.reads(key)} for run in runs}

    def within(values: Setting, larger: Setting) -> bool:
        return all(value == other for key, value, other in zip(keys, values, larger, strict=True) if key in settings[values])

    for values, read in settings.items():
        if not any(read < settings[other] and within(values, other) for other in settings):
            own = [run for run in runs if within(tuple(run.setting(key) for key in keys), values)]
            yield _part(name, dict(zip(keys, values, strict=True)), own, NORM)


def _comparable(name: str, runs: Sequence[RunResult], *, several: bool) -> Iterator[Part]:
    keys = [key for key in varying(runs, (*NORM, BATCH_SIZE)) if not (several and key in BUDGET)]
    apart = tuple(key for key in keys if key.startswith(APART))
    treatment = tuple(key for key in keys if key not in apart)
    if len({arm_label(run, (*NORM, *treatment)) for run in runs}) > MAX_ARMS:
        apart, treatment = (*apart, *treatment), ()
    groups: dict[tuple[Any, ...], list[RunResult]] = {}
    for run in runs:
        groups.setdefault(tuple(run.setting(key) for key in apart), []).append(run)
    for values, own in groups.items():
        here = varying(own)
        yield _part(name, dict(zip(apart, values, strict=True)), own, tuple(key for key in (*NORM, *treatment) if key in (*NORM, *here)))


def _part(name: str, setting: Mapping[str, Any], runs: Sequence[RunResult], treatment: Sequence[str], arms: Arms | None = None) -> Part:
    own = arms or Arms(tuple(treatment), (), "")
    labels = sorted({own.arm_of(run) for run in runs})
    baseline = own.baseline if own.baseline in labels else _baseline(labels, runs, own.arm_of)
    ordered = (*(label for label in labels if label != baseline), baseline)
    said = {key.removeprefix("config."): value for key, value in setting.items() if value is not None}
    return Part(name, said, Arms(own.treatment, ordered, baseline), tuple(runs))


def _baseline(labels: Sequence[str], runs: Sequence[RunResult], arm_of: ArmOf) -> str:
    """The arm without a norm, else with batch norm, else the first: of those with results, where any has."""
    norms = {label: {run.norm for run in runs if arm_of(run) == label and run.is_result} for label in labels}
    for norm in (NO_NORM, "batch"):
        if found := [label for label in labels if norm in norms[label]]:
            return found[0]
    return next((label for label in labels if norms[label]), labels[0])
