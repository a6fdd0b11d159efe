"""Internal covariate shift by gradients (Santurkar et al. 2018, "How Does Batch Normalization Help Optimization?", Definition 2.1).

For layer i at step t on batch b: G_i is the gradient of L(W_1^t, ..., W_k^t; b) with respect to W_i, and G'_i the same gradient with the
layers before i at W^{t+1} and layer i and all after it at W^t. The definition's shift is ||G_i - G'_i||_2. Gradients of scale-invariant
weights shrink as the weights grow, so that the relative shift and the cosine stand beside it, as in the paper's Fig. 2.

The step is the run's own (its optimizer, its momentum, its batch). A layer's weights are those of its convolution or linear map; what
precedes it includes the biases, gammas and betas of the layers before. The first layer has none before it and no keys.

Cost: the layers before i are passed once, as far as layer i; then from i to the end and back to W_i. In all about half a pass a layer.
"""

from __future__ import annotations

import torch
from torch import Tensor

from bnexp.metrics.declaration import Keys, SampledMetric
from bnexp.metrics.network_copy import Sample, dots


def measure(sample: Sample) -> dict[str, Tensor]:
    """`ics/<layer>/{l2,relative_l2,cosine}` -> [R] for every layer but the first."""
    before, after, runs = sample.before, sample.after, sample.runs
    parts, found = before.layer_map, {}
    gradients = dict(zip(map(id, before.params), sample.own[1], strict=True))
    x, place = sample.x, 0
    for layer in parts.layers[1:]:
        with torch.no_grad():
            x = after.run(x, place, layer.start)
        place = layer.start
        weight = parts.weight(layer)
        own = [gradients[id(weight)]]
        shifted = before.gradient(x, sample.y_RB, [weight], start=place)[1]
        difference = [a - b for a, b in zip(own, shifted, strict=True)]
        own2, shifted2 = dots(own, own, runs), dots(shifted, shifted, runs)
        l2 = dots(difference, difference, runs).sqrt()
        found[f"ics/{layer.name}/l2"] = l2
        found[f"ics/{layer.name}/relative_l2"] = l2 / own2.sqrt()
        found[f"ics/{layer.name}/cosine"] = dots(own, shifted, runs) / (own2.sqrt() * shifted2.sqrt())
    return found


METRIC = SampledMetric(
    summary="internal covariate shift by gradients (Santurkar 2018, Def. 2.1)",
    measure=measure,
    cost=lambda layers: 1 + layers / 2,
    keys=(
        Keys(
            "<layer>/l2",
            "||G - G'||, where G' is the gradient G after the layers before have made their step; from the second layer on",
            "of the loss, per unit of weight",
            "Santurkar et al. 2018, Def. 2.1",
        ),
        Keys("<layer>/{relative_l2,cosine}", "||G - G'||/||G||, and the cosine of G and G'", source="Santurkar et al. 2018, Fig. 2"),
    ),
)
