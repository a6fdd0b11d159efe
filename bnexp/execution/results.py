"""From a stack to its runs' results: the evaluations at the end of its training, and the content of each summary.json."""

from __future__ import annotations

import base64
import dataclasses
import math
import time
from dataclasses import dataclass

import numpy as np
from msgspec import structs

from bnexp.data import Dataset, fingerprint
from bnexp.evaluate import STATS, evaluate, norm_layers, precise_statistics, train_part
from bnexp.evaluate import Scores as StackScores
from bnexp.execution.session import Session
from bnexp.metrics import Measured, against_precise
from bnexp.models import parameter_counts
from bnexp.norms.modules import batches_tracked
from bnexp.storage.facts import (
    BatchScores,
    Budget,
    DataFacts,
    RunningStatistics,
    Scores,
    StackFacts,
    Status,
    Target,
    ThreeWayScores,
    TrainScores,
    Validation,
)
from bnexp.storage.result import RunResult
from bnexp.training.fit import speed
from bnexp.training.stack import Stack

COLD_EMA = 0.01
"""Running statistics are called cold while the initial (0, 1) has more weight in them than this."""


@dataclass(frozen=True)
class FinalScores:
    """Scores on the test data under each kind of statistics and on the training data; and, by run, how far the running statistics are from
    precise ones, where metrics ask for it."""

    test: dict[str, StackScores]
    train: StackScores
    metrics: list[dict[str, float]]


def final_scores(stack: Stack, data: Dataset) -> FinalScores:
    """Evaluates a trained stack. Without norm, and so without running statistics, all kinds of statistics are one."""
    with stack.clock.on("eval_s"):
        test = {"running": evaluate(stack.network, data, data.test, stack.config)}
        normed = bool(norm_layers(stack.network))
        precise = precise_statistics(stack.network, data, stack.config) if normed else {}
        for stats in STATS[1:]:
            test[stats] = evaluate(stack.network, data, data.test, stack.config, stats, precise) if normed else test["running"]
        train = evaluate(stack.network, data, train_part(data), stack.config)
    metrics: list[dict[str, float]] = []
    if precise and stack.config.metrics.batch_stats:
        metrics = Measured(against_precise(stack.network, stack.config.model.placement, precise), {}).by_run()
    return FinalScores(test, train, metrics)


class StackResults:
    """The results of a stack's runs, at any time of its training."""

    def __init__(self, stack: Stack, session: Session, stack_id: str) -> None:
        self.stack, self.data, self.stack_id = stack, session.data, stack_id
        self.environment, self.fingerprint = session.environment, fingerprint(stack.config.data)
        self.audit = stack.audit()

    def of(self, run_id: str, index: int, status: Status, scores: FinalScores | None = None) -> RunResult:
        """The result of the stack's run `index`, non-finite numbers still in it."""
        stack, config, track = self.stack, self.stack.configs[index], self.stack.tracks[index]
        steps = track.diverged_at_step or track.stopped_at_step or stack.step
        left = (1 - config.model.bn_momentum) ** batches_tracked(stack.network, steps) if norm_layers(stack.network) else 0.0
        return RunResult(
            id=run_id,
            status=status,
            seed=config.seed,
            config=dataclasses.replace(config, name=config.run_name),
            budget=Budget(stack.total, config.train.until_target),
            steps=steps,
            epochs=round(steps / stack.batches.per_epoch, 4),
            diverged_at_step=track.diverged_at_step,
            parameters=sum(parameter_counts(stack.network).values()),
            test=self._tested(index, None if scores is None else scores.test),
            train=TrainScores() if scores is None else _trained(index, scores.train),
            val=Validation(track.val_loss, track.val_accuracy, track.best_accuracy, track.best_step),
            target=Target(config.train.target, track.reached_step, track.previous_step, track.reached_train_s if stack.runs == 1 else None),
            audit=self.audit[index],
            running_statistics=RunningStatistics(left, left <= COLD_EMA),
            speed=speed(stack),
            data=DataFacts(
                name=self.data.name,
                fingerprint=self.fingerprint,
                shape=self.data.shape,
                classes=self.data.classes,
                train=len(self.data.train),
                val=len(self.data.val),
                test=len(self.data.test),
                mean=tuple(self.data.mean.tolist()),
                std=tuple(self.data.std.tolist()),
            ),
            stack=StackFacts(self.stack_id, stack.runs),
            environment=self.environment,
            written_at=time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        )

    def _tested(self, index: int, test: dict[str, StackScores] | None) -> ThreeWayScores:
        """The scores on the test data. The argmax of outputs that are not numbers is the first class: a diverged run has neither a
        confusion matrix nor right answers."""
        chance = int(self.data.test.y.bincount().max()) / len(self.data.test)
        if test is None:
            return ThreeWayScores(chance=chance)
        scores = {stats: (float(found.loss[index]), float(found.accuracy[index])) for stats, found in test.items()}
        batch = BatchScores(*scores["batch"], float(test["batch"].accuracy_std[index]), test["batch"].shuffles)
        found = ThreeWayScores(Scores(*scores["running"]), Scores(*scores["precise"]), batch, chance=chance)
        if self.stack.tracks[index].diverged_at_step is not None or not math.isfinite(scores["running"][1]):
            return found
        confusion, correct = test["running"].confusion[index], test["running"].correct[index].bool()
        return structs.replace(
            found,
            per_class_accuracy=tuple((confusion.diagonal().double() / confusion.sum(1).clamp(min=1)).tolist()),
            confusion=tuple(map(tuple, confusion.tolist())),
            correct=base64.b64encode(np.packbits(correct.cpu().numpy()).tobytes()).decode(),
        )


def _trained(index: int, scores: StackScores) -> TrainScores:
    return TrainScores(float(scores.loss[index]), float(scores.accuracy[index]), int(scores.confusion[index].sum()))
