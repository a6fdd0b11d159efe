"""Which runs can be compared: what is refused and how it is said, the arms' labels, the baseline."""

from __future__ import annotations

from typing import Any

import pytest
from support import make_result

from bnexp.analysis import arms_of, compare_arms
from bnexp.base.errors import UsageError
from bnexp.storage.result import RunResult


def two(**more: Any) -> list[RunResult]:
    """A run with batch norm and one without, the latter with `more`."""
    return [make_result(id="a"), make_result("none", id="b", **more)]


def test_norms_are_named_by_themselves_and_none_is_the_baseline() -> None:
    rows = [make_result(seed=0), make_result(seed=1, lr=0.3), make_result("none", seed=0), make_result("none", seed=1)]
    arms = arms_of(rows)
    assert (arms.treatment, arms.labels, arms.baseline) == (("config.model.norm",), ("batch", "none"), "none")
    found = compare_arms(rows, arms.baseline, arm_of=arms.arm_of, treatment=arms.treatment)
    assert found.arms == ("none", "batch")
    assert not any("differ" in text for text in found.warnings)


@pytest.mark.parametrize(
    ("first", "second", "labels", "baseline"),
    [
        ({"config__optim__momentum": 0.01}, {"config__optim__momentum": 0.9}, ("momentum=0.01", "momentum=0.9"), "momentum=0.01"),
        ({"config__optim__name": "sgd"}, {"config__optim__name": "adam"}, ("optim.name=sgd", "optim.name=adam"), "optim.name=sgd"),
        ({"config__model__widths": [8]}, {"config__model__widths": [8, 16]}, ("widths=[8]", "widths=[8,16]"), "widths=[8]"),
        ({"size": 8}, {}, ("batch_size=8", "batch_size=32"), "batch_size=8"),
        (
            {"config__model__placement": "norm-conv-relu"},
            {"norm": "none"},
            ("batch, placement=norm-conv-relu", "none, placement=conv-norm-relu"),
            "none, placement=conv-norm-relu",
        ),
        ({"config__model__bn_momentum": 0.01}, {"norm": "none", "config__model__bn_momentum": 0.1}, ("batch", "none"), "none"),
        ({"config__model__bn_momentum": 0.01}, {}, ("bn_momentum=0.01", "bn_momentum=0.1"), "bn_momentum=0.01"),
        ({"config__data__augment": "crop_flip"}, {}, ("augment=crop_flip", "augment=none"), "augment=crop_flip"),
    ],
)
def test_arms_are_what_the_runs_differ_in(first: dict[str, Any], second: dict[str, Any], labels: tuple[str, ...], baseline: str) -> None:
    rows = [make_result(**{"id": "a", **first}), make_result(**{"id": "b", **second})]
    arms = arms_of(rows)
    assert (arms.labels, arms.baseline) == (labels, baseline)
    assert compare_arms(rows, arms.baseline, arm_of=arms.arm_of, treatment=arms.treatment).arms[0] == baseline


def test_a_key_that_an_arm_does_not_read_is_not_in_its_label() -> None:
    rows = [make_result(id="a", config__model__bn_momentum=0.01), make_result(id="b"), make_result("none", id="c")]
    arms = arms_of(rows)
    assert arms.labels == ("batch, bn_momentum=0.01", "batch, bn_momentum=0.1", "none")
    assert arms.baseline == "none"
    several = [*rows, make_result("none", id="d", config__optim__momentum=0.5)]
    assert arms_of(several).baseline == "batch, bn_momentum=0.01, momentum=0.9"


def test_equal_updates_are_one_budget_however_they_are_spelled() -> None:
    same = [make_result(id="a", budget__steps=400), make_result("none", id="b", budget__steps=400, config__train__epochs=None)]
    assert arms_of(same).treatment == ("config.model.norm",)
    assert arms_of([make_result(id="a", size=8, budget__steps=1600), make_result(id="b", budget__steps=400)]).labels[0] == "batch_size=8"


@pytest.mark.parametrize(
    ("rows", "text"),
    [
        ([], "A comparison needs at least two runs, and there are none; name more."),
        ([make_result(id="a"), make_result(id="a")], "A comparison needs at least two runs, and a is one; name more."),
        (two(status="failed"), "b (failed) has no result to compare; `bnexp resume b` may help, or leave it out."),
        (two(status="running"), "b (running) has no result to compare; wait for it, or leave it out."),
        (
            two(config__data__name="mnist"),
            "These runs cannot be compared: data.name is digits in a and mnist in b; compare runs on the same data.",
        ),
        (two(config__data__subset=100), "data.subset is null in a and 100 in b"),
        (two(config__train__target=0.9), "train.target is 0.95 in a and 0.9 in b; compare runs of one target."),
        (
            two(config__train__epochs=20),
            "the budget is 10 epochs in a and 20 epochs in b; compare runs of equal train.epochs or train.steps.",
        ),
        (two(config__train__epochs=None, config__train__steps=400), "the budget is 10 epochs in a and 400 steps in b"),
        (
            [make_result(id="a", budget__steps=400), make_result(id="b", budget__steps=1600, config__train__epochs=40)],
            "the budget is 400 steps in a and 1,600 steps in b",
        ),
        (two(config__precision="bf16"), "precision is fp32 in a and bf16 in b"),
        (
            [make_result(id="a", budget__until_target=False), make_result("none", id="b", budget__until_target=True)],
            "train.until_target is false in a and true in b",
        ),
        (
            [make_result(id="a", data__fingerprint="11"), make_result("none", id="b", data__fingerprint="22")],
            "the content of the data is 11 in a and 22 in b",
        ),
        (
            [make_result(seed=seed, lr=lr, id=f"{seed}-{lr}") for seed in range(4) for lr in (0.1, 0.3)],
            "0-0.1, 0-0.3, 1-0.1, 1-0.3, 2-0.1 and 3 more differ in nothing but seed and learning rate, so they are one arm",
        ),
        (
            [make_result("none", id="a"), make_result("none", id="b", config__model__bn_momentum=0.5, config__device="cuda")],
            "a and b differ in nothing but seed and learning rate",
        ),
    ],
)
def test_what_cannot_be_compared_is_refused_in_one_sentence(rows: list[RunResult], text: str) -> None:
    with pytest.raises(UsageError) as caught:
        arms_of(rows)
    assert text in str(caught.value)
    assert str(caught.value).endswith(".")


def test_a_fingerprint_that_is_not_recorded_refuses_nothing() -> None:
    assert arms_of([make_result(id="a", data__fingerprint="11"), make_result("none", id="b")]).baseline == "none"


def test_a_run_that_cannot_be_read_is_named() -> None:
    with pytest.raises(UsageError, match=r"x \(unreadable\) has no result to compare; leave it out\."):
        arms_of([make_result()], ["x"])
