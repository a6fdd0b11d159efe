"""Arms against a baseline: each at its own best learning rate (the headline), and all at the same one (beside it).

The learning rate is chosen on validation data, runs are paired by seed, a diverged run
counts, and whatever makes the comparison weaker than it looks stands in `warnings`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from bnexp.analysis import words
from bnexp.analysis.pairs import Cell, Paired, cell, holm, paired
from bnexp.analysis.rates import BestLr, Factor, StableLr, largest_stable_lr, select_lr, stable_factor
from bnexp.analysis.rows import (
    NORM,
    STATS,
    ArmOf,
    Row,
    accuracy,
    batch_size_of,
    budget_of,
    by_seed,
    gap,
    is_cold,
    is_diverged,
    is_result,
    lr_of,
    norm_of,
    number,
    one_a_cell,
    steps_to_target,
    until_target,
    val_loss,
    varying,
)
from bnexp.analysis.target import Quartiles, Ratio, quartiles_to_target, ratio_to_target
from bnexp.errors import UsageError, did_you_mean, one_of


@dataclass(frozen=True)
class ArmResult:
    """One arm at one learning rate. Accuracies are shares, steps are updates, losses are nats an example."""

    arm: str
    lr: float
    n: int
    n_diverged: int
    n_missing: int
    """Runs that failed, were interrupted or are still going: no results."""
    accuracy: dict[str, Cell]
    """Test accuracy by statistics (running, precise, batch), diverged runs as 0."""
    accuracy_finished: dict[str, Cell]
    """The same over the runs that did not diverge."""
    val_loss: Cell
    steps: Quartiles
    gap: Cell
    """Generalization gap over the runs that did not diverge: training minus test accuracy."""
    parameters: int | None
    ema_warm: bool
    """Every finished run's running statistics have forgotten their initial (0, 1)."""


@dataclass(frozen=True)
class Versus:
    """An arm against the baseline, seed by seed."""

    arm: str
    baseline: str
    accuracy: dict[str, Paired]
    """Test accuracy, arm minus baseline, by statistics; diverged runs as 0."""
    accuracy_finished: Paired
    """Under running statistics, over the seeds at which both finished."""
    p_holm: float | None
    """p under running statistics, adjusted over the arms that are compared with the baseline here."""
    speedup: Ratio
    """Steps to target of the baseline over those of the arm: above 1 the arm is faster."""
    gap: Paired


@dataclass(frozen=True)
class Matchup:
    """The arms side by side: `best-lr`, each at its own, or `same-lr`, all at `lr`."""

    kind: str
    lr: float | None
    arms: dict[str, ArmResult]
    versus: dict[str, Versus]


@dataclass(frozen=True)
class Comparison:
    """What `compare_arms` found. `dataclasses.asdict` makes it plain; infinities are left in it."""

    baseline: str
    arms: tuple[str, ...]
    batch_sizes: tuple[int, ...]
    best_lr: dict[str, BestLr]
    headline: Matchup
    same_lr: tuple[Matchup, ...]
    stable_lr: dict[str, StableLr]
    stable_factor: dict[str, Factor]
    """Largest stable learning rate of each arm over the baseline's."""
    warnings: tuple[str, ...]
    verdict: str


def compare_arms(
    rows: Sequence[Row],
    baseline_arm: str,
    arms: Sequence[str] | None = None,
    *,
    arm_of: ArmOf = norm_of,
    treatment: Sequence[str] = NORM,
) -> Comparison:
    """Compares each arm with the baseline. Differences are arm minus baseline.

    Args:
        arms: which to compare, the baseline left out or not; None: all that are there.
        arm_of: the arm's label of a row.
        treatment: the config keys that the arms differ in by intention; any other difference is warned of.

    Raises:
        UsageError: an arm has no runs, or runs of different settings share arm, learning rate and seed.
    """
    names = arm_names(rows, baseline_arm, arms, arm_of)
    rows = one_a_cell([row for row in rows if arm_of(row) in names], arm_of)
    by_arm = {arm: [row for row in rows if arm_of(row) == arm] for arm in names}
    best = {arm: select_lr(by_arm[arm]) for arm in names}
    stable = {arm: largest_stable_lr(by_arm[arm]) for arm in names}
    grids = {arm: {score.lr for score in best[arm].by_lr} for arm in names}
    common = sorted(set.intersection(*grids.values()))
    chosen = {arm: lr for arm in names if (lr := best[arm].lr) is not None}
    headline = _matchup("best-lr", None, by_arm, chosen, baseline_arm)
    results = [row for row in rows if is_result(row)]
    differing = varying(results, treatment)
    comparison = Comparison(
        baseline=baseline_arm,
        arms=tuple(names),
        batch_sizes=tuple(sorted({batch_size_of(row) for row in rows})),
        best_lr=best,
        headline=headline,
        same_lr=tuple(_matchup("same-lr", lr, by_arm, dict.fromkeys(names, lr), baseline_arm) for lr in common),
        stable_lr=stable,
        stable_factor={arm: stable_factor(stable[arm], stable[baseline_arm]) for arm in names[1:]},
        warnings=(),
        verdict="",
    )
    sizes = {batch_size_of(row) for row in results}
    budget = words.STOPPED if any(map(until_target, results)) else words.budget(results) if len(sizes) > 1 else None
    missing = {arm: [lr_of(row) for row in by_arm[arm] if not is_result(row)] for arm in names}
    return replace(comparison, warnings=tuple(words.warnings(comparison, differing, missing, budget)), verdict=words.verdict(comparison))


