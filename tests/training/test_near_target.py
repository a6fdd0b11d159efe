"""Evaluations near the target: a run's own, few, without a trace in its numbers, and the same from every checkpoint."""

import io
import itertools
import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from support import Tiny, train

from bnexp.config import Config, from_mapping
from bnexp.config.cost import evaluation_cost
from bnexp.data import Dataset
from bnexp.execution.launch import launch
from bnexp.training.stack import Stack

CPU = torch.device("cpu")
SEEDS = (0, 1, 2)


def configs(**changes: Any) -> list[Config]:
    model = {"name": "mlp", "widths": [6]}
    one = from_mapping({"model": model, "optim": {"lr": 0.01}, "train": {"batch_size": 8, "steps": 300, "target": 0.7}})
    return [one.replace(**changes, seed=seed) for seed in SEEDS]


Extras = list[tuple[int, int, float]]  # (step, run, validation accuracy)


def trained(own: list[Config], data: Dataset, dtype: torch.dtype = torch.float32, **hooks: Any) -> tuple[Stack, Extras]:
    stack, extras = Stack(own, data, CPU, dtype), []

    def record_extra(run: int, values: dict[str, float]) -> None:
        extras.append((stack.step, run, values["near_target/accuracy"]))

    assert train(stack, near_target=record_extra, **hooks)
    return stack, extras


@pytest.fixture(scope="module")
def data(tiny: Tiny) -> Dataset:
    """Epochs of 40 steps, and few images of validation: an evaluation costs a third of a step."""
    return tiny((4,), train=320, val=90, classes=4)


def test_the_target_is_found_within_a_step_or_two(data: Dataset) -> None:
    """Beside the same runs evaluated at each step: that one, or a later one, is where the run is found to be at its target."""
    stack, extras = trained(configs(), data)
    every_step, _ = trained(configs(**{"train.eval_every": 1}), data)
    common = [0, *Stack(configs(), data, CPU).timeline.evaluations()]
    for run, (track, exact) in enumerate(zip(stack.tracks, every_step.tracks, strict=True)):
        assert track.reached_step is not None
        assert exact.reached_step is not None
        assert exact.previous_step == exact.reached_step - 1
        assert track.reached_step >= exact.reached_step
        before = max(step for step in [*common, *(step for step, own, _ in extras if own == run)] if step < track.reached_step)
        assert track.previous_step == before
        assert track.reached_step - before <= 3
        assert track.extra == sum(own == run for _, own, _ in extras) > 0
        assert all(accuracy < 0.7 for step, own, accuracy in extras if own == run and step < track.reached_step)
    widths = [track.reached_step - (track.previous_step or 0) for track in stack.tracks if track.reached_step is not None]
    gaps = [next(b - a for a, b in itertools.pairwise(common) if track.reached_step <= b) for track in stack.tracks if track.reached_step]
    assert sum(widths) < sum(gaps) / 2


def test_evaluations_near_the_target_change_no_number(data: Dataset) -> None:
    stack, extras = trained(configs(), data)
    plain, _ = trained(configs(**{"train.eval_every": 300}), data)
    assert extras
    expected = plain.network.state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in stack.network.state_dict().items())


def test_a_run_is_evaluated_as_if_it_were_alone(data: Dataset) -> None:
    """In float64, where no rounding moves an accuracy."""
    stack, extras = trained(configs(), data, torch.float64)
    for run, config in enumerate(configs()):
        alone, own_extras = trained([config], data, torch.float64)
        assert [(step, accuracy) for step, _, accuracy in own_extras] == [(step, accuracy) for step, own, accuracy in extras if own == run]
        for name in ("reached_step", "previous_step", "extra", "best_step"):
            assert getattr(stack.tracks[run], name) == getattr(alone.tracks[0], name)


def test_they_cost_a_tenth_at_the_most(data: Dataset) -> None:
    """A target just above the best that any step has uses all there are, and no more."""
    changes = {"train.steps": 100, "optim.schedule": "constant"}
    exact, _ = trained(configs(**{**changes, "train.eval_every": 1}), data)
    best = max(track.best_accuracy or 0 for track in exact.tracks)
    own = configs(**{**changes, "train.target": best + 1e-6})
    stack, extras = trained(own, data)
    allowed, cost = stack.timeline.near_target_evaluations, evaluation_cost(own[0], ((4,), 410, 4), 90)
    assert max(track.extra for track in stack.tracks) == allowed > 0
    assert len(extras) <= 3 * allowed
    assert (allowed + len(list(Stack(own, data, CPU).timeline.evaluations()))) * cost <= 0.1 * 100 < (allowed + 15) * cost
    assert all(track.reached_step is track.previous_step is None for track in stack.tracks)


