"""How long a plan will take and how much it will store, before anything runs; corrected by the finished runs that are there."""

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
    """Seconds that a finished run's stack took over what `cost` says; None where that cannot be told."""
    try:
        summary = run.summary()
        config, data = run.trained_config(), summary["data"]
        header = tuple(data["shape"]), data["train"], len(data["classes"])
        steps, spent = summary["budget"]["steps"], sum(summary["speed"][part] for part in ("train_s", "eval_s", "metrics_s"))
        on_cpu, width = summary["environment"]["device_type"] == "cpu", summary["stack"]["width"]
    except (BnexpError, KeyError, TypeError):
        return None
    if summary["status"] != "finished" or config.train.until_target or not on_cpu or not steps:
        return None  # of a stack that may have ended early nobody knows how many steps it made
    return float(spent / stack_seconds(config, header, width, steps))
