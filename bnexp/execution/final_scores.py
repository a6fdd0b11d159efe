"""What a stack is worth at the end of its training."""

from __future__ import annotations

from dataclasses import dataclass

from bnexp.data import Dataset
from bnexp.evaluate import STATS, Scores, evaluate, norm_layers, precise_statistics, train_part
from bnexp.metrics import Measured, against_precise
from bnexp.training.stack import Stack


@dataclass(frozen=True)
class FinalScores:
    """Scores on the test data under each kind of statistics and on the training data; and, by run, how far the running statistics are from
    precise ones, where metrics ask for it."""

    test: dict[str, Scores]
    train: Scores
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
