"""Each seed chooses its own learning rate: the choice against a loop, from validation alone, and what it does to an arm against itself."""

from __future__ import annotations

import math
import random

from hypothesis import given, settings
from hypothesis import strategies as st
from support import make_result, with_values

from bnexp.analysis import select_lr, tune
from bnexp.storage.result import STATS, RunResult

Rows = list[RunResult]
RUN = st.tuples(st.integers(0, 6), st.sampled_from([None, 8, 16, 24, 40]), st.sampled_from(["finished", "finished", "diverged", "failed"]))
GRID = st.dictionaries(
    st.sampled_from([0.01, 0.03, 0.1, 0.3]), st.dictionaries(st.integers(0, 4), RUN, min_size=1, max_size=5), min_size=1, max_size=4
)


def runs_of(grid: dict[float, dict[int, tuple[int, int | None, str]]]) -> Rows:
    """Coarse losses and steps, so that there are ties; each target was last missed 8 steps before."""
    return [
        make_result(
            lr=lr,
            seed=seed,
            status=status,
            val__loss=loss / 6,
            target__reached_step=step,
            target__previous_step=None if step is None else step - 8,
        )
        for lr, own in grid.items()
        for seed, (loss, step, status) in own.items()
    ]


@given(GRID, st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=100)
def test_tuning_is_a_loop_over_seeds_and_learning_rates(
    grid: dict[float, dict[int, tuple[int, int | None, str]]], rng: random.Random
) -> None:
    rows = runs_of(grid)
    best = select_lr(rows)
    found = tune(rows, best)
    assert found.lrs == tuple(score.lr for score in best.by_lr if score.compared)
    assert sorted(found.runs) == sorted(found.steps) == list(best.seeds)
    for seed in best.seeds:
        lowest, chosen = math.inf, None
        before, first, fastest = math.inf, math.inf, None
        for lr in sorted(found.lrs):
            loss, step, status = grid[lr][seed]
            assert status != "failed"  # every seed has a result at every rate that is compared
            loss_here = math.inf if status == "diverged" else loss / 6
            if chosen is None or loss_here < lowest:
                lowest, chosen = loss_here, lr
            reached = status == "finished" and step is not None
            before = min(before, step - 8 if reached else 0)  # a miss would have needed more than its budget, which is not recorded here
            if reached and step < first:
                first, fastest = step, lr
        assert found.runs[seed].lr == chosen
        assert found.steps[seed] == (before, first)
        assert found.fastest.get(seed) == fastest
    shuffled = [with_values(row, **{f"test.{stats}.accuracy": rng.random() for stats in STATS}) for row in rows]
    rng.shuffle(shuffled)
    other = tune(shuffled, best)
    assert (other.steps, other.fastest, other.picked()) == (found.steps, found.fastest, found.picked())  # test scores choose nothing


def test_how_often_each_rate_was_chosen() -> None:
    losses = {0.1: [0.1, 0.2, 0.3], 0.3: [0.2, 0.1, 0.2]}
    steps = {0.1: [10, None, None], 0.3: [20, 20, None]}
    rows = [
        make_result(lr=lr, seed=seed, val__loss=losses[lr][seed], target__reached_step=steps[lr][seed])
        for lr in losses
        for seed in range(3)
    ]
    found = tune(rows, select_lr(rows))
    assert (found.picked(), found.picked_fastest()) == ({0.1: 1, 0.3: 2}, {0.1: 1, 0.3: 1})
    assert tune([], select_lr([])).runs == {}


def test_a_seed_that_a_rate_lacks_has_no_unequal_choice() -> None:
    """With one rate missing, a seed would choose among fewer: it is left out, as everywhere else."""
    rows = [make_result(lr=lr, seed=seed, val__loss=lr) for lr in (0.1, 0.3) for seed in range(4)]
    found = tune(rows[:-1], select_lr(rows[:-1]))
    assert sorted(found.runs) == [0, 1, 2]
