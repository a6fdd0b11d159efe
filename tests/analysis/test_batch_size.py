"""Across batch sizes: the table, and whether small batches cost accuracy."""

from __future__ import annotations

import dataclasses
import json
import random
from typing import Any

import pytest
from support import make_result, with_values

from bnexp.analysis import SmallBatchCost, by_batch_size, compare_arms, sentences, small_batch_cost, with_holm
from bnexp.analysis.notes import STOPPED
from bnexp.base.errors import UsageError
from bnexp.base.files import dump_json, null_nonfinite
from bnexp.storage.result import STATS, RunResult

NOISE = [0.004, -0.007, 0.001, 0.006, -0.003, 0.002, -0.005, 0.008, -0.001, 0.003]
SIZES = (2, 8, 32, 128)


def study(cost: float = 0.05, n: int = 10, sizes: tuple[int, ...] = SIZES, **more: Any) -> list[RunResult]:
    """BN loses `cost` at batch 2; batch 32 is best on validation by a hair; lr 0.1 is best everywhere."""
    rows = []
    for size in sizes:
        for lr in (0.03, 0.1, 0.3):
            for seed in range(n):
                own = random.Random(size).sample(NOISE, 10)[seed] / 2
                acc = 0.9 + NOISE[seed] + own - 0.1 * abs(lr - 0.1)
                rows.append(
                    make_result(
                        "batch", lr, seed, size, acc=acc - cost * (size == 2), val__loss=0.1 + 0.001 * (size != 32) + abs(lr - 0.1), **more
                    )
                )
                rows.append(make_result("none", lr, seed, size, acc=acc - 0.02 + own, **more))
    return rows


def said(found: SmallBatchCost) -> tuple[str, str]:
    """The two sentences as a command prints them."""
    return sentences.small_batches(with_holm(found))


def test_every_batch_size_has_every_arm_and_rate() -> None:
    rows = study()
    found = by_batch_size(rows)
    assert [(one.batch_sizes, len(one.headline.arms), len(one.same_lr)) for one in found] == [((size,), 2, 3) for size in SIZES]
    own = found[SIZES.index(8)].headline
    twin = compare_arms([r for r in rows if r.batch_size == 8], "none").headline
    assert (own.arms["batch"].lr, own.arms["batch"].picked, own.arms["batch"].n) == (None, {0.1: 10}, 10)
    assert own.arms == twin.arms
    difference = own.versus["batch"].accuracy["running"]
    assert not difference.primary  # one of four batch sizes
    assert difference == dataclasses.replace(twin.versus["batch"].accuracy["running"], primary=False)
    json.loads(dump_json(null_nonfinite({"found": [dataclasses.asdict(one) for one in found]})))


def test_a_batch_size_without_the_baseline_stands_alone() -> None:
    rows = [r for r in study(n=2) if (r.norm, r.batch_size) != ("none", 8)]
    found = by_batch_size(rows)
    (alone,) = [one for one in found if one.batch_sizes == (8,)]
    assert (alone.arms, alone.headline.versus, len(alone.same_lr)) == (("batch",), {}, 3)


def test_small_batches_that_cost_are_found() -> None:
    found = small_batch_cost(study())
    tuned = found.of("tuned")
    assert (found.reference, [cost.batch_size for cost in tuned]) == (32, [2, 8])
    assert tuned[0].pairs.difference == pytest.approx(-0.05, abs=0.01)
    assert (tuned[0].pairs.primary, tuned[0].lr) == (False, None)
    corrected = with_holm(found).of("tuned")[0].pairs
    assert corrected.p_holm is not None
    assert corrected.p is not None
    assert corrected.p_holm > corrected.p
    answer, _ = said(found)
    assert answer.startswith("Small batches cost accuracy with BN, at batch 2; against batch 32")
    for part in ("on these test images", "each seed at the learning rate that it chose", "batch 8: ", "n = 10 seeds"):
        assert part in answer
    assert len([cost for cost in found.costs if cost.kind == "same-lr"]) == 2
    assert "equal epochs (10), not steps: smaller batches make more updates in them." in found.warnings
    shuffled = study()
    random.Random(0).shuffle(shuffled)
    assert small_batch_cost(shuffled) == found


