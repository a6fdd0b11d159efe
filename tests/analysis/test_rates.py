"""The best learning rate, chosen on validation alone, and the largest stable one."""

from __future__ import annotations

import math
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import make_result, with_values

from bnexp.analysis import BestLr, LrReach, StableLr, largest_stable_lr, select_lr, stable_factor
from bnexp.storage.result import STATS, RunResult

INF = math.inf
Accuracies = dict[float, list[float | None]]


def grid(accuracies: Accuracies, **more: Any) -> list[RunResult]:
    """Rows of one arm from {lr: validation accuracy by seed}; None diverged. The validation loss is 1 - accuracy."""
    return [
        make_result(lr=lr, seed=seed, acc=0.1 if acc is None else acc, status="diverged" if acc is None else "finished", **more)
        for lr, accs in accuracies.items()
        for seed, acc in enumerate(accs)
    ]


def test_the_lowest_mean_validation_loss_wins() -> None:
    best = select_lr(grid({0.01: [0.8, 0.8], 0.1: [0.9, 0.92], 1.0: [0.99, 0.7]}))
    assert (best.lr, best.on_edge, best.seeds, best.warnings) == (0.1, False, (0, 1), ())
    assert best.mean_val_loss == pytest.approx(0.09)
    assert [(score.lr, score.n, score.compared) for score in best.by_lr] == [(0.01, 2, True), (0.1, 2, True), (1.0, 2, True)]


def test_ties_go_to_the_smaller_and_edges_are_told() -> None:
    assert select_lr(grid({0.3: [0.9], 0.1: [0.9], 0.03: [0.8]})).lr == 0.1
    assert select_lr(grid({0.3: [0.9], 0.1: [0.8]})).on_edge
    assert select_lr(grid({0.3: [0.8], 0.1: [0.9]})).on_edge
    assert not select_lr(grid({0.3: [0.9]})).on_edge


def test_one_diverged_run_makes_the_mean_infinite() -> None:
    best = select_lr(grid({0.1: [0.5, 0.5, 0.5], 0.3: [0.9, 0.9, None]}))
    assert (best.lr, best.by_lr[1].mean_val_loss, best.by_lr[1].n_diverged) == (0.1, INF, 1)
    not_finite = [*grid({0.1: [0.5]}), make_result(lr=0.3, val__loss=None)]
    assert select_lr(not_finite).lr == 0.1


def test_between_infinite_means_fewer_diverged_runs_win() -> None:
    best = select_lr(grid({0.01: [None, None, 0.9], 0.1: [0.8, 0.8, None], 0.3: [0.9, 0.9, None], 1.0: [None, None, None]}))
    assert (best.lr, best.mean_val_loss) == (0.3, INF)
    assert "infinite validation loss" in best.warnings[0]
    assert select_lr(grid({0.1: [None], 0.3: [None]})).lr == 0.1


def test_only_equal_seed_sets_compare() -> None:
    base = grid({0.1: [0.9, 0.9, 0.9, 0.9, 0.5], 0.3: [0.89, 0.89, 0.89, 0.89, 0.89]})
    assert select_lr(base).lr == 0.3
    lost = [row if row.id != "batch-bs32-lr0.3-s4" else make_result(lr=0.3, seed=4, status="failed") for row in base]
    best = select_lr(lost)
    assert (best.lr, best.seeds) == (0.1, (0, 1, 2, 3))
    assert "leaves out seed 4" in best.warnings[0]
    stray = select_lr([*base, make_result(lr=1.0, seed=0, acc=0.99)])
    assert (stray.lr, stray.seeds, stray.by_lr[2].compared) == (0.3, (0, 1, 2, 3, 4), False)
    assert "lr 1 left out" in stray.warnings[0]
    apart = select_lr([make_result(lr=0.1, seed=7, acc=0.5), make_result(lr=0.3, seed=8, acc=0.9)])
    assert (apart.lr, apart.seeds) == (0.1, (7,))  # nothing compares; the choice is at least the same every time


def test_no_result_no_choice() -> None:
    best = select_lr([make_result(status="failed")])
    assert (best.lr, best.mean_val_loss, best.by_lr, best.warnings) == (None, None, (), ("no run has a result",))
    assert largest_stable_lr([make_result(status="running")]) == StableLr(None, None, {}, ())


ROWS = st.dictionaries(
    st.sampled_from([0.01, 0.03, 0.1, 0.3]),
    st.lists(st.one_of(st.none(), st.integers(0, 50).map(lambda n: n / 50)), min_size=1, max_size=4),
    min_size=1,
)


