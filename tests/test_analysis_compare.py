"""Arms against a baseline: numbers, warnings, and a verdict that says no more than the data."""

from __future__ import annotations

import dataclasses
import json
import math
import random
from typing import Any

import pytest
from test_analysis_rows import make_row

from bnexp.analysis import cell, compare_arms, paired
from bnexp.analysis.words import evidence, points
from bnexp.errors import UsageError
from bnexp.files import dump_json, finite

Rows = list[dict[str, Any]]
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
            rows.append(make_row("batch", lr, seed, acc=bn, **more))
            rows.append(make_row("none", lr, seed, acc=none, **{**more, "target__reached_step": 90 + 2 * seed}))
    return rows


def changed(rows: Rows, norm: str, lr: float, seeds: tuple[int, ...], **values: Any) -> Rows:
    hit = {(norm, lr, seed) for seed in seeds}
    return [{**r, **values} if (r["config.model.norm"], r["config.optim.lr"], r["seed"]) in hit else r for r in rows]


def test_the_headline_pairs_each_arm_at_its_own_best_lr() -> None:
    rows = study()
    found = compare_arms(rows, "none")
    own = {"batch": 0.1, "none": 0.03}
    assert {arm: best.lr for arm, best in found.best_lr.items()} == own
    values = {
        arm: {r["seed"]: r["test.running.accuracy"] for r in rows if (r["config.model.norm"], r["config.optim.lr"]) == (arm, lr)}
        for arm, lr in own.items()
    }
    assert found.headline.arms["batch"].accuracy["running"] == cell([values["batch"][seed] for seed in range(5)])
    versus = found.headline.versus["batch"]
    assert versus.accuracy["running"] == versus.accuracy_finished == paired(values["batch"], values["none"])
    assert versus.p_holm == versus.accuracy["running"].p
    assert (versus.speedup.factor, versus.speedup.bound) == (94 / 42, "exact")
    assert versus.gap.difference == pytest.approx(-(versus.accuracy["running"].difference or 0))
    assert [m.lr for m in found.same_lr] == [0.03, 0.1, 0.3]
    assert all(result.lr == m.lr for m in found.same_lr for result in m.arms.values())
    assert found.stable_factor["batch"].bound == "unknown"
    assert (found.arms, found.batch_sizes) == (("none", "batch"), (32,))


def test_the_order_of_the_rows_changes_nothing() -> None:
    rows = changed(study(10), "none", 0.1, (1, 2), status="diverged")
    found = compare_arms(rows, "none")
    for seed in range(3):
        random.Random(seed).shuffle(rows)
        assert compare_arms(rows, "none") == found


def test_test_scores_choose_nothing() -> None:
    rows = study()
    rng = random.Random(0)
    other = [{key: rng.random() if key.startswith("test.") else value for key, value in row.items()} for row in rows]
    one, two = compare_arms(rows, "none"), compare_arms(other, "none")
    assert (one.best_lr, one.stable_lr) == (two.best_lr, two.stable_lr)


def test_the_result_is_plain_json() -> None:
    rows = changed(study(), "none", 0.3, (0,), status="diverged")
    tree = json.loads(dump_json(finite(dataclasses.asdict(compare_arms(rows, "none")))))
    assert tree["headline"]["arms"]["batch"]["accuracy"]["running"]["n"] == 5
    assert tree["verdict"]


def test_the_verdict_says_whether_the_interval_excludes_0() -> None:
    verdict = compare_arms(study(), "none").verdict
    assert verdict.startswith("batch is ")
    for part in (
        "above none",
        "n = 5 seeds",
        "p = 0.0625, the smallest that 5 seeds allow",
        "excludes 0",
        "(batch 0.1, none 0.03)",
        "times fewer",
    ):
        assert part in verdict
    assert verdict.endswith(").")
    assert "\n" not in verdict
    below = compare_arms(study(), "batch").verdict
    assert "below batch" in below
    assert "batch reaches the target in 2.24 times fewer steps" in below
    same = compare_arms(study(gain=-0.006), "none").verdict
    assert "cannot be told apart" in same
    assert "includes 0" in same
    assert "p = 0.00195" in compare_arms(study(10), "none").verdict


def test_few_seeds_are_too_few_to_say() -> None:
    found = compare_arms(study(3, gain=0.2), "none")
    assert found.verdict.startswith("n = 3 seeds: too few to say")
    assert "excludes" not in found.verdict
    assert any("3 seeds in common" in text for text in found.warnings)
    one = compare_arms(study(1), "none")
    assert one.verdict.startswith("n = 1 seed: too few to say")
    assert "no interval" in one.verdict
    assert one.headline.arms["batch"].accuracy["running"].low is None


