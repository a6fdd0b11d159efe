"""Rows: what counts as a result, what a diverged run scores, one run a cell, the table of all runs."""

from __future__ import annotations

import csv
import io
import math
import random
import subprocess
import sys

import pytest
from support import make_row

from bnexp.analysis import norm_of, to_table
from bnexp.analysis import rows as r
from bnexp.base.errors import UsageError


def test_a_diverged_run_has_no_accuracy_and_reaches_nothing() -> None:
    row = make_row(acc=0.1, status="diverged", target__reached_step=50, train__accuracy=0.1)
    assert [r.accuracy(row, stats) for stats in r.STATS] == [None] * 3
    assert r.val_accuracy(row) is None
    assert r.is_failure(row)
    assert r.target_interval(row) == (0, math.inf)
    assert r.val_loss(row) == math.inf
    assert r.steps_to_target(row) == math.inf
    assert r.gap(row) is None


@pytest.mark.parametrize("status", ["failed", "interrupted", "running"])
def test_a_run_without_an_end_is_no_result(status: str) -> None:
    row = make_row(status=status)
    assert not r.is_result(row)
    assert r.accuracy(row) is None
    assert r.by_seed([row], r.val_loss) == {}


def test_a_finished_run_is_what_it_scored() -> None:
    row = make_row(acc=0.9, train__accuracy=1.0)
    assert r.accuracy(row, "precise") == 0.9
    assert r.steps_to_target(row) == 50
    assert r.gap(row) == pytest.approx(0.1)
    assert r.val_loss(row) == pytest.approx(0.1)
    assert r.gap(make_row()) is None
    assert r.val_loss(make_row(val__loss=None)) == math.inf
    assert r.steps_to_target(make_row(target__reached_step=None)) == math.inf
    assert r.accuracy(make_row(test__running__accuracy=math.nan)) is None


def test_a_run_at_chance_has_no_accuracy_but_a_loss() -> None:
    row = make_row(acc=0.1, train__accuracy=0.1, train__images=1293, data__test=360, test__chance=0.1)
    assert (r.accuracy(row), r.gap(row), r.val_loss(row)) == (None, None, 0.9)


def test_the_target_was_reached_between_two_evaluations() -> None:
    assert r.target_interval(make_row(target__previous_step=48)) == (48, 50)
    assert r.target_interval(make_row()) == (50, 50)  # not recorded: what the run says is taken as it is
    assert r.target_interval(make_row(target__reached_step=None, budget__steps=400)) == (400, math.inf)
    assert r.target_interval(make_row(target__previous_step=0)) == (0, 50)
    strange = (make_row(target__previous_step=80), make_row(target__previous_step=-3), make_row(target__reached_step=-3))
    assert [r.target_interval(row) for row in strange] == [(50, 50), (0, 50), (0, math.inf)]


def test_accuracies_are_told_apart_by_one_image_of_the_smallest_test_set() -> None:
    assert r.resolution_of([make_row(data__test=360), make_row(data__test=100), make_row()]) == 1 / 100
    assert r.resolution_of([make_row()]) == r.resolution_of([]) == 0


def test_one_run_a_cell_prefers_results_and_refuses_a_mixture() -> None:
    failed, done = make_row(status="failed", id="a"), make_row(id="b")
    assert r.one_a_cell([failed, done], norm_of) == [done]
    same = make_row(id="c", config__name="mine", config__device="cuda")
    assert r.one_a_cell([same, done], norm_of) == [done]
    other = make_row(id="d", config__train__epochs=20)
    with pytest.raises(UsageError, match=r"b and d have the same arm .* differ in train\.epochs"):
        r.one_a_cell([other, done], norm_of)


def test_what_varies_leaves_out_grid_treatment_and_diagnostics() -> None:
    rows = [make_row(), make_row("none", 0.3, 1, config__metrics__gamma=True, config__model__widths=[8])]
    assert r.varying(rows, r.NORM) == ["config.model.widths"]
    assert r.varying(rows) == ["config.model.norm", "config.model.widths"]


def test_what_a_run_does_not_read_does_not_vary() -> None:
    rows = [make_row(), make_row("none", config__model__bn_momentum=0.5, config__optim__beta2=0.5, config__data__image_size=64)]
    assert r.varying(rows, r.NORM) == []
    rows.append(make_row(config__model__bn_momentum=0.01))
    assert r.varying(rows, r.NORM) == ["config.model.bn_momentum"]
    assert [r.setting(row, "config.model.bn_momentum") for row in rows] == [0.1, None, 0.01]
    assert r.matters(make_row("a norm of the future"), "config.model.bn_momentum")
    adam = [make_row(config__optim__name="adam", config__optim__beta2=beta2) for beta2 in (0.9, 0.99)]
    assert r.varying(adam) == ["config.optim.beta2"]


def test_a_key_that_is_newer_than_a_row_has_its_default() -> None:
    assert r.varying([make_row(), make_row(config__train__until_target=False)]) == []
    assert r.varying([make_row(), make_row(config__train__until_target=True)]) == ["config.train.until_target"]


def test_equal_budgets_are_equal_updates_or_epochs() -> None:
    epochs, steps = make_row(budget__steps=400), make_row(config__train__epochs=None, config__train__steps=400)
    assert (r.budget_of(epochs), r.budget_of(steps), r.budget_of(make_row())) == (400, 400, None)
    assert r.budget_kind([epochs, steps]) == "steps"
    assert r.varying([epochs, steps]) == []
    assert r.budget_kind([epochs, make_row(size=8, budget__steps=1600)]) == "epochs"
    assert r.budget_kind([make_row(), steps]) == "unequal"
    assert r.varying([make_row(), steps]) == list(r.BUDGET)
    assert r.one_a_cell([{**steps, "id": "b"}, {**epochs, "id": "a"}], norm_of)[0]["id"] == "a"


def test_tidy_is_flat_stable_and_reads_as_csv() -> None:
    rows = [make_row(seed=seed, status=status) for seed, status in enumerate(["finished", "diverged", "failed"])]
    rows[0]["only.here"] = 3
    table = to_table(rows)
    for _ in range(3):
        random.Random(0).shuffle(rows)
        assert to_table(rows) == table
    assert all(list(row) == list(table[0]) for row in table)
    assert all(value is None or isinstance(value, (str, int, float, bool)) for row in table for value in row.values())
    assert [row["steps_to_target"] for row in table] == [50, math.inf, None]
    assert [row["only.here"] for row in table] == [3, None, None]
    assert table[0]["config.model.widths"] == "16,32,64"
    assert "test.confusion" not in table[0]
    file = io.StringIO()
    writer = csv.DictWriter(file, list(table[0]))
    writer.writeheader()
    writer.writerows(table)
    assert len(file.getvalue().splitlines()) == 4
    assert to_table([]) == []


def test_importing_takes_neither_torch_nor_scipy() -> None:
    code = "import sys, bnexp.analysis; sys.exit(any(name in sys.modules for name in ('torch', 'scipy')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