def test_tuned_costs_let_each_seed_choose_its_rate() -> None:
    """Odd seeds have their lowest loss at 0.3; the pairs are between what each chose."""
    rows = [with_values(r, val__loss=r.val.loss - 0.5 * (r.lr == 0.3 and r.seed % 2 and r.batch_size == 2)) for r in study()]
    cost = small_batch_cost(rows).of("tuned")[0]

    def chosen(size: int, seed: int) -> float:
        own = [r for r in rows if (r.norm, r.batch_size, r.seed) == ("batch", size, seed)]
        return float(min(own, key=lambda r: r.val_loss).test.running.accuracy or 0)

    assert cost.pairs.difference == pytest.approx(sum(chosen(2, seed) - chosen(32, seed) for seed in range(10)) / 10)


def test_no_cost_is_not_shown_with_what_could_have_been() -> None:
    for answer in (*said(small_batch_cost(study(cost=0.0))), *said(small_batch_cost(study(), "none"))):
        assert answer.startswith("No difference between batch sizes is shown with")
        assert "points (with 80 % power, before Holm's correction)" in answer
    assert "without BN" in said(small_batch_cost(study(), "none"))[0]
    assert said(small_batch_cost(study(cost=-0.05)))[0].startswith("Accuracy with BN is better at batch 2; against")


def test_few_seeds_say_so() -> None:
    assert said(small_batch_cost(study(n=3)))[0].startswith("n = 3 seeds: too few to state")
    assert said(small_batch_cost(study(n=5)))[0].startswith("Small batches cost accuracy with BN, at batch 2")


def test_the_reference_is_never_chosen_on_test_data() -> None:
    rng = random.Random(0)
    rows = [with_values(row, **{f"test.{stats}.accuracy": rng.random() for stats in STATS}) for row in study()]
    assert small_batch_cost(rows).reference == 32
    assert small_batch_cost(study(), reference=128).reference == 128
    with pytest.raises(UsageError, match="No run of batch with batch size 64 has a result; there are 2, 8, 32 or 128"):
        small_batch_cost(study(), reference=64)


def test_the_smallest_is_compared_even_where_validation_likes_it_best() -> None:
    rows = [with_values(r, val__loss=0.01) if r.batch_size == 2 else r for r in study()]
    assert small_batch_cost(rows).reference == 32


def diverged(rows: list[RunResult], size: int, seeds: int) -> list[RunResult]:
    return [with_values(r, status="diverged") if (r.batch_size, r.norm) == (size, "batch") and r.seed < seeds else r for r in rows]


def test_failures_and_missing_runs_are_counted_apart_from_accuracy() -> None:
    rows = [with_values(r, status="failed") if (r.batch_size, r.seed) == (8, 9) else r for r in diverged(study(), 2, 3)]
    found = small_batch_cost(rows)
    assert (found.costs[0].failures.rate, found.costs[0].failures.baseline_rate, found.costs[0].pairs.n) == (0.3, 0, 7)
    assert "30 % of its runs failed" in said(found)[0]
    assert "fails more often" not in said(found)[0]
    assert any("batch 2: diverged runs: 3 of 10 at lr 0.03" in text for text in found.warnings)
    assert any("batch 8: 3 of 30 runs have no result" in text for text in found.warnings)


def test_a_batch_size_at_which_nothing_trains_is_said_to_fail() -> None:
    """No seed pairs there, which must not leave the worst batch size out of the sentence."""
    for seeds in (8, 10):
        for answer in said(small_batch_cost(diverged(study(cost=0.0), 2, seeds))):
            assert answer.startswith("Training fails more often with BN at batch 2; against batch 32")
            assert f"{10 * seeds} % of its runs failed" in answer
    only = [r for r in diverged(study(), 2, 10) if r.batch_size in (2, 32)]
    assert said(small_batch_cost(only, reference=32))[0].startswith("Training fails more often with BN at batch 2")


def test_names_of_arms_keep_their_letters() -> None:
    answer, _ = said(small_batch_cost(study(), "SGD, ModelA", arm_of=lambda row: "SGD, ModelA" if row.norm == "batch" else "x"))
    assert answer.startswith("Small batches cost accuracy with SGD, ModelA, at batch 2")


