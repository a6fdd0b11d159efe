"""Layers of R runs side by side, one with its norm and nonlinearity in the three placements, and the two-conv block made of two of them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bnexp.config import ModelConfig
from bnexp.norms import NORMS

CONVOLUTIONS: dict[int, type[nn.Conv1d | nn.Conv2d | nn.Conv3d]] = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "sigmoid": nn.Sigmoid}


def convolution(dim: int, runs: int, channels_in: int, channels_out: int, *, stride: int = 1, bias: bool) -> nn.Module:
    """A 3x3 (3, 3x3x3) convolution that keeps the map's size at stride 1: x_[B, R*C_in, *map] -> [B, R*C_out, *map]."""
    return CONVOLUTIONS[dim](runs * channels_in, runs * channels_out, 3, stride=stride, padding=1, bias=bias, groups=runs)


class Linear(nn.Linear):
    """`nn.Linear` for R runs side by side: x_[B, R*F_in] -> [B, R*F_out].

    `weight` is [R*F_out, F_in] and `bias` [R*F_out]; with one run this is `nn.Linear` itself, with more a batched product.
    """

    def __init__(self, runs: int, features_in: int, features_out: int, *, bias: bool = True) -> None:
        super().__init__(features_in, runs * features_out, bias=bias)
        self.runs = runs

    def forward(self, x: Tensor) -> Tensor:
        if self.runs == 1:
            return F.linear(x, self.weight, self.bias)
        x_RBF = x.unflatten(1, (self.runs, -1)).transpose(0, 1)
        weight_RFO = self.weight.unflatten(0, (self.runs, -1)).transpose(1, 2)
        bias: Tensor | None = self.bias  # nn.Linear's annotation leaves the None out
        y_RBO = torch.bmm(x_RBF, weight_RFO)
        if bias is not None:
            y_RBO = y_RBO + bias.unflatten(0, (self.runs, 1, -1))
        return y_RBO.transpose(0, 1).flatten(1)

    def extra_repr(self) -> str:
        return f"runs={self.runs}, " + super().extra_repr()


def unit(
    config: ModelConfig, dim: int, runs: int, channels_in: int, channels_out: int, weighted: Callable[..., nn.Module]
) -> list[nn.Module]:
    """The modules of one layer in `config.placement`; `weighted(bias=...)` makes its convolution or linear layer.

    Only a norm that comes directly after cancels the bias, so only `conv-norm-relu` drops it. In `norm-conv-relu` the norm has the
    channels that come in.
    """
    activation = ACTIVATIONS[config.activation]()
    bias = not (config.placement == "conv-norm-relu" and NORMS[config.norm].cancels_bias)
    layer = weighted(bias=bias)
    if config.placement == "conv-norm-relu":
        parts = [layer, make_norm(config, dim, runs, channels_out), activation]
    elif config.placement == "norm-conv-relu":
        parts = [make_norm(config, dim, runs, channels_in), layer, activation]
    else:
        parts = [layer, activation, make_norm(config, dim, runs, channels_out)]
    return [part for part in parts if part is not None]


def make_norm(config: ModelConfig, dim: int, runs: int, channels: int) -> nn.Module | None:
    """The norm of `config.norm` for `channels` channels a run, or None where there is none."""
    norm = NORMS[config.norm]
    return norm.make(dim, runs, channels, **{key: getattr(config, key) for key in norm.keys})


def work_in_place(network: nn.Module, on: bool = True) -> None:
    """Lets every ReLU write over its input, which nothing after it reads: its own gradient needs only what it gives, and the layer before
    keeps its input. A step reads and writes one map a layer less. `metrics.NetworkCopy`, which keeps what each module gives, switches it
    off."""
    for module in network.modules():
        if isinstance(module, nn.ReLU):
            module.inplace = on


def block(config: ModelConfig, dim: int, runs: int, channels_in: int, channels_out: int, stride: int) -> nn.Sequential:
    """The two-conv BN-ReLU block: Conv 3x3, norm, ReLU, twice; the stride is in the first convolution.

    x_[B, R*C_in, *map] -> [B, R*C_out, *ceil(map / stride)].
    """
    first, second = (dim, runs, channels_in, channels_out), (dim, runs, channels_out, channels_out)
    return nn.Sequential(
        *unit(config, *first, partial(convolution, *first, stride=stride)),
        *unit(config, *second, partial(convolution, *second)),
    )
