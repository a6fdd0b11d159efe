"""The law of batch statistics at one layer: batches of several sizes, and what theory says of them.

Theory is the law of images that do not depend on each other (`batch_law`). It holds where batches come from `WithReplacement` or
`WithoutReplacement`; below a norm in train mode it does not, and its fields are None.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from bnexp.analysis.law import LayerLaw, Line
from bnexp.analysis.slope import log_log_slope, slope_error
from bnexp.metrics import batch_law
from bnexp.metrics.batch_noise import CONSTANT

CHUNK = 2**22
"""Numbers that are gathered at once."""


@dataclass(frozen=True)
class Batches:
    """D batches of one size at one layer, float64 on the CPU: mean, biased variance, and the largest distance of an image's mean from the
    batch's, [D, C]; s2 and the variance v of image means, [C]."""

    size: int
    mean_DC: Tensor
    var_DC: Tensor
    distance_DC: Tensor
    s2_C: Tensor
    v_C: Tensor

    @property
    def alive_C(self) -> Tensor:
        return self.s2_C > CONSTANT * (self.s2_C + self.mean_DC.square().mean(0))

    def only(self, kept_C: Tensor) -> Batches:
        """Of some channels."""
        own = self.mean_DC[:, kept_C], self.var_DC[:, kept_C], self.distance_DC[:, kept_C], self.s2_C[kept_C], self.v_C[kept_C]
        return Batches(self.size, *own)


@dataclass(frozen=True)
class WithReplacement:
    """Images that do not depend on each other, drawn with replacement: mean and mean square of each map, [N, C], float64 on the CPU."""

    mean_NC: Tensor
    square_NC: Tensor

    @cached_property
    def about_mean(self) -> tuple[Tensor, Tensor]:
        """Each image's mean and mean square about the channel's mean: z_[N, C], u_[N, C]."""
        centre_C = self.mean_NC.mean(0)
        return self.mean_NC - centre_C, self.square_NC - 2 * centre_C * self.mean_NC + centre_C.square()

    def only(self, kept_C: Tensor) -> WithReplacement:
        """Of some channels."""
        return WithReplacement(self.mean_NC[:, kept_C], self.square_NC[:, kept_C])

    def batches(self, index_DB: Tensor) -> Batches:
        """The batches of these images."""
        z_NC, u_NC = self.about_mean
        size, means, variances, distances = index_DB.shape[1], [], [], []
        for part in index_DB.split(max(1, CHUNK // (size * z_NC.shape[1]))):
            z_DBC = z_NC[part]
            mu_DC = z_DBC.mean(1)
            means.append(mu_DC)
            variances.append(u_NC[part].mean(1) - mu_DC.square())
            distances.append((z_DBC - mu_DC.unsqueeze(1)).abs().amax(1))
        mean_DC = torch.cat(means) + self.mean_NC.mean(0)
        return Batches(size, mean_DC, torch.cat(variances), torch.cat(distances), u_NC.mean(0), z_NC.square().mean(0))


@dataclass(frozen=True)
class WithoutReplacement:
    """So many images that do not depend on each other; no image is twice in a batch."""

    images: int

    def only(self, kept_C: Tensor) -> WithoutReplacement:
        return self


Source = WithReplacement | WithoutReplacement | None
"""Where batches come from; None where their images depend on each other."""


def layer_law(name: str, pixels: int, sizes: Sequence[Batches], source: Source, most: float = math.inf) -> LayerLaw:
    """One layer at all batch sizes. A channel that does not vary is left out, and of the slopes also sizes above `most`."""
    alive_C = torch.stack([batches.alive_C for batches in sizes]).all(0)
    kept = [batches.only(alive_C) for batches in sizes] if alive_C.any() else []
    source = source.only(alive_C) if source is not None else None
    largest = max(kept, key=lambda batches: batches.size, default=None)  # it has the most images: v and s2 of the law are taken from it
    lines = tuple(_line(batches, pixels, largest, source) for batches in kept if largest is not None)
    fitted = [line for line in lines if line.batch <= most]
    theory = [(line.batch, line.mean_variance_theory) for line in fitted if line.mean_variance_theory is not None]
    batch = [line.batch for line in fitted]
    return LayerLaw(
        name,
        pixels,
        channels=len(alive_C),
        alive=int(alive_C.sum()),
        correlation=float(batch_law.correlation(largest.s2_C, largest.v_C, torch.tensor(pixels)).mean()) if largest else math.nan,
        slope=log_log_slope(batch, [line.mean_variance for line in fitted]),
        slope_se=slope_error(batch, [(one.mean_DC / one.s2_C.sqrt()).numpy() for one in kept if one.size <= most]),
        slope_theory=log_log_slope(*zip(*theory, strict=True)) if theory else None,
        lines=lines,
    )


def _line(batches: Batches, pixels: int, largest: Batches, source: Source) -> Line:
    size, s2_C = batches.size, batches.s2_C
    n, mean_variance = size * pixels, float((batches.mean_DC.var(0) / s2_C).mean())
    theory = var_theory = running_theory = None
    if source is not None:
        images = source.images if isinstance(source, WithoutReplacement) else None
        share_C = batch_law.mean_variance(largest.v_C, size, images) / largest.s2_C
        theory = float(share_C.mean())
        running_theory = float(batch_law.running_var_bias(share_C, size, torch.tensor(pixels)).mean()) if n > 1 else None
    if isinstance(source, WithReplacement):
        var_theory = float((batch_law.variance_of_variance(*source.about_mean, size) / s2_C.square()).mean())
    return Line(
        size,
        len(batches.mean_DC),
        mean_variance,
        theory,
        1 / mean_variance if mean_variance else math.inf,
        None if theory is None else 1 / theory if theory else math.inf,
        float((batches.var_DC.var(0) / s2_C.square()).mean()),
        var_theory,
        float((n / (n - 1) * batches.var_DC.mean(0) / s2_C).mean()) if n > 1 else None,
        running_theory,
        float((batches.distance_DC / ((size - 1) * s2_C.sqrt())).mean()) if size > 1 else None,
    )
