"""Evaluation in eval mode: with running statistics, with precise (pooled population) statistics, and with the batch's own.

The three answer different questions (Wu and Johnson 2021, "Rethinking Batch in BatchNorm", section 3): `running` is what is deployed,
`precise` is what the running average tries to be, `batch` is what training saw. Without running statistics the three coincide.
Nothing here changes the network: weights, buffers and mode are as before.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

from bnexp.base.errors import UsageError, one_of
from bnexp.config import Config
from bnexp.config.cost import activation_bytes
from bnexp.data import Dataset, Split
from bnexp.data.augment import crop_flip, draw_crop_flip
from bnexp.models import logits, memory_format, runs_in
from bnexp.norms import NORMS

STATS = ("running", "precise", "batch")
ACTIVATION_BYTES = 2**25
"""First-layer activations of an evaluation batch stay within this: large enough to keep two threads busy, small beside any memory."""
PRECISE_IMAGES = 10_000
"""Precise statistics pool so many training images at most; 1e3 to 1e4 suffice (Wu and Johnson 2021, section 3.3)."""
SHUFFLES = 20
"""Scores under batch statistics depend on which images share a batch: they are means over so many shuffles of the split."""
TRAIN_IMAGES = 10_000
"""The training accuracy is counted on so many images at most, as many as the test sets of the usual data hold: it must not cost more."""

Statistics = dict[str, tuple[Tensor, Tensor]]
"""Per norm layer (by module name) its mean and variance, each [R*C]."""


@dataclass(frozen=True)
class Scores:
    """Mean cross-entropy [R], accuracy [R] and confusion_[R, K, K] (row: the true class) over a split, and correct_[R, N], how often each
    of its examples was predicted right.

    Each example is predicted once, under batch statistics in each of `shuffles` shuffles: loss and accuracy are then means over these,
    confusion and correct are sums, and accuracy_std [R] is the accuracy's standard deviation (n - 1) over them.
    """

    loss: Tensor
    accuracy: Tensor
    confusion: Tensor
    correct: Tensor
    accuracy_std: Tensor
    shuffles: int = 1


def norm_layers(network: nn.Module) -> dict[str, _BatchNorm]:
    """The layers with running statistics, by module name."""
    return {name: m for name, m in network.named_modules() if isinstance(m, _BatchNorm) and m.running_mean is not None}


def shared_inputs(network: nn.Sequential, data: Dataset, x: Tensor) -> Tensor:
    """Raw examples x_[B, C, *map] as every run of the stack sees them: normalized, [B, R*C, *map]."""
    x = data.normalize(x)
    x = x.repeat(1, runs_in(network), *[1] * (x.dim() - 2))
    dtype = next(network.parameters()).dtype
    return x.to(dtype).contiguous(memory_format=memory_format(x.dim() - 2, x.device))


def training_inputs(network: nn.Sequential, data: Dataset, config: Config, index: Tensor, generator: torch.Generator) -> Tensor:
    """The training images of `index` as every run of the stack sees them, x_[B, R*C, *map], augmented as in training by `generator`."""
    x = shared_inputs(network, data, data.train.x[index.to(data.train.x.device)])
    if config.data.augment == "none":
        return x
    draws = draw_crop_flip(generator, len(index), data.shape, flip=config.data.augment == "crop_flip")
    return crop_flip(x, *(draw.to(x.device) for draw in draws))


def train_part(data: Dataset) -> Split:
    """The training images that the training accuracy is counted on, without augmentation: all, or `TRAIN_IMAGES` of them.

    Those are spread evenly over the split, not its first ones: the images of a folder lie class by class.
    """
    total = len(data.train)
    if total <= TRAIN_IMAGES:
        return data.train
    index = (torch.arange(TRAIN_IMAGES) * total // TRAIN_IMAGES).to(data.train.x.device)
    return Split(data.train.x[index], data.train.y[index])


def evaluate(
    network: nn.Sequential, data: Dataset, split: Split, config: Config, stats: str = "running", precise: Statistics | None = None
) -> Scores:
    """Scores of every run in the stack on a split, under one of `STATS`; `precise` are the precise statistics, where they are known.

    With `batch`, images come in `SHUFFLES` orders (drawn on the CPU by a fixed seed, the same on every device), each in batches of exactly
    the training batch size; the last one is filled up with images that are not counted again, so that each image is judged beside as many
    others as in training.
    """
    if stats == "running" or not norm_layers(network):
        return _score(network, data, split, torch.arange(len(split.y)), evaluation_batch(network, data, config), config)
    if stats == "batch":
        generator = torch.Generator().manual_seed(0)
        orders = [torch.randperm(len(split.y), generator=generator) for _ in range(SHUFFLES)]
        with _own_statistics(network):
            return _pooled([_score(network, data, split, order, config.train.batch_size, config, fill=True) for order in orders])
    with _replaced(network, precise or precise_statistics(network, data, config)):
        return evaluate(network, data, split, config, "running")


def evaluation_batch(network: nn.Sequential, data: Dataset, config: Config) -> int:
    """Images of an evaluation batch: as many as keep first-layer activations within `ACTIVATION_BYTES`, from 16 to 512."""
    return max(16, min(512, ACTIVATION_BYTES // (runs_in(network) * activation_bytes(config, data.shape))))


@contextmanager
def using(network: nn.Module, statistics: Statistics) -> Iterator[None]:
    """Eval mode with `statistics` in the place of the running ones, for the time being."""
    with _replaced(network, statistics), _mode(network, training=False):
        yield


@torch.inference_mode()
def _score(network: nn.Sequential, data: Dataset, split: Split, order: Tensor, batch: int, config: Config, fill: bool = False) -> Scores:
    runs, classes, device = runs_in(network), len(data.classes), split.x.device
    loss = torch.zeros(runs, dtype=torch.float64, device=device)
    confusion = torch.zeros(runs, classes * classes, dtype=torch.int64, device=device)
    correct = torch.zeros(runs, len(split.y), dtype=torch.int64, device=device)
    with _mode(network, training=False):
        for start in range(0, len(order), batch):
            index = order[start : start + batch]
            counted = len(index)
            if fill and counted < batch:
                index = torch.cat([index, order.repeat(math.ceil(batch / len(order)))[: batch - counted]])
            index = index.to(device)
            y = split.y[index]
            with autocast(config, device):
                logits_RBK = logits(network, shared_inputs(network, data, split.x[index]))
            logits_RBK, y = logits_RBK[:, :counted].float(), y[:counted].expand(runs, -1)
            losses = F.cross_entropy(logits_RBK.flatten(0, 1), y.flatten(), reduction="none").view(runs, counted)
            loss += losses.sum(1, dtype=torch.float64)
            guess = logits_RBK.argmax(2)
            correct[:, index[:counted]] = (guess == y).long()
            cell = y * classes + guess
            confusion.scatter_add_(1, cell, torch.ones_like(cell))
    confusion = confusion.view(runs, classes, classes)
    loss /= len(order)
    accuracy = confusion.diagonal(dim1=1, dim2=2).sum(1).double() / len(order)
    accuracy = accuracy.where(loss.isfinite(), math.nan)  # NaN outputs predict nothing
    return Scores(loss, accuracy, confusion, correct, 0 * accuracy)


def _pooled(scores: Sequence[Scores]) -> Scores:
    """The scores of several shuffles as one."""
    loss, accuracy = (torch.stack([getattr(one, name) for one in scores]) for name in ("loss", "accuracy"))
    confusion, correct = (torch.stack([getattr(one, name) for one in scores]).sum(0) for name in ("confusion", "correct"))
    return Scores(loss.mean(0), accuracy.mean(0), confusion, correct, accuracy.std(0), len(scores))


@torch.inference_mode()
def precise_statistics(network: nn.Sequential, data: Dataset, config: Config) -> Statistics:
    """Pooled population statistics of every norm layer at the present weights, in batches of the training batch size.

    mean = E[mu_B], var = E[mu_B^2 + s2_B] - E[mu_B]^2 with the biased batch variance s2_B (Wu and Johnson 2021, section 3.2). Unlike
    `running_var` they are not biased low by the n/(n-1) correction, which takes a map's pixels for independent. The batches are training
    images, augmented as in training, in an order of their own; each layer's input is normalized with batch statistics, as in training
    (under `noisy` without the noise, at its expected scale).
    """
    layers, batch = norm_layers(network), config.train.batch_size
    if not layers:
        return {}
    generator = torch.Generator().manual_seed(0)
    order = torch.randperm(len(data.train.y), generator=generator)
    count = min(len(order) // batch, math.ceil(PRECISE_IMAGES / batch))
    first = {name: torch.zeros_like(layer.running_mean, dtype=torch.float64) for name, layer in layers.items()}  # type: ignore[arg-type]
    second = {name: torch.zeros_like(total) for name, total in first.items()}

    def watch(name: str) -> torch.utils.hooks.RemovableHandle:
        def hook(module: nn.Module, args: tuple[Tensor, ...]) -> None:
            x = args[0]
            var, mean = torch.var_mean(x.double(), dim=[0, *range(2, x.dim())], correction=0)
            first[name] += mean
            second[name] += mean.square() + var

        return layers[name].register_forward_pre_hook(hook)

    hooks = [watch(name) for name in layers]
    try:
        with _own_statistics(network), _mode(network, training=False):
            for index in order[: count * batch].view(count, batch):
                x = training_inputs(network, data, config, index, generator)
                with autocast(config, x.device):
                    network(x)
    finally:
        for handle in hooks:
            handle.remove()
    return {name: (mean := first[name] / count, second[name] / count - mean.square()) for name in layers}


def fold(network: nn.Sequential, config: Config) -> nn.Sequential:
    """A copy of a single network (R = 1, eval mode) with each batch norm folded into the layer before it.

    Raises:
        UsageError: not `conv-norm-relu` with a norm that can be folded. Zero padding makes folding wrong where the norm comes first.
    """
    if config.model.placement != "conv-norm-relu" or not NORMS[config.model.norm].foldable:
        have = f"model.norm={config.model.norm}, model.placement={config.model.placement}"
        foldable = one_of(name for name, norm in NORMS.items() if norm.foldable)
        raise UsageError(f"--folded needs model.norm={foldable} and model.placement=conv-norm-relu; this run has {have}.")
    folded: list[nn.Module] = []
    for part in copy.deepcopy(network).eval().children():
        for layer in part.children() if isinstance(part, nn.Sequential) else [part]:
            if not isinstance(layer, _BatchNorm):
                folded.append(layer)
            elif isinstance(folded[-1], nn.Linear):
                if not layer.affine:  # which fuse_linear_bn_eval does not know
                    gamma = folded[-1].weight.new_ones(layer.num_features)
                    layer.weight, layer.bias = nn.Parameter(gamma), nn.Parameter(torch.zeros_like(gamma))
                folded[-1] = fuse_linear_bn_eval(folded[-1], layer)
            else:
                folded[-1] = fuse_conv_bn_eval(folded[-1], layer)  # type: ignore[type-var]
    return nn.Sequential(*folded).eval()


def autocast(config: Config, device: torch.device) -> AbstractContextManager[object]:
    """bf16 arithmetic where `precision` asks for it; batch norm keeps its statistics in fp32, the loss is taken in fp32."""
    if config.precision != "bf16":
        return nullcontext()  # one that is not enabled costs 25 us a step
    return torch.autocast(device.type, dtype=torch.bfloat16)


@contextmanager
def _mode(network: nn.Module, training: bool) -> Iterator[None]:
    before = network.training
    network.train(training)
    try:
        yield
    finally:
        network.train(before)


@contextmanager
def _replaced(network: nn.Module, statistics: Mapping[str, tuple[Tensor | None, Tensor | None]]) -> Iterator[None]:
    """Other running statistics for the time being. The layers' own buffers are set aside, not written to."""
    layers = norm_layers(network)
    kept = {name: (layer.running_mean, layer.running_var) for name, layer in layers.items()}

    def put(values: Mapping[str, tuple[Tensor | None, Tensor | None]]) -> None:
        for name, (mean, var) in values.items():
            own = kept[name][0]
            layers[name].running_mean = mean if mean is None or own is None else mean.to(own)
            layers[name].running_var = var if var is None or own is None else var.to(own)

    put(statistics)
    try:
        yield
    finally:
        put(kept)


def _own_statistics(network: nn.Module) -> AbstractContextManager[None]:
    """Each batch is normalized with its own statistics, and none are stored: in eval mode a layer without running ones does so."""
    return _replaced(network, dict.fromkeys(norm_layers(network), (None, None)))
