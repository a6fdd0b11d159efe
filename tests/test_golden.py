"""Numbers that must not change unnoticed, and the accuracy that the default run reaches.

A run is found again by its id, and its id hashes `bnexp.config.RESULTS_VERSION`. When a change of code alters the losses below, finished
runs would be taken for what the code now computes: bump RESULTS_VERSION and add an entry under its number, without touching the others.
"""

from __future__ import annotations

import pytest
import torch

from bnexp.config import RESULTS_VERSION, Config, from_mapping
from bnexp.data import load
from bnexp.evaluate import STATS, evaluate
from bnexp.train import Stack, fit, train_step

CPU = torch.device("cpu")
ARMS: dict[str, dict[str, object]] = {
    "batch": {},
    "none": {"model": {"norm": "none"}},
    "mlp": {"model": {"name": "mlp", "widths": [100, 100]}, "optim": {"name": "adam", "lr": 0.001}},
    "augmented": {"data": {"augment": "crop_flip"}, "model": {"placement": "conv-relu-norm"}, "optim": {"schedule": "cosine"}},
}
GOLDEN: dict[int, dict[str, list[float]]] = {
    1: {
        "batch": [2.444426, 2.391109, 2.089833, 1.883121, 1.630347, 1.527144, 1.329638, 1.371357],
        "none": [2.313316, 2.322856, 2.307006, 2.243694, 2.245502, 2.208841, 2.139866, 2.218798],
        "mlp": [2.923884, 2.813824, 2.573069, 2.581567, 2.642517, 2.563988, 2.416992, 2.337032],
        "augmented": [2.554993, 2.292730, 2.348101, 2.268987, 2.054873, 2.068364, 1.936139, 2.033407],
    },
}


def config(arm: str) -> Config:
    return from_mapping({**ARMS[arm], "train": {"steps": 8}})


@pytest.mark.parametrize("arm", ARMS)
def test_golden_losses(arm: str) -> None:
    """float32 on one CPU thread; the tolerance is for other machines' rounding."""
    stack = Stack([config(arm)], load(config(arm).data, CPU), CPU)
    for _ in range(8):
        train_step(stack)
    losses = torch.cat(stack.losses).tolist()
    assert RESULTS_VERSION in GOLDEN, f"RESULTS_VERSION is {RESULTS_VERSION}: add its losses, {arm} has {losses}"
    assert losses == pytest.approx(GOLDEN[RESULTS_VERSION][arm], rel=2e-4)


def test_the_default_run_learns_the_digits() -> None:
    """Ten epochs, seed 0: over 96 % with running statistics, which are warm by then and agree with the other two."""
    own = Config()
    data = load(own.data, CPU)
    stack = Stack([own], data, CPU)
    assert fit(stack, data, record=lambda run, values: None)
    assert stack.step == stack.total == 400
    assert stack.alive == [0]
    accuracy = {stats: float(evaluate(stack.network, data, data.test, own, stats).accuracy[0]) for stats in STATS}
    assert accuracy["running"] > 0.96
    assert accuracy["precise"] == pytest.approx(accuracy["running"], abs=0.02)
    assert accuracy["batch"] == pytest.approx(accuracy["running"], abs=0.03)
    assert (1 - own.model.bn_momentum) ** stack.step < 0.01  # warm: the initial (0, 1) has no weight left
    tracked = [tensor for name, tensor in stack.network.state_dict().items() if name.endswith("num_batches_tracked")]
    assert [int(tensor) for tensor in tracked] == [400] * 6
    assert stack.tracks[0].reached_step is not None
    assert stack.tracks[0].reached_step < 400