def test_divergence_is_never_hidden() -> None:
    rows = study()
    for lr in (0.03, 0.1, 0.3):
        rows = changed(rows, "none", lr, (0, 1, 2), status="diverged", **{"val.loss": None})
    found = compare_arms(rows, "none")
    none = found.headline.arms["none"]
    assert (none.n, none.n_diverged, none.steps.median, none.steps.reached) == (5, 3, math.inf, 2)
    assert (none.accuracy["running"].n, none.accuracy_finished["running"].n) == (5, 2)
    assert (none.accuracy["running"].mean or 1) < 0.5 < (none.accuracy_finished["running"].mean or 0)
    versus = found.headline.versus["batch"]
    assert (versus.accuracy["running"].n, versus.accuracy_finished.n) == (5, 2)
    assert (versus.speedup.bound, versus.speedup.method) == ("at_least", "sign")
    assert versus.speedup.factor == pytest.approx(400 / 42)
    assert "3 of 5 none runs diverged and count as accuracy 0" in found.verdict
    assert "only batch reaches the target" in found.verdict
    assert any("diverged runs: 3 of 5 at lr 0.03" in text for text in found.warnings)
    assert found.stable_lr["none"].lr is None


def test_an_arm_that_always_diverges_still_gets_its_verdict() -> None:
    rows = [{**r, "status": "diverged"} if r["config.model.norm"] == "none" else r for r in study()]
    found = compare_arms(rows, "none")
    assert "5 of 5 none runs diverged" in found.verdict
    assert found.headline.versus["batch"].accuracy_finished.n == 0


def test_missing_runs_are_counted_and_reported() -> None:
    rows = changed(study(), "none", 0.03, (4,), status="failed")
    found = compare_arms(rows, "none")
    assert found.headline.arms["none"].n_missing == 1
    assert any("none: runs without a result" in text and "1 at lr 0.03" in text for text in found.warnings)
    assert any("seeds 4 have no partner" in text for text in found.warnings)
    gone = compare_arms([{**r, "status": "failed"} if r["config.model.norm"] == "none" else r for r in study()], "none")
    assert gone.verdict == "No run of none has a result yet: nothing to compare with."
    assert gone.headline.versus == {}
    gone = compare_arms([{**r, "status": "failed"} if r["config.model.norm"] == "batch" else r for r in study()], "none")
    assert gone.verdict == "No run of batch has a result yet."


def every(rows: Rows, norm: str, **values: Any) -> Rows:
    return [{**r, **values} if r["config.model.norm"] == norm else r for r in rows]


def without(rows: Rows, norm: str, lr: float) -> Rows:
    return [r for r in rows if (r["config.model.norm"], r["config.optim.lr"]) != (norm, lr)]


ROWS = study()


@pytest.mark.parametrize(
    ("rows", "text"),
    [
        (ROWS, "none: the best lr 0.03 is the smallest tried; a smaller one may be better"),
        (without(ROWS, "batch", 0.3), "batch: the best lr 0.1 is the largest tried; a larger one may be better"),
        (changed(ROWS, "batch", 0.1, (0,), **{"running_statistics.warm": False}), "batch: running statistics are cold"),
        (changed(ROWS, "batch", 0.1, (0, 1, 2, 3, 4), **{"test.batch.accuracy": 0.5}), "50.00 % with batch statistics"),
        (without(ROWS, "none", 0.3), "unequal trials: learning rates tried are none 2, batch 3"),
        ([r for r in ROWS if r["config.optim.lr"] == 0.1], "one learning rate an arm: nothing was tuned"),
        (every(ROWS, "none", parameters=1200), "parameters differ: none 1,200, batch 1,000"),
        (every(ROWS, "none", **{"config.train.epochs": 3}), "the runs also differ in train.epochs"),
    ],
)
def test_what_weakens_a_comparison_is_said(rows: Rows, text: str) -> None:
    assert any(text in warning for warning in compare_arms(rows, "none").warnings)


def test_a_clean_comparison_has_no_warnings() -> None:
    rows = [row for row in study(lrs=(0.01, 0.03, 0.1, 0.3)) if row["config.model.norm"] == "batch"]
    twins = [{**row, "config.model.norm": "none", "id": f"none-{row['id']}"} for row in rows]
    assert compare_arms([*rows, *twins], "none").warnings == ()


