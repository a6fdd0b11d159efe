"""The seconds of a training: kept apart by what they were spent on, and step by step, in bounded memory."""

from __future__ import annotations

import math
import time
from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor

from bnexp.storage.saved_state import MAX_SECONDS, MAX_STEPS, group, seconds, tensor, whole

WARMUP_STEPS = 10
"""Steps left out of the speed figures: the first ones fill caches and choose kernels."""
KEPT_LAPS = 2**14
"""Steps whose times are all kept, for the median. Of more, every other one is dropped, repeatedly: a run may make 10^9 steps."""

ClockState = dict[str, float | Tensor]
"""The fields of a `Clock` by name, its laps as a tensor."""


@dataclass
class Clock:
    """Seconds of training, evaluation, metrics and compilation, kept apart. CUDA is synchronised where a stretch begins and ends."""

    device: torch.device
    train_s: float = 0.0
    eval_s: float = 0.0
    metrics_s: float = 0.0
    compile_s: float = 0.0
    steps: int = 0
    laps: array[float] = field(default_factory=lambda: array("d"))
    """Seconds of each training step (on CUDA, of its stretch's mean), or of one in `every`."""
    every: int = 1
    warmup_s: float = 0.0
    """The first `WARMUP_STEPS` together, once not all of them are among the laps."""
    recorded_s: float = 0.0
    """Seconds of training up to the last record."""

    @contextmanager
    def on(self, what: str) -> Iterator[None]:
        start = self.now()
        try:
            yield
        finally:
            setattr(self, what, getattr(self, what) + self.now() - start)

    def now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()

    def lap(self, seconds: float) -> None:
        """One training step."""
        self.train_s += seconds
        if self.steps % self.every == 0:
            self.laps.append(seconds)
        self.steps += 1
        if len(self.laps) >= KEPT_LAPS:
            if self.every == 1:
                self.warmup_s = sum(self.laps[:WARMUP_STEPS])
            del self.laps[1::2]
            self.every *= 2

    def even_out(self, steps: int, mean: float) -> None:
        """Gives each of the last `steps` their mean, where only that means something; what they took together stays."""
        first = math.ceil((self.steps - steps) / self.every)
        self.laps[first:] = array("d", [mean]) * (len(self.laps) - first)

    def after_warmup(self) -> tuple[int, float, float]:
        """How many steps were made after the warm-up (half of all, where there are few), their seconds, and the median of one.

        The number and the seconds count every step, the median those that are kept. (0, 0, nan) before the first step.
        """
        warm = self.laps[math.ceil(min(WARMUP_STEPS, self.steps // 2) / self.every) :]
        median = sorted(warm)[len(warm) // 2] if warm else math.nan
        if self.every == 1:
            return len(warm), sum(warm), median
        return self.steps - WARMUP_STEPS, self.train_s - self.warmup_s, median

    def state_dict(self) -> ClockState:
        kept = {name: value for name, value in vars(self).items() if name != "device"}
        return {**kept, "laps": torch.tensor(self.laps, dtype=torch.float64)}

    @classmethod
    def restored(cls, device: torch.device, state: ClockState) -> Clock:
        """The clock that `state_dict` gave.

        Raises:
            ValueError, TypeError, KeyError: no clock has these times; it would divide by them.
        """
        saved = group(state, "clock")
        laps = tensor(saved["laps"], (None,), torch.float64, "laps")
        if not ((laps >= 0) & (laps <= MAX_SECONDS)).all() or len(laps) >= KEPT_LAPS:
            raise ValueError("laps are no times")
        clock = cls(device, **{**saved, "laps": array("d", laps.tolist())})
        for name in ("train_s", "eval_s", "metrics_s", "compile_s", "warmup_s", "recorded_s"):
            seconds(getattr(clock, name), name)
        whole(clock.every, 1, MAX_STEPS, "every")
        whole(clock.steps, 0, MAX_STEPS, "steps")
        if "steps" in saved and len(laps) != -(-clock.steps // clock.every):
            raise ValueError("steps and laps do not agree")
        if clock.recorded_s > clock.train_s or (clock.every > 1 and (clock.steps <= WARMUP_STEPS or clock.warmup_s >= clock.train_s)):
            raise ValueError("its times do not add up")
        return clock
