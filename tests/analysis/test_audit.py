"""The fairness audit: each check passes a fair comparison, names what is unfair, and does not pass off what was not recorded."""

from __future__ import annotations

import dataclasses
import json
import random
from typing import Any

import pytest
from support import make_result, with_values

from bnexp.analysis import Audit, Check, fairness_audit
from bnexp.base.errors import UsageError
from bnexp.base.files import dump_json
from bnexp.storage.result import RunResult

Rows = list[RunResult]
NAMES = ("parameters", "bias parity", "initial weights", "batch order", "equal trials", "same seeds", "budget", "settings", "computation")


def fair(norm: str, lr: float, seed: int, size: int = 32, **more: Any) -> RunResult:
    """A run as it is recorded: 224 channels, a head of ten; hashes that follow from the seed and the batch size."""
    biases, shifts = (10, 448) if norm == "batch" else (234, 0)
    recorded = {
        "parameters": 72208 + biases + shifts,
        "audit.parameters.weights": 72208,
        "audit.parameters.biases": biases,
        "audit.parameters.norm": shifts,
        "audit.initial_weights": f"{seed:016x}",
        "audit.batch_order": f"{seed:08x}{size:08x}",
        "audit.batch_order_epochs": 10,
        "budget.steps": 12800 // size,
        "budget.until_target": False,
        "environment.device": "cpu (x86_64, 2 cores)",
        "environment.threads": 1,
        "stack.width": 10,
    }
    return with_values(make_result(norm, lr, seed, size), **recorded, **more)


def study(sizes: tuple[int, ...] = (32,)) -> Rows:
    return [fair(norm, lr, seed, size) for norm in ("none", "batch") for lr in (0.03, 0.1) for seed in range(3) for size in sizes]


def changed(rows: Rows, norm: str, lr: float | None = None, seed: int | None = None, **values: Any) -> Rows:
    """The runs with `values` (keys with __ for a dot) in those of an arm, learning rate and seed; None: any."""

    def hit(row: RunResult) -> bool:
        return row.norm == norm and lr in (None, row.lr) and seed in (None, row.seed)

    return [with_values(row, **values) if hit(row) else row for row in rows]


def check(audit: Audit, name: str) -> Check:
    return next(check for check in audit.checks if check.name == name)


def test_a_fair_comparison_passes_every_check() -> None:
    audit = fairness_audit(study(), "none")
    assert tuple(check.name for check in audit.checks) == NAMES
    assert [check.passed for check in audit.checks] == [True] * len(NAMES)
    assert audit.passed is True
    none, batch = audit.arms
    assert dataclasses.astuple(none) == ("none", 72442, 72208, 234, 0, 2, 6, 6, 3)
    assert dataclasses.astuple(batch) == ("batch", 72666, 72208, 10, 448, 2, 6, 6, 3)
    said = {check.name: check.detail for check in audit.checks}
    assert said == {
        "parameters": "without BN: 72,442; with BN: 72,666: 0.31 % apart, 5 % allowed",
        "bias parity": "without BN: 234 biases and 0 norm shifts; with BN: 10 biases and 224 norm shifts",
        "initial weights": "equal over all arms and learning rates at 3 seeds (seed 0: 0000000000000000)",
        "batch order": "equal over all arms and learning rates at 3 seeds (seed 0: 0000000000000020)",
        "equal trials": "2 learning rates (0.03, 0.1) in each arm; without BN: 6 results; with BN: 6 results",
        "same seeds": "3 seeds in each arm (0, 1, 2)",
        "budget": "400 steps",
        "settings": "same data, and nothing differs beside the treatment, learning rate and seed",
        "computation": "cpu (x86_64, 2 cores), 1 thread",
    }
    shuffled = study()
    random.Random(0).shuffle(shuffled)
    assert fairness_audit(shuffled, "none") == audit
    json.loads(dump_json(dataclasses.asdict(audit)))


UNFAIR = [
    (changed(study(), "none", parameters=90000), "parameters", "without BN: 90,000; with BN: 72,666: 24 % apart"),
    (changed(study(), "none", audit__parameters__biases=10), "bias parity", "without BN: 10 biases and 0 norm shifts"),
    (
        changed(study(), "none", 0.1, 1, audit__initial_weights="f" * 16),
        "initial weights",
        "differ at seed 1; seed 1: without BN: 0000000000000001 and ffffffffffffffff; with BN: 0000000000000001",
    ),
    (
        changed(study(), "batch", None, 2, audit__batch_order="f" * 16),
        "batch order",
        "differ at seed 2; seed 2: without BN: 0000000200000020; with BN: ",
    ),
    (
        [row for row in study() if row.id != "none-bs32-lr0.1-s2"],
        "equal trials",
        "without BN: 5 results; with BN: 6 results; not equally many at lr",
    ),
    (changed(study(), "none", 0.1, 2, status="failed"), "equal trials", "not equally many at lr 0.1, seed 2"),
    (
        [row for row in study() if not row.id.startswith("none-bs32-lr0.1")],
        "equal trials",
        "learning rates tried: without BN: 0.03; with BN: 0.03, 0.1",
    ),
    (
        [row for row in study() if row.seed < 2 or row.norm == "batch"],
        "same seeds",
        "without BN: 0, 1; with BN: 0, 1, 2",
    ),
    (changed(study(), "batch", budget__steps=800), "budget", "without BN: 400 steps; with BN: 800 steps"),
    (changed(study(), "batch", budget__until_target=True), "budget", "with BN: 400 steps or until the target"),
    (changed(study(), "none", config__train__target=0.9), "settings", "train.target differs: without BN: 0.9; with BN: 0.95"),
    (
        changed(study(), "none", environment__threads=2),
        "computation",
        "without BN: cpu (x86_64, 2 cores), 2 threads; with BN: cpu (x86_64, 2 cores), 1",
    ),
]


