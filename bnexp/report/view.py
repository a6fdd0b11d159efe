"""A chapter as its sections look at it: comparisons, best learning rates, curves that are read once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from operator import attrgetter
from typing import Any

from bnexp.analysis import (
    BatchSizes,
    Comparison,
    GridCell,
    Seconds,
    SmallBatchCost,
    StepMs,
    by_batch_size,
    cells,
    compare_arms,
    seconds_to_target,
    select_lr,
    sentences,
    small_batch_cost,
    with_holm,
)
from bnexp.analysis.bands import RunCurves
from bnexp.norms import has_batch_statistics
from bnexp.plots.curves import Arm
from bnexp.report.chapters import Chapter
from bnexp.storage.result import RunResult

Read = Callable[[str], Mapping[str, list[tuple[int, float]]]]
"""The recorded curves of a run, by its id."""


class View:
    """One chapter. `prefix` keeps the names of its pictures apart from those of other chapters."""

    def __init__(
        self,
        chapter: Chapter,
        read: Read,
        prefix: str = "",
        *,
        primary: bool = True,
        margin: float | None = None,
        step_ms: Mapping[str, StepMs] | None = None,
    ) -> None:
        self.chapter, self._read, self._prefix = chapter, read, prefix
        self.arms, self.sizes = chapter.arms, chapter.batch_sizes
        self._tracks: dict[str, RunCurves] = {}
        self.without_curves: set[str] = set()
        """Runs that the tables count and no curve can show."""
        self.best = {
            (arm, size): found.lr for arm in self.arms for size in self.sizes if (found := select_lr(self.runs(arm, size))).lr is not None
        }
        """The learning rate with the lowest validation loss, by arm and batch size; not there without results."""
        self.focus = self._focus()
        """The batch size whose runs the figures inside the network show: the middle one of those with results of most arms."""
        self.comparison: Comparison | None = None
        self.by_size: BatchSizes | None = None
        self.seconds: Seconds | None = None
        self.costs: tuple[SmallBatchCost, ...] = ()
        options: dict[str, Any] = {"arm_of": chapter.arm_of, "treatment": chapter.treatment}
        if len(self.sizes) > 1:
            self.by_size = by_batch_size(chapter.runs, chapter.baseline, **options)
            self.costs = tuple(
                small_batch_cost(chapter.runs, arm, stats=stats, arm_of=chapter.arm_of)
                for arm in self.arms
                for stats in (("running", "batch") if self.normed(arm) else ("running",))
            )
        elif len(self.arms) > 1:
            self.comparison = compare_arms(chapter.runs, chapter.baseline, primary=primary, margin=margin, **options)
            arms = self.comparison.headline.arms
            if step_ms and len(arms) > 1 and arms.keys() <= step_ms.keys():
                self.seconds = seconds_to_target(self.comparison, step_ms)

    @property
    def shown_sizes(self) -> list[int]:
        """The smallest batch size, the one in focus, and the largest: what has a picture for each batch size has three."""
        return list(dict.fromkeys([self.sizes[0], self.focus, self.sizes[-1]]))

    @property
    def target(self) -> float | None:
        """The validation accuracy that the runs were to reach, where all had the same."""
        targets = {run.target.accuracy for run in self.chapter.runs}
        return targets.pop() if len(targets) == 1 else None

    def runs(self, arm: str, size: int | None = None, lr: float | None = None) -> list[RunResult]:
        return [
            run
            for run in self.chapter.runs
            if self.chapter.arm_of(run) == arm and (size is None or run.batch_size == size) and (lr is None or run.lr == lr)
        ]

    def normed(self, arm: str) -> bool:
        """Whether an arm's runs have running statistics."""
        return any(has_batch_statistics(run.norm) for run in self.runs(arm))

    def name(self, text: str, size: int | None = None) -> str:
        """A picture's file name; where there are several batch sizes, that of one."""
        return f"{self._prefix}{text}" + (f"_bs{size}" if size is not None and len(self.sizes) > 1 else "")

    def at(self, size: int) -> str:
        """What a title adds to say which batch size it is, where there are several."""
        return f" at batch {size}" if len(self.sizes) > 1 else ""

    def tracks(self, runs: Sequence[RunResult]) -> tuple[RunCurves, ...]:
        """The recorded curves of the results among runs, by seed: of the runs that the tables count. Where there is no result, those of the
        runs that there are. What recorded none is left out, and counted in `without_curves`."""
        found = []
        for run in sorted([run for run in runs if run.is_result] or runs, key=attrgetter("seed")):
            if run.id not in self._tracks:
                stopped = run.status == "finished" and run.until_target and run.target.reached_step is not None
                diverged = run.diverged_at_step if run.is_diverged else None
                self._tracks[run.id] = RunCurves(run.seed, self._read(run.id), diverged, stopped)
            if self._tracks[run.id].curves:
                found.append(self._tracks[run.id])
            else:
                self.without_curves.add(run.id)
        return tuple(found)

    def at_best(self, size: int) -> list[Arm]:
        """The arms' runs of a batch size, each at the rate with its lowest mean validation loss; of an arm without results, all runs."""
        found = []
        for arm in self.arms:
            lr = self.best.get((arm, size))
            own = self.tracks(self.runs(arm, size, lr))
            if own:
                tuned = len({run.lr for run in self.runs(arm, size)}) > 1
                name = sentences.label(arm)
                found.append(Arm(arm, f"{name}, lr {lr:g}" if lr is not None and tuned else name, own))
        return found

    def layers(self, beginning: str, end: str) -> dict[str, str]:
        """Layer by key, in the network's order, of the keys that the runs in focus recorded."""
        found: dict[str, str] = {}
        for arm in self.at_best(self.focus):
            for key in (key for track in arm.tracks for key in track.curves):
                if key.startswith(beginning) and key.endswith(end):
                    found.setdefault(key, key[len(beginning) : len(key) - len(end)])
        return found

    def last_and_first(self, beginning: str, end: str) -> dict[str, str]:
        """The last and the first layer of `layers`."""
        found = list(self.layers(beginning, end).items())
        return dict([*found[-1:], *found[:1]])

    def by_lr(self, arm: str, size: int) -> list[tuple[float, GridCell]]:
        """An arm's learning rates at a batch size, each with what its seeds scored; those without a result are left out."""
        runs = self.runs(arm, size)
        return [(float(one.values[0]), one) for one in cells(runs, ["optim.lr"]).cells if one.n] if runs else []

    def _focus(self) -> int:
        having = {size: sum((arm, size) in self.best for arm in self.arms) for size in self.sizes}
        most = [size for size in self.sizes if having[size] == max(having.values())]
        return most[len(most) // 2]


def corrected(views: Sequence[View]) -> None:
    """Holm's correction over everything that a page tests."""
    found = with_holm(tuple((view.comparison, view.seconds, view.by_size, view.costs) for view in views))
    for view, results in zip(views, found, strict=True):
        view.comparison, view.seconds, view.by_size, view.costs = results
