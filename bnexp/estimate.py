"""How long a plan will take and how much it will store, before anything runs. Rough on purpose, and corrected by what is there already.

A step of one run costs a fixed part, which stacks share, and its multiplications: measured on one thread of a 2-core x86 machine with
AVX-512 (2.2 ms at batch 32 and 16 ms at batch 256 on 8x8 maps, 19 ms at batch 32 on 28x28).
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from bnexp.config import DATASETS, Config, map_sizes
from bnexp.errors import BnexpError
from bnexp.plan import Planned
from bnexp.run import Run

MACS_A_S = 33e9
"""Multiply-adds a second of one thread, over a whole step."""
STEP_S, LAUNCH_S = 0.4e-3, 1.2e-3
"""Seconds a step of each run, and of each stack, whatever the batch."""
EVALUATION = 1.15
"""Training and evaluation over training alone."""
START_S = 4.0
CALIBRATION_RUNS = 20


@dataclass(frozen=True)
class Estimate:
    """Seconds on the clock and bytes on the disk. `calibrated` finished runs of the folder corrected the seconds."""

    seconds: float
    bytes: int
    calibrated: int


def estimate(stacks: Sequence[Planned], workers: int, finished: Sequence[Run]) -> Estimate:
    """What the stacks will take on so many one-thread workers; `finished` are runs of this machine to learn its speed from."""
    factors = [factor for run in list(finished)[-CALIBRATION_RUNS:] if (factor := _observed(run)) is not None]
    factor = statistics.median(factors) if factors else 1.0
    seconds = [factor * stack_seconds(stack.configs[0], len(stack.runs), stack.steps) for stack in stacks]
    total = 0.0 if not seconds else START_S + max(sum(seconds) / max(1, min(workers, len(stacks))), max(seconds))
    return Estimate(total, sum(len(stack.runs) * _run_bytes(stack.configs[0]) for stack in stacks), len(factors))


def stack_seconds(config: Config, width: int, steps: int) -> float:
    """Seconds of one stack of `width` runs on one thread, evaluation included."""
    macs = 3 * config.train.batch_size * network_size(config)[0]
    return EVALUATION * steps * (LAUNCH_S + width * (STEP_S + macs / MACS_A_S))


def _observed(run: Run) -> float | None:
    """Seconds that a finished run's stack took over what this module says; None where that cannot be told."""
    try:
        summary = run.summary()
        config, width, steps = run.config(), summary["stack"]["width"], summary["steps"]
        spent = summary["speed"]["train_s"] + summary["speed"]["eval_s"]
    except (BnexpError, KeyError, TypeError):
        return None
    if summary["status"] != "finished" or summary["environment"]["device_type"] != "cpu" or not steps:
        return None
    return float(spent / stack_seconds(config, width, steps))


def network_size(config: Config) -> tuple[float, float]:
    """Multiply-adds of one image's forward pass, and the number of weights. For data of the user's own as for 32x32 images."""
    spec = DATASETS[config.data.name]
    shape, classes = (spec.shape, spec.classes) if spec else ((3, 32, 32), 10)
    widths = config.model.widths
    if config.model.name == "mlp":
        sizes = [math.prod(shape), *widths, classes]
        weights = float(sum(a * b for a, b in itertools.pairwise(sizes)))
        return weights, weights
    kernel, channels, macs, weights = 3 ** len(shape[1:]), shape[0], 0.0, 0.0
    for width, spatial in zip(widths, map_sizes(shape[1:], len(widths)), strict=True):
        block = kernel * (channels * width + width * width)
        macs, weights, channels = macs + block * math.prod(spatial), weights + block, width
    return macs, weights + channels * classes


def _run_bytes(config: Config) -> int:
    """Model, TensorBoard's histograms (about 23 kB an evaluation of the default network) and the small files."""
    layers = 2 * len(config.model.widths) + 1
    looks = 10 + (config.train.epochs or 10)
    return int(4.2 * network_size(config)[1] + looks * layers * 3_300 + 20_000)
