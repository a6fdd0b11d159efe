"""Accuracy and steps to target across batch sizes, and what small batches cost.

Read the budget first: with equal epochs a smaller batch makes more updates, with equal steps it sees fewer images, so a sweep over batch
sizes varies both. `SmallBatchCost.warnings` says which.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from bnexp.analysis.compare import Comparison, accuracy_pairs, compare_arms
from bnexp.analysis.pairs import Cell, Paired, holm
from bnexp.analysis.rates import BestLr, select_lr
from bnexp.analysis.rows import (
    NORM,
    ArmOf,
    Row,
    batch_size_of,
    is_cold,
    is_diverged,
    is_result,
    lr_of,
    norm_of,
    one_a_cell,
    until_target,
    varying,
)
from bnexp.analysis.target import Quartiles, Ratio
from bnexp.analysis.words import ENOUGH_SEEDS, STOPPED, budget, cold_at, evidence, points, seeds
from bnexp.errors import UsageError, one_of

SIGNIFICANT = 0.05


@dataclass(frozen=True)
class BatchSizeRow:
    """One arm at one batch size, at its own best learning rate (`best-lr`) or at one that it shares with the others (`same-lr`)."""

    batch_size: int
    arm: str
    kind: str
    lr: float
    n: int
    n_diverged: int
    running: Cell
    precise: Cell
    batch: Cell
    """Test accuracy under the three statistics, diverged runs as 0."""
    steps: Quartiles
    difference: Paired | None
    """Test accuracy (running statistics), arm minus baseline; None for the baseline itself and where it is not there."""
    speedup: Ratio | None
    ema_warm: bool
    """Every finished run's running statistics have forgotten their initial (0, 1)."""


@dataclass(frozen=True)
class BatchSizes:
    """A flat table, and the comparison at each batch size that it is made of."""

    table: tuple[BatchSizeRow, ...]
    comparisons: tuple[Comparison, ...]
    """By batch size; where the baseline has no runs, one for each arm alone."""


@dataclass(frozen=True)
class BatchCost:
    """Test accuracy of one batch size minus that of the reference, by seed: below 0 the small batch costs."""

    batch_size: int
    reference: int
    kind: str
    lr: float
    reference_lr: float
    n_diverged: int
    """Of the small batch's runs; they count as accuracy 0."""
    pairs: Paired
    p_holm: float | None
    """p adjusted over the batch sizes of this kind (`same-lr`: at this learning rate)."""


@dataclass(frozen=True)
class SmallBatchCost:
    """What `small_batch_cost` found, in two sentences."""

    arm: str
    stats: str
    reference: int | None
    costs: tuple[BatchCost, ...]
    answer: str
    """Each batch size at its own best learning rate."""
    answer_same_lr: str
    """The smaller ones at the learning rate that is best for the reference, as far as they were run there."""
    warnings: tuple[str, ...]


def by_batch_size(
    rows: Sequence[Row], baseline_arm: str = "none", *, arm_of: ArmOf = norm_of, treatment: Sequence[str] = NORM
) -> BatchSizes:
    """Compares the arms at each batch size on its own. Where the baseline has no runs, the arms stand there without a difference."""
    comparisons: list[Comparison] = []
    table: list[BatchSizeRow] = []
    for size in sorted({batch_size_of(row) for row in rows}):
        here = [row for row in rows if batch_size_of(row) == size]
        arms = sorted({arm_of(row) for row in here})
        for alone in [None] if baseline_arm in arms else arms:
            chosen = here if alone is None else [row for row in here if arm_of(row) == alone]
            found = compare_arms(chosen, alone or baseline_arm, arm_of=arm_of, treatment=treatment)
            comparisons.append(found)
            table += _table(size, found)
    return BatchSizes(tuple(table), tuple(comparisons))


