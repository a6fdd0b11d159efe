"""The answer: short sentences that state what their tests show, with its numbers, and what changes most first; the numbers beside it."""

from __future__ import annotations

import random
import re
from pathlib import Path
from typing import Any

import pytest
from support import make_result, with_values

from bnexp.analysis import Part, analyse, to_json
from bnexp.analysis.arms import Arms
from bnexp.analysis.numbers import MOST, numbers
from bnexp.analysis.results import Versus
from bnexp.storage.result import RunResult
from bnexp.storage.run import Run

NOISE = [0.004, -0.007, 0.001, 0.006, -0.003, 0.002, -0.005, 0.008, -0.001, 0.003]
LRS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0)


def study(
    gain: float = 0.0, *, seeds: int = 10, steps: tuple[int, int] = (60, 60), works: tuple[float, float] = (0.1, 0.1)
) -> list[RunResult]:
    """Both arms alike at 90 % but for `gain`, with their steps to target, up to the largest learning rate that works."""
    rows = []
    for seed in range(seeds):
        for index, norm in enumerate(("batch", "none")):
            for lr in LRS:
                stable = lr <= works[index]
                acc = 0.9 + gain * (index == 0) + NOISE[(seed + 3 * index) % 10] if stable else 0.2
                reached = round(steps[index] * (1 + 10 * NOISE[(seed + 5 * index) % 10])) if stable else None
                more = {"budget__steps": 2000, "target__accuracy": 0.95, "target__reached_step": reached}
                rows.append(make_result(norm, lr, seed, acc=acc, val__loss=abs(lr - 0.1) if stable else 5.0 + lr, **more))
    return rows


def part_of(rows: list[RunResult], kind: str = "compare", **options: Any) -> Part:
    runs = [Run(Path("runs"), row.id) for row in rows]
    arms = Arms(("config.model.norm",), tuple(dict.fromkeys(row.norm for row in rows)), "none") if kind == "compare" else None
    return analyse(kind, runs, {row.id: row for row in rows}, {"": runs}, arms=arms, **options).parts[0]


def versus(part: Part) -> Versus:
    assert part.comparison is not None
    return part.comparison.headline.versus["batch"]


def test_what_changes_most_comes_first() -> None:
    part = part_of(study(0.03, steps=(60, 120), works=(1.0, 0.1)))
    assert part.answer[0] == "With BN, training works at learning rates up to 10 times larger (1 against 0.1)."
    assert re.match(r"With BN, 95 % validation accuracy is reached after [\d,]+ instead of [\d,]+ steps\.", part.answer[1])
    pairs = versus(part).headline
    assert pairs.difference is not None
    assert part.answer[2].startswith(
        f"Final accuracy on these test images is {100 * pairs.difference:.2f} points higher with BN (95 % interval +"
    )
    larger = part_of(study(0.05, steps=(60, 1000), works=(1.0, 0.1))).answer
    assert "instead of" in larger[0]  # a factor of 15 before one of 10
    assert "10 times larger" in larger[1]


def test_the_baseline_may_be_ahead() -> None:
    part = part_of(study(-0.05, steps=(120, 60), works=(0.1, 1.0)))
    assert part.answer[0] == "Without BN, training works at learning rates up to 10 times larger (1 against 0.1)."
    assert part.answer[1].startswith("Without BN, 95 % validation accuracy is reached after")
    assert "points higher without BN (95 % interval +" in part.answer[2]


def test_what_is_not_shown_is_said_with_what_it_cannot_exclude() -> None:
    part = part_of(study())
    pairs = versus(part).headline
    assert not pairs.shown
    assert pairs.low is not None
    assert pairs.high is not None
    accuracy = next(text for text in part.answer if text.startswith("Final accuracy"))
    assert accuracy.startswith("Final accuracy on these test images: no difference shown (")
    assert f"cannot exclude a difference of {100 * max(-pairs.low, pairs.high):.2f} points." in accuracy
    assert any(text.startswith("Largest learning rate that works: no difference shown (0.1 with BN, 0.1") for text in part.answer)
    assert any(text.startswith("Steps to 95 % validation accuracy: no difference shown (") for text in part.answer)


def test_equivalence_and_too_few_seeds() -> None:
    assert any("equivalent within 5 points (" in text for text in part_of(study(), margin=0.05).answer)
    few = part_of(study(0.05, seeds=1)).answer
    assert any(text.startswith("Final accuracy: 1 seed is too few for a statement (") for text in few)
    assert not any("instead of" in text or "times larger" in text or "higher" in text for text in few)


def test_an_arm_that_no_rate_suits_and_one_that_never_arrives() -> None:
    lost = [with_values(row, target__reached_step=None, status="diverged") if row.norm == "none" else row for row in study()]
    answer = part_of(lost).answer
    assert answer[0] == "Training works at learning rates up to 0.1 with BN, and at none of those tried without BN."
    assert "without BN, 10 of 10 seeds never reach it." in " ".join(answer)
    assert "0 of 10 runs fail to train with BN, 10 of 10 runs without BN." in answer


