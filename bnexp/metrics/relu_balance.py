"""What gamma and beta do before the ReLU: the share of positive values that enters it.

For a Gaussian x-hat, y = gamma x-hat + beta is positive with probability Phi(beta / |gamma|): gamma alone does not set it (the normal
distribution's symmetry; Phi is its distribution function). Over the probe batch in train mode. The prediction is there where a norm with
batch statistics stands directly before the ReLU (`conv-norm-relu`) and no noise comes on top; without gamma and beta it is 1/2. Frozen
statistics make x-hats that are no longer standard, which the error shows. A sigmoid has no positive side, and no keys.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from bnexp.metrics.declaration import Keys, ProbeMetric
from bnexp.metrics.probe import ProbePass
from bnexp.norms.modules import affine


def measure(probe: ProbePass) -> dict[str, Tensor]:
    """`relu_balance/<layer>/{positive,dead}` -> [R], and `{predicted,error}` where there is a prediction."""
    if not relus(probe):
        return {}
    observed_RT, predicted_RT = positive_shares(probe), predicted(probe)
    values = {"positive": observed_RT, "dead": (observed_RT == 0).to(observed_RT)}
    if predicted_RT is not None:
        values |= {"predicted": predicted_RT, "error": (observed_RT - predicted_RT).abs()}
    return probe.layout.named("relu_balance", probe.layout.means(values))


def distributions(probe: ProbePass) -> dict[str, Tensor]:
    """`relu_balance/<layer>/positive` -> [R, C]."""
    if not relus(probe):
        return {}
    parts = zip(probe.layers, probe.layout.split(positive_shares(probe)), strict=True)
    return {f"relu_balance/{layer.name}/positive": part for layer, part in parts}


def relus(probe: ProbePass) -> bool:
    chain = probe.clone.layer_map.chain
    return all(layer.activation is not None and isinstance(chain[layer.activation], nn.ReLU) for layer in probe.layers)


def positive_shares(probe: ProbePass) -> Tensor:
    """Observed positive share of each channel, [R, T]; NaN in a channel with a NaN."""
    shares = []
    for rows in probe.sorted_rows:
        first = torch.searchsorted(rows, rows.new_zeros(len(rows), 1), right=True).squeeze(1)
        shares.append((1 - first / rows.shape[1]).unflatten(0, (probe.runs, -1)))
    return torch.cat(shares, dim=1).where(probe.moments.mean_RT.isfinite(), torch.nan)


def predicted(probe: ProbePass) -> Tensor | None:
    """Phi(beta / |gamma|) of each channel, [R, T]; None where no batch norm stands directly before the ReLUs."""
    if probe.clone.config.model.placement != "conv-norm-relu" or probe.outputs is None:
        return None
    shares = []
    for layer in probe.layers:
        assert layer.norm is not None
        norm = probe.clone.layer_map.chain[layer.norm]
        assert isinstance(norm, _BatchNorm)
        gamma, beta = affine(norm)
        shares.append(torch.special.ndtr(beta / gamma.abs()).unflatten(0, (probe.runs, -1)))
    return torch.cat(shares, dim=1)


METRIC = ProbeMetric(
    summary="positive share into each ReLU against Phi(beta/|gamma|), dead channels",
    on=True,
    measure=measure,
    keys=(
        Keys("<layer>/{positive,dead}", "share of positive values into the ReLU, mean over channels; share of channels without any"),
        Keys(
            "<layer>/{predicted,error}",
            "mean of Phi(beta/|gamma|), and of |observed - predicted| channel by channel, where the norm stands right before the ReLU",
            source="normal distribution",
        ),
    ),
)
