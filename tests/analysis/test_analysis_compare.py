"""Arms against a baseline: numbers, warnings, and sentences that say no more than the data."""

from __future__ import annotations

import base64
import dataclasses
import json
import math
import random
from typing import Any

import numpy as np
import pytest
from scipy import stats
from support import make_result, with_values

from bnexp.analysis import Comparison, FailureRate, compare_arms, crossed, estimate, paired, seconds_to_target, sentences, with_holm
from bnexp.analysis.wording import evidence, points
from bnexp.base.errors import UsageError
from bnexp.base.files import dump_json, null_nonfinite
from bnexp.storage.result import STATS, RunResult

Rows = list[RunResult]
NOISE = [0.004, -0.007, 0.001, 0.006, -0.003, 0.002, -0.005, 0.008, -0.001, 0.003]


def study(n: int = 5, gain: float = 0.03, lrs: tuple[float, ...] = (0.03, 0.1, 0.3)) -> Rows:
    """BN is best at 0.1 and better by about `gain` than none, whose best is 0.03 by a slope."""
    rows = []
    for lr in lrs:
        for seed in range(n):
            common = NOISE[seed % 10]
            bn = 0.9 + gain + common - 0.1 * abs(lr - 0.1)
            none = 0.9 + common + NOISE[(seed + 3) % 10] / 2 - 0.2 * (lr - 0.03 if lr > 0.05 else 0.03)
            more = {"train__accuracy": 1.0, "target__reached_step": 40 + seed}
            rows.append(make_result("batch", lr, seed, acc=bn, **more))
            rows.append(make_result("none", lr, seed, acc=none, **{**more, "target__reached_step": 90 + 2 * seed}))
    return rows


def changed(rows: Rows, norm: str, lr: float, seeds: tuple[int, ...], **values: Any) -> Rows:
    hit = {(norm, lr, seed) for seed in seeds}
    return [with_values(r, **values) if (r.norm, r.lr, r.seed) in hit else r for r in rows]


def verdict(rows: Rows, **options: Any) -> str:
    """The sentences as a command prints them: after Holm's correction."""
    return " ".join(sentences.verdict(with_holm(compare_arms(rows, "none", **options))))


def tuned_by_loop(rows: Rows, norm: str) -> dict[int, float]:
    """Each seed's test accuracy at the learning rate with its own lowest validation loss."""
    found = {}
    for seed in sorted({row.seed for row in rows}):
        own = [row for row in rows if (row.norm, row.seed) == (norm, seed) and row.status == "finished"]
        if own:
            found[seed] = min(own, key=lambda row: (row.val_loss, row.lr)).test.running.accuracy
    return found


def test_the_headline_pairs_each_seed_at_its_own_lr() -> None:
    rng = random.Random(1)
    rows = [with_values(row, val__loss=row.val.loss + rng.uniform(0, 0.03)) for row in study(10)]  # seeds disagree about the rate
    found = compare_arms(rows, "none")
    a, b = (tuned_by_loop(rows, norm) for norm in ("batch", "none"))
    assert found.headline.arms["batch"].accuracy["running"] == estimate(list(a.values()), (0, 1))
    assert found.headline.arms["batch"].picked == {0.03: 2, 0.1: 7, 0.3: 1}
    assert sum(found.headline.arms["none"].picked.values()) == 10
    versus = found.headline.versus["batch"]
    assert versus.accuracy["running"] == versus.headline == paired(a, b, primary=True)
    assert versus.accuracy["precise"] == paired(a, b)
    assert versus.speedup.factor == pytest.approx(stats.gmean([(90 + 2 * s) / (40 + s) for s in range(10)]))
    assert versus.gap.difference == pytest.approx(-(versus.accuracy["running"].difference or 0))
    assert [(m.kind, m.lr) for m in found.same_lr] == [("same-lr", 0.03), ("same-lr", 0.1), ("same-lr", 0.3)]
    assert all(result.lr == m.lr for m in found.same_lr for result in m.arms.values())
    assert not any(m.versus["batch"].accuracy["running"].primary for m in found.same_lr)
    assert (found.arms, found.batch_sizes) == (("none", "batch"), (32,))