def test_several_arms_share_holms_correction() -> None:
    rows = study()
    for arm in ("group", "layer"):
        rows += [{**r, "config.model.norm": arm, "id": f"{arm}-{r['id']}"} for r in study(gain=0.01) if r["config.model.norm"] == "batch"]
    found = compare_arms(rows, "none")
    assert list(found.headline.versus) == ["batch", "group", "layer"]
    assert found.headline.versus["batch"].p_holm == pytest.approx(3 * 0.0625)
    assert "Holm's p over 3 tests = 0.188" in found.verdict
    assert compare_arms(rows, "none", ["batch"]).arms == ("none", "batch")


def test_arms_can_be_anything_a_row_says() -> None:
    rows = [make_row(seed=seed, size=size, acc=0.9 - size / 1000) for seed in range(5) for size in (8, 64)]
    found = compare_arms(rows, "64", arm_of=lambda row: str(row["config.train.batch_size"]), treatment=["config.train.batch_size"])
    assert found.headline.versus["8"].accuracy["running"].difference == pytest.approx(0.056)
    assert not any("differ" in text for text in found.warnings)
    with pytest.raises(UsageError, match=r"differ in train\.batch_size"):
        compare_arms(rows, "batch")


def test_the_bound_takes_the_budget_that_was_given() -> None:
    rows = [make_row("batch", seed=s, steps=50, budget__steps=800, budget__until_target=True) for s in range(3)]
    rows += [make_row("none", seed=s, target__reached_step=None, budget__steps=800, budget__until_target=True) for s in range(3)]
    speedup = compare_arms(rows, "none").headline.versus["batch"].speedup
    assert (speedup.bound, speedup.factor) == ("at_least", 800 / 50)
    old = [{key: value for key, value in row.items() if not key.startswith("budget.")} | {"steps": 400} for row in rows]
    assert compare_arms(old, "none").headline.versus["batch"].speedup.factor == 400 / 50


def test_equal_updates_are_no_difference_and_one_recipe() -> None:
    rows = [{**row, "budget.steps": 400} for row in study(lrs=(0.01, 0.03, 0.1, 0.3))]
    spelled = [{**r, "config.train.epochs": None, "config.train.steps": 400} if r["config.model.norm"] == "none" else r for r in rows]
    assert compare_arms(spelled, "none").warnings == compare_arms(rows, "none").warnings
    twice = [*rows, {**spelled[1], "id": "zz", "test.running.accuracy": 0.0}]
    assert compare_arms(twice, "none") == compare_arms(rows, "none")
    other = [*rows, {**spelled[1], "id": "zz", "budget.steps": 800}]
    with pytest.raises(UsageError, match=r"differ in train\.epochs, train\.steps"):
        compare_arms(other, "none")


def test_batch_sizes_as_arms_say_which_budget_they_share() -> None:
    rows = [make_row(seed=seed, size=size) for seed in range(5) for size in (8, 64)]
    ways = {"arm_of": lambda row: str(row["config.train.batch_size"]), "treatment": ["config.train.batch_size"]}
    assert compare_arms(rows, "64", **ways).warnings[0].startswith("equal epochs (10), not steps: smaller batches make more updates")
    steps = [{**row, "budget.steps": 400} for row in rows]
    assert compare_arms(steps, "64", **ways).warnings[0].startswith("equal steps (400): smaller batches see fewer images")


def test_runs_that_stopped_at_their_target_say_so() -> None:
    rows = study()
    assert not any("until_target" in warning for warning in compare_arms(rows, "none").warnings)
    stopped = [{**row, "budget.until_target": True} for row in rows]
    assert compare_arms(stopped, "none").warnings[0].startswith("train.until_target: each run stopped")
    sizes = [make_row(seed=seed, size=size, budget__until_target=True) for seed in range(5) for size in (8, 64)]
    key = "config.train.batch_size"
    across = compare_arms(sizes, "64", arm_of=lambda row: str(row[key]), treatment=[key]).warnings
    assert across[0].startswith("train.until_target: each run stopped")
    assert not any("equal epochs" in warning for warning in across)


def test_wrong_arms_are_refused() -> None:
    with pytest.raises(UsageError, match=r"No run belongs to the arm 'non'; there are batch or none\. Did you mean 'none'\?"):
        compare_arms(study(), "non")
    with pytest.raises(UsageError, match="there are no runs"):
        compare_arms([], "none")
    assert "one arm only" in compare_arms(study(), "none", []).verdict


def test_numbers_as_they_are_read_aloud() -> None:
    assert [points(x) for x in (0.0123, -0.0123, 0.0, -1e-9)] == ["+1.23", "-1.23", "0.00", "0.00"]
    few = paired({0: 0.9, 1: 0.8}, {0: 0.8, 1: 0.75})
    assert evidence(few).endswith("n = 2 seeds, p = 0.5, the smallest that 2 seeds allow")