def arm_names(rows: Sequence[Row], baseline_arm: str, arms: Sequence[str] | None, arm_of: ArmOf) -> list[str]:
    """The baseline, then the others as they were asked for; without `arms` all that are there.

    Raises:
        UsageError: an arm has no runs.
    """
    there = sorted({arm_of(row) for row in rows})
    names = list(dict.fromkeys([baseline_arm, *(there if arms is None else arms)]))
    for arm in names:
        if arm not in there:
            choices = f"there are {one_of(there)}" if there else "there are no runs"
            raise UsageError(f"No run belongs to the arm '{arm}'; {choices}.{did_you_mean(arm, there)}")
    return names


def _matchup(kind: str, lr: float | None, by_arm: Mapping[str, Sequence[Row]], chosen: Mapping[str, float], baseline: str) -> Matchup:
    """The arms at their `chosen` learning rates; an arm without one has no results and is left out."""
    cells = {arm: [row for row in by_arm[arm] if lr_of(row) == chosen[arm]] for arm in chosen}
    results = {arm: _arm_result(arm, chosen[arm], rows) for arm, rows in cells.items()}
    if baseline not in cells:
        return Matchup(kind, lr, results, {})
    versus = {arm: _versus(arm, rows, baseline, cells[baseline]) for arm, rows in cells.items() if arm != baseline}
    tested = {arm: p for arm, found in versus.items() if (p := found.accuracy["running"].p) is not None}
    adjusted = dict(zip(tested, holm(list(tested.values())), strict=True))
    return Matchup(kind, lr, results, {arm: replace(found, p_holm=adjusted.get(arm)) for arm, found in versus.items()})


def _arm_result(arm: str, lr: float, rows: Sequence[Row]) -> ArmResult:
    results = [row for row in rows if is_result(row)]
    finished = [row for row in results if not is_diverged(row)]
    sizes = {size for row in results if (size := number(row, "parameters")) is not None}
    return ArmResult(
        arm=arm,
        lr=lr,
        n=len(results),
        n_diverged=len(results) - len(finished),
        n_missing=len(rows) - len(results),
        accuracy={stats: accuracy_cell(results, stats) for stats in STATS},
        accuracy_finished={stats: accuracy_cell(finished, stats) for stats in STATS},
        val_loss=cell(list(by_seed(results, val_loss).values())),
        steps=quartiles_to_target(list(by_seed(results, steps_to_target).values())),
        gap=cell(list(by_seed(finished, gap).values())),
        parameters=int(sizes.pop()) if len(sizes) == 1 else None,
        ema_warm=not any(map(is_cold, finished)),
    )


def accuracy_cell(rows: Sequence[Row], stats: str) -> Cell:
    """Test accuracy under `stats` over the results among `rows`."""
    return cell(list(by_seed(rows, lambda row: accuracy(row, stats)).values()))


def accuracy_pairs(rows: Sequence[Row], others: Sequence[Row], stats: str) -> Paired:
    """Test accuracy under `stats`, `rows` minus `others`, by seed."""
    return paired(by_seed(rows, lambda row: accuracy(row, stats)), by_seed(others, lambda row: accuracy(row, stats)))


def _versus(arm: str, rows: Sequence[Row], baseline: str, base_rows: Sequence[Row]) -> Versus:
    finished = [[row for row in side if is_result(row) and not is_diverged(row)] for side in (rows, base_rows)]
    steps = by_seed(rows, steps_to_target), by_seed(base_rows, steps_to_target)
    return Versus(
        arm=arm,
        baseline=baseline,
        accuracy={stats: accuracy_pairs(rows, base_rows, stats) for stats in STATS},
        accuracy_finished=accuracy_pairs(finished[0], finished[1], "running"),
        p_holm=None,
        speedup=ratio_to_target(steps[1], steps[0], _budget([*rows, *base_rows])),
        gap=paired(by_seed(rows, gap), by_seed(base_rows, gap)),
    )


def _budget(rows: Sequence[Row]) -> float | None:
    """Updates that every run was given: the smallest budget among them. Where it is not recorded, a finished run's `steps`; those of a
    diverged run, or of one that stopped at its target, say where it ended and not what it had."""
    given = [budget_of(row) or (number(row, "steps") if row["status"] == "finished" else None) for row in rows if is_result(row)]
    known = [steps for steps in given if steps]
    return min(known) if known else None