def test_steps_are_those_of_each_seeds_fastest_lr() -> None:
    """The rate with the lowest loss need not be the fastest one; the arms' brackets come from all rates."""
    rows = []
    for row in study(6):
        fast = row.lr == 0.3
        step = 20 + row.seed if fast else 60 + row.seed
        rows.append(with_values(row, target__reached_step=step, target__previous_step=step - 8))
    found = compare_arms(rows, "none").headline
    assert found.arms["batch"].fastest == {0.3: 6}
    assert found.arms["batch"].picked == {0.1: 6}
    assert found.arms["batch"].steps.median == 20  # the brackets (12, 20] to (17, 25] all allow (17, 20]
    assert found.versus["batch"].speedup.logs[0][1:] == pytest.approx((math.log(12 / 20), math.log(20 / 12)))


def test_the_order_of_the_rows_changes_nothing() -> None:
    rows = changed(study(10), "none", 0.1, (1, 2), status="diverged")
    found = compare_arms(rows, "none")
    for seed in range(3):
        random.Random(seed).shuffle(rows)
        assert compare_arms(rows, "none") == found


def test_test_scores_choose_nothing() -> None:
    rows = study()
    rng = random.Random(0)
    other = [with_values(row, **{f"test.{stats}.accuracy": rng.random() for stats in STATS}) for row in rows]
    one, two = compare_arms(rows, "none"), compare_arms(other, "none")
    assert (one.best_lr, one.stable_lr) == (two.best_lr, two.stable_lr)
    for arm in ("batch", "none"):
        assert one.headline.arms[arm].picked == two.headline.arms[arm].picked


def test_the_result_is_plain_json() -> None:
    rows = changed(study(), "none", 0.3, (0,), status="diverged")
    tree = json.loads(dump_json(null_nonfinite(dataclasses.asdict(with_holm(compare_arms(rows, "none", margin=0.01))))))
    assert tree["headline"]["arms"]["batch"]["accuracy"]["running"]["n"] == 5
    assert tree["headline"]["arms"]["batch"]["picked"] == {"0.1": 5}
    assert tree["headline"]["versus"]["batch"]["equivalence"]["margin"] == 0.01
    assert tree["headline"]["versus"]["batch"]["accuracy"]["precise"]["p_holm"] is not None
    assert tree["same_lr"][0]["versus"]["batch"]["accuracy"]["running"]["p_holm"] is None


def test_a_difference_that_is_shown_is_stated_with_interval_n_and_p() -> None:
    said = verdict(study())
    pairs = compare_arms(study(), "none").headline.versus["batch"].headline
    assert said.startswith("Test accuracy with BN is ")
    for part in (
        "above that without BN on these test images",
        "95 % interval",
        "n = 5 seeds",
        "each seed at the learning rate that it chose",
    ):
        assert part in said
    assert pairs.p is not None
    assert pairs.p < 1e-4
    assert "p < 0.0001" in said
    assert "The target is reached in" in said
    assert "times fewer steps with BN" in said
    below = " ".join(sentences.verdict(with_holm(compare_arms(study(), "batch"))))
    assert "Test accuracy without BN is" in below
    assert "below that with BN" in below
    assert "times fewer steps with BN" in below


def test_what_is_not_shown_is_said_with_what_could_have_been() -> None:
    rows = study(gain=-0.006)
    said = verdict(rows)
    can = compare_arms(rows, "none").headline.versus["batch"].headline.detectable
    assert can is not None
    assert "No difference in test accuracy is shown with BN against without BN" in said
    assert f"5 seeds can show {100 * can:.2f} points (with 80 % power)" in said
    alike = [
        with_values(row, target__reached_step=round(50 + NOISE[(row.seed * len(row.id)) % 10] * 2000)) for row in study(10, lrs=(0.1,))
    ]
    said = verdict(alike)
    assert "Steps to target: no difference shown" in said
    assert "10 seeds can show a factor of" in said


def test_few_seeds_are_too_few_for_a_statement() -> None:
    found = compare_arms(study(3, gain=0.08), "none")
    said = " ".join(sentences.verdict(found))
    assert said.startswith("n = 3 seeds: too few for a statement")
    assert "Steps to target: too few seeds for a statement" in said
    assert any("3 seeds in the pairs; a comparison should have 10 or more" in text for text in found.warnings)
    one = compare_arms(study(1), "none")
    assert sentences.verdict(one)[0].startswith("n = 1 seed: too few for a statement")
    assert "no interval" in sentences.verdict(one)[0]
    assert one.headline.arms["batch"].accuracy["running"].low is None


