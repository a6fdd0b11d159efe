"""Results: what counts as a result, what a diverged run scores, one run a cell, the table of all runs."""

from __future__ import annotations

import csv
import io
import math
import random
import subprocess
import sys
from operator import attrgetter

import pytest
from support import make_result, with_values

from bnexp.analysis import grouping as r
from bnexp.analysis import norm_of, to_table
from bnexp.base.errors import UsageError
from bnexp.storage.result import STATS


def test_a_diverged_run_has_no_accuracy_and_reaches_nothing() -> None:
    row = make_result(acc=0.1, status="diverged", target__reached_step=50, train__accuracy=0.1)
    assert [row.accuracy(stats) for stats in STATS] == [None] * 3
    assert row.val_accuracy is None
    assert row.is_failure
    assert row.target_interval == (0, math.inf)
    assert row.val_loss == math.inf
    assert row.steps_to_target == math.inf
    assert row.gap is None


@pytest.mark.parametrize("status", ["failed", "interrupted", "running"])
def test_a_run_without_an_end_is_no_result(status: str) -> None:
    row = make_result(status=status)
    assert not row.is_result
    assert row.accuracy() is None
    assert r.by_seed([row], attrgetter("val_loss")) == {}


def test_a_finished_run_is_what_it_scored() -> None:
    row = make_result(acc=0.9, train__accuracy=1.0)
    assert row.accuracy("precise") == 0.9
    assert row.steps_to_target == 50
    assert row.gap == pytest.approx(0.1)
    assert row.val_loss == pytest.approx(0.1)
    assert make_result().gap is None
    assert make_result(val__loss=None).val_loss == math.inf
    assert make_result(target__reached_step=None).steps_to_target == math.inf
    assert make_result(test__running__accuracy=None).accuracy() is None


def test_a_run_at_chance_has_no_accuracy_but_a_loss() -> None:
    row = make_result(acc=0.1, train__accuracy=0.1, train__images=1293, data__test=360, test__chance=0.1)
    assert (row.accuracy(), row.gap, row.val_loss) == (None, None, 0.9)


def test_the_target_was_reached_between_two_evaluations() -> None:
    assert make_result(target__previous_step=48).target_interval == (48, 50)
    assert make_result().target_interval == (50, 50)  # not recorded: what the run says is taken as it is
    assert make_result(target__reached_step=None, budget__steps=400).target_interval == (400, math.inf)
    assert make_result(target__previous_step=0).target_interval == (0, 50)
    assert make_result(target__previous_step=80).target_interval == (50, 50)


def test_accuracies_are_told_apart_by_one_image_of_the_smallest_test_set() -> None:
    assert r.resolution_of([make_result(data__test=360), make_result(data__test=100), make_result()]) == 1 / 100
    assert r.resolution_of([make_result()]) == r.resolution_of([]) == 0


def test_one_run_a_cell_prefers_results_and_refuses_a_mixture() -> None:
    failed, done = make_result(status="failed", id="a"), make_result(id="b")
    assert r.one_a_cell([failed, done], norm_of) == [done]
    same = make_result(id="c", config__name="mine", config__device="cuda")
    assert r.one_a_cell([same, done], norm_of) == [done]
    other = make_result(id="d", config__train__epochs=20)
    with pytest.raises(UsageError, match=r"b and d have the same arm .* differ in train\.epochs"):
        r.one_a_cell([other, done], norm_of)


def test_what_varies_leaves_out_grid_treatment_and_diagnostics() -> None:
    rows = [make_result(), make_result("none", 0.3, 1, config__metrics__gamma=True, config__model__widths=[8])]
    assert r.varying(rows, r.NORM) == ["config.model.widths"]
    assert r.varying(rows) == ["config.model.norm", "config.model.widths"]


def test_what_a_run_does_not_read_does_not_vary() -> None:
    rows = [make_result(), make_result("none", config__model__bn_momentum=0.5, config__optim__beta2=0.5, config__data__image_size=64)]
    assert r.varying(rows, r.NORM) == []
    rows.append(make_result(config__model__bn_momentum=0.01))
    assert r.varying(rows, r.NORM) == ["config.model.bn_momentum"]
    assert [row.setting("config.model.bn_momentum") for row in rows] == [0.1, None, 0.01]
    adam = [make_result(config__optim__name="adam", config__optim__beta2=beta2) for beta2 in (0.9, 0.99)]
    assert r.varying(adam) == ["config.optim.beta2"]


def test_a_key_that_is_newer_than_a_row_has_its_default() -> None:
    assert r.varying([make_result(), make_result(config__train__until_target=False)]) == []
    assert r.varying([make_result(), make_result(config__train__until_target=True)]) == ["config.train.until_target"]


def test_equal_budgets_are_equal_updates_or_epochs() -> None:
    epochs, steps = make_result(budget__steps=400), make_result(config__train__epochs=None, config__train__steps=400)
    assert (epochs.budget_steps, steps.budget_steps, make_result().budget_steps) == (400, 400, None)
    assert r.budget_kind([epochs, steps]) == "steps"
    assert r.varying([epochs, steps]) == []
    assert r.budget_kind([epochs, make_result(size=8, budget__steps=1600)]) == "epochs"
    assert r.budget_kind([make_result(), steps]) == "unequal"
    assert r.varying([make_result(), steps]) == list(r.BUDGET)
    assert r.one_a_cell([with_values(steps, id="b"), with_values(epochs, id="a")], norm_of)[0].id == "a"


def test_tidy_is_flat_stable_and_reads_as_csv() -> None:
    rows = [make_result(seed=seed, status=status) for seed, status in enumerate(["finished", "diverged", "failed"])]
    rows[0] = with_values(rows[0], only__here=3)
    table = to_table(rows)
    for _ in range(3):
        random.Random(0).shuffle(rows)
        assert to_table(rows) == table
    assert all(list(row) == list(table[0]) for row in table)
    assert all(value is None or isinstance(value, (str, int, float, bool)) for row in table for value in row.values())
    assert [row["steps_to_target"] for row in table] == [50, math.inf, None]
    assert [row["only.here"] for row in table] == [3, None, None]
    assert table[0]["config.model.widths"] == "16,32,64"
    assert all(row["test.confusion"] is None for row in table)  # a matrix is no scalar
    file = io.StringIO()
    writer = csv.DictWriter(file, list(table[0]))
    writer.writeheader()
    writer.writerows(table)
    assert len(file.getvalue().splitlines()) == 4
    assert to_table([]) == []


def test_importing_takes_neither_torch_nor_scipy() -> None:
    code = "import sys, bnexp.analysis; sys.exit(any(name in sys.modules for name in ('torch', 'scipy')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
