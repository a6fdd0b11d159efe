"""How far one run of a stack has come."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

from msgspec import Meta, convert

from bnexp.storage.facts import Share
from bnexp.storage.saved_state import MAX_SECONDS, share

Step = Annotated[int, Meta(ge=1)]
"""The number of updates made, so that steps count from 1."""
Count = Annotated[int, Meta(ge=0)]


@dataclass
class RunProgress:
    """What is known of one run so far."""

    diverged_at_step: Step | None = None
    stopped_at_step: Step | None = None
    """With `train.until_target`: where it reached the target, and ended."""
    reached_step: Step | None = None
    previous_step: Count | None = None
    """The evaluation before the one that reached the target: it was reached in (previous_step, reached_step]. 0: there was none before."""
    reached_train_s: Annotated[float, Meta(ge=0, le=MAX_SECONDS)] | None = None
    best_accuracy: Share | None = None
    best_step: Step | None = None
    val_loss: float | None = None
    val_accuracy: float | None = None
    evaluated_step: Step | None = None
    """The last evaluation, which gave `val_loss` and `val_accuracy`; these may be NaN."""
    extra: Count = 0
    """Evaluations near the target, between those of the whole stack."""

    @classmethod
    def restored(cls, saved: Mapping[str, float | None], step: int) -> RunProgress:
        """What `asdict` gave after `step` steps.

        Raises:
            ValueError: no run of so many steps has these values.
        """
        track = convert(saved, cls)
        if any(value is not None and value > step for name, value in vars(track).items() if name.endswith("step") or name == "extra"):
            raise ValueError(f"a step is after step {step}")
        if track.val_accuracy is not None:
            share(track.val_accuracy, "val_accuracy")
        if (track.best_step is None) != (track.best_accuracy is None) or (track.reached_step is None) != (track.reached_train_s is None):
            raise ValueError("a best or reached step has no value")
        return track
