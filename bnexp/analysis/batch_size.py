"""Accuracy and steps to target across batch sizes, and what small batches cost.

Read the budget first: with equal epochs a smaller batch makes more updates, with equal steps it sees fewer images, so a sweep over batch
sizes varies both. `SmallBatchCost.warnings` says which.
"""

from __future__ import annotations

from collections.abc import Sequence

from bnexp.analysis.compare import accuracy_pairs, compare_arms
from bnexp.analysis.failures import compare_failures, failure_rate
from bnexp.analysis.grouping import NORM, ArmOf, norm_of, one_a_cell, varying
from bnexp.analysis.notes import STOPPED, budget, cold_at
from bnexp.analysis.rates import BestLr, select_lr
from bnexp.analysis.results import BatchCost, Comparison, SmallBatchCost
from bnexp.analysis.tuning import tune
from bnexp.base.errors import UsageError, one_of
from bnexp.storage.result import RunResult


def by_batch_size(
    runs: Sequence[RunResult], baseline_arm: str = "none", *, arm_of: ArmOf = norm_of, treatment: Sequence[str] = NORM
) -> tuple[Comparison, ...]:
    """Compares the arms at each batch size on its own. Where the baseline has no runs, the arms stand there without a difference."""
    comparisons: list[Comparison] = []
    for size in sorted({run.batch_size for run in runs}):
        here = [run for run in runs if run.batch_size == size]
        arms = sorted({arm_of(run) for run in here})
        for alone in [None] if baseline_arm in arms else arms:
            chosen = here if alone is None else [run for run in here if arm_of(run) == alone]
            comparisons.append(compare_arms(chosen, alone or baseline_arm, arm_of=arm_of, treatment=treatment, primary=False))
    return tuple(comparisons)


def small_batch_cost(
    runs: Sequence[RunResult], arm: str = "batch", *, reference: int | None = None, stats: str = "running", arm_of: ArmOf = norm_of
) -> SmallBatchCost:
    """Test accuracy under `stats` of each batch size below the reference minus that of the reference, paired by seed.

    `tuned`: each seed at its own learning rate of each batch size; `same-lr`: all at the same. The reference is the middle of the batch
    sizes that have results (the upper one of two): one that was chosen by its scores would build a cost in. `arm="none"` is the control:
    what small batches cost without batch norm.

    Raises:
        UsageError: the reference is not among the batch sizes, or runs of different settings share batch size, learning rate and seed.
    """
    own = [run for run in runs if arm_of(run) == arm]
    by_size = {size: one_a_cell([run for run in own if run.batch_size == size], arm_of) for size in {run.batch_size for run in own}}
    best = {size: found for size in sorted(by_size) if (found := select_lr(by_size[size])).lr is not None}
    sizes = list(best)
    if reference is not None and reference not in best:
        there = f"there are {one_of([str(size) for size in sizes])}" if sizes else "there are none"
        raise UsageError(f"No run of {arm} with batch size {reference} has a result; {there}.")
    if len(sizes) < 2:
        return SmallBatchCost(arm, stats, None, (), None, (), False, ())
    reference = sizes[len(sizes) // 2] if reference is None else reference
    tuned = {size: list(tune(by_size[size], best[size]).runs.values()) for size in sizes}
    costs = _costs("tuned", None, tuned, reference, stats)
    grids = {size: {score.lr for score in best[size].by_lr} for size in sizes}
    same_lr = best[reference].lr
    at = {size: [run for run in by_size[size] if run.lr == same_lr and run.is_result] for size in sizes if same_lr in grids[size]}
    costs += _costs("same-lr", same_lr, at, reference, stats)
    stopped = any(run.until_target for size in sizes for run in by_size[size] if run.is_result)
    warnings = _warnings(by_size, best, stopped)
    if stats == "running":  # the others do not know the initial ones
        cold = [size for size, here in tuned.items() if any(run.is_cold for run in here)]
        warnings += [cold_at(cold)] * bool(cold)
    absent = tuple(size for size in sizes if size < reference and same_lr not in grids[size])
    return SmallBatchCost(arm, stats, reference, tuple(costs), same_lr, absent, stopped, tuple(warnings))


def _costs(kind: str, lr: float | None, cells: dict[int, list[RunResult]], reference: int, stats: str) -> list[BatchCost]:
    base = cells[reference]
    return [
        BatchCost(size, kind, lr, accuracy_pairs(runs, base, stats), compare_failures(failure_rate(runs), failure_rate(base)))
        for size, runs in cells.items()
        if size < reference
    ]


def _warnings(by_size: dict[int, list[RunResult]], best: dict[int, BestLr], stopped: bool) -> list[str]:
    found = []
    for size, choice in best.items():
        found += [f"batch {size}: {text}." for text in choice.warnings]
        if choice.on_edge and choice.lr is not None:
            found.append(f"batch {size}: the best lr {choice.lr:g} is on the edge of those tried.")
        diverged = ", ".join(f"{score.n_diverged} of {score.n} at lr {score.lr:g}" for score in choice.by_lr if score.n_diverged)
        if diverged:
            found.append(f"batch {size}: diverged runs: {diverged}.")
        missing = sum(not run.is_result for run in by_size[size])
        if missing:
            found.append(f"batch {size}: {missing} of {len(by_size[size])} runs have no result and are left out.")
    trials = {len(choice.by_lr) for choice in best.values()}
    if len(trials) > 1:
        found.append("unequal trials: the batch sizes were not tried with equally many learning rates.")
    elif trials == {1}:
        found.append("one learning rate a batch size: nothing was tuned.")
    results = [run for size in sorted(by_size) for run in by_size[size] if run.is_result]
    found.append(STOPPED if stopped else budget(results))
    differing = varying(results, ("config.train.batch_size",))
    if differing:
        found.append(f"the runs also differ in {', '.join(key.removeprefix('config.') for key in differing)}.")
    return found
