"""What was measured: a row a case, with its figures, the ratio that is judged, its target and verdict."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

BY_CONSTRUCTION = "by construction"
"""The remark of a row that cannot miss."""
MET, MISSED, NO_TARGET, NOT_MEASURED = "met", "missed", "no target", "not measured"


@dataclass(frozen=True)
class Figure:
    """A value measured n times: its median, and the least and the largest."""

    name: str
    unit: str
    median: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class Target:
    """What a result shall reach at least, or be at most; `text` is how it was asked."""

    text: str
    least: float | None = None
    most: float | None = None

    def met_by(self, value: float) -> bool:
        return (self.least is None or value >= self.least) and (self.most is None or value <= self.most)


def at_least(value: float) -> Target:
    return Target(f">= {value:.2f}" if value < 1 else f">= {value:.1f}" if value < 10 else f">= {value:g}", least=value)


def at_most(value: float, unit: str = "") -> Target:
    return Target(f"<= {value:g}{unit and ' ' + unit}", most=value)


@dataclass(frozen=True)
class Load:
    """Of the machine: the load average before and after (this benchmark's own processes are in it), and the cores that others had
    meanwhile, the host of a virtual machine among them."""

    before: float
    after: float
    beside: float

    @property
    def noisy(self) -> bool:
        return self.beside > NOISY_CORES


NOISY_CORES = 0.2
"""Others' share of the processors, in cores, from which a row is called noisy."""


@dataclass(frozen=True)
class Row:
    """One case of a group. `result` is what `target` is about: mostly a ratio, whose name says of what to what."""

    group: str
    name: str
    figures: tuple[Figure, ...]
    result: Figure | None = None
    target: str | None = None
    verdict: str = NO_TARGET
    remark: str = ""
    """Of a row that was not measured: why. Else what a reader should know."""
    load: Load | None = None

    @property
    def noisy(self) -> bool:
        return self.load is not None and self.load.noisy


def figure(name: str, unit: str, values: Sequence[float]) -> Figure:
    return Figure(name, unit, statistics.median(values), min(values), max(values), len(values))


def ratio(name: str, above: Sequence[float], below: Sequence[float]) -> Figure:
    """The median of the ratios of what was measured next to each other, pair by pair."""
    return figure(name, "", [a / b for a, b in zip(above, below, strict=True)])


def measured(
    group: str,
    name: str,
    figures: Sequence[Figure],
    result: Figure | None = None,
    target: Target | None = None,
    *,
    load: Load | None = None,
    remark: str = "",
) -> Row:
    verdict = NO_TARGET if target is None or result is None else MET if target.met_by(result.median) else MISSED
    return Row(group, name, tuple(figures), result, target.text if target else None, verdict, remark, load)


def not_measured(group: str, name: str, why: str, target: Target | None = None) -> Row:
    return Row(group, name, (), None, target.text if target else None, NOT_MEASURED, why)


def row_of(tree: Mapping[str, Any]) -> Row:
    """The row that `dataclasses.asdict` gave.

    Raises:
        TypeError, KeyError: it is none.
    """
    figures = tuple(Figure(**one) for one in tree["figures"])
    result, load = tree["result"], tree["load"]
    return Row(**{**tree, "figures": figures, "result": result and Figure(**result), "load": load and Load(**load)})
