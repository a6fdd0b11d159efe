"""Training steps: `bnexp train` beside the floor.

The floor is the same network in plain `torch.nn` with `torch.optim.SGD` on one resident batch: forward, backward and step only, in the
better of its two memory formats, and with freed memory kept as bnexp keeps it (`bnexp.execution.machine.keep_memory`): a plain script,
which gives it back to the system step by step, is slower. With metrics off, bnexp's figure is what a run reports (`speed.images_per_s`:
real batches, schedule, bookkeeping and checks for divergence are in it, evaluations are not). With metrics on it is images / (train_s +
metrics_s) of a whole run at the default cadence, so that every second of the metrics counts; the number of steps is in the row. 28x28 is
noise of MNIST's size, 60,000 images of which 54,000 train, or MNIST itself with `--mnist`. Sides run in processes of their own and take
turns.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.children import Worker, bnexp_worker, floor_worker, scratch
from benchmarks.group import FORMATS, SHAPES, Request, arm, budget, noise
from benchmarks.rows import Row, at_least, figure, measured, not_measured, ratio
from benchmarks.sides import Sides
from bnexp.base.hardware import cores

NAME, REPETITIONS = "steps", 3
BATCHES, NORMS = (4, 32, 256), ("batch", "none")
ASKED_OFF, ASKED_LIGHT, FROM_BATCH = 0.95, 0.90, 32
SECONDS = 0.6
"""Of training that one measurement of a side takes, about."""
JUDGED, SHORT_S = 3, 0.05
"""So many times as many turns has what has a target and short steps: on a machine that others share a single one is off by 5 % and more."""
FIRST_S = 6.0
"""Of training of a run with metrics on noise that is too long to be made whole."""
EPOCH_IMAGES = 54_000
"""Of MNIST without its validation images."""
Rate = tuple[float, int]
"""Images a second, and the steps it was measured over."""
Run = tuple[str, list[str]]
"""What is said of a run in its row, and its overrides."""
WHOLE_EPOCHS = ((32, "batch"),)
"""Where the target of light metrics is judged here: an epoch each. The group `metrics` has more of them, more often."""


def rows(request: Request) -> Iterator[Row]:
    with scratch() as folder:
        for threads in dict.fromkeys((1, cores())):
            with floor_worker(folder, threads) as plain, bnexp_worker(folder, threads) as own:
                for data, batch, norm in itertools.product(SHAPES, BATCHES if threads == 1 else BATCHES[-1:], NORMS):
                    if threads == 1 or norm == "batch":
                        yield from _Cell(request, folder, plain, own, data, batch, norm, threads).rows()


class _Cell:
    """One data set, batch size and norm, at one number of threads."""

    def __init__(
        self,
        request: Request,
        folder: Path,
        plain: Worker,
        own: Worker,
        data: str,
        batch: int,
        norm: str,
        threads: int,
        seconds: float = SECONDS,
    ) -> None:
        self.request, self.folder, self.plain, self.own, self.seconds = request, folder, plain, own, seconds
        self.data, self.batch, self.norm, self.threads = data, batch, norm, threads
        self.name = f"{data}, batch {batch}, norm {norm}, {threads} thread{'s' * (threads > 1)}"

    def rows(self) -> Iterator[Row]:
        step_s = self.batch / self.floor(FORMATS[0])()[0]
        off_steps, first_steps = (10 + max(6, round(seconds / step_s)) for seconds in (self.seconds, FIRST_S))
        epoch = EPOCH_IMAGES // self.batch
        first_steps = min(first_steps, epoch)
        runs: dict[str, Run] = {"off": ("off", [*budget(off_steps), f"train.eval_every={off_steps}"])}
        few: dict[str, Run] = {}
        if self.batch >= FROM_BATCH and self.data == "digits":
            runs["light"] = ("light, a default run", [])
            few = {"full": ("full, a default run", [])} if self.threads == 1 else {}
        elif self.threads > 1:
            few["light"] = (f"light, first {first_steps:,} of {epoch:,} steps", budget(first_steps))
        if self.threads == 1 and self.data != "digits" and (self.batch, self.norm) in WHOLE_EPOCHS:
            few["light"] = (f"light, an epoch of {epoch:,} steps", ["train.epochs=1"])
        judged = self.batch >= FROM_BATCH and step_s < SHORT_S
        yield from self.beside_floor({"off": runs.pop("off")}, self.request.repetitions * (JUDGED if judged else 1))
        if runs:
            yield from self.beside_floor(runs, self.request.repetitions)
        if few:
            yield from self.beside_floor(few, max(1, self.request.repetitions // 3))

    def floor(self, kind: str) -> Callable[[], Rate]:
        def rate() -> Rate:
            case = {"shape": SHAPES[self.data], "batch": self.batch, "norm": self.norm, "kind": kind, "threads": self.threads}
            found = self.plain.ask("benchmarks.floor:rate", **case, seconds=self.seconds)
            return found["images_per_s"], found["steps"]

        return rate

    def run(self, preset: str, overrides: list[str]) -> Callable[[], Rate]:
        """A run's images a second, the metrics' seconds among them where there are metrics."""
        data: list[str] = []
        if self.data != "digits":
            real = preset != "off" and self.request.mnist
            whole = (60_000, 1_000) if preset != "off" else (1_200, 100)
            data = ["data=mnist", f"data.root={self.request.mnist}"] if real else noise(self.own, self.folder, *whole)

        def rate() -> Rate:
            case = [*data, *arm(self.norm, self.batch, self.threads), f"metrics={preset}", *overrides]
            summary: dict[str, Any] = self.own.ask("benchmarks.library:train", overrides=case)
            speed = summary["speed"]
            if preset == "off":
                return speed["images_per_s"], summary["steps"]
            return self.batch * summary["steps"] / (speed["train_s"] + speed["metrics_s"]), summary["steps"]

        return rate

    def beside_floor(self, runs: dict[str, Run], repetitions: int) -> Iterator[Row]:
        sides = {f"floor, {kind}": self.floor(kind) for kind in FORMATS}
        sides |= {preset: self.run(preset, overrides) for preset, (_, overrides) in runs.items()}
        taken = Sides.measure(NAME, sides, repetitions, warmup=0)  # each measurement has warm-up steps of its own
        failed, found = taken.failed, {name: [rate for rate, _ in held] for name, held in taken.found.items()}
        floors = [figure(name, "images/s", found[name]) for name in sides if name in found and name.startswith("floor")]
        for preset, (what, _) in runs.items():
            name = f"{self.name}: metrics {what}"
            target = None
            if preset == "off" and self.batch >= FROM_BATCH:
                target = at_least(ASKED_OFF)
            elif preset == "light" and "an epoch" in what:
                target = at_least(ASKED_LIGHT)
            if preset in failed or len(floors) < len(FORMATS):
                yield not_measured(NAME, name, failed.get(preset) or "; ".join(failed.values()), target)
                continue
            best = max(floors, key=lambda one: one.median).name
            figures = [*floors, figure("bnexp train", "images/s", found[preset])]
            judged = ratio("bnexp / better floor", found[preset], found[best])
            yield measured(NAME, name, figures, judged, target, load=taken.load, remark=f"{taken.found[preset][0][1]:,} steps")
