"""The switches of the metrics, and when metrics are measured. The file of a metric in `bnexp.metrics` has the name of its switch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from bnexp.config.fields import key

PROBED = ("percentiles", "drift", "batch_stats", "relu_balance", "gradients")
"""The metrics that one pass over the probe batch feeds; those that are on by default are the preset `light`. `metrics.every` says when."""
SAMPLED = ("ics", "landscape", "sharpness", "noise_scale")
"""The metrics that take several passes a time: `metrics.log_spaced` says when."""
METRICS = (*PROBED, *SAMPLED, "test_curve")
"""Every metric: what `metrics.NAME=true` logs."""


@dataclass(frozen=True)
class MetricsConfig:
    """What is measured inside the network, and when. None of it touches the run. The defaults are the preset `light`."""

    percentiles: bool = key("15th, 50th and 85th percentiles of each layer's pre-activations", True)
    drift: bool = key("how far the distribution of each layer's pre-activations moves", True)
    batch_stats: bool = key("normalized activations, noise of batch statistics, bias of running ones", True)
    relu_balance: bool = key("positive share into each ReLU against Phi(beta/|gamma|), dead channels", True)
    gradients: bool = key("gradient and weight norms, effective learning rate, growth of the gradient", True)
    ics: bool = key("internal covariate shift by gradients (Santurkar 2018, Def. 2.1)", False)
    landscape: bool = key("loss range, gradient predictiveness and smoothness along the gradient", False)
    sharpness: bool = key("largest eigenvalue of the Hessian, in train and in eval mode", False)
    noise_scale: bool = key("gradient noise scale, over ghost groups", False)
    test_curve: bool = key("test loss and accuracy at each evaluation; nothing is chosen by them", False)
    every: int | Literal["auto"] = key(
        "steps between measurements from one pass over the probe batch; auto: at each evaluation", "auto", low=1, high=10**9
    )
    log_spaced: int | Literal["auto"] = key(
        f"log-spaced steps at which {', '.join(SAMPLED)} are measured; auto: 50, fewer in short runs", "auto", low=1, high=10**6
    )
    probe: int = key("images of the probe batch: fixed training images without augmentation", 64, low=2, high=10**5)

    @property
    def on(self) -> tuple[str, ...]:
        return tuple(name for name in METRICS if getattr(self, name))
