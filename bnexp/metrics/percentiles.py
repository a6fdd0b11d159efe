"""Activation percentiles: {15, 50, 85}th of what enters each nonlinearity, over the probe batch.

After Ioffe and Szegedy 2015, Fig. 1 (section 4.1), which shows them for one sigmoid of the last hidden layer. With a channel's n values
in order, the p-th percentile is interpolated linearly at p (n - 1) / 100, as numpy does.
"""

from __future__ import annotations

import functools

import numpy as np
import torch
from torch import Tensor

from bnexp.metrics.declaration import Keys, ProbeMetric
from bnexp.metrics.probe import ProbePass

PERCENTS = (15, 50, 85)
HISTOGRAM_BINS, DRAWN = 40, 4096


def measure(probe: ProbePass) -> dict[str, Tensor]:
    """`percentiles/<layer>/{unit,mean}/{p15,p50,p85}` -> [R]."""
    values_RTp = torch.cat([percentiles(rows).unflatten(0, (probe.runs, -1)) for rows in probe.sorted_rows], dim=1)
    names = [f"p{percent}" for percent in PERCENTS]
    means = probe.layout.means(dict(zip(names, values_RTp.unbind(2), strict=True)))
    firsts = dict(zip(names, torch.stack([part[:, 0] for part in probe.layout.split(values_RTp)]).unbind(2), strict=True))
    return probe.layout.named(
        "percentiles", {f"{which}/{name}": values for which, found in (("unit", firsts), ("mean", means)) for name, values in found.items()}
    )


def percentiles(sorted_rows: Tensor) -> Tensor:
    """[rows, n] in ascending order -> [rows, 3]."""
    places, weight = _places(sorted_rows.shape[1], sorted_rows.device)
    low, high = sorted_rows[:, places].split(len(PERCENTS), dim=1)
    return torch.lerp(low, high, weight.to(low.dtype))


@functools.lru_cache(64)
def _places(count: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Of `count` values in order: those below and those above each percentile, and how far it lies from the one towards the other."""
    place = torch.tensor(PERCENTS) / 100 * (count - 1)
    low = place.floor().long()
    return torch.cat([low, (low + 1).clamp(max=count - 1)]).to(device), (place - low).to(device)


def distributions(probe: ProbePass) -> dict[str, Tensor]:
    """`percentiles/<layer>` -> [R, C*Q/4]: every fourth quantile of all channels, for a histogram of the pre-activations."""
    parts = probe.layout.split(probe.quantiles_RTQ[:, :, 2::4])
    return {f"percentiles/{layer.name}": values.flatten(1) for layer, values in zip(probe.layers, parts, strict=True)}


def histograms(probe: ProbePass) -> dict[str, Tensor]:
    """`percentiles/<layer>/histogram/{before,after}` -> [R, 2 + HISTOGRAM_BINS]: lowest value, highest value, and counts in bins of one
    width, of what the norm gets and gives; without one, of what it would get. Of `DRAWN` values of all channels."""
    found: dict[str, Tensor] = {}
    for when, tensors in (("before", probe.sites), ("after", probe.outputs or [])):
        for layer, x in zip(probe.layers, tensors, strict=False):
            values_RN = x.unflatten(1, (probe.runs, -1)).transpose(0, 1).flatten(1)
            found[f"percentiles/{layer.name}/histogram/{when}"] = torch.stack([_histogram(values) for values in _drawn(values_RN)])
    return found


def _drawn(values_RN: Tensor) -> Tensor:
    """The same places in each run, of all where there are few."""
    count = values_RN.shape[1]
    if count <= DRAWN:
        return values_RN
    places = torch.randint(count, (DRAWN,), generator=torch.Generator().manual_seed(0))
    return values_RN[:, places.to(values_RN.device)]


def _histogram(values: Tensor) -> Tensor:
    """NaN where a value is not finite."""
    if not values.isfinite().all():
        return torch.full((2 + HISTOGRAM_BINS,), torch.nan, dtype=torch.float64)
    counts, edges = np.histogram(values.double().cpu().numpy(), HISTOGRAM_BINS)  # the width of float32's range is no float32
    return torch.tensor([edges[0], edges[-1], *counts], dtype=torch.float64)


METRIC = ProbeMetric(
    summary="15th, 50th and 85th percentiles of each layer's pre-activations",
    on=True,
    measure=measure,
    keys=(
        Keys(
            "<layer>/{unit,mean}/{p15,p50,p85}",
            "percentiles of what enters the nonlinearity: of the first channel, and the mean over channels",
            "of the pre-activation",
            "Ioffe and Szegedy 2015, Fig. 1",
        ),
        Keys(
            "<layer>/histogram/{before,after}",
            "a list: lowest value, highest value and the counts in 40 bins between them, of 4,096 values before and after the norm; at "
            "initialization and at the end, in metrics.jsonl only",
            "of the activation",
        ),
    ),
)
