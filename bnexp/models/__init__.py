"""The networks, for a stack of R runs at once. R = 1 is the textbook network, built by the same code.

Shapes: B batch, R runs, C channels of one run, K classes, `*map` zero to three spatial dimensions.
A stack's tensors put the runs side by side in the channel axis, x_[B, R*C, *map]; convolutions have `groups=R`, and `BatchNorm(R*C)` is
R independent batch norms exactly. Every parameter and buffer but `num_batches_tracked` has the runs outermost in its first axis, so one
rule takes a stack apart: `tensor.unflatten(0, (R, -1))[r]`.
"""

from bnexp.models.blocks import work_in_place
from bnexp.models.layer_map import Layer, LayerMap, layer_map
from bnexp.models.network import build, init, logits, losses, memory_format, parameter_counts, restack, runs_in, unstack, weight_digests

__all__ = [
    "Layer",
    "LayerMap",
    "build",
    "init",
    "layer_map",
    "logits",
    "losses",
    "memory_format",
    "parameter_counts",
    "restack",
    "runs_in",
    "unstack",
    "weight_digests",
    "work_in_place",
]
