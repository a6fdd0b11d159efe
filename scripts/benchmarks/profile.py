"""Profile: what a training step's time goes into, operator by operator, beside the floor's.

Microseconds a step that `torch.profiler` counts as an operator's own, on one thread, metrics off. What bnexp has beyond the floor are the
rows that the floor has little of: the batch by index, its normalization, losses a run, right answers. The profiler's own cost, about a
microsecond a call, is in both.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from benchmarks.children import bnexp_worker, floor_worker, scratch
from benchmarks.group import FORMATS, SHAPES, Request, arm, budget, noise
from benchmarks.rows import Row, figure, measured, not_measured
from benchmarks.sides import Sides

NAME, REPETITIONS = "profile", 3
STEPS = 40
LISTED = 14
"""Operators that have rows of their own: those that take longest on either side."""
ALL, OTHERS = "all operators", "all others"


def rows(request: Request) -> Iterator[Row]:
    with scratch() as folder, floor_worker(folder, 1) as plain, bnexp_worker(folder, threads=1) as own:
        for data, batch in (("digits", 32), ("28x28", 64)):
            source = [] if data == "digits" else noise(own, folder, 6_000, 200)
            case = [*source, *arm("batch", batch), "metrics=off", *budget(10**6)]
            floor = {"shape": SHAPES[data], "batch": batch, "norm": "batch", "kind": FORMATS[1], "threads": 1}
            sides = {
                "bnexp": lambda case=case: own.ask("benchmarks.library:profile", overrides=case, steps=STEPS),
                "floor": lambda floor=floor: plain.ask("benchmarks.floor:profile", **floor, steps=STEPS),
            }
            taken = Sides.measure(NAME, sides, request.repetitions)
            name = f"{data}, batch {batch}, norm batch"
            if taken.failed:
                yield not_measured(NAME, name, "; ".join(taken.failed.values()))
            else:
                yield from _listed(name, taken)


def _listed(name: str, taken: Sides) -> Iterator[Row]:
    found, load = taken.found, taken.load

    def largest(operator: str) -> float:
        return max(once.get(operator, 0.0) for held in found.values() for once in held)

    operators = sorted({operator for held in found.values() for once in held for operator in once}, key=largest, reverse=True)
    both, of = {"bnexp": "bnexp", "floor": "floor"}, ("floor / bnexp", "floor", "bnexp")
    yield taken.row(f"{name}: {ALL}", "us", both, of, value=lambda once: sum(once.values()))
    for operator in operators[:LISTED]:
        of = {side: [once.get(operator, 0.0) for once in held] for side, held in found.items()}
        yield measured(NAME, f"{name}: {operator}", [figure(side, "us", values) for side, values in of.items()], load=load)
    rest = {side: [sum(once.get(one, 0.0) for one in operators[LISTED:]) for once in held] for side, held in found.items()}
    yield measured(NAME, f"{name}: {OTHERS}", [figure(side, "us", values) for side, values in rest.items()], load=load)


def operators(profiled: Any, steps: int) -> dict[str, float]:
    """Microseconds a step of each operator itself, from a finished `torch.profiler.profile`."""
    return {event.key: event.self_cpu_time_total / steps for event in profiled.key_averages() if event.self_cpu_time_total > 0}
