"""Across batch sizes: the table, and whether small batches cost accuracy."""

from __future__ import annotations

import dataclasses
import json
import random
from typing import Any

import pytest
from test_analysis_rows import make_row

from bnexp.analysis import by_batch_size, compare_arms, small_batch_cost
from bnexp.analysis.words import STOPPED
from bnexp.errors import UsageError
from bnexp.files import dump_json, finite

NOISE = [0.004, -0.007, 0.001, 0.006, -0.003, 0.002, -0.005, 0.008, -0.001, 0.003]
SIZES = (2, 8, 32, 128)


def study(cost: float = 0.05, n: int = 10, sizes: tuple[int, ...] = SIZES, **more: Any) -> list[dict[str, Any]]:
    """BN loses `cost` at batch 2; batch 32 is best on validation by a hair; lr 0.1 is best everywhere."""
    rows = []
    for size in sizes:
        for lr in (0.03, 0.1, 0.3):
            for seed in range(n):
                own = NOISE[(seed * size + 1) % 10] / 2
                acc = 0.9 + NOISE[seed] + own - 0.1 * abs(lr - 0.1)
                rows.append(
                    make_row(
                        "batch", lr, seed, size, acc=acc - cost * (size == 2), val__loss=0.1 + 0.001 * (size != 32) + abs(lr - 0.1), **more
                    )
                )
                rows.append(make_row("none", lr, seed, size, acc=acc - 0.02 + own, **more))
    return rows


def test_the_table_has_every_arm_size_and_rate() -> None:
    rows = study()
    found = by_batch_size(rows)
    assert len(found.table) == 4 * 2 * (1 + 3)
    assert [c.batch_sizes for c in found.comparisons] == [(size,) for size in SIZES]
    row = next(r for r in found.table if (r.batch_size, r.arm, r.kind) == (8, "batch", "best-lr"))
    twin = compare_arms([r for r in rows if r["config.train.batch_size"] == 8], "none").headline
    assert (row.lr, row.n, row.running, row.steps) == (0.1, 10, twin.arms["batch"].accuracy["running"], twin.arms["batch"].steps)
    assert row.difference == twin.versus["batch"].accuracy["running"]
    assert all(r.difference is None and r.speedup is None for r in found.table if r.arm == "none")
    json.loads(dump_json(finite(dataclasses.asdict(found))))


def test_a_batch_size_without_the_baseline_stands_alone() -> None:
    rows = [r for r in study(n=2) if (r["config.model.norm"], r["config.train.batch_size"]) != ("none", 8)]
    found = by_batch_size(rows)
    alone = [r for r in found.table if r.batch_size == 8]
    assert {(r.arm, r.difference) for r in alone} == {("batch", None)}
    assert len(alone) == 1 + 3


def test_small_batches_that_cost_are_found() -> None:
    found = small_batch_cost(study())
    best = [cost for cost in found.costs if cost.kind == "best-lr"]
    assert (found.reference, [cost.batch_size for cost in best]) == (32, [2, 8])
    assert best[0].pairs.difference == pytest.approx(-0.05, abs=0.01)
    assert best[0].pairs.p is not None
    assert best[0].p_holm == pytest.approx(2 * best[0].pairs.p)
    assert found.answer.startswith("Yes: small batches cost accuracy here (arm batch), namely batch 2; against batch 32")
    assert len([cost for cost in found.costs if cost.kind == "same-lr"]) == 3 * 2
    assert "equal epochs (10), not steps: smaller batches make more updates in them." in found.warnings
    shuffled = study()
    random.Random(0).shuffle(shuffled)
    assert small_batch_cost(shuffled) == found


def test_no_cost_is_a_result_too() -> None:
    assert small_batch_cost(study(cost=0.0)).answer.startswith("No cost of small batches is shown here (arm batch)")
    assert small_batch_cost(study(), "none").answer.startswith("No cost of small batches is shown here (arm none)")
    assert small_batch_cost(study(cost=-0.05)).answer.startswith("No: accuracy is even better here (arm batch) at batch 2")


def test_few_seeds_say_so() -> None:
    assert small_batch_cost(study(n=5)).answer.startswith("It looks so, but with 5 seeds not beyond doubt")
    assert small_batch_cost(study(n=3)).answer.startswith("n = 3 seeds: too few to say")


def test_the_reference_is_never_chosen_on_test_data() -> None:
    rng = random.Random(0)
    rows = [{key: rng.random() if key.startswith("test.") else value for key, value in row.items()} for row in study()]
    assert small_batch_cost(rows).reference == 32
    assert small_batch_cost(study(), reference=128).reference == 128
    with pytest.raises(UsageError, match="No run of batch with batch size 64 has a result; there are 2, 8, 32 or 128"):
        small_batch_cost(study(), reference=64)


def test_the_smallest_is_compared_even_where_validation_likes_it_best() -> None:
    rows = [{**r, "val.loss": 0.01} if r["config.train.batch_size"] == 2 else r for r in study()]
    assert small_batch_cost(rows).reference == 32


def test_divergence_and_missing_runs_are_told() -> None:
    def change(row: dict[str, Any]) -> dict[str, Any]:
        if row["config.train.batch_size"] == 2 and row["config.model.norm"] == "batch" and row["seed"] < 3:
            return {**row, "status": "diverged"}
        return {**row, "status": "failed"} if row["config.train.batch_size"] == 8 and row["seed"] == 9 else row

    found = small_batch_cost([change(row) for row in study()])
    assert found.costs[0].n_diverged == 3
    assert "3 diverged, counted as 0" in found.answer
    assert any("batch 2: diverged runs: 3 of 10 at lr 0.03" in text for text in found.warnings)
    assert any("batch 8: 3 of 30 runs have no result" in text for text in found.warnings)


