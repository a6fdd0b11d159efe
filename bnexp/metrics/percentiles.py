"""Activation percentiles: {15, 50, 85}th of what enters each nonlinearity, over the probe batch.

After Ioffe and Szegedy 2015, Fig. 1 (section 4.1), which shows them for one sigmoid of the last hidden layer. With a channel's n values
in order, the p-th percentile is interpolated linearly at p (n - 1) / 100, as numpy does. Keys: `percentiles/<layer>/unit/p15` for the
layer's first channel, `percentiles/<layer>/mean/p15` for the mean of the channels' percentiles; units are those of the pre-activation.
"""

from __future__ import annotations

import torch
from torch import Tensor

from bnexp.metrics.probe import Seen

PERCENTS = (15, 50, 85)


def measure(seen: Seen) -> dict[str, Tensor]:
    """`percentiles/<layer>/{unit,mean}/{p15,p50,p85}` -> [R]."""
    found = {}
    for layer, rows in zip(seen.layers, seen.sorted_rows, strict=True):
        values_RCp = percentiles(rows).unflatten(0, (seen.runs, -1))
        for which, values_Rp in (("unit", values_RCp[:, 0]), ("mean", values_RCp.mean(1))):
            for percent, values_R in zip(PERCENTS, values_Rp.unbind(1), strict=True):
                found[f"percentiles/{layer.name}/{which}/p{percent}"] = values_R
    return found


def percentiles(sorted_rows: Tensor) -> Tensor:
    """[rows, n] in ascending order -> [rows, 3]."""
    place = torch.tensor(PERCENTS, device=sorted_rows.device) / 100 * (sorted_rows.shape[1] - 1)
    low = place.floor().long()
    high = (low + 1).clamp(max=sorted_rows.shape[1] - 1)
    return torch.lerp(sorted_rows[:, low], sorted_rows[:, high], (place - low).to(sorted_rows.dtype))


def distributions(seen: Seen) -> dict[str, Tensor]:
    """`percentiles/<layer>` -> [R, C*Q]: the quantiles of all channels, for a histogram of the pre-activations."""
    return {
        f"percentiles/{layer.name}": values.flatten(1)
        for layer, values in zip(seen.layers, seen.layout.split(seen.quantiles_RTQ), strict=True)
    }