def test_none_where_the_steps_are_given(data: Dataset) -> None:
    stack, extras = trained(configs(**{"train.eval_every": 7}), data)
    assert extras == []
    for track in stack.tracks:
        assert track.reached_step is not None
        assert track.previous_step == track.reached_step - 7


def test_none_where_the_others_take_a_tenth_already(tiny: Tiny) -> None:
    """Ten epochs have room for some, one has not: its evaluations, at the epoch's end and before, are the curve that there is."""
    data = tiny((1, 8, 8), train=1280, val=144)
    few, some = (Stack([Config().replace(**{"train.epochs": epochs})], data, CPU) for epochs in (1, 10))
    assert few.timeline.near_target_evaluations == 0 < some.timeline.near_target_evaluations < 40


def test_before_the_first_evaluation_was_none(data: Dataset) -> None:
    stack, _ = trained(configs(**{"train.target": 0.01}), data)
    assert [(track.previous_step, track.reached_step, track.extra) for track in stack.tracks] == [(0, 8, 0)] * 3


def test_every_checkpoint_continues_with_the_same_evaluations(data: Dataset) -> None:
    own = configs(**{"train.checkpoint_every": 1, "train.steps": 150})
    saved: list[io.BytesIO] = []
    stack = Stack(own, data, CPU)

    def save() -> None:
        saved.append(io.BytesIO())
        torch.save(stack.state_dict(), saved[-1])

    extras: Extras = []

    def record_extra(run: int, values: dict[str, float]) -> None:
        extras.append((stack.step, run, values["near_target/accuracy"]))

    assert train(stack, near_target=record_extra, checkpoint=save)
    assert extras
    for number in {1, 8, 9, 149, *(step + off for step, _, _ in extras for off in (-1, 0, 1))}:
        again, rest = Stack(own, data, CPU), []
        saved[number - 1].seek(0)
        again.load_state_dict(torch.load(saved[number - 1], weights_only=True))

        def record_again(run: int, values: dict[str, float], again: Stack = again, rest: Extras = rest) -> None:
            rest.append((again.step, run, values["near_target/accuracy"]))

        assert train(again, near_target=record_again)
        assert rest == [extra for extra in extras if extra[0] > number]
        for ours, expected in zip(again.tracks, stack.tracks, strict=True):
            assert {**asdict(ours), "reached_train_s": 0} == {**asdict(expected), "reached_train_s": 0}


def test_a_run_that_stops_there_stops_with_those_weights(data: Dataset) -> None:
    stack, extras = trained(configs(**{"train.until_target": True}), data)
    walker, _ = trained(configs(**{"train.eval_every": 300}), data, stop=lambda: False)
    assert walker.step == 300
    ends = {run: track.stopped_at_step for run, track in enumerate(stack.tracks)}
    assert any((end, run) in {(step, own) for step, own, _ in extras} for run, end in ends.items())
    for run, end in ends.items():
        assert end is not None
        assert end == stack.tracks[run].reached_step
        alone = Stack(configs(), data, CPU)
        train(alone, stop=lambda alone=alone, end=end: alone.step == end)
        expected = alone.own_state(run)
        assert all(tensor.dim() == 0 or torch.equal(tensor, expected[name]) for name, tensor in stack.own_state(run).items())


def test_they_are_in_the_runs_logs_and_summary(tmp_path: Path) -> None:
    """On the digits, in a stack; and nothing of them in the curves that runs share."""
    base = Config().replace(**{"model.widths": [8], "train.steps": 300, "train.epochs": None, "train.target": 0.9})
    runs = launch([base.replace(seed=seed) for seed in SEEDS], tmp_path, quiet=True).runs
    evaluated, own = [], []
    for run in runs:
        records = [json.loads(line) for line in run.metrics_jsonl.read_text().splitlines()]
        target = run.result().tree()["target"]
        extras = {record["step"]: record["near_target/accuracy"] for record in records if "near_target/accuracy" in record}
        shared = {record["step"]: record["val/accuracy"] for record in records if "val/accuracy" in record}
        assert not extras.keys() & shared.keys()
        both = {**extras, **shared}
        assert target["reached_step"] == min(step for step, accuracy in both.items() if accuracy >= 0.9)
        assert target["previous_step"] == max((step for step in both if step < target["reached_step"]), default=0)
        assert all(math.isfinite(accuracy) for accuracy in extras.values())
        evaluated.append(sorted(shared))
        own.append(sorted(extras))
    assert evaluated[0] == evaluated[1] == evaluated[2]
    assert any(own)