def test_too_few_batch_sizes() -> None:
    assert "fewer than two batch sizes" in small_batch_cost(study(sizes=(8,))).answer
    assert "fewer than two batch sizes" in small_batch_cost([]).answer
    assert "nothing to compare" in small_batch_cost(study(), reference=2).answer
    steps = small_batch_cost(study(config__train__steps=100, config__train__epochs=None))
    assert not any("epochs" in text for text in steps.warnings)
    assert "equal steps (100): smaller batches see fewer images in them." in steps.warnings
    untuned = small_batch_cost([r for r in study() if r["config.optim.lr"] == 0.1])
    assert any("nothing was tuned" in text for text in untuned.warnings)


def test_equal_steps_may_be_spelled_as_epochs() -> None:
    rows = study(budget__steps=400)
    rows = [{**r, "config.train.epochs": None, "config.train.steps": 400} if r["config.train.batch_size"] != 32 else r for r in rows]
    found = small_batch_cost(rows)
    assert "equal steps (400): smaller batches see fewer images in them." in found.warnings
    assert not any("differ" in text or "epochs" in text for text in found.warnings)
    mixed = small_batch_cost([{**r, "budget.steps": None} for r in rows]).warnings
    assert "unequal budgets: the runs were given neither equal steps nor equal epochs." in mixed
    assert "the runs also differ in train.epochs, train.steps." in mixed


def best_at(size: int, lr: float) -> list[dict[str, Any]]:
    """The study, with another learning rate best for one batch size."""
    return [{**r, "val.loss": 0.1 + abs(r["config.optim.lr"] - lr)} if r["config.train.batch_size"] == size else r for r in study()]


def test_both_answers_say_at_which_rates() -> None:
    found = small_batch_cost(best_at(2, 0.3))
    assert [cost.lr for cost in found.costs if cost.kind == "best-lr"] == [0.3, 0.1]
    assert "against batch 32, each at its own best learning rate, test accuracy with running statistics: batch 2: " in found.answer
    assert found.answer_same_lr.startswith(
        "Yes: small batches cost accuracy here (arm batch), namely batch 2; against batch 32, all at its "
    )
    assert "all at its best learning rate 0.1, test accuracy with running statistics: batch 2: " in found.answer_same_lr
    twins = [cost for cost in found.costs if cost.kind == "same-lr" and cost.lr == 0.1]
    assert f"{100 * (twins[0].pairs.difference or 0):+.2f} points" in found.answer_same_lr
    assert "Holm's p over 2 tests" in found.answer_same_lr


def test_a_batch_size_without_the_reference_rate_is_named() -> None:
    rows = [r for r in study() if (r["config.train.batch_size"], r["config.optim.lr"]) != (2, 0.1)]
    assert small_batch_cost(rows).answer_same_lr.endswith(". Batch 2 has no result at it.")
    rows = [r for r in rows if (r["config.train.batch_size"], r["config.optim.lr"]) != (8, 0.1)]
    assert small_batch_cost(rows).answer_same_lr == (
        "No batch size of batch below the reference 32 has runs to pair with it, all at its best learning rate 0.1: nothing to compare."
    )


def cold_from(size: int) -> list[dict[str, Any]]:
    return [{**row, "running_statistics.warm": row["config.train.batch_size"] < size} for row in study()]


def test_cold_running_statistics_weaken_the_verdict_that_rests_on_them() -> None:
    note = "running statistics are cold at batch 32, 128: their initial (0, 1) still weighs more than 1 %; see the precise or batch ones."
    assert small_batch_cost(cold_from(32)).warnings[-1] == note
    assert not any("cold" in text for text in small_batch_cost(cold_from(32), stats="batch").warnings)
    assert not any("cold" in text for text in small_batch_cost(study()).warnings)
    unused = [{**row, "running_statistics.warm": row["config.optim.lr"] != 0.3} for row in study()]
    assert not any("cold" in text for text in small_batch_cost(unused).warnings)
    table = by_batch_size(cold_from(32)).table
    assert {(row.batch_size, row.ema_warm) for row in table} == {(2, True), (8, True), (32, False), (128, False)}


def test_a_diverged_run_is_not_cold() -> None:
    rows = [{**row, "status": "diverged", "running_statistics.warm": False} if row["seed"] == 0 else row for row in study()]
    assert all(row.ema_warm for row in by_batch_size(rows).table)
    assert not any("cold" in text for text in small_batch_cost(rows).warnings)


def test_runs_that_stopped_at_their_target_do_not_tell_what_small_batches_cost() -> None:
    found = small_batch_cost(study(budget__until_target=True))
    assert found.costs == small_batch_cost(study()).costs
    for answer, rates in ((found.answer, "each at its own best"), (found.answer_same_lr, "all at its best")):
        assert answer.startswith(
            f"Accuracies of runs that stopped at their target do not tell what small batches cost (arm batch, {rates} learning rate"
        )
        assert not any(word in answer for word in ("Yes", "No", "looks so"))
    assert STOPPED in found.warnings
    assert not any("equal epochs" in text for text in found.warnings)
    assert STOPPED not in small_batch_cost(study()).warnings
