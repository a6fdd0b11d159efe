"""Memory: the largest resident set of one run as a command, beside the floor as a script.

What the kernel counted for the process and all that it waited for. The floor script has torch, the network and one batch.
"""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.children import app, bnexp_worker, scratch
from benchmarks.group import Request, noise
from benchmarks.peers import sides
from benchmarks.rows import Row
from benchmarks.sides import Sides

NAME, REPETITIONS = "memory", 2
FLOOR = "floor script"
IMAGES = 3_000
"""Of 28x28 noise."""


def rows(request: Request) -> Iterator[Row]:
    with scratch() as folder:
        with bnexp_worker(folder, threads=1) as worker:
            larger = noise(worker, folder, IMAGES, 200)
        few = max(1, request.repetitions // 2)
        for data, overrides, batch, repetitions in (("digits", [], 32, request.repetitions), ("28x28", larger, 256, few)):
            file = overrides[-1].partition("=")[2] if overrides else "digits"
            floor = ["--data", file, "--batch", batch, "--epochs", 1, "--threads", 1]

            def alone(floor: list[object] = floor) -> object:
                return app(folder, "floor_loop", *floor, threads=1)

            others = sides(folder, overrides, batch, 1)
            taken = Sides.measure(NAME, {FLOOR: alone, **others}, repetitions, warmup=0)
            for name in others:
                case, of = f"{data}, batch {batch}, 1 epoch, 1 thread: {name}", (f"/ {FLOOR}", name, FLOOR)
                yield taken.row(case, "MiB", {FLOOR: FLOOR, "peak": name}, of, value=lambda done: done.most_bytes / 2**20)
