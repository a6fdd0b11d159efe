"""Batch statistics: what the norm makes of a layer's inputs, what a single image can do, and how far running statistics are off.

How noisy the batch's statistics are is in `batch_noise`. What a norm normalizes, or would normalize were there one, is measured on the
probe batch of N images; B is the training batch size, and s2 is estimated as E[s2_N] + v/N with the unbiased variance v of image means. A
channel without variance is left out. Without batch statistics there is `outlier_sensitivity` alone.

x-hat is what a norm gives in train mode (Ioffe and Szegedy 2015, Alg. 1), with gamma and beta undone. Once statistics are frozen it is what
these make of x: its mean drifts from 0, and its theory is s2 / (running_var + eps). Where noise comes on top it cannot be read, and has no
keys. Running statistics are compared with precise ones (Wu and Johnson 2021, section 3.2) at the end of a run.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from bnexp.metrics import batch_law, batch_noise
from bnexp.metrics.declaration import Keys, ProbeMetric
from bnexp.metrics.probe import ProbePass
from bnexp.models import layer_map, runs_in
from bnexp.norms.modules import affine, is_frozen

NAME = "batch_stats"


def measure(probe: ProbePass) -> dict[str, Tensor]:
    """`batch_stats/<layer>/<what>` -> [R]."""
    return {**_outliers(probe), **_normalized(probe)}


def _outliers(probe: ProbePass) -> dict[str, Tensor]:
    at, layout = probe.site_moments, probe.site_layout
    images = len(at.image_mean_NRT)
    group = min(probe.batch_size, images)
    if group == 1:
        return {}
    s2 = at.var_RT + (at.image_mean_NRT - at.mean_RT).square().sum(0) / (images - 1) / images
    groups = at.image_mean_NRT[: images // group * group].unflatten(0, (-1, group))
    values = {"outlier_sensitivity": batch_law.outlier_sensitivity(groups, s2.sqrt()).mean(0)}
    return layout.named(NAME, layout.means(values, s2 > 0))  # which NaN is not either


def _normalized(probe: ProbePass) -> dict[str, Tensor]:
    chain, config = probe.clone.layer_map.chain, probe.clone.config.model
    norms = [norm for layer in probe.layers if layer.norm is not None and isinstance(norm := chain[layer.norm], _BatchNorm)]
    if not norms:
        return {}
    found = {f"{NAME}/ema_initial_weight": torch.full_like(probe.lr_R, (1 - config.bn_momentum) ** probe.batches)}
    gamma_RT, beta_RT = (_side_by_side(list(values), probe.runs) for values in zip(*map(affine, norms), strict=True))
    layout, mean, s2 = probe.site_layout, probe.site_moments.mean_RT, probe.site_moments.var_RT
    if config.bn_affine:
        found |= layout.named(NAME, layout.means({"gamma": gamma_RT, "beta": beta_RT}))
    running_mean = _side_by_side([norm.running_mean for norm in norms if norm.running_mean is not None], probe.runs)
    running_var = _side_by_side([norm.running_var for norm in norms if norm.running_var is not None], probe.runs)
    against = {"running_mean_to_batch": (running_mean - mean).abs() / s2.sqrt(), "running_var_to_batch": running_var / s2}
    found |= layout.named(NAME, layout.means(against, s2 > 0))
    if probe.output_moments is None:
        return found
    at, variance = probe.output_moments, running_var if all(map(is_frozen, norms)) else s2
    values = {
        "xhat_mean": ((at.mean_RT - beta_RT) / gamma_RT).abs(),
        "xhat_var": at.var_RT / gamma_RT.square(),
        "xhat_var_theory": s2 / (variance + config.bn_eps),
    }
    return found | layout.named(NAME, layout.means(values, gamma_RT != 0))  # with gamma = 0 nothing of x-hat is left


def _side_by_side(parts: list[Tensor], runs: int) -> Tensor:
    """One tensor a layer, [R*C], as [R, T]."""
    return torch.cat([part.unflatten(0, (runs, -1)) for part in parts], dim=1)


def against_precise(network: nn.Sequential, placement: str, precise: Mapping[str, tuple[Tensor, Tensor]]) -> dict[str, Tensor]:
    """The running statistics of every norm against `evaluate.precise_statistics`: `running_mean_offset` and `running_var_ratio`, [R]."""
    parts, runs, found = layer_map(network, placement), runs_in(network), {}
    for layer in parts.hidden:
        if layer.norm is None or parts.names[layer.norm] not in precise:
            continue
        norm = parts.chain[layer.norm]
        assert isinstance(norm, _BatchNorm)
        assert norm.running_mean is not None
        assert norm.running_var is not None
        mean, var = precise[parts.names[layer.norm]]
        offset = (norm.running_mean - mean).abs() / var.sqrt()
        ratio = norm.running_var / var
        for what, values in (("running_mean_offset", offset), ("running_var_ratio", ratio)):
            values_RC = values.unflatten(0, (runs, -1))
            counted = (var > 0).unflatten(0, (runs, -1))
            total = values_RC.where(counted, 0.0).sum(1)
            found[f"{NAME}/{layer.name}/{what}"] = total / counted.sum(1)
    return found


METRIC = ProbeMetric(
    summary="normalized activations, noise of batch statistics, bias of running ones",
    on=True,
    measure=measure,
    keys=(
        Keys(
            "<layer>/{xhat_mean,xhat_var,xhat_var_theory}",
            "before gamma and beta: mean over channels of |mean|, mean variance, and s2/(s2 + eps), where s2 is the probe's (dead channels "
            "bring it below 1), with running_var for s2 below once `frozen` is; not under `noisy`",
            source="Ioffe and Szegedy 2015, Alg. 1",
        ),
        *batch_noise.KEYS,
        Keys(
            "<layer>/outlier_sensitivity",
            "the most that leaving out one image of a batch (of at most the probe's size) moves its mean, "
            "max_i |mu_B - mu_{B without i}|/sigma",
            "standard deviations",
        ),
        Keys(
            "<layer>/{gamma,beta}",
            "mean over channels of the scale and of the shift that follow normalization",
            source="Ioffe and Szegedy 2015, Alg. 1",
        ),
        Keys(
            "<layer>/running_mean_to_batch",
            "mean over channels of |running mean - the probe batch's mean|/sigma of the probe batch",
            "standard deviations of the probe batch",
        ),
        Keys("<layer>/running_var_to_batch", "mean over channels of running_var/the probe batch's variance"),
        Keys("ema_initial_weight", "(1 - m)^t: what the initial (0, 1) weighs in the running statistics after t batches"),
        Keys(
            "<layer>/running_mean_offset",
            "at the end: mean over channels of |running mean - precise mean|/precise sigma",
            "precise standard deviations",
            "Wu and Johnson 2021, section 3.2",
        ),
        Keys(
            "<layer>/running_var_ratio",
            "at the end: mean over channels of running_var/precise variance",
            source="Wu and Johnson 2021, section 3.2",
        ),
    ),
)
