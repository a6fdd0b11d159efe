"""Grids to finished runs: stored plans, what is reused, estimates, the display of many stacks."""

import csv
import io
import json
import math
from pathlib import Path

import pytest
import torch
from torch import nn

from bnexp.base.errors import DataError
from bnexp.config import DATASETS, Config
from bnexp.config.compose import expand
from bnexp.config.cost import network_size, stack_seconds
from bnexp.execution.grid import prepare, train_all
from bnexp.execution.live import Live
from bnexp.execution.stack_events import DONE, Event
from bnexp.models import build
from bnexp.planning.plan import START_S, estimate
from bnexp.storage.group import find_group, group_of, store, to_csv
from bnexp.storage.run import Run

GRID = ["model.widths=[4]", "train.steps=6", "train.batch_size=4", "model.norm=batch", "optim.lr=0.03,0.1", "seed=range(4)"]
SIXTEEN = [*GRID, "seed=range(8)"]
"""Two stacks."""


def stacks_of(runs_dir: Path, overrides: list[str], **options: bool) -> list[list[str]]:
    return [[run.id for run in stack.runs] for stack in prepare(expand(overrides), runs_dir, **options).stacks]


def test_a_repeated_grid_goes_on_with_the_stacks_it_planned(tmp_path: Path) -> None:
    planned = stacks_of(tmp_path, SIXTEEN)
    assert [len(stack) for stack in planned] == [8, 8]
    prepared = prepare(expand(SIXTEEN), tmp_path)
    prepared.group.store_plan(planned)
    train_all(prepare(expand([*SIXTEEN, "seed=range(4)"]), tmp_path), workers=0, quiet=True)  # other stacks of some of the same runs
    left = stacks_of(tmp_path, SIXTEEN)
    assert left == planned  # each stored stack has members that are missing, and is trained as it was planned
    outcome = train_all(prepare(expand(SIXTEEN), tmp_path), workers=0, quiet=True)
    assert len(outcome.reused) == 8
    assert all(run.done for run in outcome.runs)
    assert stacks_of(tmp_path, SIXTEEN) == []


def test_runs_that_were_removed_are_trained_in_their_old_stack_for_the_same_bits(tmp_path: Path) -> None:
    outcome = train_all(prepare(expand(GRID), tmp_path), workers=0, quiet=True)
    planned = group_of(outcome.runs).plan()
    gone = outcome.runs[2]
    bits = gone.model_pt.read_bytes()
    gone.remove()
    again = train_all(prepare(expand(GRID), tmp_path), workers=0, quiet=True)
    assert gone.model_pt.read_bytes() == bits
    assert again.reused == frozenset(run.id for run in again.runs) - {gone.id}
    assert group_of(again.runs).plan() == planned or sorted(map(sorted, group_of(again.runs).plan())) == sorted(map(sorted, planned))


def test_fresh_trains_all_again_in_the_same_stacks(tmp_path: Path) -> None:
    overrides = [*GRID, "seed=range(2)"]
    train_all(prepare(expand(overrides), tmp_path), workers=0, quiet=True)
    assert prepare(expand(overrides), tmp_path).missing == 0
    prepared = prepare(expand(overrides), tmp_path, fresh=True)
    before = {run.id: (run.model_pt.stat().st_mtime_ns, run.model_pt.read_bytes()) for run in prepared.runs}
    outcome = train_all(prepared, workers=0, quiet=True)
    assert not outcome.reused
    for run in outcome.runs:
        assert run.model_pt.stat().st_mtime_ns > before[run.id][0]
        assert run.model_pt.read_bytes() == before[run.id][1]


def test_a_cell_that_is_asked_for_twice_is_one_run(tmp_path: Path) -> None:
    configs = [Config(), Config(), Config().replace(name="other"), Config().replace(threads=2)]
    prepared = prepare(configs, tmp_path)
    assert len(prepared.runs) == 2  # threads are no part of an id, the name is
    assert prepared.ids[configs[3]] == prepared.runs[0].id


def test_a_damaged_plan_is_planned_anew(tmp_path: Path) -> None:
    prepared = prepare(expand(GRID), tmp_path)
    prepared.group.folder.mkdir(parents=True)
    for text in ("", "[]", '{"stacks": 3}', '{"stacks": [["../../x"]]}'):
        prepared.group.plan_json.write_text(text)
        assert stacks_of(tmp_path, GRID) == [[run.id for run in stack.runs] for stack in prepared.stacks]


def test_groups_do_not_depend_on_the_order_of_the_runs(tmp_path: Path) -> None:
    runs = [Run(tmp_path, name) for name in ("a", "b", "c")]
    assert group_of(runs) == group_of(runs[::-1])
    assert group_of(runs) != group_of(runs[:2])


def test_csv_keeps_infinity_and_missing_values_apart(tmp_path: Path) -> None:
    rows = [{"id": "a, b", "steps": math.inf, "x": None}, {"id": 'c"d', "steps": 3, "x": 0.1}]
    (first, second) = csv.DictReader(io.StringIO(to_csv(rows)))
    assert (first["id"], first["steps"], first["x"]) == ("a, b", "inf", "")
    assert (second["id"], float(second["steps"]), float(second["x"])) == ('c"d', 3, 0.1)
    store(tmp_path / "new", "found", {"factor": math.inf, "n": 2}, rows)
    assert json.loads((tmp_path / "new" / "found.json").read_text()) == {"factor": None, "n": 2, "nonfinite": ["factor"]}


