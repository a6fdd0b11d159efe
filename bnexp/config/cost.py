"""What a stack costs, as a function of its config and its data's shape: for the order of stacks and for `--dry-run`. Rough on purpose.

A step of one run costs a fixed part, which stacks share, and its multiplications: measured on one thread of a 2-core x86 machine with
AVX-512 (2.2 ms at batch 32 and 16 ms at batch 256 on 8x8 maps, 19 ms at batch 32 on 28x28).
"""

from __future__ import annotations

import itertools
import math

from bnexp.config import MODELS, PROBED, SAMPLED, Config, map_sizes
from bnexp.norms import NO_NORM

Header = tuple[tuple[int, ...], int, int]
"""What a data set's header says: shape [C, *map], training images (validation left out), classes."""

MACS_A_S = 33e9
"""Multiply-adds a second of one thread, over a whole step."""
STEP_S, LAUNCH_S = 0.4e-3, 1.2e-3
"""Seconds a step of each run, and of each stack, whatever the batch."""
EVALUATION = 1.15
"""Training and evaluation over training alone."""
PROBE_METRICS = 0.1
"""Share of the training that the five metrics of one pass take together, in a short run."""
SAMPLED_STEPS, SHORT = 100, 400
"""Training steps that each sampled metric takes in all, in a run of `SHORT` steps or more."""
PASSES, VALUES, VALUE_BYTES = 20, 27, 100
"""Probe passes of a run, numbers a layer and pass, and the bytes of one in metrics.jsonl and TensorBoard together."""


def stack_seconds(config: Config, header: Header, width: int, steps: int) -> float:
    """Seconds of one stack of `width` runs on one thread, evaluation included."""
    macs = 3 * config.train.batch_size * network_size(config, header)[0]
    step = LAUNCH_S + width * (STEP_S + macs / MACS_A_S)
    metrics = PROBE_METRICS * _probed(config) + SAMPLED_STEPS / max(steps, SHORT) * sum(name in SAMPLED for name in config.metrics.on)
    return (EVALUATION + metrics) * steps * step


def evaluation_cost(config: Config, header: Header, images: int) -> float:
    """What an evaluation of so many images costs, in steps of the same run: a forward pass is counted as a third of a step's work.
    Neither the stack's width nor anything measured is in it, so that it is the same wherever the run is trained."""
    macs = network_size(config, header)[0]
    return (STEP_S / 3 + images * macs / MACS_A_S) / (STEP_S + 3 * config.train.batch_size * macs / MACS_A_S)


def network_size(config: Config, header: Header) -> tuple[float, float]:
    """Multiply-adds of one image's forward pass (but for a convolutional network's head), and the number of weights."""
    shape, _, classes = header
    widths = config.model.widths
    if not MODELS[config.model.name].convolutional:
        sizes = [math.prod(shape), *widths, classes]
        weights = float(sum(a * b for a, b in itertools.pairwise(sizes)))
        return weights, weights
    kernel, channels, macs, weights = 3 ** len(shape[1:]), shape[0], 0.0, 0.0
    for width, spatial in zip(widths, map_sizes(shape[1:], len(widths)), strict=True):
        block = kernel * (channels * width + width * width)
        macs, weights, channels = macs + block * math.prod(spatial), weights + block, width
    return macs, weights + channels * classes


def activation_bytes(config: Config, shape: tuple[int, ...]) -> int:
    """Bytes of one image's activations in the first layer, or of the image where that is more."""
    width = config.model.widths[0] * (math.prod(shape[1:]) if MODELS[config.model.name].convolutional else 1)
    return 4 * max(math.prod(shape), width)


def least_bytes(config: Config, header: Header, width: int) -> int:
    """Memory that training `width` runs in one stack takes at the least: weights, gradients and the optimizer's state, and of each image of
    a batch what every layer keeps for the way back (its norm's input, its nonlinearity's output)."""
    shape, train, _ = header
    states = 2 if config.optim.name in ("adam", "adamw") else int(config.optim.momentum > 0)
    weights = 4 * (2 + states) * network_size(config, header)[1]
    kept, size = 1 if config.model.norm == NO_NORM else 2, 2 if config.precision == "bf16" else 4
    if not MODELS[config.model.name].convolutional:
        numbers = sum(config.model.widths)
    else:
        maps = map_sizes(shape[1:], len(config.model.widths))
        numbers = sum(2 * channels * math.prod(spatial) for channels, spatial in zip(config.model.widths, maps, strict=True))
    return int(width * (weights + min(config.train.batch_size, train) * kept * size * numbers))


def run_bytes(config: Config, header: Header) -> int:
    """Model, TensorBoard's histograms (eight or so, of about 0.7 kB a tensor), the metrics, and the small files of one run."""
    tensors, layers = 6 * len(config.model.widths) + 2, 2 * len(config.model.widths) + 1
    metrics = PASSES * layers * VALUES * VALUE_BYTES * _probed(config)
    return int(4.2 * network_size(config, header)[1] + 8 * tensors * 700 + metrics + 25_000)


def _probed(config: Config) -> float:
    """How many of the five metrics of one pass are on, as a share."""
    return sum(name in PROBED for name in config.metrics.on) / len(PROBED)