def test_some_seeds_of_an_arm_that_mostly_fails() -> None:
    lost = [with_values(row, status="diverged") if row.norm == "none" and row.seed > 0 else row for row in study(seeds=20)]
    assert part_of(lost).answer[0].endswith(" with BN, and for most seeds at none of those tried without BN.")


def test_at_the_edge_of_the_grid_the_factor_is_the_least_that_the_test_shows() -> None:
    text = part_of(study(works=(3.0, 0.1))).answer[0]
    assert text == "With BN, training works at learning rates at least 10 times larger (3 against 0.1)."  # 0.3 is the first that fails


def test_arms_without_common_seeds_are_not_said_to_miss_the_target() -> None:
    apart = [row for row in study() if (row.seed < 5) == (row.norm == "batch")]
    answer = " ".join(part_of(apart).answer)
    assert "no seed has runs both with BN and without BN" in answer
    assert "never" not in answer
    assert "No run reaches" not in answer


def test_three_arms_say_which_is_behind_and_which_has_no_result() -> None:
    both = study(0.03, steps=(60, 120))
    third = [
        with_values(row, id=f"noisy-{row.id}", config__model__norm="noisy", target__reached_step=90 if row.lr <= 0.1 else None)
        for row in both
        if row.norm == "none"
    ]
    answer = part_of([*third, *both]).answer
    assert any(re.search(r"points higher with BN than without BN \(simultaneous 95 % interval of 2 arms ", text) for text in answer)
    assert any(text.startswith("With BN, 95 % validation accuracy") and text.endswith("steps without BN.") for text in answer)
    failed = [with_values(row, status="failed") for row in third]
    assert "No run with noisy has a result yet." in part_of([*failed, *both]).answer


def test_a_difference_within_the_margin_is_said_to_be() -> None:
    text = next(text for text in part_of(study(0.02), margin=0.05).answer if text.startswith("Final accuracy"))
    assert "points higher with BN" in text
    assert text.endswith(", which is within the margin of 5 points.")


def test_batch_sizes_name_what_they_cost() -> None:
    rng, rows = random.Random(2), []
    for seed in range(10):
        common = rng.gauss(0, 0.01)
        for size in (2, 8, 32):
            for norm in ("batch", "none"):
                acc = 0.9 + common + rng.gauss(0, 0.002) - 0.05 * (size == 2 and norm == "batch")
                rows.append(make_result(norm, 0.1, seed, size, acc=acc, val__loss=0.1 + (size != 32) / 100))
    part = part_of(rows, "sweep batch-size")
    own = next(text for text in part.answer if text.startswith("With BN, running statistics: small batches cost accuracy (batch 2 by -"))
    assert own.count(" by ") == 1
    other = next(text for text in part.answer if text.startswith("Without BN"))
    assert re.search(r"no difference in accuracy is shown between batch 2 and \d+; the data cannot exclude one of [\d.]+ points\.$", other)


@pytest.mark.parametrize("kind", ["compare", "sweep batch-size"])
def test_the_json_has_the_answer_and_the_tests_behind_it(kind: str) -> None:
    rows = study(0.05)
    runs = [Run(Path("runs"), row.id) for row in rows]
    arms = Arms(("config.model.norm",), ("batch", "none"), "none") if kind == "compare" else None
    found = analyse(kind, runs, {row.id: row for row in rows}, {"": runs}, arms=arms)
    plain = to_json(found) if kind == "compare" else to_json(found)["results"][0]
    assert plain["answer"] == list(found.parts[0].answer)
    assert plain["answers"] == list(found.parts[0].answers)
    assert plain["answer"]
    assert plain["answers"]


def test_two_arms_have_their_differences_beside_the_answer() -> None:
    part = part_of(study(0.03, steps=(60, 120), works=(1.0, 0.1)))
    found = numbers(part)
    pairs, speedup = versus(part).headline, versus(part).speedup
    assert pairs.difference is not None
    assert pairs.low is not None
    assert speedup.factor is not None
    assert [number.value for number in found[:3]] == [f"{100 * pairs.difference:+.2f} points", f"{speedup.factor:.3g}x", "10x"]
    assert f"95 % interval {100 * pairs.low:+.2f} to" in found[0].span
    assert found[2].span == "interval 3.33x to 30x"
    assert "with BN - without BN" in found[0].name
    assert len(found) <= MOST


def test_one_arm_has_its_scores_and_several_an_accuracy_each() -> None:
    accuracy, steps, gap = numbers(part_of([run for run in study() if run.norm == "batch"], "sweep lr"))
    assert re.fullmatch(r"\d\d\.\d\d %", accuracy.value)
    assert steps.span == "reached by 10 of 10 seeds"
    assert "gap" in gap.name
    noisy = [with_values(run, config__model__norm="noisy", id=f"noisy-{run.id}") for run in study() if run.norm == "batch"]
    scored = numbers(part_of([*study(), *noisy], "sweep norm"))
    assert [number.name for number in scored] == [f"test accuracy {arm}" for arm in ("with BN", "with noisy", "without BN")]
