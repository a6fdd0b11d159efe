"""`train.until_target`: a run ends where it reaches its target, and is from then on as if the others were not there."""

import io
import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from support import Tiny, train
from torch import Tensor

from bnexp.config import Config, from_mapping
from bnexp.data import Dataset, load
from bnexp.evaluate import STATS, evaluate
from bnexp.execution.launch import launch
from bnexp.models import unstack
from bnexp.storage.checkpoint import load_model, load_network
from bnexp.training.stack import Stack

CPU = torch.device("cpu")
SEEDS = (0, 1, 2, 3)
Records = list[tuple[int, int, dict[str, float]]]  # (step, run, values)
States = dict[tuple[int, int], dict[str, Tensor]]  # (step, run) -> the run's state_dict


def configs(norm: str = "batch", **changes: Any) -> list[Config]:
    model = {"name": "mlp", "widths": [6], "norm": norm}
    one = from_mapping({"model": model, "optim": {"lr": 0.02}, "train": {"batch_size": 8, "steps": 40, "eval_every": 3}})
    return [one.replace(**changes, seed=seed) for seed in SEEDS]


def trained(own: list[Config], data: Dataset, dtype: torch.dtype = torch.float32, **hooks: Any) -> tuple[Stack, Records, States]:
    stack, records, states = Stack(own, data, CPU, dtype), [], {}

    def record(run: int, values: dict[str, float]) -> None:
        records.append((stack.step, run, {key: value for key, value in values.items() if not key.startswith("speed/")}))
        states[stack.step, run] = unstack(stack.network.state_dict(), stack.runs, run)

    assert train(stack, evaluation=record, **hooks)
    return stack, records, states


def first_steps(records: Records, target: float) -> dict[int, int]:
    """Where each run reaches `target` that does."""
    found: dict[int, int] = {}
    for step, run, values in records:
        if values["val/accuracy"] >= target:
            found.setdefault(run, step)
    return found


def dividing_target(records: Records) -> float:
    """A target that some runs reach, at different steps, and some never do, whatever this machine's rounding made of the accuracies."""
    for target in sorted({values["val/accuracy"] for _, _, values in records}):
        reached = first_steps(records, target)
        if 1 < len(reached) < len(SEEDS) and len(set(reached.values())) > 1:
            return target
    raise AssertionError("no target divides these runs")


def same(ours: dict[str, Tensor], expected: dict[str, Tensor]) -> bool:
    return list(ours) == list(expected) and all(torch.equal(tensor, expected[name]) for name, tensor in ours.items())


@pytest.fixture(scope="module")
def data(tiny: Tiny) -> Dataset:
    """Noisy enough for the runs to differ in how far they come."""
    return tiny((2,), train=80, val=90, classes=4)


@pytest.mark.parametrize("norm", ["batch", "none"])
def test_a_run_ends_as_it_was_at_its_target_and_the_others_go_on_unmoved(data: Dataset, norm: str) -> None:
    """Bit for bit beside the same stack without targets, whose course is the same up to each stop."""
    _, records, states = trained(configs(norm), data)
    target = dividing_target(records)
    reached = first_steps(records, target)
    stack, own_records, _ = trained(configs(norm, **{"train.target": target, "train.until_target": True}), data)
    ends = {run: reached.get(run, 40) for run in range(4)}
    assert own_records == [record for record in records if record[0] <= ends[record[1]]]
    assert stack.step == 40  # some run never got there
    assert stack.alive == [run for run in range(4) if run not in reached]
    for run, track in enumerate(stack.tracks):
        assert track.stopped_at_step == track.reached_step == reached.get(run)
        assert same(stack.own_state(run), states[ends[run], run])
        last = next(values for step, own, values in records if (step, own) == (ends[run], run))
        assert (track.val_loss, track.val_accuracy) == (last["val/loss"], last["val/accuracy"])
        assert track.best_accuracy == max(values["val/accuracy"] for _, own, values in own_records if own == run)
        for name, tensor in unstack(stack.network.state_dict(), 4, run).items():  # what the final evaluation sees
            assert tensor.dim() == 0 or torch.equal(tensor, states[ends[run], run][name])


def test_it_ends_when_the_last_run_does(data: Dataset) -> None:
    _, records, _ = trained(configs(), data)
    target = min(max(values["val/accuracy"] for _, own, values in records if own == run) for run in range(4))
    reached = first_steps(records, target)
    stack, own_records, _ = trained(configs(**{"train.target": target, "train.until_target": True}), data)
    assert set(reached) == set(range(4))
    assert stack.alive == []
    assert stack.step == max(reached.values()) == own_records[-1][0]


