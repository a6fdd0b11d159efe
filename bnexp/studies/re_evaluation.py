"""A saved run evaluated again: under any statistics, and with its batch norms folded away."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from statistics import median
from types import MappingProxyType
from typing import Any

import torch
from torch import nn

from bnexp.base.errors import BnexpError
from bnexp.base.files import null_nonfinite
from bnexp.config import Config
from bnexp.data import Dataset
from bnexp.evaluate import evaluate, fold, shared_inputs
from bnexp.execution.identity import identify_saved
from bnexp.execution.session import Session
from bnexp.execution.terminal import Terminal
from bnexp.storage.checkpoint import load_network
from bnexp.storage.run import Run

FOLD_BOUND = 1e-4
"""Largest difference of a logit that rounding explains, relative to the largest logit where that is above 1."""
REPETITIONS = 15
SPEED_IMAGES = 256


def load_saved(run: Run, place: Mapping[str, Any]) -> tuple[Config, nn.Sequential]:
    """A saved run's config, for whatever device is here, and its network; `place` says where its data are now, if they moved.

    Raises:
        UsageError: its config, its data or the results version changed since.
        DataError: its files cannot be used.
    """
    (config,) = identify_saved([(run, run.config().replace(device="auto"))], place)
    return config, load_network(run)


def evaluate_saved(
    run: Run, stats: Sequence[str], folded: bool, terminal: Terminal, place: Mapping[str, Any] = MappingProxyType({})
) -> dict[str, Any]:
    """`{id, images, test: {stats: {loss, accuracy}}, folded?}` on the run's test data; `test.batch` as in summary.json.

    Raises:
        UsageError: `folded` does not apply to this network.
        DataError: the run or its data cannot be used.
        BnexpError: the folded network's outputs differ from the network's.
    """
    config, network = load_saved(run, place)
    if folded:
        fold(network, config)  # refuse before the data are read
    session = Session.open(config, terminal)
    session.place(network)
    data = session.data
    result: dict[str, Any] = {"id": run.id, "images": len(data.test), "test": {}}
    for which in stats:
        scores = evaluate(network, data, data.test, config, which)
        result["test"][which] = {"loss": float(scores.loss[0]), "accuracy": float(scores.accuracy[0])}
        if which == "batch":
            result["test"][which] |= {"accuracy_std": float(scores.accuracy_std[0]), "shuffles": scores.shuffles}
    if folded:
        result["folded"] = _folded(network, fold(network, config), data, run)
    return null_nonfinite(result)


@torch.inference_mode()
def _folded(network: nn.Sequential, folded: nn.Sequential, data: Dataset, run: Run) -> dict[str, Any]:
    """Scores of the folded network, how far its logits are, and the inference speed of both, interleaved."""
    loss, correct, difference, largest = 0.0, 0, 0.0, 1.0
    all_finite = True
    for index in torch.arange(len(data.test), device=data.test.x.device).split(SPEED_IMAGES):
        x, y = data.test.x[index], data.test.y[index]
        inputs = shared_inputs(network, data, x)
        before, after = network(inputs), folded(inputs)
        all_finite = all_finite and bool(before.isfinite().all()) and bool(after.isfinite().all())
        difference = max(difference, float((before - after).abs().max()))
        largest = max(largest, float(before.abs().max()))
        loss += float(nn.functional.cross_entropy(after, y, reduction="sum"))
        correct += int((after.argmax(1) == y).sum())
    if not all_finite:
        raise BnexpError(f"{run.id} gives logits that are not finite, folded or not: there is nothing to compare.")
    if difference > FOLD_BOUND * largest:
        raise BnexpError(f"Folding {run.id} changed a logit by {difference:.1e}, more than {FOLD_BOUND:g} of the largest.")
    inputs = shared_inputs(network, data, data.test.x[:SPEED_IMAGES])
    seconds: dict[bool, list[float]] = {False: [], True: []}
    for _ in range(REPETITIONS + 2):
        for which, model in ((False, network), (True, folded)):
            _wait(inputs.device)
            start = time.perf_counter()
            model(inputs)
            _wait(inputs.device)
            seconds[which].append(time.perf_counter() - start)
    return {
        "loss": loss / len(data.test),
        "accuracy": correct / len(data.test),
        "max_abs_difference": difference,
        "images_per_s": len(inputs) / median(seconds[True][2:]),  # the first two warm up
        "images_per_s_unfolded": len(inputs) / median(seconds[False][2:]),
        "repetitions": REPETITIONS,
        "batch": len(inputs),
    }


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
