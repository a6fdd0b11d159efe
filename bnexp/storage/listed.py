"""What a list shows of a run: ten thousand summaries are decoded for one, so what it does not show is skipped."""

from __future__ import annotations

from typing import Any, Literal

from msgspec import Struct

from bnexp.config import DataConfig
from bnexp.storage.facts import Scores, Target, Whole
from bnexp.storage.result import Status


class ListedConfig(Struct, frozen=True):
    data: DataConfig = DataConfig()


class ListedData(Struct, frozen=True):
    fingerprint: str | None = None
    train: Whole | None = None
    val: Whole | None = None


class ListedTest(Struct, frozen=True):
    running: Scores | None = None


class ListedRun(Struct, frozen=True):
    """One run. A group that is None was not known when the summary was written."""

    id: str
    status: Status | Literal["unreadable"]
    steps: Whole | None = None
    val: Scores | None = None
    target: Target | None = None
    test: ListedTest | None = None
    written_at: str | None = None
    config: ListedConfig = ListedConfig()
    data: ListedData | None = None
    format: int = 0

    @property
    def val_loss(self) -> float | None:
        return self.val.loss if self.val else None

    @property
    def test_accuracy(self) -> float | None:
        """Under running statistics."""
        return self.test.running.accuracy if self.test and self.test.running else None

    @property
    def reached_step(self) -> int | None:
        return self.target.reached_step if self.target else None

    @property
    def same_data(self) -> tuple[Any, ...]:
        """Runs that agree in this are validated on the same images."""
        asked = self.config.data
        return asked.name, asked.val_fraction, asked.subset, asked.split_seed, self.data or ListedData()
