"""Cells of a grid: what varies, who is in which cell, the order, and what a cell says."""

from __future__ import annotations

import dataclasses
import json
import math
import random
import statistics

import pytest
from support import make_result

from bnexp.analysis import grid, varying_keys
from bnexp.base.errors import UsageError
from bnexp.base.files import dump_json, null_nonfinite
from bnexp.storage.result import RunResult


def crossed_runs() -> list[RunResult]:
    return [
        make_result(norm, lr, seed, size, acc=0.9 + 0.01 * seed - 0.001 * size, train__accuracy=1.0)
        for norm in ("batch", "none")
        for lr in (0.1, 0.3)
        for size in (8, 32, 128)
        for seed in range(3)
    ]


def test_what_varies_is_the_grid() -> None:
    keys = ["config.model.norm", "config.optim.lr", "config.train.batch_size"]
    assert varying_keys(crossed_runs()) == keys
    found = grid(crossed_runs())
    assert found.keys == tuple(keys)
    assert [cell.values for cell in found.cells] == [(n, lr, b) for n in ("batch", "none") for lr in (0.1, 0.3) for b in (8, 32, 128)]
    assert {(cell.n, cell.n_missing) for cell in found.cells} == {(3, 0)}
    mean = statistics.fmean(0.9 + 0.01 * seed - 0.032 for seed in range(3))
    assert found.cells[1].accuracy["precise"].mean == pytest.approx(mean)
    assert found.cells[1].gap.mean == pytest.approx(1 - mean)
    assert found.cells[1].steps.median == 50
    shuffled = crossed_runs()
    random.Random(0).shuffle(shuffled)
    assert grid(shuffled) == found
    assert json.loads(dump_json(null_nonfinite(dataclasses.asdict(found))))["cells"][0]["n"] == 3


def test_diverged_and_missing_runs() -> None:
    rows = [
        make_result(seed=0),
        make_result(seed=1, status="diverged"),
        make_result(seed=2, status="failed"),
    ]
    found = grid(rows)
    (only,) = found.cells
    assert (found.keys, only.values) == ((), ())
    assert (only.n, only.failures.diverged, only.n_missing) == (2, 1, 1)
    assert (only.accuracy["running"].n, only.accuracy["running"].mean) == (1, pytest.approx(0.9))  # no mean over accuracies and zeros
    assert (only.val_loss.mean, only.gap.n, only.steps.reached) == (math.inf, 0, 1)
    assert grid([]).cells == ()


def test_keys_may_be_named_and_must_hold_one_setting() -> None:
    rows = [row for row in crossed_runs() if row.batch_size == 8 and row.lr == 0.1]
    assert [cell.values for cell in grid(rows, ["model.norm", "config.optim.lr"]).cells] == [("batch", 0.1), ("none", 0.1)]
    with pytest.raises(UsageError, match=r"have the same cell and seed, and differ in optim\.lr, train\.batch_size"):
        grid([make_result(id="a"), make_result(id="b", lr=0.3, size=8)], ["model.norm"])
    with pytest.raises(UsageError, match=r"There is no config key 'optim\.lrr'\. Did you mean 'optim\.lr'\?"):
        grid(rows, ["optim.lrr"])


def test_a_key_that_a_run_does_not_read_makes_no_cell() -> None:
    rows = [make_result(norm, id=f"{norm}{m}", config__model__bn_momentum=m) for norm in ("none", "batch") for m in (0.1, 0.01)]
    assert [(cell.values, cell.n) for cell in grid(rows).cells] == [((None, "none"), 1), ((0.01, "batch"), 1), ((0.1, "batch"), 1)]


def test_lists_and_kinds_sort() -> None:
    rows = [
        make_result(size=4, id=str(w), config__model__widths=w, config__data__subset=s) for w, s in (([16], 10), ([8], None), ([8, 4], 9))
    ]
    assert [cell.values for cell in grid(rows).cells] == [(None, (8,)), (9, (8, 4)), (10, (16,))]


def test_equal_updates_are_one_setting() -> None:
    rows = [
        make_result(size=32, budget__steps=400),
        make_result(size=8, budget__steps=400, config__train__epochs=None, config__train__steps=400),
    ]
    assert varying_keys(rows) == ["config.train.batch_size"]


def test_a_cell_is_warm_when_all_its_finished_runs_are() -> None:
    rows = [
        make_result(size=8, seed=0),
        make_result(size=8, seed=1, running_statistics__warm=False),
        make_result(size=32, seed=0),
        make_result(size=32, seed=1, status="diverged", running_statistics__warm=False),
        make_result("none", size=64, running_statistics__warm=None),
    ]
    assert [(cell.values[1], cell.ema_warm) for cell in grid(rows).cells] == [(8, False), (32, True), (64, True)]