def with_images(rows: Rows, share: float = 0.9, images: int = 200) -> Rows:
    """Which images each run had right: those that are hard for one are mostly hard for all, and other ones without BN."""
    found = []
    hard = {arm: np.random.default_rng(index).random(images) for index, arm in enumerate(("batch", "none"))}
    for index, row in enumerate(rows):
        noise = np.random.default_rng([index, 7]).random(images) * 0.02
        right = hard[row.norm] + noise < row.test.running.accuracy
        packed = base64.b64encode(np.packbits(right).tobytes()).decode()
        found.append(
            with_values(row, test__running__accuracy=float(right.mean()), test__correct=packed, data__test=images, test__chance=0.1)
        )
    return found


def test_the_headline_is_over_seeds_and_images_where_these_are_recorded() -> None:
    rows = with_images(study(10))
    versus = compare_arms(rows, "none").headline.versus["batch"]
    sides = [{r.seed: r for r in rows if (r.norm, r.lr) == cell} for cell in (("batch", 0.1), ("none", 0.03))]
    assert versus.over_images == versus.headline == crossed(versus.accuracy["running"], *sides)
    assert versus.headline.n_images == 200
    said = verdict(rows)
    assert "On these 200 test images, test accuracy with BN is" in said  # so few images say nothing of others
    assert "for other images of this kind no difference is shown" in said
    assert "10 seeds on so many images can show" in said
    wide = verdict(with_images(study(10, gain=0.09), images=2000))
    assert "over seeds and the 2,000 test images" in wide
    assert "on these images alone 95 % interval" in wide
    assert not compare_arms(rows, "none", primary=False).headline.versus["batch"].over_images


def test_equivalence_is_claimed_only_against_a_margin() -> None:
    rows = study(10, gain=-0.0055)
    assert "equivalent" not in verdict(rows)
    said = verdict(rows, margin=0.02)
    assert "is equivalent within the margin of 2 points" in said
    assert "two one-sided tests" in said
    assert "equivalent" not in verdict(rows, margin=0.0005)
    shown = verdict(study(10), margin=0.2)
    assert "above that without BN" in shown
    assert "The difference is within the margin of 20 points." in shown
    assert "within the margin" not in verdict(study(10), margin=0.01)


def test_failures_are_rates_and_no_accuracies() -> None:
    rows = [with_values(row, budget__steps=400) for row in study(10)]
    for lr in (0.03, 0.1, 0.3):
        rows = changed(rows, "none", lr, tuple(range(7)), status="diverged", **{"val.loss": None})
    found = compare_arms(rows, "none")
    none = found.headline.arms["none"]
    assert (none.n, none.failures.diverged, none.steps.median, none.steps.reached) == (10, 7, math.inf, 3)
    assert none.failures == FailureRate(10, 7, 0, none.failures.low, none.failures.high)
    assert (none.accuracy["running"].n, none.accuracy["running"].mean) == (3, pytest.approx(0.9, abs=0.01))
    versus = found.headline.versus["batch"]
    assert versus.accuracy["running"].n == 3
    assert versus.failures.p == pytest.approx(stats.fisher_exact([[0, 10], [7, 3]]).pvalue)
    assert (versus.speedup.method, versus.speedup.misses, versus.speedup.factor) == ("sign", (7, 0), math.inf)
    said = verdict(rows)
    assert "n = 3 seeds: too few for a statement" in said
    assert "Training fails more often without BN: 0 of 10" in said
    assert "7 of 10 (7 diverged; 95 % interval 35 to 93 %) without BN" in said
    assert "7 of 10 seeds never reach it without BN" in said
    assert "times fewer steps with BN" in said
    assert any("diverged runs: 7 of 10 at lr 0.03" in text for text in found.warnings)
    assert (found.stable_lr["none"].lr, found.stable_lr["none"].unstable_lr) == (0, 0.03)
    assert "below 0.03 without BN" in said


def test_few_failures_show_no_difference_and_say_what_would() -> None:
    rows = study(10)
    for lr in (0.03, 0.1, 0.3):
        rows = changed(rows, "none", lr, (0, 1), status="diverged", **{"val.loss": None})
    said = verdict(rows)
    assert "No difference in how often training fails is shown" in said
    assert "so many runs can show 58 % against 0 % (with 80 % power, before Holm's correction)" in said


