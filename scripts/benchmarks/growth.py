"""Growth: what becomes of the time as there is more to do.

Runs and workers: seconds of a whole `bnexp sweep` of short runs (digits, batch 32, metrics off) a run. Batch, width and data: images a
second that a run reports, on one thread. A result is to the first of its series.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from benchmarks.children import bnexp, bnexp_worker, scratch
from benchmarks.group import Request, arm, budget, noise, trained_rate
from benchmarks.rows import Row
from benchmarks.sides import Sides
from bnexp.base.hardware import cores

NAME, REPETITIONS = "growth", 1
RUNS, RUN_STEPS = (1, 4, 16, 64, 256), 20
WORKERS, WORKER_RUNS, WORKER_STEPS = (1, 2), 16, 80
BATCHES = (4, 16, 64, 256, 1024)
WIDTHS = {"[8,16,32]": 0.5, "[16,32,64]": 1, "[32,64,128]": 2, "[64,128,256]": 4}
IMAGES = (1_000, 10_000, 60_000)


def rows(request: Request) -> Iterator[Row]:
    with scratch() as folder:

        def sweep(runs: int, steps: int, workers: int) -> Callable[[], float]:
            case = [f"seed=range({runs})", "metrics=off", "device=cpu", f"train.eval_every={steps}", *budget(steps)]
            return lambda: bnexp(folder, "sweep", "grid", *case, "--workers", workers, "--fresh", "--quiet").seconds / runs

        runs = {f"{count} run{'s' * (count > 1)}": sweep(count, RUN_STEPS, cores()) for count in RUNS}
        yield from _series(request, f"runs of {RUN_STEPS} steps, {cores()} workers", "s a run", runs)
        workers = {f"{count} worker{'s' * (count > 1)}": sweep(WORKER_RUNS, WORKER_STEPS, count) for count in WORKERS}
        yield from _series(request, f"workers: {WORKER_RUNS} runs of {WORKER_STEPS} steps", "s a run", workers)
        with bnexp_worker(folder, threads=1) as own:
            batches = {f"batch {batch}": trained_rate(own, *arm("batch", batch)) for batch in BATCHES}
            yield from _series(request, "batch size, digits", "images/s", batches)
            widths = {f"widths {widths}": trained_rate(own, *arm("batch", 32), f"model.widths={widths}") for widths in WIDTHS}
            yield from _series(request, "width, digits, batch 32", "images/s", widths)
            images = {f"{count:,} images": trained_rate(own, *arm("batch", 32), *noise(own, folder, count, 200)) for count in IMAGES}
            yield from _series(request, "data set, 28x28, batch 32", "images/s", images)


def _series(request: Request, title: str, unit: str, sides: dict[str, Callable[[], float]]) -> Iterator[Row]:
    taken, first = Sides.measure(NAME, sides, request.repetitions, warmup=0), next(iter(sides))
    for name in sides:
        yield taken.row(f"{title}: {name}", unit, {"measured": name}, (f"/ {first}", name, first))