@given(ROWS, st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=60)
def test_the_choice_looks_at_validation_only_and_not_at_the_order(accuracies: Accuracies, rng: random.Random) -> None:
    rows = grid(accuracies)
    best, stable = select_lr(rows), largest_stable_lr(rows)
    shuffled = [with_values(row, **{f"test.{stats}.accuracy": rng.random() for stats in STATS}) for row in rows]
    rng.shuffle(shuffled)
    assert select_lr(shuffled) == best
    assert largest_stable_lr(shuffled) == stable
    assert isinstance(best, BestLr)
    assert best.lr in accuracies
    assert stable.by_seed == {seed: bracket_by_loop(accuracies, seed) for seed in best.seeds}
    assert (stable.lr, stable.unstable_lr) == sorted(stable.by_seed.values())[(len(best.seeds) - 1) // 2]


def bracket_by_loop(accuracies: Accuracies, seed: int) -> tuple[float, float]:
    """Upwards from the seed's best learning rate until one is unstable; a diverged run is none that counts."""
    score = {lr: -1.0 if (acc := own[seed]) is None else acc for lr, own in sorted(accuracies.items()) if seed < len(own)}
    compared = [score.lr for score in select_lr(grid(accuracies)).by_lr if score.compared]
    best = max(compared, key=lambda lr: (score[lr], -lr))
    if score[best] <= 0:
        return 0.0, compared[0]
    stable = best
    for lr in compared[compared.index(best) + 1 :]:
        if score[lr] < 0.8 * score[best]:
            return stable, lr
        stable = lr
    return stable, INF


@pytest.mark.parametrize(
    ("accuracies", "bracket"),
    [
        ({0.01: [0.9] * 5, 0.1: [0.95] * 5, 0.3: [0.8] * 5, 1.0: [0.5] * 5}, (0.3, 1.0)),
        ({0.01: [0.9] * 5, 0.1: [0.95] * 5, 0.3: [0.8] * 5}, (0.3, INF)),  # the edge: the truth lies beyond
        ({0.1: [0.95] * 5, 0.3: [0.5] * 5, 1.0: [0.9] * 5}, (0.1, 0.3)),  # a hole: what lies beyond does not count
        ({0.01: [0.1] * 5, 0.1: [0.95] * 5, 0.3: [0.5] * 5}, (0.1, 0.3)),  # one below the best does not matter
        ({0.1: [0.95] * 5, 0.3: [0.9, 0.9, 0.9, 0.9, None]}, (0.3, INF)),  # the median seed
        ({0.1: [0.95] * 5, 0.3: [0.9, 0.9, 0.7, 0.7, None]}, (0.1, 0.3)),
        ({0.1: [0.95], 0.3: [None]}, (0.1, 0.3)),
        ({0.1: [0.95]}, (0.1, INF)),
        ({0.1: [None] * 5, 0.3: [None] * 5}, (0.0, 0.1)),  # unstable everywhere
        ({0.1: [0.9, 0.9, None], 0.3: [None, None, 0.9]}, (0.1, 0.3)),  # each seed by its own best rate
    ],
)
def test_the_bracket_of_the_largest_stable_lr(accuracies: Accuracies, bracket: tuple[float, float]) -> None:
    found = largest_stable_lr(grid(accuracies))
    assert (found.lr, found.unstable_lr) == bracket
    assert found.at_edge == math.isinf(bracket[1])


def test_stable_is_measured_against_the_best_accuracy_on_the_way() -> None:
    """What is reached is the end of training; what is to be reached is the best on the way."""
    rows = [make_result(lr=0.1, acc=0.9, val__best_accuracy=0.95), make_result(lr=0.3, acc=0.75, val__best_accuracy=0.9)]
    found = largest_stable_lr(rows)
    assert found.by_lr == (LrReach(0.1, 1, 1), LrReach(0.3, 1, 0))
    assert (found.by_lr[0].stable, found.by_lr[1].stable) == (True, False)
    assert (found.lr, found.unstable_lr) == (0.1, 0.3)
    sunk = largest_stable_lr([make_result(lr=0.1, acc=0.7, val__best_accuracy=0.95)])
    assert (sunk.lr, sunk.unstable_lr) == (0, 0.1)


def test_a_seed_at_chance_is_stable_nowhere() -> None:
    rows = [make_result(lr=lr, acc=0.1, train__accuracy=0.1, train__images=1293, test__chance=0.1) for lr in (0.1, 0.3)]
    found = largest_stable_lr(rows)
    assert (found.lr, found.unstable_lr) == (0, 0.1)


def stable(*brackets: tuple[float, float]) -> StableLr:
    middle = sorted(brackets)[(len(brackets) - 1) // 2]
    return StableLr(*middle, dict(enumerate(brackets)), ())


@pytest.mark.parametrize(
    ("arm", "baseline", "low", "high"),
    [
        ((1.0, 3.0), (0.1, 0.3), 1 / 0.3, 3 / 0.1),  # at least 1 over 0.3, at most 3 over 0.1
        ((0.1, 0.3), (1.0, 3.0), 0.1 / 3, 0.3),
        ((3.0, INF), (0.1, 0.3), 10, INF),
        ((1.0, 3.0), (0.0, 0.003), 1 / 0.003, INF),
        ((1.0, 3.0), (1.0, 3.0), 1 / 3, 3),
        ((3.0, INF), (3.0, INF), 0, INF),
        ((0.0, 0.003), (0.0, 0.003), 0, INF),
    ],
)
def test_the_factor_of_stable_lrs_counts_the_whole_brackets(
    arm: tuple[float, float], baseline: tuple[float, float], low: float, high: float
) -> None:
    found = stable_factor(stable(*[arm] * 10), stable(*[baseline] * 10))
    assert (found.low, found.high) == (pytest.approx(low), pytest.approx(high))
    assert found.p == pytest.approx(2 / 2**10 if low > 1 or high < 1 else 1.0)
    assert found.shown == (low > 1 or high < 1)
    assert found.method == "sign"
    assert found.low is not None
    assert found.high is not None
    assert found.factor is not None
    assert found.low <= found.factor <= found.high


def test_seeds_that_disagree_or_are_few_show_no_factor() -> None:
    up, down = (1.0, 3.0), (0.1, 0.3)
    assert not stable_factor(stable(*[up] * 5), stable(*[down] * 5)).shown  # five signs have p 0.0625
    assert not stable_factor(stable(*[up] * 8, down, down), stable(*[down] * 8, up, up)).shown
    assert stable_factor(stable(*[up] * 9, down), stable(*[down] * 10)).shown  # one seed in the same bracket as the baseline
    nothing = stable_factor(StableLr(None, None, {}, ()), stable(down))
    assert (nothing.n, nothing.factor, nothing.shown) == (0, None, False)
