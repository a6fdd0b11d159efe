"""The optimization landscape along the gradient (Santurkar et al. 2018, section 3.1, Fig. 4, and appendix A.2.2).

At the weights theta of a step, with the gradient g of its own batch, for step sizes s = c lr with c in [1/2, 4] (eight, evenly spaced in
log c) of the run's own learning rate, in train mode on the same batch.

theta is all parameters, those of the norms included. On a quadratic with Hessian A, smoothness is ||A g|| / ||g||. A step that is too small
beside theta (s ||g|| below 1e-6 ||theta||) is rounded in float32, and does not count for smoothness; with no other it is NaN.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from bnexp.metrics.declaration import Keys, SampledMetric
from bnexp.metrics.network_copy import NetworkCopy, Sample, norms

STEPS = tuple(2 ** (-1 + 3 * k / 7) for k in range(8))
"""c: from 1/2 to 4."""
RESOLUTION = 1e-6


def measure(sample: Sample) -> dict[str, Tensor]:
    """`landscape/<what>` -> [R]."""
    start_R, gradient = sample.own
    losses_SR, distances_SR = along(sample.before, sample.x, sample.y_RB, gradient, [c * sample.lr_R for c in STEPS])
    sizes_SR = torch.stack([c * sample.lr_R for c in STEPS]).double()
    low, high = losses_SR.amin(0), losses_SR.amax(0)
    moved_SR = sizes_SR * norms(gradient, sample.runs)
    resolved_SR = ~(moved_SR < RESOLUTION * norms(sample.before.params, sample.runs))
    smoothness_R = (distances_SR / moved_SR).where(resolved_SR, -math.inf).amax(0)
    return {
        "landscape/loss_min": low,
        "landscape/loss_max": high,
        "landscape/loss_range": high - low,
        "landscape/change_min": low - start_R,
        "landscape/change_max": high - start_R,
        "landscape/predictiveness_min": distances_SR.amin(0),
        "landscape/predictiveness_max": distances_SR.amax(0),
        "landscape/smoothness": smoothness_R.where(resolved_SR.any(0), math.nan),
    }


def along(clone: NetworkCopy, x: Tensor, y_RB: Tensor, gradient: list[Tensor], sizes: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Losses_[S, R] and distances ||grad L(theta - s g) - g||_[S, R] at the step sizes s_[R]; the copy's weights are put back."""
    start, own = [view.clone() for view in clone.views], [g.unflatten(0, (clone.runs, -1)) for g in gradient]
    losses, distances = [], []
    try:
        for size_R in sizes:
            torch._foreach_copy_(clone.views, start)
            wide = [size_R.to(view.dtype).view(-1, *[1] * (view.dim() - 1)) for view in clone.views]
            torch._foreach_addcmul_(clone.views, own, wide, value=-1)
            losses_R, there = clone.gradient(x, y_RB)
            losses.append(losses_R)
            distances.append(norms(torch._foreach_sub(there, gradient), clone.runs))
    finally:
        torch._foreach_copy_(clone.views, start)
    return torch.stack(losses), torch.stack(distances)


METRIC = SampledMetric(
    summary="loss range, gradient predictiveness and smoothness along the gradient",
    measure=measure,
    cost=lambda layers: 1.2 * len(STEPS),
    keys=(
        Keys(
            "{loss_min,loss_max,loss_range}",
            "least and largest L(theta - s g) for s from lr/2 to 4 lr, on the step's own batch, with batch norm in train mode; their "
            "difference",
            "of the loss",
            "Santurkar et al. 2018, section 3.1, A.2.2",
        ),
        Keys(
            "{change_min,change_max}",
            "loss_min - L(theta) and loss_max - L(theta): above 0 such a step makes the loss larger",
            "of the loss",
            "the same, Fig. 4a",
        ),
        Keys(
            "{predictiveness_min,predictiveness_max}",
            "least and largest ||grad L(theta - s g) - g||",
            "of the loss, per unit of weight",
            "the same",
        ),
        Keys(
            "smoothness",
            "effective smoothness, max over s of ||grad L(theta - s g) - g||/(s ||g||)",
            "of the loss, per squared weight",
            "the same",
        ),
    ),
)