def small_batch_cost(
    rows: Sequence[Row], arm: str = "batch", *, reference: int | None = None, stats: str = "running", arm_of: ArmOf = norm_of
) -> SmallBatchCost:
    """Test accuracy under `stats` of each batch size below the reference minus that of the reference: paired by seed, with Holm's p.

    The reference is the batch size, other than the smallest, with the lowest mean validation loss at its best learning rate: choosing it
    by test accuracy would build a cost in. `best-lr`: each batch size at its own best learning rate; `same-lr`: both at the same.
    `arm="none"` is the control: what small batches cost without batch norm.

    Raises:
        UsageError: the reference is not among the batch sizes, or runs of different settings share batch size, learning rate and seed.
    """
    own = [row for row in rows if arm_of(row) == arm]
    by_size = {size: one_a_cell([row for row in own if batch_size_of(row) == size], arm_of) for size in {batch_size_of(row) for row in own}}
    best = {size: select_lr(by_size[size]) for size in sorted(by_size)}
    chosen = {size: found.lr for size, found in best.items() if found.lr is not None}
    if reference is not None and reference not in chosen:
        there = f"there are {one_of([str(size) for size in chosen])}" if chosen else "there are none"
        raise UsageError(f"No run of {arm} with batch size {reference} has a result; {there}.")
    if len(chosen) < 2:
        nothing = f"There are fewer than two batch sizes of {arm}: nothing to compare."
        return SmallBatchCost(arm, stats, reference, (), nothing, nothing, ())
    if reference is None:
        losses = {size: loss for size in list(chosen)[1:] if (loss := best[size].mean_val_loss) is not None}
        reference = min(losses, key=lambda size: (losses[size], size))
    small = [size for size in chosen if size < reference]
    costs = _costs("best-lr", by_size, {size: chosen[size] for size in [*small, reference]}, reference, stats)
    grids = {size: {score.lr for score in best[size].by_lr} for size in chosen}
    for lr in sorted(grids[reference]):
        costs += _costs("same-lr", by_size, {size: lr for size in [*small, reference] if lr in grids[size]}, reference, stats)
    best_lr = [cost for cost in costs if cost.kind == "best-lr"]
    same_lr = [cost for cost in costs if cost.kind == "same-lr" and cost.lr == chosen[reference]]
    stopped = any(until_target(row) for size in chosen for row in by_size[size] if is_result(row))
    answer = _answer(arm, stats, reference, best_lr, "each at its own best learning rate", stopped)
    answer_same_lr = _answer(arm, stats, reference, same_lr, f"all at its best learning rate {chosen[reference]:g}", stopped)
    absent = [size for size in small if chosen[reference] not in grids[size]]
    if absent and same_lr:
        answer_same_lr += f" Batch {', '.join(map(str, absent))} has no result at it."
    warnings = _warnings(by_size, best, stopped)
    if stats == "running":  # the others do not know the initial ones
        used = {size: {lr, chosen[reference]} for size, lr in chosen.items()}
        finished = {size: [row for row in by_size[size] if lr_of(row) in used[size] and row["status"] == "finished"] for size in used}
        cold = [size for size, here in finished.items() if any(map(is_cold, here))]
        warnings += [cold_at(cold)] * bool(cold)
    return SmallBatchCost(arm, stats, reference, tuple(costs), answer, answer_same_lr, tuple(warnings))


def _table(size: int, found: Comparison) -> list[BatchSizeRow]:
    return [
        BatchSizeRow(
            batch_size=size,
            arm=arm,
            kind=matchup.kind,
            lr=result.lr,
            n=result.n,
            n_diverged=result.n_diverged,
            running=result.accuracy["running"],
            precise=result.accuracy["precise"],
            batch=result.accuracy["batch"],
            steps=result.steps,
            difference=matchup.versus[arm].accuracy["running"] if arm in matchup.versus else None,
            speedup=matchup.versus[arm].speedup if arm in matchup.versus else None,
            ema_warm=result.ema_warm,
        )
        for matchup in (found.headline, *found.same_lr)
        for arm, result in matchup.arms.items()
    ]