def test_an_arm_that_always_diverges_still_gets_its_sentences() -> None:
    rows = [with_values(r, status="diverged") if r.norm == "none" else r for r in study(6)]
    said = verdict(rows)
    assert "No seed trained both with BN and without BN" in said
    assert "Training fails more often without BN" in said
    neither = verdict([with_values(r, target__reached_step=None) for r in study(6)])
    assert "No run reaches the target, neither with BN nor without BN" in neither


def test_misses_of_both_arms_are_counted_for_both() -> None:
    rows = [with_values(r, target__reached_step=None) if r.seed < 3 or (r.norm == "none" and r.seed < 5) else r for r in study(10)]
    said = verdict(rows)
    assert "5 of 10 seeds never reach it without BN" in said
    assert "3 of 10 seeds never reach it with BN" in said


def test_both_arms_at_the_target_at_the_first_evaluation_is_not_never() -> None:
    rows = [with_values(r, target__reached_step=8, target__previous_step=0) for r in study(6)]
    said = verdict(rows)
    assert "No run reaches" not in said
    assert "never reach" not in said
    assert "Steps to target: no difference shown" in said


def test_the_largest_stable_lr_is_a_bracket() -> None:
    accuracy = {"batch": {0.1: 0.95, 1.0: 0.94, 3.0: 0.3}, "none": {0.1: 0.9, 1.0: 0.2, 3.0: 0.2}}
    rows = [
        make_result(norm, lr, seed, acc=acc + NOISE[seed] / 10)
        for norm, own in accuracy.items()
        for lr, acc in own.items()
        for seed in range(10)
    ]
    said = verdict(rows)
    assert "The largest stable learning rate is between 1 and 3 with BN and between 0.1 and 1 without BN" in said
    assert "no difference shown" in said.split("largest stable")[1]  # the brackets meet at 1: factor 1 to 30
    rows = [row for row in rows if (row.norm, row.lr) != ("none", 1.0)]
    rows += [make_result("none", 0.3, seed, acc=0.2) for seed in range(10)] + [
        make_result("batch", 0.3, seed, acc=0.93) for seed in range(10)
    ]
    said = verdict(rows)
    assert "between 1 and 3 with BN and between 0.1 and 0.3 without BN: a factor of 3.33 to 30 in favour of training with BN" in said


def test_missing_runs_are_counted_and_reported() -> None:
    rows = changed(study(), "none", 0.03, (4,), status="failed")
    found = compare_arms(rows, "none")
    assert found.headline.arms["none"].n_missing == 1
    assert any("without BN: runs without a result" in text and "1 at lr 0.03" in text for text in found.warnings)
    assert any("seeds 4 have no partner" in text for text in found.warnings)
    gone = compare_arms([with_values(r, status="failed") if r.norm == "none" else r for r in study()], "none")
    assert sentences.verdict(gone) == ["No run without BN has a result yet: nothing to compare with."]
    assert gone.headline.versus == {}
    gone = compare_arms([with_values(r, status="failed") if r.norm == "batch" else r for r in study()], "none")
    assert sentences.verdict(gone) == ["No run with BN has a result yet."]


def every(rows: Rows, norm: str, **values: Any) -> Rows:
    return [with_values(r, **values) if r.norm == norm else r for r in rows]


def without(rows: Rows, norm: str, lr: float) -> Rows:
    return [r for r in rows if (r.norm, r.lr) != (norm, lr)]


ROWS = study()


@pytest.mark.parametrize(
    ("rows", "text"),
    [
        (ROWS, "without BN: the best lr 0.03 is the smallest tried; a smaller one may be better"),
        (without(ROWS, "batch", 0.3), "with BN: the best lr 0.1 is the largest tried; a larger one may be better"),
        (changed(ROWS, "batch", 0.1, (0,), **{"running_statistics.warm": False}), "with BN: running statistics are cold"),
        (changed(ROWS, "batch", 0.1, (0, 1, 2, 3, 4), **{"test.batch.accuracy": 0.5}), "50.00 % with batch statistics"),
        (without(ROWS, "none", 0.3), "unequal trials: learning rates tried are without BN 2, with BN 3"),
        ([r for r in ROWS if r.lr == 0.1], "one learning rate an arm: nothing was tuned"),
        (every(ROWS, "none", parameters=1200), "parameters differ: without BN 1,200, with BN 1,000"),
        (every(ROWS, "none", **{"config.train.epochs": 3}), "the runs also differ in train.epochs"),
    ],
)
def test_what_weakens_a_comparison_is_said(rows: Rows, text: str) -> None:
    assert any(text in warning for warning in compare_arms(rows, "none").warnings)


