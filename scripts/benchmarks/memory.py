"""Memory: the largest resident set of one run as a command, beside the floor as a script.

What the kernel counted for the process and all that it waited for. The floor script has torch, the network and one batch.
"""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.children import app, bnexp_worker, scratch
from benchmarks.group import Asked, noise
from benchmarks.machine import Watch
from benchmarks.peers import sides
from benchmarks.rows import Row, figure, measured, not_measured, ratio
from benchmarks.turns import take_turns

NAME, REPETITIONS = "memory", 2
FLOOR = "floor script"
IMAGES = 3_000
"""Of 28x28 noise."""


def rows(asked: Asked) -> Iterator[Row]:
    with scratch() as folder:
        with bnexp_worker(folder, threads=1) as worker:
            larger = noise(worker, folder, IMAGES, 200)
        few = max(1, asked.repetitions // 2)
        for data, overrides, batch, repetitions in (("digits", [], 32, asked.repetitions), ("28x28", larger, 256, few)):
            file = overrides[-1].partition("=")[2] if overrides else "digits"
            floor = ["--data", file, "--batch", batch, "--epochs", 1, "--threads", 1]

            def alone(floor: list[object] = floor) -> object:
                return app(folder, "floor_loop", *floor, threads=1)

            watch = Watch()
            found, failed = take_turns({FLOOR: alone, **sides(folder, overrides, batch, 1)}, repetitions, warmup=0)
            load = watch.load
            weighed = {name: [done.most_bytes / 2**20 for done in held] for name, held in found.items()}
            for name in sides(folder, overrides, batch, 1):
                case = f"{data}, batch {batch}, 1 epoch, 1 thread: {name}"
                if name in failed or FLOOR in failed:
                    yield not_measured(NAME, case, failed.get(name) or failed[FLOOR])
                    continue
                figures = [figure(FLOOR, "MiB", weighed[FLOOR]), figure("peak", "MiB", weighed[name])]
                yield measured(NAME, case, figures, ratio(f"/ {FLOOR}", weighed[name], weighed[FLOOR]), load=load)
