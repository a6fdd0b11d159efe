"""Batch noise: how the batch's mean and variance vary from batch to batch, at frozen weights.

`BATCHES` batches of the training batch size B are drawn as in training: each without replacement from the N training images, and
augmented. They pass the copy of the network in train mode, so that a layer gets what it gets in training. Of one channel, mu_B and s2_B
are a batch's mean and biased variance over images and pixels, and s2 = E[s2_B] + Var[mu_B] is the variance over all batches, which is the
precise one (Wu and Johnson 2021, section 3.2). Means over channels; a channel without variance is left out.

The images of a batch are independent at the first norm only. There the law of `batch_law` stands beside each key as `<key>_theory`, from
the variance of the means of all these images. A network without batch statistics has no such keys.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from bnexp.base.seeds import derive
from bnexp.data import Dataset
from bnexp.evaluate import training_inputs
from bnexp.metrics import batch_law
from bnexp.metrics.declaration import Keys
from bnexp.metrics.network_copy import NetworkCopy
from bnexp.metrics.probe import Layout, image_moments, layout_of
from bnexp.norms import NORMS
from bnexp.norms.modules import draw_noise_anew

BATCHES = 16
"""They make Var[mu_B] of a layer good to 15 to 20 %, and 35 % at the first layer of the digits network, whose channels are few and alike;
each costs 0.4 of a training step."""
MEASURE_EVERY = 400
"""Training steps between two measurements, which cost 6 or 7: less than 2 % of training. The last is at the end."""
CONSTANT = 1e-12
"""A channel whose variance is this share of its mean square has none: what is left is rounding."""

KEYS = (
    Keys(
        "<layer>/{batch_mean_variance,effective_sample_size}",
        "Var[mu_B]/s2 at the training batch size B, and its inverse M_eff, the number of independent values that vary as much, from 16 "
        "batches drawn and normalized as in training: at the end and every 400 steps; good to 15 to 20 %, 35 % at the first layer",
        source="measured",
    ),
    Keys(
        "<layer>/running_var_bias",
        "what PyTorch's `running_var` tends to, over s2, from the same batches: n/(n - 1) E[s2_B]/s2, n = B P for maps of P pixels",
        source="measured",
    ),
    Keys(
        "<layer>/{batch_mean_variance_theory,effective_sample_size_theory,running_var_bias_theory}",
        "first layer only: the law of independent images: M_eff = B/(rho + (1 - rho)/P) (N - 1)/(N - B), with P pixels that correlate by "
        "rho and N training images; n/(n - 1) (1 - 1/M_eff), n = B P. Below another norm images of a batch depend on each other, and it is "
        "several times off",
        source="cluster sampling (Kish 1965); derived, tested on simulated data",
    ),
)


@dataclass(frozen=True)
class Draws:
    """D batches of B images each: statistics of every batch at each layer's site, where its norm is or would be, [D, R, T]."""

    layout: Layout
    batch: int
    mean_DRT: Tensor
    var_DRT: Tensor
    """Biased, over images and pixels."""
    image_var_DRT: Tensor
    """The biased variance of the means of the batch's images."""
    distance_DRT: Tensor
    """The largest distance of an image's mean from the batch's."""

    @property
    def s2_RT(self) -> Tensor:
        """The variance over all batches, by the law of total variance."""
        return self.var_DRT.mean(0) + self.mean_DRT.var(0)

    @property
    def v_RT(self) -> Tensor:
        """The variance of an image's mean, over all images of all batches."""
        return self.image_var_DRT.mean(0) + self.mean_DRT.var(0)

    @property
    def alive_RT(self) -> Tensor:
        """Which channels vary; NaN does not."""
        s2_RT = self.s2_RT
        return s2_RT > CONSTANT * (s2_RT + self.mean_DRT.square().mean(0))


@torch.inference_mode()
def draw(clone: NetworkCopy, data: Dataset, size: int, count: int, seed: int) -> Draws:
    """`count` batches of `size` training images through the copy in train mode. Each is a subset of its own: batches of one epoch exclude
    each other's images, so that the variance among them is not that of a batch."""
    generator = torch.Generator().manual_seed(seed)
    places, dtype = [layer.site for layer in clone.layer_map.hidden], clone.params[0].dtype
    found = []
    for _ in range(count):
        index = torch.randperm(len(data.train), generator=generator)[:size]
        inputs = clone.trace(training_inputs(clone.network, data, clone.config, index, generator), end=places[-1])
        sites = [inputs[place].to(dtype) for place in places]  # bf16 is measured in fp32
        at = image_moments(sites, clone.runs)
        from_mean_NRT = at.image_mean_NRT - at.mean_RT
        found.append((at.mean_RT, at.var_RT, from_mean_NRT.square().mean(0), from_mean_NRT.abs().amax(0)))
        draw_noise_anew(clone.network)
    return Draws(layout_of(clone.layer_map.hidden, sites, clone.runs), size, *(torch.stack(parts) for parts in zip(*found, strict=True)))


def measure(clone: NetworkCopy, data: Dataset, step: int) -> dict[str, Tensor]:
    """`batch_stats/<layer>/<what>` -> [R], from batches of this step's own."""
    if not NORMS[clone.config.model.norm].batch_statistics:
        return {}
    draws = draw(clone, data, clone.config.train.batch_size, BATCHES, derive(0, "batch noise", step))
    layout, s2_RT = draws.layout, draws.s2_RT
    n_T = draws.batch * layout.pixels_T
    found = _named(draws, layout.names, "", draws.mean_DRT.var(0) / s2_RT, n_T / (n_T - 1) * draws.var_DRT.mean(0) / s2_RT)
    share_RT = batch_law.mean_variance(draws.v_RT, draws.batch, len(data.train)) / s2_RT
    return found | _named(draws, layout.names[:1], "_theory", share_RT, batch_law.running_var_bias(share_RT, draws.batch, layout.pixels_T))


def _named(draws: Draws, layers: tuple[str, ...], suffix: str, share_RT: Tensor, bias_RT: Tensor) -> dict[str, Tensor]:
    """The keys of some layers; `share_RT` is Var[mu_B] / s2."""
    means = draws.layout.means({"batch_mean_variance": share_RT, "running_var_bias": bias_RT}, draws.alive_RT)
    values = draws.layout.named("batch_stats", {**means, "effective_sample_size": 1 / means["batch_mean_variance"]})
    return {f"{key}{suffix}": value for key, value in values.items() if key.split("/")[1] in layers}
