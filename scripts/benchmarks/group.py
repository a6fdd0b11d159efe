"""What a group of rows is requested to measure, and the data that several groups share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.children import Worker

SHAPES = {"digits": (1, 8, 8), "28x28": (1, 28, 28)}
FORMATS = ("contiguous", "channels last")
"""The memory formats of the floor."""
LRS = {"batch": 0.1, "none": 0.01}
"""By norm: without one, the higher rate may diverge, and what is not finite is computed at other speeds."""


@dataclass(frozen=True)
class Request:
    """How often to measure (each group says what else it makes of it), and the folder that holds MNIST/raw, if there is one."""

    repetitions: int
    mnist: str | None = None


def noise(worker: Worker, folder: Path, train: int, test: int, shape: tuple[int, ...] = SHAPES["28x28"]) -> list[str]:
    """Overrides for random images, as many as asked; made once in a folder."""
    file = folder / f"noise-{'x'.join(map(str, shape))}-{train}-{test}.npz"
    if not file.exists():
        worker.ask("benchmarks.library:noise", file=str(file), shape=shape, train=train, test=test)
    return ["data=npz", f"data.root={file}"]


def arm(norm: str, batch: int, threads: int | None = 1) -> list[str]:
    """Overrides for one arm on the CPU."""
    chosen = [] if threads is None else [f"threads={threads}"]
    return [f"model.norm={norm}", f"optim.lr={LRS[norm]}", f"train.batch_size={batch}", "device=cpu", *chosen]


def budget(steps: int) -> list[str]:
    return ["train.epochs=null", f"train.steps={steps}"]


def trained_rate(own: Worker, *overrides: str, steps: int = 40) -> Callable[[], float]:
    """Images a second that a short run with metrics off reports."""
    case = [*overrides, "metrics=off", f"train.eval_every={steps}", *budget(steps)]
    return lambda: float(own.ask("benchmarks.library:train", overrides=case)["speed"]["images_per_s"])
