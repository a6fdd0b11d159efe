"""How far one run of a stack has come."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from bnexp.storage.saved_state import group, seconds, share, whole


@dataclass
class RunProgress:
    """What is known of one run so far. Steps count from 1: `step` is the number of updates made."""

    diverged_at_step: int | None = None
    stopped_at_step: int | None = None
    """With `train.until_target`: where it reached the target, and ended."""
    reached_step: int | None = None
    previous_step: int | None = None
    """The evaluation before the one that reached the target: it was reached in (previous_step, reached_step]. 0: there was none before."""
    reached_train_s: float | None = None
    best_accuracy: float | None = None
    best_step: int | None = None
    val_loss: float | None = None
    val_accuracy: float | None = None
    evaluated_step: int | None = None
    """The last evaluation; `val_loss` and `val_accuracy` are its."""
    extra: int = 0
    """Evaluations that were made for the target, between those that the whole stack has."""

    @classmethod
    def restored(cls, saved: Any, step: int) -> RunProgress:
        """What `asdict` gave, after `step` steps; errors as `Stack.load_state_dict`."""
        track = cls(**group(saved, "track"))
        for name, value in saved.items():
            if value is None:
                continue
            if name in ("previous_step", "extra"):
                whole(value, 0, step, name)
            elif name.endswith("step"):
                whole(value, 1, step, name)
            elif name.endswith("accuracy"):
                share(value, name)
            elif name == "reached_train_s":
                seconds(value, name)
            elif type(value) is not float:
                raise ValueError(f"{name} is no number")
        if (track.best_step is None) != (track.best_accuracy is None) or (track.reached_step is None) != (track.reached_train_s is None):
            raise ValueError("it knows half of what it reached")
        if type(track.extra) is not int:
            raise ValueError("extra is no number")
        if track.best_accuracy is not None and math.isnan(track.best_accuracy):
            raise ValueError("its best accuracy is none")
        return track
