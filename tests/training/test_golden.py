"""Numbers that must not change unnoticed, and the accuracy that the default run reaches.

A run is found again by its id, and its id hashes `bnexp.config.RESULTS_VERSION`. When a change of code alters the losses below, finished
runs would be taken for what the code now computes: bump RESULTS_VERSION and add an entry under its number, without touching the others.
Where it was bumped because more is recorded, the losses are those of the version before.
"""

import pytest
import torch
from support import train

from bnexp.config import RESULTS_VERSION, Config, from_mapping
from bnexp.data import load
from bnexp.evaluate import STATS, evaluate
from bnexp.training.stack import Stack, train_step

CPU = torch.device("cpu")
ARMS: dict[str, dict[str, object]] = {
    "batch": {},
    "none": {"model": {"norm": "none"}},
    "mlp": {"model": {"name": "mlp", "widths": [100, 100]}, "optim": {"name": "adam", "lr": 0.001}},
    "augmented": {"data": {"augment": "crop_flip"}, "model": {"placement": "conv-relu-norm"}, "optim": {"schedule": "step"}},
}
GOLDEN: dict[int, dict[str, list[float]]] = {
    1: {
        "batch": [2.444426, 2.391109, 2.096907, 1.910994, 1.688709, 1.657178, 1.537877, 1.679530],
        "none": [2.313316, 2.322856, 2.307618, 2.246971, 2.253421, 2.232550, 2.210949, 2.265693],
        "mlp": [2.923884, 2.813824, 2.575605, 2.598047, 2.682740, 2.643285, 2.534844, 2.524495],
        "augmented": [2.554993, 2.292730, 2.346828, 2.242460, 2.115198, 2.103024, 2.094790, 2.225331],
    },
}
GOLDEN[2] = GOLDEN[1]  # training accuracy, budget and audit came into the summary
GOLDEN[3] = GOLDEN[2]  # metrics came into the log
GOLDEN[4] = GOLDEN[3]  # evaluations near the target, which images were right, batch statistics over 20 shuffles and of real batches


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
    own = Config()
    data = load(own.data, CPU)
    stack = Stack([own], data, CPU)
    assert train(stack)
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
