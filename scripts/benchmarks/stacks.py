"""Stacks: separate runs beside one stack of the width that the planner picks.

Milliseconds a run and step on one thread: real training steps (`train_step`), of one run for itself and of a stack, in turns. Where the
planner picks 1 the runs are separate anyway.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

from benchmarks.children import Worker, bnexp_worker, scratch
from benchmarks.group import SHAPES, Request, arm, budget, noise
from benchmarks.rows import BY_CONSTRUCTION, Row, Target, at_least, not_measured
from benchmarks.sides import Sides
from benchmarks.turns import NotMeasured

NAME, REPETITIONS = "stacks", 3
BATCHES, NORMS = (4, 32, 256), ("batch", "none")
ASKED = {("digits", 4): 2.2, ("digits", 32): 1.6}
ASKED_ELSE = 1.0
SECONDS = 0.6


def rows(request: Request) -> Iterator[Row]:
    with scratch() as folder, bnexp_worker(folder, threads=1) as own:
        for data, batch, norm in itertools.product(SHAPES, BATCHES, NORMS):
            yield _row(request, folder, own, data, batch, norm)


def picked_width(own: Worker, overrides: list[str]) -> int:
    """What the planner picks for this config on this machine."""
    return int(own.ask("benchmarks.library:picked_width", overrides=overrides))


def _row(request: Request, folder: Path, own: Worker, data: str, batch: int, norm: str) -> Row:
    target = at_least(ASKED.get((data, batch), ASKED_ELSE))
    name = f"{data}, batch {batch}, norm {norm}"
    source = [] if data == "digits" else noise(own, folder, 6_000, 200)
    overrides = [*source, *arm(norm, batch), "metrics=off", *budget(10**6)]
    try:
        width = picked_width(own, overrides)
    except NotMeasured as error:
        return not_measured(NAME, name, str(error), target)
    return compared(NAME, name, own, overrides, width, request.repetitions, target)


def compared(group: str, name: str, own: Worker, overrides: list[str], width: int, repetitions: int, target: Target | None) -> Row:
    """One run's steps beside those of a stack of `width`."""

    def ms(runs: int) -> float:
        return float(own.ask("benchmarks.library:step_ms", overrides=overrides, width=runs, seconds=SECONDS, threads=1)["ms"])

    sides = {"separate": lambda: ms(1)} | ({"stack": lambda: ms(width)} if width > 1 else {})
    taken = Sides.measure(group, sides, repetitions, warmup=0)  # each measurement has its own
    stack = "stack" if width > 1 else "separate"
    case, remark = (f"{name}: width {width}", "") if width > 1 else (f"{name}: width 1 (separate)", BY_CONSTRUCTION)
    return taken.row(case, "ms", {"separate": "separate", "stack": stack}, ("separate / stack", "separate", stack), target, remark=remark)
