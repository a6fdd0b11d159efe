"""The gradient noise scale tr(Sigma) / |G|^2, over ghost groups (McCandlish et al. 2018, "An Empirical Model of Large-Batch Training",
appendix A.1).

From the mean squared norm of the gradient at a small batch size b and at a large one B:

    |G|^2     = (B |G_B|^2 - b |G_b|^2) / (B - b)
    tr(Sigma) = (|G_b|^2 - |G_B|^2) / (1/b - 1/B)

With batch norm there are no gradients of single examples. So the unit is a ghost group of b images (Hoffer et al. 2017), normalized by its
own statistics: |G_b|^2 is the mean over the groups, G_B the mean of their gradients. b is the training batch size, at most 16; the images
are as many training images as the probe has, drawn anew at each sampled step, so that values of several steps can be averaged.

Both parts are unbiased and noisy, and may come out negative: average them over steps before taking the ratio.
"""

from __future__ import annotations

import torch
from torch import Tensor

from bnexp.metrics.declaration import Keys, SampledMetric
from bnexp.metrics.network_copy import NetworkCopy, Sample, dots

GHOST = 16
MAX_GROUPS = 8


def measure(sample: Sample) -> dict[str, Tensor]:
    """`noise_scale/{gradient,trace,simple}` -> [R]; nothing where the images do not make two groups that can be normalized."""
    x, y_RN = sample.fresh
    batch = sample.y_RB.shape[1]
    ghost = min(GHOST, batch, len(x) // 2)
    groups = min(MAX_GROUPS, len(x) // max(1, ghost))
    if ghost < min(2, batch) or groups < 2:  # one image is a group only where it is a training batch
        return {}
    gradient, trace = two_sizes(sample.before, x, y_RN, ghost, groups)
    return {"noise_scale/gradient": gradient, "noise_scale/trace": trace, "noise_scale/simple": trace / gradient}


def two_sizes(clone: NetworkCopy, x: Tensor, y_RN: Tensor, ghost: int, groups: int) -> tuple[Tensor, Tensor]:
    """|G|^2 and tr(Sigma) of each run, [R], from `groups` ghost groups of `ghost` images each."""
    mean: list[Tensor] = []
    small = torch.zeros(clone.runs, dtype=torch.float64, device=x.device)
    for group in range(groups):
        part = slice(group * ghost, (group + 1) * ghost)
        gradient = clone.gradient(x[part], y_RN[:, part])[1]
        small += dots(gradient, gradient, clone.runs) / groups
        mean = [g / groups for g in gradient] if not mean else [m + g / groups for m, g in zip(mean, gradient, strict=True)]
    large, big = dots(mean, mean, clone.runs), ghost * groups
    return (big * large - ghost * small) / (big - ghost), (small - large) / (1 / ghost - 1 / big)


METRIC = SampledMetric(
    summary="gradient noise scale, over ghost groups",
    measure=measure,
    cost=lambda layers: 4.0,  # four passes of half a batch, or eight of less
    keys=(
        Keys(
            "{gradient,trace}",
            "|G|^2, and tr(Sigma) for one image, from ghost groups of at most 16 images and their union",
            "of squared loss, per squared weight",
            "McCandlish et al. 2018, A.1",
        ),
        Keys("simple", "tr(Sigma)/|G|^2; average both over steps before you trust it", "images", "the same"),
    ),
)
