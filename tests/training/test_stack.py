"""A stack of runs against the same runs one by one: every run is as if it were alone, whatever its neighbours do."""

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from support import Tiny
from torch import Tensor

from bnexp.config import Config, from_mapping
from bnexp.data import Dataset
from bnexp.evaluate import STATS, evaluate
from bnexp.models import unstack
from bnexp.training.stack import Stack, train_step

CPU = torch.device("cpu")
SHAPES = {"1d": (2, 9), "2d": (1, 8, 6), "3d": (2, 4, 5, 4), "flat": (7,)}
MEMBERS = [
    {"seed": 0, "optim": {"lr": 0.05, "momentum": 0.9}},
    {"seed": 1, "optim": {"lr": 0.3, "momentum": 0.0}},
    {"seed": 0, "optim": {"lr": 0.01, "momentum": 0.5, "weight_decay": 0.1}},
    {"seed": 5, "optim": {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01}},
]


def members(shape: tuple[int, ...], norm: str) -> list[Config]:
    model = {"name": "mlp", "widths": [8, 6]} if len(shape) == 1 else {"widths": [4, 6]}
    shared = {"model": {**model, "norm": norm}, "train": {"batch_size": 8, "steps": 20}}
    return [from_mapping({**shared, **own}) for own in MEMBERS]


def train(configs: Sequence[Config], data: Dataset, steps: int, dtype: torch.dtype) -> tuple[Stack, list[dict[str, Tensor]], Tensor]:
    """The stack after `steps`, each run's weights and buffers, and losses_[S, R]."""
    stack = Stack(configs, data, CPU, dtype)
    for _ in range(steps):
        train_step(stack)
    state = stack.network.state_dict()
    return stack, [unstack(state, len(configs), run) for run in range(len(configs))], torch.stack(stack.losses)


def agree(ours: dict[str, Tensor], expected: dict[str, Tensor], tolerance: float) -> None:
    assert list(ours) == list(expected)
    for name, tensor in ours.items():
        torch.testing.assert_close(tensor, expected[name], rtol=tolerance, atol=tolerance, msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.parametrize("kind", SHAPES)
@pytest.mark.parametrize("norm", ["batch", "none"])
@pytest.mark.parametrize(("dtype", "steps", "tolerance"), [(torch.float64, 20, 1e-9), (torch.float32, 5, 1e-4)], ids=["float64", "float32"])
def test_a_stack_is_its_runs(tiny: Tiny, kind: str, norm: str, dtype: torch.dtype, steps: int, tolerance: float) -> None:
    data, configs = tiny(SHAPES[kind], train=40), members(SHAPES[kind], norm)
    stack, states, losses_SR = train(configs, data, steps, dtype)
    assert losses_SR.isfinite().all()
    assert losses_SR.shape == (steps, 4)
    for run, config in enumerate(configs):
        single, (state,), losses_S1 = train([config], data, steps, dtype)
        torch.testing.assert_close(losses_SR[:, run], losses_S1[:, 0], rtol=tolerance, atol=tolerance)
        agree(states[run], state, tolerance)
        assert torch.equal(torch.stack(stack.correct)[:, run], torch.stack(single.correct)[:, 0])


OPTIMIZERS = [{"optim.name": "adam"}, {"optim.name": "adamw"}, {"optim.nesterov": True}]
CASES = [{**optim, "optim.schedule": schedule, "optim.warmup_steps": 3} for optim in OPTIMIZERS for schedule in ("cosine", "step")]
CASES += [{"model.placement": placement} for placement in ("norm-conv-relu", "conv-relu-norm")]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_stack_is_its_runs_under_every_optimizer_and_in_every_placement(tiny: Tiny, case: dict[str, Any]) -> None:
    shape = SHAPES["2d" if "model.placement" in case else "1d"]
    data, configs = (
        tiny(shape),
        [config.replace(**{"optim.momentum": 0.5 + 0.05 * config.seed}, **case) for config in members(shape, "batch")],
    )
    _, states, _ = train(configs, data, 20, torch.float64)
    for config, state in zip(configs, states, strict=True):
        _, (alone,), _ = train([config], data, 20, torch.float64)
        agree(state, alone, 1e-9)


@pytest.mark.parametrize("kind", SHAPES)
@pytest.mark.parametrize("norm", ["batch", "none"])
@pytest.mark.parametrize("place", [0, 1])
def test_a_diverging_neighbour_changes_nothing(tiny: Tiny, kind: str, norm: str, place: int) -> None:
    data, (good, other, *_) = tiny(SHAPES[kind]), members(SHAPES[kind], norm)
    bad = other.replace(**{"optim.lr": 1e30, "optim.momentum": 0.9})
    pair = [[good, bad], [bad, good]][place]
    calm = [[good, other], [other, good]][place]
    own = 0 if place == 0 else 1
    stack, states, losses_SR = train(pair, data, 10, torch.float32)
    assert not losses_SR[-1, 1 - own].isfinite()
    beside_calm, calm_states, calm_losses = train(calm, data, 10, torch.float32)
    assert torch.equal(losses_SR[:, own], calm_losses[:, own])
    agree(states[own], calm_states[own], 0)
    for stats in STATS:
        scores, calm_scores = (evaluate(one.network, data, data.test, good, stats) for one in (stack, beside_calm))
        assert torch.equal(scores.loss[own], calm_scores.loss[own])
        assert torch.equal(scores.confusion[own], calm_scores.confusion[own])
        assert scores.accuracy[1 - own].isnan()  # NaN predicts nothing: no accidental accuracy
    _, states64, _ = train(pair, data, 20, torch.float64)
    _, (alone,), _ = train([good], data, 20, torch.float64)
    agree(states64[own], alone, 1e-9)


def test_a_poisoned_image_stays_with_the_runs_that_drew_it(tiny: Tiny) -> None:
    """The runs of a stack share the data on the device, and not what they draw from them."""
    data = tiny(SHAPES["2d"], train=24)
    configs = members(SHAPES["2d"], "batch")
    stack = Stack(configs, data, CPU)
    drew = []
    data.train.x[3] = float("nan")
    x, _ = stack.batches[0]
    for part in x.unflatten(1, (4, -1)).transpose(0, 1):
        drew.append(bool(part.isnan().any()))
    assert any(drew)
    assert not all(drew)
    train_step(stack)
    assert [not ok for ok in stack.losses[0].isfinite().tolist()] == drew
    for run in range(4):
        state = unstack(stack.network.state_dict(), 4, run)
        assert all(tensor.isfinite().all() for tensor in state.values()) != drew[run]