def test_a_clean_comparison_has_no_warnings() -> None:
    rows = [row for row in study(10, lrs=(0.01, 0.03, 0.1, 0.3)) if row.norm == "batch"]
    twins = [with_values(row, config__model__norm="none", id=f"none-{row.id}") for row in rows]
    assert compare_arms([*rows, *twins], "none").warnings == ()


def three_arms(n: int = 10, gain: float = 0.01, images: bool = False) -> Rows:
    rows = study(n)
    for index, arm in enumerate(("noisy", "frozen")):
        own = [r for r in study(n, gain=gain * (index + 1)) if r.norm == "batch"]
        rows += [with_values(r, config__model__norm=arm, id=f"{arm}-{r.id}") for r in own]
    return rows


@pytest.mark.parametrize("gain", [0.0, 0.002, 0.004, 0.01])
def test_intervals_of_several_arms_hold_for_all_at_once_and_agree_with_p(gain: float) -> None:
    rows = three_arms(gain=gain)
    found = with_holm(compare_arms(rows, "none"))
    assert list(found.headline.versus) == ["batch", "frozen", "noisy"]
    for arm, versus in found.headline.versus.items():
        pairs = versus.headline
        a, b = tuned_by_loop(rows, arm), tuned_by_loop(rows, "none")
        twin = stats.ttest_rel([a[s] for s in range(10)], [b[s] for s in range(10)])
        low, high = twin.confidence_interval(1 - 0.05 / 3)
        assert (pairs.low, pairs.high) == (pytest.approx(low), pytest.approx(high))
        assert pairs.p == pairs.decisive_p == pytest.approx(min(1, 3 * twin.pvalue))
        assert (low > 0 or high < 0) == (pairs.decisive_p <= 0.05) == pairs.shown
        assert (pairs.primary, pairs.p_holm) == (True, None)
    assert "simultaneous 95 % interval of 3 arms" in verdict(rows)
    alone = with_holm(compare_arms(rows, "none", ["batch"]))
    assert alone.arms == ("none", "batch")
    assert "simultaneous" not in " ".join(sentences.verdict(alone))


@pytest.mark.parametrize("lrs", [3, 9])
def test_ten_seeds_that_all_agree_show_a_stable_lr_however_many_rates_were_tried(lrs: int) -> None:
    """Ten signs have p 0.002: with tests at each of seven rates in the correction no ten seeds could have shown it."""
    grid = [0.001 * 3**index for index in range(lrs)]
    rows = [
        make_result(norm, lr, seed, acc=0.9 + NOISE[seed] / 10 if lr <= most else 0.2)
        for norm, most in (("batch", grid[-1]), ("none", grid[0]))
        for lr in grid
        for seed in range(10)
    ]
    found = with_holm(compare_arms(rows, "none")).stable_factor["batch"]
    assert found.p == pytest.approx(2 / 2**10)
    assert found.shown


def test_a_comparison_has_one_primary_question() -> None:
    """All else that is stated goes through one correction of Holm's; what stands beside it at each rate has intervals and no test."""
    rows = study(10)
    comparison = compare_arms(rows, "none")
    found, _ = with_holm((comparison, seconds_to_target(comparison, {"batch": (1.0, 1.1, 1.2), "none": (1.0, 1.1, 1.0)})))
    versus = found.headline.versus["batch"]
    assert versus.headline.primary
    assert versus.headline.p_holm is None
    secondary = [versus.accuracy["precise"], versus.failures, versus.speedup, versus.gap, found.stable_factor["batch"]]
    assert all(test.p_holm is not None and test.p is not None and test.p_holm >= test.p for test in secondary)
    beside = [m.versus["batch"].accuracy["running"] for m in found.same_lr]
    assert all(test.p is None and not test.shown and test.low is not None for test in beside)
    one_of_many = with_holm(compare_arms(rows, "none", primary=False)).headline.versus["batch"].headline
    assert (one_of_many.primary, one_of_many.p_holm is None) == (False, False)


