"""What is due after which step: a pure function of the config and the budget, so that a resumed run meets the same steps.

One thing depends on results instead and is therefore not in the schedule: single runs that approach their target are evaluated more often
(`near_target_step`, which `fit.advance` calls between two steps of the schedule).
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from operator import itemgetter

from bnexp.config import Config
from bnexp.config.cost import Header, evaluation_cost
from bnexp.metrics.schedule import curve_due, probe_due, probed_steps
from bnexp.training.run_progress import RunProgress

EVALUATION_SHARE = 0.1
"""`train.eval_every=auto`: evaluations near the target are made as long as all of a run's together cost so much of its training at most."""
APPROACH = 6
"""The next evaluation near the target is made after this part of the way that is left to it."""


@dataclass(frozen=True)
class Due:
    """What is due after `step` updates: an evaluation of the stack, a measurement of the network as it is, a sample of the step itself."""

    step: int
    evaluate: bool
    probe: bool
    sample: bool
    """The metrics need the network before this step, too: the schedule also has the step before."""


@dataclass(frozen=True)
class Timeline:
    """What the schedule of a stack depends on. `header` describes the data, `per_epoch` counts steps, `samples` are the sampled steps."""

    config: Config
    header: Header
    val_images: int
    total: int
    per_epoch: int
    samples: frozenset[int]

    def evaluations(self, start: int = 0) -> Iterator[int]:
        """The steps from `start` on after which the whole stack is evaluated. `auto` is dense early on, so that steps to target are not
        quantised to epochs: from 8 on each step is sqrt(2) times the last, until the gaps are longer than an epoch; and after every epoch.
        Evaluating never costs more than training: a gap is at least as long as an evaluation takes, counted as a third of a step a batch.
        """
        every, step, early = self.config.train.eval_every, start, self._early()
        dense = next(early, self.total)
        while step < self.total:
            if every != "auto":
                step = min(self.total, (step // every + 1) * every)
            else:
                while dense <= step:
                    dense = next(early, self.total)
                step = min(self.total, (step // self.per_epoch + 1) * self.per_epoch, dense)
            yield step

    def _early(self) -> Iterator[int]:
        cost = math.ceil(self.val_images / (3 * self.config.train.batch_size))
        early = max(8, cost)
        while early < min(self.total, self.per_epoch / (math.sqrt(2) - 1)):
            yield early
            early = max(round(early * math.sqrt(2)), early + cost)

    @cached_property
    def near_target_evaluations(self) -> int:
        """How many evaluations each run may have near its target beside those of the whole stack: what these leave of `EVALUATION_SHARE` of
        the budget's training. None where `train.eval_every` says at which steps to evaluate."""
        if self.config.train.eval_every != "auto":
            return 0
        cost = evaluation_cost(self.config, self.header, self.val_images)
        others = math.ceil(self.total / self.per_epoch) + sum(1 for _ in self._early())
        return max(0, math.floor(EVALUATION_SHARE * self.total / cost) - others)


def schedule(timeline: Timeline, start: int) -> Iterator[Due]:
    """Every step after `start` at which something is due, in order; step 0 too, where a training begins with a measurement."""
    metrics, total = timeline.config.metrics, timeline.total
    if start == 0 and (probe_due(metrics, 0, total, evaluated=False) or curve_due(metrics, 0, evaluated=False)):
        yield Due(0, evaluate=False, probe=True, sample=False)
    samples = sorted({step for sampled in timeline.samples for step in (sampled - 1, sampled) if step > start})
    steps: Iterable[tuple[int, bool]] = heapq.merge(
        ((step, True) for step in timeline.evaluations(start)),
        ((step, False) for step in samples),
        ((step, False) for step in probed_steps(metrics, start, total)),
    )
    for step, marked in itertools.groupby(steps, key=itemgetter(0)):
        evaluate = any(evaluated for _, evaluated in marked)
        probe = probe_due(metrics, step, total, evaluate) or curve_due(metrics, step, evaluate)
        yield Due(step, evaluate, probe, sample=step in timeline.samples)


def near_target_step(timeline: Timeline, run: RunProgress) -> int:
    """The step of the run's next evaluation of its own, the end of the budget where there is none to come before.

    As if its error fell as 1/steps from the best that it had, the run is at its target so many steps after its last evaluation; it is
    evaluated again after the `APPROACH`-th part of these: at each step in the end. All of this is what the run itself recorded, and its
    config, whatever else is in its stack.
    """
    if run.reached_step is not None or run.evaluated_step is None or run.best_accuracy is None:
        return timeline.total
    if run.extra >= timeline.near_target_evaluations:
        return timeline.total
    goal = max(1 - timeline.config.train.target, 0.5 / timeline.val_images)  # where all images are to be right, half an error is left
    left = run.evaluated_step * ((1 - run.best_accuracy) / goal - 1)
    return min(timeline.total, run.evaluated_step + max(1, round(left / APPROACH)))