def test_too_few_batch_sizes() -> None:
    assert "fewer than two batch sizes" in said(small_batch_cost(study(sizes=(8,))))[0]
    assert "fewer than two batch sizes" in said(small_batch_cost([]))[1]
    assert "nothing to compare" in said(small_batch_cost(study(), reference=2))[0]
    steps = small_batch_cost(study(config__train__steps=100, config__train__epochs=None))
    assert not any("epochs" in text for text in steps.warnings)
    assert "equal steps (100): smaller batches see fewer images in them." in steps.warnings
    untuned = small_batch_cost([r for r in study() if r.lr == 0.1])
    assert any("nothing was tuned" in text for text in untuned.warnings)


def test_equal_steps_may_be_spelled_as_epochs() -> None:
    rows = study(budget__steps=400)
    rows = [with_values(r, config__train__epochs=None, config__train__steps=400) if r.batch_size != 32 else r for r in rows]
    found = small_batch_cost(rows)
    assert "equal steps (400): smaller batches see fewer images in them." in found.warnings
    assert not any("differ" in text or "epochs" in text for text in found.warnings)
    mixed = small_batch_cost([with_values(r, budget__steps=None) for r in rows]).warnings
    assert "unequal budgets: the runs were given neither equal steps nor equal epochs." in mixed
    assert "the runs also differ in train.epochs, train.steps." in mixed


def best_at(size: int, lr: float) -> list[RunResult]:
    """The study, with another learning rate best for one batch size."""
    return [with_values(r, val__loss=0.1 + abs(r.lr - lr)) if r.batch_size == size else r for r in study()]


def test_both_answers_say_at_which_rates() -> None:
    found = small_batch_cost(best_at(2, 0.3))
    tuned, same = said(found)
    assert "against batch 32, each seed at the learning rate that it chose, test accuracy with running statistics" in tuned
    assert "against batch 32, all at its best learning rate 0.1, test accuracy with running statistics" in same
    twins = found.of("same-lr")
    assert [cost.lr for cost in twins] == [0.1, 0.1]
    assert f"batch 2: {100 * (twins[0].pairs.difference or 0):+.2f} points" in same
    assert "Holm's p" in same


def test_a_batch_size_without_the_reference_rate_is_named() -> None:
    rows = [r for r in study() if (r.batch_size, r.lr) != (2, 0.1)]
    assert said(small_batch_cost(rows))[1].endswith(" Batch 2 has no result at it.")
    rows = [r for r in rows if (r.batch_size, r.lr) != (8, 0.1)]
    assert "nothing to compare" in said(small_batch_cost(rows))[1]


def cold_from(size: int) -> list[RunResult]:
    return [with_values(row, running_statistics__warm=row.batch_size < size) for row in study()]


def test_cold_running_statistics_weaken_the_verdict_that_rests_on_them() -> None:
    note = "running statistics are cold at batch 32, 128: their initial (0, 1) still weighs more than 1 %; see the precise or batch ones."
    assert small_batch_cost(cold_from(32)).warnings[-1] == note
    assert not any("cold" in text for text in small_batch_cost(cold_from(32), stats="batch").warnings)
    assert not any("cold" in text for text in small_batch_cost(study()).warnings)
    unused = [with_values(row, running_statistics__warm=row.lr != 0.3) for row in study()]
    assert not any("cold" in text for text in small_batch_cost(unused).warnings)
    found = by_batch_size(cold_from(32))
    assert {(one.batch_sizes[0], result.ema_warm) for one in found for result in one.headline.arms.values()} == {
        (2, True),
        (8, True),
        (32, False),
        (128, False),
    }


def test_a_diverged_run_is_not_cold() -> None:
    rows = [with_values(row, status="diverged", running_statistics__warm=False) if row.seed == 0 else row for row in study()]
    assert all(result.ema_warm for one in by_batch_size(rows) for result in one.headline.arms.values())
    assert not any("cold" in text for text in small_batch_cost(rows).warnings)


def test_runs_that_stopped_at_their_target_do_not_say_what_small_batches_cost() -> None:
    found = small_batch_cost(study(budget__until_target=True))
    assert found.costs == small_batch_cost(study()).costs
    for answer in said(found):
        assert answer.startswith("Accuracies of runs that stopped at their target do not say what small batches cost (with BN, ")
    assert STOPPED in found.warnings
    assert not any("equal epochs" in text for text in found.warnings)
    assert STOPPED not in small_batch_cost(study()).warnings
