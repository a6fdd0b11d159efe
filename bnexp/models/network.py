"""Whole networks by name, their initialization, and the way from a stack to its single networks."""

from __future__ import annotations

import hashlib
import math
from collections import OrderedDict
from collections.abc import Sequence
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bnexp.config import ModelConfig
from bnexp.models.blocks import Linear, block, unit

WEIGHTED = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)
"""The modules that `init` draws weights for: what the arms of a comparison have in common."""


class GlobalAveragePool(nn.Module):
    """Mean over all spatial dimensions: [B, C, *map] -> [B, C]."""

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(2).mean(2)


def blocknet(config: ModelConfig, shape: tuple[int, ...], classes: int, runs: int) -> nn.Sequential:
    """Two-conv blocks (stride 1, then 2 each), global average pooling, a linear head: [B, R*C, *map] -> logits [B, R*K]."""
    dim, channels = len(shape) - 1, (shape[0], *config.widths)
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for index, (channels_in, channels_out) in enumerate(pairwise(channels)):
        layers[f"block{index + 1}"] = block(config, dim, runs, channels_in, channels_out, stride=1 if index == 0 else 2)
    layers["pool"] = GlobalAveragePool()
    layers["head"] = Linear(runs, channels[-1], classes)
    return nn.Sequential(layers)


def mlp(config: ModelConfig, shape: tuple[int, ...], classes: int, runs: int) -> nn.Sequential:
    """Fully connected layers with BatchNorm1d, as in Ioffe and Szegedy 2015, section 4.1: [B, R*C, *map] -> logits [B, R*K]."""
    layers: OrderedDict[str, nn.Module] = OrderedDict(flatten=nn.Flatten())
    features = (math.prod(shape), *config.widths)
    for index, (fan_in, fan_out) in enumerate(pairwise(features)):
        layer = unit(config, 0, runs, fan_in, fan_out, partial(Linear, runs, fan_in, fan_out))
        layers[f"layer{index + 1}"] = nn.Sequential(*layer)
    layers["head"] = Linear(runs, features[-1], classes)
    return nn.Sequential(layers)


MODELS = {"blocknet": blocknet, "mlp": mlp}


def build(config: ModelConfig, shape: tuple[int, ...], classes: int, runs: int = 1) -> nn.Sequential:
    """The network of `config` for examples of `shape` [C, *map] and R runs: x_[B, R*C, *map] -> logits [B, R*K].

    Its values are PyTorch's defaults; `init` gives each run its own.
    """
    return MODELS[config.name](config, shape, classes, runs)


def init(network: nn.Sequential, config: ModelConfig, seeds: Sequence[int]) -> None:
    """Kaiming initialization (He et al. 2015, eq. 10), fan-in, normal; biases zero, gamma one; one generator a run.

    `seeds[r]` seeds run r's generator. It draws nothing but the weights of convolutions and linear layers, in the order of the forward
    pass, so that arms with and without norm share them. The head has gain 1: no nonlinearity follows it.
    """
    gain = math.sqrt(2) if config.activation == "relu" else 1.0
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    for name, module in network.named_modules():
        if not isinstance(module, WEIGHTED):
            continue
        fan_in = math.prod(module.weight.shape[1:])
        std = (1.0 if name == "head" else gain) / math.sqrt(fan_in)
        with torch.no_grad():
            for weight, generator in zip(module.weight.unflatten(0, (len(seeds), -1)), generators, strict=True):
                # Drawn in float32 on the CPU whatever the network's type and device, so that every device starts from the same weights.
                weight.copy_(torch.empty(weight.shape).normal_(0.0, std, generator=generator))
            if module.bias is not None:
                module.bias.zero_()


def runs_in(network: nn.Sequential) -> int:
    """How many runs the network holds."""
    head = network.head
    assert isinstance(head, Linear)
    return head.runs


def unstack(state: dict[str, Tensor], runs: int, run: int) -> dict[str, Tensor]:
    """The part of a stack's state_dict that belongs to one run, as contiguous copies on the CPU."""
    own = {}
    for name, tensor in state.items():
        part = tensor if tensor.dim() == 0 else tensor.detach().unflatten(0, (runs, -1))[run]
        own[name] = part.to("cpu", copy=True, memory_format=torch.contiguous_format)
    return own


def restack(state: dict[str, Tensor], runs: int, run: int, own: dict[str, Tensor]) -> None:
    """Writes one run's state_dict, as `unstack` gave it, into its place in a stack's; what the runs share stays as it is."""
    for name, tensor in state.items():
        if tensor.dim() > 0:
            tensor.detach().unflatten(0, (runs, -1))[run].copy_(own[name])


def weight_digests(network: nn.Sequential) -> list[str]:
    """16 hex digits a run, of a SHA-256 over its convolution and linear weights in the order of the network.

    The bytes are those of contiguous float32 tensors in logical order. So runs with the same weights have the same digits, whatever
    their norm, and whatever the stack's width, device and memory format.
    """
    runs = runs_in(network)
    hashes = [hashlib.sha256() for _ in range(runs)]
    for module in network.modules():
        if isinstance(module, WEIGHTED):
            weight_R = module.weight.detach().to("cpu", torch.float32).contiguous().unflatten(0, (runs, -1))
            for digest, weight in zip(hashes, weight_R, strict=True):
                digest.update(weight.numpy().tobytes())
    return [digest.hexdigest()[:16] for digest in hashes]


def parameter_counts(network: nn.Sequential) -> dict[str, int]:
    """Learnable parameters of one run: `weights` and `biases` of convolutions and linear layers, and `norm`, which is all others."""
    weighted = [module for module in network.modules() if isinstance(module, WEIGHTED)]
    weights = sum(module.weight.numel() for module in weighted)
    biases = sum(module.bias.numel() for module in weighted if module.bias is not None)
    norm = sum(param.numel() for param in network.parameters()) - weights - biases
    return {name: count // runs_in(network) for name, count in (("weights", weights), ("biases", biases), ("norm", norm))}


def memory_format(dim: int, device: torch.device) -> torch.memory_format:
    """The layout for maps of `dim` dimensions: channels last for images, where a step measured 15 to 20 % faster on CPUs.

    For 3d maps channels_last_3d made no difference beyond noise (volumes, batches 4 to 128, stacks of 1 and 4), and 1d has no such layout.
    """
    return torch.channels_last if dim == 2 else torch.contiguous_format


def losses(logits_RBK: Tensor, y_RB: Tensor) -> Tensor:
    """Mean cross-entropy of each run, [R]. The sum of it gives each run its own gradient."""
    return F.cross_entropy(logits_RBK.flatten(0, 1), y_RB.flatten(), reduction="none").view(y_RB.shape).mean(1)


def logits(network: nn.Sequential, x: Tensor) -> Tensor:
    """x_[B, R*C, *map] -> logits_[R, B, K]."""
    y_BRK: Tensor = network(x).view(len(x), runs_in(network), -1)  # `unflatten` is written in Python, and takes as long as a small kernel
    return y_BRK.transpose(0, 1)