def test_no_cell_of_a_csv_is_a_formula_and_no_header_either() -> None:
    """A stranger's summary names the columns too."""
    rows = [{"id": "=1+1", "=HYPERLINK(A2)": "@x", "+a": -0.5}]
    assert list(csv.reader(io.StringIO(to_csv(rows)))) == [["id", "'=HYPERLINK(A2)", "'+a"], ["'=1+1", "'@x", "-0.5"]]


def test_estimates_grow_with_the_work_and_learn_from_finished_runs(tmp_path: Path) -> None:
    narrow, wide = Config(), Config().replace(**{"model.widths": [32, 64, 128]})
    digits = (1, 8, 8), 1437, 10
    assert stack_seconds(narrow, digits, 2, 400) > stack_seconds(narrow, digits, 1, 400)
    assert stack_seconds(narrow, digits, 1, 800) == pytest.approx(2 * stack_seconds(narrow, digits, 1, 400))
    assert stack_seconds(wide, digits, 1, 400) > 1.5 * stack_seconds(narrow, digits, 1, 400)
    stacks = prepare([Config().replace(seed=seed) for seed in range(40)], tmp_path).stacks
    one, two = estimate(stacks, 1, []), estimate(stacks, 2, [])
    assert 0.4 * one.seconds < two.seconds < 0.8 * one.seconds
    finished = train_all(prepare(expand(GRID), tmp_path), workers=0, quiet=True).runs
    learned = estimate(stacks, 1, finished)
    assert learned.calibrated == 8
    run = finished[0]
    summary = run.result().tree()
    spent = summary["speed"]["train_s"] + summary["speed"]["eval_s"]
    factor = spent / stack_seconds(run.config(), digits, 4, 6)
    expected = START_S + factor * sum(stack.seconds for stack in stacks)
    assert 0.2 * expected < learned.seconds < 5 * expected  # the other stack of the two was faster or slower
    until = [*GRID, "train.until_target=true", "train.target=0.01"]
    assert estimate(stacks, 1, train_all(prepare(expand(until), tmp_path), workers=0, quiet=True).runs).calibrated == 0


@pytest.mark.parametrize("overrides", [[], ["data=volumes"], ["data=waveforms", "model.widths=[8,12]"], ["model=mlp"]])
def test_the_estimates_multiply_adds_are_the_networks(overrides: list[str]) -> None:
    (config,) = expand(overrides)
    spec = DATASETS[config.data.name]
    network = build(config.model, spec.shape, spec.classes, 1)
    counted = {"macs": 0.0, "weights": 0.0}

    def count(module: nn.Module, inputs: tuple[torch.Tensor], output: torch.Tensor) -> None:
        counted["macs"] += module.weight.numel() * output[0, 0].numel()
        counted["weights"] += module.weight.numel()

    layers = [module for module in network.modules() if hasattr(module, "weight") and module.weight is not None and module.weight.dim() > 1]
    for module in layers:
        module.register_forward_hook(count)
    network(torch.randn(2, *spec.shape))
    macs, weights = network_size(config, (spec.shape, spec.train, spec.classes))
    assert weights == counted["weights"]
    assert macs == pytest.approx(counted["macs"], rel=0.01)  # but for the head of a convolutional network


def test_the_display_names_stacks_and_reasons_where_nobody_watches(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stacks = prepare(expand([*GRID, "model.norm=batch,none"]), tmp_path).stacks
    with Live(stacks, reused=3, quiet=False) as live:
        live.on_event(Event(stacks[0].folder.id, 3, 6, 0.875))
        live.on_event(Event("unknown", 3, 6))
        live.ended(stacks[0], DONE)
        live.ended(stacks[1], "the disk is full")
    err = capsys.readouterr().err
    assert f"Training 16 runs in {len(stacks)} stacks; 3 runs finished before." in err
    assert f"1/{len(stacks)}  with BN, {len(stacks[0].runs)} runs: best 87.5 %" in err
    assert "the disk is full" in err
    with Live(stacks, reused=0, quiet=True) as live:
        live.ended(stacks[0], "the disk is full")
    assert capsys.readouterr() == ("", "")


def test_a_group_is_found_by_its_id_and_by_its_path_and_knows_its_runs(tmp_path: Path) -> None:
    runs = [Run(tmp_path, f"run-{index}") for index in range(3)]
    group = group_of(runs)
    assert find_group(group.id, tmp_path) is None
    group.store_members("sweep lr", {"10 epochs": runs, "400 steps": runs[1:]})
    for run in runs[:2]:
        run.folder.mkdir()
    assert find_group(group.id, tmp_path) == group == find_group(str(group.folder), tmp_path / "other")
    assert group.kind == "sweep lr"
    assert group.parts() == {"10 epochs": runs[:2], "400 steps": runs[1:2]}
    assert group.members() == runs[:2]  # what is no longer there is left out
    assert find_group(group.id[:4], tmp_path) is None
    group.members_json.write_text('{"parts": {"": ["../../etc", 3, "run-1"]}}')
    assert group.members() == runs[1:2]
    group.members_json.write_text("[]")
    with pytest.raises(DataError, match="which runs"):
        group.members()