@pytest.mark.parametrize(("rows", "name", "detail"), UNFAIR)
def test_what_is_unfair_fails_its_check_alone(rows: Rows, name: str, detail: str) -> None:
    audit = fairness_audit(rows, "none")
    found = check(audit, name)
    assert detail in found.detail
    assert found.passed is False
    assert audit.passed is False
    if name not in ("equal trials", "same seeds"):  # a seed that is gone is a trial less as well
        assert all(other.passed for other in audit.checks if other is not found)


def test_other_data_of_ones_own_are_found() -> None:
    rows = changed(study(), "none", data__fingerprint="1")
    assert check(fairness_audit(rows, "none"), "settings").passed  # the other arm's is not recorded
    rows = changed(rows, "batch", data__fingerprint="2")
    assert check(fairness_audit(rows, "none"), "settings") == Check(
        "settings", False, "data.fingerprint differs: without BN: 1; with BN: 2"
    )


def test_what_is_not_recorded_cannot_be_told() -> None:
    bare = [make_result(row.norm, row.lr, row.seed, parameters=row.parameters) for row in study()]
    audit = fairness_audit(bare, "none")
    assert {check.name: check.detail for check in audit.checks if check.passed is None} == dict.fromkeys(
        ("bias parity", "initial weights", "batch order", "budget", "computation"), "not recorded"
    )
    assert audit.passed is None
    assert audit.arms[0].biases is None
    one = fairness_audit(changed(study(), "none", 0.1, 0, audit__initial_weights=None), "none")
    assert check(one, "initial weights") == Check("initial weights", None, "not recorded for 1 of 12 runs")


def test_batch_sizes_are_held_against_their_own_kind() -> None:
    audit = fairness_audit(study((8, 32)), "none")
    assert [check.passed for check in audit.checks] == [True] * len(NAMES)
    assert "train.batch_size vary within each arm alike" in check(audit, "settings").detail
    assert check(audit, "budget").detail == "1,600 steps; 400 steps"
    lacking = [row for row in study((8, 32)) if row.id != "none-bs8-lr0.1-s2"]
    assert "without BN: 11 results; with BN: 12 results" in check(fairness_audit(lacking, "none"), "equal trials").detail


def test_batch_sizes_as_arms() -> None:
    rows = [row for row in study((8, 32)) if row.norm == "batch"]
    key = "config.train.batch_size"
    audit = fairness_audit(rows, "32", arm_of=lambda row: str(row.batch_size), treatment=[key])
    assert check(audit, "budget") == Check("budget", False, "with 32: 400 steps; with 8: 1,600 steps")
    assert check(audit, "batch order").passed is None
    assert check(audit, "initial weights").passed is True
    assert not audit.passed


def test_other_networks_share_no_initial_weights_and_say_so() -> None:
    rows = [with_values(row, config__model__widths=[8]) if row.norm == "none" else row for row in study()]
    audit = fairness_audit(rows, "none", treatment=["config.model.norm", "config.model.widths"])
    assert check(audit, "initial weights") == Check("initial weights", None, "no two arms have results to hold against each other here")


def test_one_recipe_under_two_names_is_one_trial() -> None:
    again = with_values(study()[0], id="mine", config__name="mine")
    assert check(fairness_audit([*study(), again], "none"), "equal trials").passed


def test_stacks_of_several_widths_are_a_note() -> None:
    found = check(fairness_audit(changed(study(), "none", stack__width=5), "none"), "computation")
    assert found.passed
    assert found.detail.endswith("; stacks of 5, 10 runs: that changes rounding only")


def test_wrong_arms_are_refused_and_one_arm_is_nothing() -> None:
    with pytest.raises(UsageError, match="No run belongs to the arm 'group'; there are batch or none"):
        fairness_audit(study(), "group")
    alone = fairness_audit(study(), "batch", [])
    assert len(alone.arms) == 1
    assert alone.passed is None


def test_nothing_passes_on_nothing() -> None:
    """With no result at all, equal trials, seeds and settings were ok with 0 results."""
    for rows in ([with_values(row, status="failed") for row in study()], changed(study(), "batch", status="failed")):
        audit = fairness_audit(rows, "none")
        assert [check.passed for check in audit.checks] == [None] * len(NAMES)
        assert audit.passed is None
    assert {check(audit, name).detail for name in ("equal trials", "same seeds", "settings")} == {"no result of batch"}


def test_an_arm_without_results_hides_no_fault_of_the_others() -> None:
    rows = [*study(), *[with_values(row, config__model__norm="noisy", status="failed", id=f"g{row.id}") for row in study()[:6]]]
    audit = fairness_audit(rows, "none")
    assert {check.passed for check in audit.checks} == {None}
    assert check(audit, "parameters").detail == "no result of noisy"
    audit = fairness_audit([row for row in rows if row.norm != "none" or row.seed < 2], "none")
    assert check(audit, "same seeds") == Check("same seeds", False, "without BN: 0, 1; with BN: 0, 1, 2")
    assert audit.passed is False
