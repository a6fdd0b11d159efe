"""Sides that were measured in turns, and the rows that compare two of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.machine import Watch
from benchmarks.rows import Load, Row, Target, figure, measured, not_measured, ratio
from benchmarks.turns import take_turns


@dataclass(frozen=True)
class Sides:
    """What each side of a group gave, why some gave nothing, and the load meanwhile."""

    group: str
    found: Mapping[str, Sequence[Any]]
    failed: Mapping[str, str]
    load: Load

    @classmethod
    def measure(cls, group: str, sides: Mapping[str, Callable[[], Any]], repetitions: int, warmup: int = 1) -> Sides:
        watch = Watch()
        found, failed = take_turns(sides, repetitions, warmup)
        return cls(group, found, failed, watch.load)

    def row(
        self,
        name: str,
        unit: str,
        figures: Mapping[str, str],
        of: tuple[str, str, str],
        target: Target | None = None,
        *,
        value: Callable[[Any], float] = float,
        remark: str = "",
    ) -> Row:
        """A row with the ratio of two sides.

        Args:
            figures: the sides that are shown, by the names that the page gives them.
            of: the name of the ratio, the side above and the side below.
            value: the figure in what a side gave.
        """
        what, *sides = of
        if missing := [self.failed[side] for side in sides if side in self.failed]:
            return not_measured(self.group, name, missing[0], target)
        values = {side: [value(one) for one in self.found[side]] for side in {*sides, *figures.values()}}
        shown = [figure(label, unit, values[side]) for label, side in figures.items()]
        return measured(self.group, name, shown, ratio(what, *(values[side] for side in sides)), target, load=self.load, remark=remark)