def test_arms_can_be_anything_a_row_says() -> None:
    rows = [make_result(seed=seed, size=size, acc=0.9 - size / 1000) for seed in range(5) for size in (8, 64)]
    found = compare_arms(rows, "64", arm_of=lambda row: str(row.batch_size), treatment=["config.train.batch_size"])
    assert found.headline.versus["8"].accuracy["running"].difference == pytest.approx(0.056)
    assert not any("differ" in text for text in found.warnings)
    with pytest.raises(UsageError, match=r"differ in train\.batch_size"):
        compare_arms(rows, "batch")


def test_equal_updates_are_no_difference_and_one_recipe() -> None:
    rows = [with_values(row, budget__steps=400) for row in study(lrs=(0.01, 0.03, 0.1, 0.3))]
    spelled = [with_values(r, config__train__epochs=None, config__train__steps=400) if r.norm == "none" else r for r in rows]
    assert compare_arms(spelled, "none").warnings == compare_arms(rows, "none").warnings
    twice = [*rows, with_values(spelled[1], id="zz", test__running__accuracy=0.0)]
    assert compare_arms(twice, "none") == compare_arms(rows, "none")
    other = [*rows, with_values(spelled[1], id="zz", budget__steps=800)]
    with pytest.raises(UsageError, match=r"differ in train\.epochs, train\.steps"):
        compare_arms(other, "none")


def test_batch_sizes_as_arms_say_which_budget_they_share() -> None:
    rows = [make_result(seed=seed, size=size) for seed in range(5) for size in (8, 64)]
    ways = {"arm_of": lambda row: str(row.batch_size), "treatment": ["config.train.batch_size"]}
    assert compare_arms(rows, "64", **ways).warnings[0].startswith("equal epochs (10), not steps: smaller batches make more updates")
    steps = [with_values(row, budget__steps=400) for row in rows]
    assert compare_arms(steps, "64", **ways).warnings[0].startswith("equal steps (400): smaller batches see fewer images")


def test_runs_that_stopped_at_their_target_say_so() -> None:
    rows = study()
    assert not any("until_target" in warning for warning in compare_arms(rows, "none").warnings)
    stopped = [with_values(row, budget__until_target=True) for row in rows]
    assert compare_arms(stopped, "none").warnings[0].startswith("train.until_target: each run stopped")
    sizes = [make_result(seed=seed, size=size, budget__until_target=True) for seed in range(5) for size in (8, 64)]
    key = "config.train.batch_size"
    across = compare_arms(sizes, "64", arm_of=lambda row: str(row.batch_size), treatment=[key]).warnings
    assert across[0].startswith("train.until_target: each run stopped")
    assert not any("equal epochs" in warning for warning in across)


def test_wrong_arms_are_refused() -> None:
    with pytest.raises(UsageError, match=r"No run belongs to the arm 'non'; there are batch or none\. Did you mean 'none'\?"):
        compare_arms(study(), "non")
    with pytest.raises(UsageError, match="there are no runs"):
        compare_arms([], "none")
    assert "one arm only" in sentences.verdict(compare_arms(study(), "none", []))[0]


def test_numbers_as_they_are_read_aloud() -> None:
    assert [points(x) for x in (0.0123, -0.0123, 0.0, -1e-9)] == ["+1.23", "-1.23", "0.00", "0.00"]
    few = paired({0: 0.9, 1: 0.8}, {0: 0.8, 1: 0.75})
    assert evidence(few) == f"95 % interval {points(few.low or 0)} to {points(few.high or 0)}, n = 2 seeds, p = {few.p:.3g}"
    assert [sentences.label(arm) for arm in ("batch", "none", "group")] == ["with BN", "without BN", "with group"]


def test_the_order_in_which_differences_are_said_follows_the_arms() -> None:
    found: Comparison = compare_arms(three_arms(), "none", ["frozen", "batch"])
    said = [text for text in sentences.verdict(found) if text.startswith("Test accuracy")]
    assert [sentences.label("frozen") in said[0], "with BN" in said[1]] == [True, True]
