"""Arms against a baseline: each seed at the learning rate that it chose for itself (the headline), and all at the same one (beside it,
with intervals and without tests: with seven learning rates they would be nine tenths of what is corrected for).

The learning rate is chosen on validation data inside each seed, runs are paired by seed, failures are counted as rates, and whatever makes
the comparison weaker than it looks stands in `warnings`. What may be stated is decided by `pairs.with_holm` over everything a command
computes, and worded by `sentences`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from operator import attrgetter

from bnexp.analysis import notes
from bnexp.analysis.aggregate import aggregate
from bnexp.analysis.arms import arm_names
from bnexp.analysis.failures import compare_failures
from bnexp.analysis.grouping import NORM, ArmOf, by_seed, norm_of, one_a_cell, resolution_of, varying
from bnexp.analysis.images import crossed
from bnexp.analysis.pairs import Paired, described, equivalence, paired
from bnexp.analysis.rates import BestLr, largest_stable_lr, select_lr, stable_factor
from bnexp.analysis.results import Aggregate, Comparison, Matchup, Versus
from bnexp.analysis.target import Interval, ratio_to_target
from bnexp.analysis.tuning import tune
from bnexp.storage.result import STATS, RunResult


def compare_arms(
    runs: Sequence[RunResult],
    baseline_arm: str,
    arms: Sequence[str] | None = None,
    *,
    arm_of: ArmOf = norm_of,
    treatment: Sequence[str] = NORM,
    primary: bool = True,
    margin: float | None = None,
) -> Comparison:
    """Compares each arm with the baseline. Differences are arm minus baseline.

    Args:
        arms: which to compare, the baseline left out or not; None: all that have runs.
        arm_of: the arm's label of a run.
        treatment: the config keys that the arms differ in by intention; any other difference is warned of.
        primary: the tuned test accuracy is the question asked in advance; False where it is one of many (a batch size of a sweep).
        margin: differences of test accuracy within -+margin (a share) count as equal: an equivalence is tested for.

    Raises:
        UsageError: an arm has no runs, or runs of different settings share arm, learning rate and seed.
    """
    names = arm_names(runs, baseline_arm, arms, arm_of)
    runs = one_a_cell([run for run in runs if arm_of(run) in names], arm_of)
    by_arm = {arm: [run for run in runs if arm_of(run) == arm] for arm in names}
    best = {arm: select_lr(by_arm[arm]) for arm in names}
    stable = {arm: largest_stable_lr(by_arm[arm]) for arm in names}
    grids = {arm: {score.lr for score in best[arm].by_lr} for arm in names}
    common = sorted(set.intersection(*grids.values()))
    results = [run for run in runs if run.is_result]
    differing = varying(results, treatment)
    tuned = {arm: _tuned(arm, by_arm[arm], best[arm]) for arm in names if best[arm].lr is not None}
    comparison = Comparison(
        baseline=baseline_arm,
        arms=tuple(names),
        batch_sizes=tuple(sorted({run.batch_size for run in runs})),
        best_lr=best,
        headline=_matchup("tuned", None, tuned, baseline_arm, primary, margin),
        same_lr=tuple(described(_matchup("same-lr", lr, {arm: _at(arm, by_arm[arm], lr) for arm in names}, baseline_arm)) for lr in common),
        stable_lr=stable,
        stable_factor={arm: stable_factor(stable[arm], stable[baseline_arm]) for arm in names[1:]},
        warnings=(),
    )
    sizes = {run.batch_size for run in results}
    budget = notes.STOPPED if any(run.until_target for run in results) else notes.budget(results) if len(sizes) > 1 else None
    missing = {arm: [run.lr for run in by_arm[arm] if not run.is_result] for arm in names}
    return replace(comparison, warnings=tuple(notes.warnings(comparison, differing, missing, budget)))


@dataclass(frozen=True)
class _Side:
    """An arm's run of each seed, and when it reached the target."""

    runs: Mapping[int, RunResult]
    steps: Mapping[int, Interval]
    result: Aggregate

    @property
    def trained(self) -> dict[int, RunResult]:
        return {seed: run for seed, run in self.runs.items() if not run.is_failure}


def _tuned(arm: str, runs: Sequence[RunResult], best: BestLr) -> _Side:
    found = tune(runs, best)
    missing = sum(not run.is_result for run in runs)
    counts = {"picked": found.picked(), "fastest": found.picked_fastest()}
    return _Side(found.runs, found.steps, aggregate(list(found.runs.values()), found.steps, missing, arm=arm, **counts))


def _at(arm: str, tried: Sequence[RunResult], lr: float) -> _Side:
    here = [run for run in tried if run.lr == lr]
    runs = {run.seed: run for run in here if run.is_result}
    return _Side(runs, {seed: run.target_interval for seed, run in runs.items()}, aggregate(here, arm=arm, lr=lr, picked={lr: len(runs)}))


def _matchup(
    kind: str, lr: float | None, sides: Mapping[str, _Side], baseline: str, primary: bool = False, margin: float | None = None
) -> Matchup:
    """The arms that have results, each against the baseline."""
    results = {arm: side.result for arm, side in sides.items()}
    if baseline not in sides:
        return Matchup(kind, lr, results, {})
    others = [arm for arm in sides if arm != baseline]
    tests = len(others) if primary else 1
    versus = {arm: _versus(arm, sides[arm], baseline, sides[baseline], primary, tests, margin) for arm in others}
    return Matchup(kind, lr, results, versus)


def accuracy_pairs(runs: Sequence[RunResult], others: Sequence[RunResult], stats: str, *, tests: int = 1, primary: bool = False) -> Paired:
    """Test accuracy under `stats`, `runs` minus `others`, over the seeds at which both trained."""
    sides = [by_seed(side, lambda run: run.accuracy(stats)) for side in (runs, others)]
    return paired(*sides, resolution=resolution_of([*runs, *others]), tests=tests, primary=primary)


def _versus(arm: str, own: _Side, baseline: str, base: _Side, primary: bool, tests: int, margin: float | None) -> Versus:
    runs, base_runs = list(own.runs.values()), list(base.runs.values())
    pairs = {stats: accuracy_pairs(runs, base_runs, stats) for stats in STATS}
    pairs["running"] = accuracy_pairs(runs, base_runs, "running", tests=tests, primary=primary)
    over_images = crossed(pairs["running"], own.trained, base.trained, tests=tests) if primary else None
    resolution = resolution_of([*runs, *base_runs])
    return Versus(
        arm=arm,
        baseline=baseline,
        accuracy=pairs,
        over_images=over_images,
        failures=compare_failures(own.result.failures, base.result.failures),
        speedup=ratio_to_target(base.steps, own.steps),
        gap=paired(by_seed(runs, attrgetter("gap")), by_seed(base_runs, attrgetter("gap")), resolution=resolution),
        equivalence=None if margin is None else equivalence(over_images or pairs["running"], margin, tests),
    )
