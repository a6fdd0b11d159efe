"""Precision: bf16 beside fp32, compiled steps, and the floor's memory formats.

Images a second that a run reports on 28x28 noise, with all cores. Accuracies are pairs of runs that differ in nothing but precision, seed
by seed; the interval is Student's, 95 %, of the mean difference in percentage points.
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from benchmarks.children import Worker, bnexp_worker, floor_worker, scratch
from benchmarks.group import FORMATS, SHAPES, Request, arm, budget, noise, trained_rate
from benchmarks.machine import Watch
from benchmarks.rows import MET, MISSED, Figure, Row, Target, figure, measured, not_measured
from benchmarks.sides import Sides
from benchmarks.turns import NotMeasured
from bnexp.base.hardware import cores

NAME, REPETITIONS = "precision", 3
FASTER = Target("about 2", least=1.9)
MARGIN = 0.5
EQUAL = Target(f"95 % interval within +-{MARGIN:g} points")
SEEDS, DIGITS_SEEDS = 5, 20
"""An image of the digits' test set is 0.28 points: five seeds leave an interval of half a point to either side."""
WITHOUT = "this CPU has no bf16 instructions, and ten epochs would take about an hour"
STEPS = 40


def rows(request: Request) -> Iterator[Row]:
    with scratch() as folder:
        with bnexp_worker(folder, cores()) as own:
            larger = noise(own, folder, 6_000, 200)
            for batch, norm in ((64, "batch"), (256, "batch"), (256, "none")):
                case = [*larger, *arm(norm, batch, cores())]
                yield _faster(request, own, f"28x28, batch {batch}, norm {norm}: bf16", case, "precision=bf16", "bf16 / fp32", FASTER)
            for name, case in (("digits, batch 32", arm("batch", 32)), ("28x28, batch 256", [*larger, *arm("batch", 256, cores())])):
                yield from _compiled(request, own, name, case)
            computes_bf16 = own.ask("benchmarks.library:computes_bf16")
            yield _accuracy(own, "digits, batch 32, 10 epochs", arm("batch", 32), DIGITS_SEEDS if computes_bf16 else SEEDS)
            name = "MNIST, batch 64, 1 epoch"
            if not computes_bf16:
                yield not_measured(NAME, f"{name}: test accuracy, bf16", WITHOUT, EQUAL)
            elif request.mnist:
                real = ["data=mnist", f"data.root={request.mnist}", "train.epochs=1"]
                yield _accuracy(own, name, [*real, *arm("batch", 64, cores())], SEEDS)
            else:
                yield not_measured(NAME, f"{name}: test accuracy, bf16", "it needs --mnist FOLDER", EQUAL)
        yield from _formats(request, folder)


def _faster(request: Request, own: Worker, name: str, case: list[str], change: str, what: str, target: Target | None) -> Row:
    taken = Sides.measure(NAME, {"without": trained_rate(own, *case), "with": trained_rate(own, *case, change)}, request.repetitions)
    return taken.row(name, "images/s", {"without": "without", "with": "with"}, (what, "with", "without"), target)


def _compiled(request: Request, own: Worker, name: str, case: list[str]) -> Iterator[Row]:
    if refused := own.ask("benchmarks.library:refused", overrides=[*case, "compile=true"]):
        yield not_measured(NAME, f"{name}: compile", refused.partition(";")[0])
        return
    overrides = [*case, "compile=true", "metrics=off", *budget(STEPS)]
    spent = {}
    for kind in ("cold", "warm"):  # PyTorch's compiler keeps what it made in a folder, which is new here
        spent[kind] = own.ask("benchmarks.library:train", overrides=overrides)["speed"]["compile_s"]
    figures = [figure(kind, "s", [seconds]) for kind, seconds in spent.items()]
    yield measured(NAME, f"{name}: compile, its warm-up", figures, remark="warm: the same again, in the same process")
    yield _faster(request, own, f"{name}: compile", case, "compile=true", "compiled / eager", None)


def _accuracy(own: Worker, name: str, case: list[str], seeds: int) -> Row:
    """Test accuracies in percent over the seeds, and their paired difference."""
    watch = Watch()
    found: dict[str, list[float]] = {"fp32": [], "bf16": []}
    try:
        for seed, kind in itertools.product(range(seeds), found):
            overrides = [*case, "metrics=off", f"precision={kind}", f"seed={seed}"]
            found[kind].append(100 * own.ask("benchmarks.library:train", overrides=overrides)["test"]["accuracy"])
    except NotMeasured as error:
        return not_measured(NAME, f"{name}: test accuracy, bf16", str(error), EQUAL)
    low, mean, high = interval([b - a for a, b in zip(found["fp32"], found["bf16"], strict=True)])
    result = Figure("bf16 - fp32", "points", mean, low, high, seeds)
    figures = [figure(kind, "%", values) for kind, values in found.items()]
    row = measured(NAME, f"{name}: test accuracy, bf16", figures, result, EQUAL, load=watch.load, remark="mean and its 95 % interval")
    return replace(row, verdict=MET if low >= -MARGIN and high <= MARGIN else MISSED)


def interval(values: list[float]) -> tuple[float, float, float]:
    """The mean of values between the ends of its 95 % interval (Student's t)."""
    from scipy import stats

    mean = statistics.mean(values)
    half = float(stats.t.ppf(0.975, len(values) - 1)) * statistics.stdev(values) / math.sqrt(len(values))
    return mean - half, mean, mean + half


def _formats(request: Request, folder: Path) -> Iterator[Row]:
    with floor_worker(folder, 1) as plain:
        for data, batch, norm in itertools.product(SHAPES, (4, 32, 256), ("batch", "none")):
            name = f"floor, {data}, batch {batch}, norm {norm}, 1 thread"

            def rate(kind: str, data: str = data, batch: int = batch, norm: str = norm) -> float:
                case = {"shape": SHAPES[data], "batch": batch, "norm": norm, "kind": kind, "threads": 1}
                return float(plain.ask("benchmarks.floor:rate", **case)["images_per_s"])

            taken = Sides.measure(NAME, {kind: (lambda kind=kind: rate(kind)) for kind in FORMATS}, request.repetitions)
            first, last = FORMATS
            yield taken.row(name, "images/s", {first: first, last: last}, (f"{last} / {first}", last, first))
