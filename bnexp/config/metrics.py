"""The switches of the metrics, and when metrics are measured.

`scripts/reference` writes the lines between its marks, from the declarations in `bnexp.metrics`, which import torch: a config does not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from bnexp.config.fields import key

KINDS: Mapping[str, str] = {
    # scripts/reference: kinds of metrics
    "percentiles": "probed",
    "drift": "probed",
    "batch_stats": "probed",
    "relu_balance": "probed",
    "gradients": "probed",
    "ics": "sampled",
    "landscape": "sampled",
    "sharpness": "sampled",
    "noise_scale": "sampled",
    "test_curve": "evaluated",
    # end
}
"""Every metric, which `metrics.NAME=true` logs, and when it is measured: on one pass over the probe batch (`metrics.every`), with several
passes at a sampled step (`metrics.log_spaced`), or at evaluations."""
METRICS = tuple(KINDS)
PROBED = tuple(name for name, kind in KINDS.items() if kind == "probed")
SAMPLED = tuple(name for name, kind in KINDS.items() if kind == "sampled")


@dataclass(frozen=True)
class MetricsConfig:
    """What is measured inside the network, and when. None of it touches the run. The defaults are the preset `light`."""

    # scripts/reference: switches of metrics
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
    # end
    every: int | Literal["auto"] = key(
        "steps between measurements from one pass over the probe batch; auto: at each evaluation", "auto", low=1, high=10**9, example="20"
    )
    log_spaced: int | Literal["auto"] = key(
        f"log-spaced steps at which {', '.join(SAMPLED)} are measured; auto: 50, fewer in short runs",
        "auto",
        low=1,
        high=10**6,
        example="metrics=full metrics.log_spaced=20",
    )
    probe: int = key("images of the probe batch: fixed training images without augmentation", 64, low=2, high=10**5)

    @property
    def on(self) -> tuple[str, ...]:
        return tuple(name for name in METRICS if getattr(self, name))