@pytest.mark.parametrize("norm", ["batch", "none"])
def test_it_stops_where_it_would_alone(data: Dataset, norm: str) -> None:
    """In float64, so that rounding does not decide who passes the target."""
    _, records, _ = trained(configs(norm), data, torch.float64)
    own = configs(norm, **{"train.target": dividing_target(records), "train.until_target": True})
    stack, _, _ = trained(own, data, torch.float64)
    for run, config in enumerate(own):
        alone, _, _ = trained([config], data, torch.float64)
        track, track_alone = stack.tracks[run], alone.tracks[0]
        assert (track.stopped_at_step, track.best_step) == (track_alone.stopped_at_step, track_alone.best_step)
        assert (track.val_accuracy, track.best_accuracy) == (track_alone.val_accuracy, track_alone.best_accuracy)
        assert alone.step == (track.stopped_at_step or 40)
        for name, tensor in stack.own_state(run).items():
            torch.testing.assert_close(tensor, alone.own_state(0)[name], rtol=1e-8, atol=1e-8)
        for stats in STATS:  # precise ones are pooled at the weights that were put back
            scores, single = (evaluate(one.network, data, data.test, config, stats) for one in (stack, alone))
            torch.testing.assert_close(scores.loss[run], single.loss[0], rtol=1e-6, atol=1e-6)
            assert scores.accuracy[run] == single.accuracy[0]


def test_a_stopped_run_whose_channels_break_is_still_stopped_and_disturbs_nobody(data: Dataset) -> None:
    _, records, states = trained(configs(), data)
    target = dividing_target(records)
    reached = first_steps(records, target)
    stack = Stack(configs(**{"train.target": target, "train.until_target": True}), data, CPU)

    def spoil() -> None:
        with torch.no_grad():
            for param in stack.network.parameters():
                for run in stack.stopped:
                    param.unflatten(0, (4, -1))[run].fill_(math.nan)

    assert train(stack, step_done=spoil)
    assert all(track.diverged_at_step is None for track in stack.tracks)
    for run in range(4):
        assert same(stack.own_state(run), states[reached.get(run, 40), run])
    assert evaluate(stack.network, data, data.test, stack.config).loss.isfinite().all()


def test_every_checkpoint_continues_bit_for_bit(data: Dataset) -> None:
    _, records, _ = trained(configs(), data)
    target = dividing_target(records)
    own = configs(**{"train.target": target, "train.until_target": True, "train.checkpoint_every": 1})
    files: list[io.BytesIO] = []
    stack = Stack(own, data, CPU)

    def save() -> None:
        files.append(io.BytesIO())
        torch.save(stack.state_dict(), files[-1])

    assert train(stack, checkpoint=save)
    stops = sorted(first_steps(records, target).values())
    assert len(files) == 40
    for number in {1, stops[0] - 1, stops[0], stops[0] + 1, stops[-1], stops[-1] + 1, 39, 40} - {41}:
        again = Stack(own, data, CPU)
        files[number - 1].seek(0)
        again.load_state_dict(torch.load(files[number - 1], weights_only=True))
        assert len(again.stopped) == sum(step <= number for step in stops)
        assert train(again)
        assert same(again.network.state_dict(), stack.network.state_dict())
        for run in range(4):
            assert same(again.own_state(run), stack.own_state(run))
            assert {**asdict(again.tracks[run]), "reached_train_s": 0} == {**asdict(stack.tracks[run]), "reached_train_s": 0}


def test_the_saved_runs_are_those_at_their_stops(tmp_path: Path) -> None:
    base = Config().replace(
        **{"model.widths": [4], "optim.lr": 0.05, "train.epochs": None, "train.steps": 60, "train.eval_every": 4, "train.batch_size": 64}
    )
    own = [base.replace(seed=seed) for seed in SEEDS]
    free = launch(own, tmp_path / "free", quiet=True).runs
    records = [
        (record["step"], index, record)
        for index, run in enumerate(free)
        for record in map(json.loads, run.metrics_jsonl.read_text().splitlines())
        if "val/accuracy" in record
    ]
    target = dividing_target(records)
    reached = first_steps(records, target)
    limited = launch([one.replace(**{"train.target": target, "train.until_target": True}) for one in own], tmp_path / "until", quiet=True)
    data = load(base.data, CPU)
    for index, run in enumerate(limited.runs):
        summary, steps = run.result().tree(), reached.get(index, 60)
        assert summary["status"] == "finished"
        assert summary["steps"] == steps
        assert summary["epochs"] == pytest.approx(steps / (1293 // 64), abs=1e-4)
        assert summary["budget"] == {"steps": 60, "until_target": True}
        assert summary["target"]["reached_step"] == reached.get(index)
        assert (summary["val"]["accuracy"] >= target) == (index in reached)
        assert summary["running_statistics"]["initial_weight"] == pytest.approx(0.9**steps)
        last = json.loads(run.metrics_jsonl.read_text().splitlines()[-1])
        assert last["step"] == steps
        assert "test/running/accuracy" in last
        assert ("reached the target" in run.train_log.read_text()) == (index in reached)
        tracked = [tensor for name, tensor in load_model(run.model_pt).items() if name.endswith("num_batches_tracked")]
        assert [int(tensor) for tensor in tracked] == [steps] * 2
        network = load_network(run)
        for stats in STATS:
            scores = evaluate(network, data, data.test, base, stats)
            assert summary["test"][stats]["loss"] == pytest.approx(float(scores.loss[0]), rel=1e-4)
            assert summary["test"][stats]["accuracy"] == pytest.approx(float(scores.accuracy[0]), abs=1 / 360 + 1e-9)