def _costs(kind: str, by_size: dict[int, list[Row]], lrs: dict[int, float], reference: int, stats: str) -> list[BatchCost]:
    cells = {size: [row for row in by_size[size] if lr_of(row) == lr] for size, lr in lrs.items()}
    costs = []
    for size in lrs:
        if size != reference:
            pairs = accuracy_pairs(cells[size], cells[reference], stats)
            costs.append(BatchCost(size, reference, kind, lrs[size], lrs[reference], sum(map(is_diverged, cells[size])), pairs, None))
    tested = [index for index, cost in enumerate(costs) if cost.pairs.p is not None]
    for index, p in zip(tested, holm([costs[index].pairs.p or 0.0 for index in tested]), strict=True):
        costs[index] = replace(costs[index], p_holm=p)
    return costs


def _warnings(by_size: dict[int, list[Row]], best: dict[int, BestLr], stopped: bool) -> list[str]:
    found = []
    for size, choice in best.items():
        found += [f"batch {size}: {text}." for text in choice.warnings]
        if choice.on_edge and choice.lr is not None:
            found.append(f"batch {size}: the best lr {choice.lr:g} is on the edge of those tried.")
        diverged = ", ".join(f"{score.n_diverged} of {score.n} at lr {score.lr:g}" for score in choice.by_lr if score.n_diverged)
        if diverged:
            found.append(f"batch {size}: diverged runs: {diverged}; they count as accuracy 0.")
        missing = sum(not is_result(row) for row in by_size[size])
        if missing:
            found.append(f"batch {size}: {missing} of {len(by_size[size])} runs have no result and are left out.")
    trials = {len(choice.by_lr) for choice in best.values()}
    if len(trials) > 1:
        found.append("unequal trials: the batch sizes were not tried with equally many learning rates.")
    elif trials == {1}:
        found.append("one learning rate a batch size: nothing was tuned.")
    results = [row for size in sorted(by_size) for row in by_size[size] if is_result(row)]
    found.append(STOPPED if stopped else budget(results))
    differing = varying(results, ("config.train.batch_size",))
    if differing:
        found.append(f"the runs also differ in {', '.join(key.removeprefix('config.') for key in differing)}.")
    return found


def _answer(arm: str, stats: str, reference: int, costs: Sequence[BatchCost], rates: str, stopped: bool) -> str:
    """Do small batches cost accuracy here? `rates`: at which learning rates; `stopped`: runs ended where they reached their target."""
    known = [cost for cost in costs if cost.pairs.difference is not None]
    if not known:
        return f"No batch size of {arm} below the reference {reference} has runs to pair with it, {rates}: nothing to compare."
    if stopped:  # all end near the target, whatever the batch size did to them
        return (
            f"Accuracies of runs that stopped at their target do not tell what small batches cost (arm {arm}, {rates}); "
            "see the steps to target."
        )

    def shown(cost: BatchCost) -> str:
        detail = evidence(cost.pairs, cost.p_holm, len(known)) + (f"; {cost.n_diverged} diverged, counted as 0" if cost.n_diverged else "")
        return f"batch {cost.batch_size}: {points(cost.pairs.difference or 0.0)} points ({detail})"

    few = min(cost.pairs.n for cost in known)
    worse = [cost for cost in known if cost.pairs.excludes_zero and (cost.pairs.difference or 0.0) < 0]
    better = [cost for cost in known if cost.pairs.excludes_zero and (cost.pairs.difference or 0.0) > 0]
    against = f"against batch {reference}, {rates}, test accuracy with {stats} statistics"
    listed = ", ".join(map(shown, known))
    if few < ENOUGH_SEEDS:
        return f"n = {seeds(few)}: too few to say whether small batches cost accuracy (arm {arm}); {against}: {listed}."
    if worse:
        sure = any(cost.p_holm is not None and cost.p_holm <= SIGNIFICANT for cost in worse)
        lead = "Yes" if sure else f"It looks so, but with {seeds(few)} not beyond doubt"
        return f"{lead}: small batches cost accuracy here (arm {arm}), namely batch {_sizes(worse)}; {against}: {listed}."
    if better:
        return f"No: accuracy is even better here (arm {arm}) at batch {_sizes(better)}; {against}: {listed}."
    return f"No cost of small batches is shown here (arm {arm}), as every interval includes 0; {against}: {listed}."


def _sizes(costs: Sequence[BatchCost]) -> str:
    return ", ".join(str(cost.batch_size) for cost in costs)
