"""How long a plan will take and how much it will store, before anything runs; corrected by the existing finished runs."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from bnexp.base.errors import BnexpError
from bnexp.config.cost import run_bytes, stack_seconds
from bnexp.planning.plan import StackPlan
from bnexp.storage.run import Run

START_S = 4.0
CALIBRATION_RUNS = 20


@dataclass(frozen=True)
class Estimate:
    """Seconds on the clock and bytes on the disk. `calibrated` finished runs of the folder corrected the seconds."""

    seconds: float
    bytes: int
    calibrated: int


def estimate(stacks: Sequence[StackPlan], workers: int, finished: Sequence[Run]) -> Estimate:
    """What the stacks will take on so many one-thread workers; `finished` are runs of this machine to learn its speed from."""
    factors = [factor for run in list(finished)[-CALIBRATION_RUNS:] if (factor := _observed(run)) is not None]
    factor = statistics.median(factors) if factors else 1.0
    seconds = [factor * stack.seconds for stack in stacks]
    total = 0.0 if not seconds else START_S + max(sum(seconds) / max(1, min(workers, len(stacks))), max(seconds))
    return Estimate(total, sum(len(stack.runs) * run_bytes(stack.configs[0], stack.header) for stack in stacks), len(factors))


def _observed(run: Run) -> float | None:
    """Seconds that a finished run's stack took over what `cost` says; None where that is not known."""
    try:
        result, config = run.result(), run.trained_config()
    except BnexpError:
        return None
    if result.status != "finished" or config.train.until_target:  # how many steps a stack made that may have ended early is not known
        return None
    data, steps, width = result.data, result.budget.steps, result.stack.width
    spent = result.speed.train_s, result.speed.eval_s, result.speed.metrics_s
    if data is None or not (data.shape and data.train and data.classes and steps and width) or None in spent:
        return None
    if result.environment is None or result.environment.device_type != "cpu":
        return None
    return sum(part or 0.0 for part in spent) / stack_seconds(config, (data.shape, data.train, len(data.classes)), width, steps)
