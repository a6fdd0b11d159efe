"""Metrics: what the presets cost, of a default run on digits and of an epoch of MNIST.

A run reports the seconds of its training and of its metrics, their logs included (`speed.metrics_s`, `speed.train_s`), on one thread; the
presets take turns. MNIST comes from `--mnist FOLDER`; without it random images of its size and number stand in, which cost the same.
Beside the cost stands images / (train_s + metrics_s) of the same runs, to the better floor of the group `steps`.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

from benchmarks.children import Worker, bnexp_worker, floor_worker, scratch
from benchmarks.group import FORMATS, SHAPES, Request, arm, noise
from benchmarks.rows import Row, at_least, at_most, figure, measured, not_measured, ratio
from benchmarks.sides import Sides

NAME, REPETITIONS = "metrics", 3
PRESETS, NORMS, BATCHES = ("light", "full"), ("batch", "none"), (32, 256)
COSTS = {("digits", "light"): 0.15, ("digits", "full"): 0.60, ("28x28", "light"): 0.03, ("28x28", "full"): 0.15}
"""The most that metrics may cost at batch 32."""
SPEED = at_least(0.90)
"""Of the floor, with light metrics on data of MNIST's size."""


def rows(request: Request) -> Iterator[Row]:
    with scratch() as folder, floor_worker(folder, 1) as plain, bnexp_worker(folder, threads=1) as own:
        larger = ["data=mnist", f"data.root={request.mnist}"] if request.mnist else noise(own, folder, 60_000, 10_000)
        data = {"digits": [], "28x28": [*larger, "train.epochs=1"]}
        for name, batch, norm in itertools.product(data, BATCHES, NORMS):
            if name == "digits" and batch != BATCHES[0]:
                continue
            case = [*data[name], *arm(norm, batch)]
            what = f"{name} (MNIST)" if request.mnist and name != "digits" else name
            yield from _case(request, plain, own, name, f"{what}, batch {batch}, norm {norm}", batch, norm, case)


def _case(request: Request, plain: Worker, own: Worker, data: str, name: str, batch: int, norm: str, overrides: list[str]) -> Iterator[Row]:
    def floor(kind: str) -> Callable[[], dict[str, Any]]:
        case = {"shape": SHAPES[data], "batch": batch, "norm": norm, "kind": kind, "threads": 1}
        return lambda: plain.ask("benchmarks.floor:rate", **case)

    def run(preset: str) -> Callable[[], dict[str, Any]]:
        return lambda: own.ask("benchmarks.library:train", overrides=[*overrides, f"metrics={preset}"])

    presets = PRESETS if batch == BATCHES[0] else PRESETS[:1]
    sides = {kind: floor(kind) for kind in FORMATS} | {preset: run(preset) for preset in presets}
    taken = Sides.measure(NAME, sides, request.repetitions, warmup=0 if data != "digits" else 1)
    found, failed, load = taken.found, taken.failed, taken.load
    for preset in presets:
        cost = COSTS.get((data, preset)) if batch == BATCHES[0] else None
        costs, speed = at_most(cost) if cost else None, SPEED if (data, preset) == ("28x28", "light") else None
        named = f"{name}, metrics {preset}"
        if why := failed.get(preset) or "; ".join(failed[kind] for kind in FORMATS if kind in failed):
            yield not_measured(NAME, f"{named}: cost", why, costs)
            yield not_measured(NAME, f"{named}: speed", why, speed)
            continue
        train, metrics = ([one["speed"][key] for one in found[preset]] for key in ("train_s", "metrics_s"))
        steps = found[preset][0]["steps"]
        figures = [figure("training", "s", train), figure("metrics", "s", metrics)]
        remark = f"{steps:,} steps"
        yield measured(NAME, f"{named}: cost", figures, ratio("metrics / training", metrics, train), costs, load=load, remark=remark)
        rates = [batch * steps / (a + b) for a, b in zip(train, metrics, strict=True)]
        floors = {kind: [one["images_per_s"] for one in found[kind]] for kind in FORMATS}
        best = max(floors.values(), key=lambda values: sorted(values)[len(values) // 2])
        figures = [figure("better floor", "images/s", best), figure("bnexp train", "images/s", rates)]
        yield measured(NAME, f"{named}: speed", figures, ratio("bnexp / better floor", rates, best), speed, load=load, remark=remark)
