"""Convolutions and fully connected layers of R runs side by side."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

CONVOLUTIONS: dict[int, type[nn.Conv1d | nn.Conv2d | nn.Conv3d]] = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}


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
