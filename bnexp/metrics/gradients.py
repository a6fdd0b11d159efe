"""Gradients and weights, layer by layer.

`effective_lr` is what moves a scale-invariant weight (van Laarhoven 2017, "L2 Regularization versus Batch and Weight Normalization",
section 3). `growth`, at initialization only, is on the probe batch in train mode; in wide fully connected layers with ReLU and batch norm
it is pi / (pi - 1) = 1.467 (Yang et al. 2019, "A Mean Field Theory of Batch Normalization", section 1).
"""

from __future__ import annotations

from torch import Tensor

from bnexp.metrics.declaration import Keys, ProbeMetric
from bnexp.metrics.network_copy import norms
from bnexp.metrics.probe import ProbePass


def measure(probe: ProbePass) -> dict[str, Tensor]:
    """`gradients/<layer>/{weight_norm,effective_lr}` -> [R] for every layer; `gradient_norm` after the first step, `growth` before it."""
    parts, found = probe.clone.layer_map, {}
    for layer in parts.layers:
        weight_norm = norms([parts.weight(layer).detach()], probe.runs)
        found[f"gradients/{layer.name}/weight_norm"] = weight_norm
        found[f"gradients/{layer.name}/effective_lr"] = probe.lr_R / weight_norm.square()
    if probe.step_gradients is not None:
        for layer, gradient in zip(parts.layers, probe.step_gradients, strict=True):
            found[f"gradients/{layer.name}/gradient_norm"] = norms([gradient], probe.runs)
    if probe.preactivation_gradients is not None:
        squares = [squared(gradient, probe.runs) for gradient in probe.preactivation_gradients]
        for layer, here, above in zip(probe.layers, squares, squares[1:], strict=False):
            found[f"gradients/{layer.name}/growth"] = here / above
    return found


def squared(gradient: Tensor, runs: int) -> Tensor:
    """The squared norm of each run's part of [N, R*C, *map], [R]."""
    per_channel = gradient.double().square().sum([0, *range(2, gradient.dim())])
    squares: Tensor = per_channel.unflatten(0, (runs, -1)).sum(1)
    return squares


METRIC = ProbeMetric(
    summary="gradient and weight norms, effective learning rate, growth of the gradient",
    on=True,
    measure=measure,
    keys=(
        Keys(
            "<layer>/gradient_norm",
            "||dL/dW||, Euclidean norm of the loss's gradient in the layer's weights, on the batch of the last training step",
            "of the loss, per unit of weight",
        ),
        Keys("<layer>/weight_norm", "||W||", "of weight"),
        Keys("<layer>/effective_lr", "lr/||W||^2 with the learning rate in force", "of inverse loss", "van Laarhoven 2017, section 3"),
        Keys(
            "<layer>/growth",
            "at initialization: ||dL/da_l||^2/||dL/da_(l+1)||^2, squared gradient of the pre-activations over that of the next hidden "
            "layer; wide, with ReLU and BN pi/(pi - 1) = 1.467",
            source="Yang et al. 2019",
        ),
    ),
)
