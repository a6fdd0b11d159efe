"""What `bnexp stats` finds: how the batch's mean and variance vary with the batch size, at frozen weights, layer by layer."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from msgspec import to_builtins

from bnexp.base.files import JsonObject
from bnexp.config import Config, to_mapping
from bnexp.storage.facts import Environment


@dataclass(frozen=True)
class Line:
    """One layer at one batch size: `draws` batches measured, and what the law of independent images says; None where it does not hold, and
    where a batch has no such number. Means over channels, each in units of its own variance s2 (or standard deviation)."""

    batch: int
    draws: int
    mean_variance: float
    """Var[mu_B] / s2."""
    mean_variance_theory: float | None
    sample_size: float
    """M_eff = s2 / Var[mu_B]."""
    sample_size_theory: float | None
    variance_variance: float
    """Var[s2_B] / s2^2."""
    variance_variance_theory: float | None
    """For batches with replacement only."""
    running_var: float | None
    """What PyTorch's running_var tends to, over s2."""
    running_var_theory: float | None
    outlier_sensitivity: float | None
    """max_i |mu_B - mu_{B without i}| / sigma."""


@dataclass(frozen=True)
class LayerLaw:
    """One layer: its map's size, how many of its channels vary, the correlation rho of pixels within an image (at the largest batch size),
    and the log-log slope of Var[mu_B] against B with its standard error over draws and what the law says (-1 with replacement, steeper
    without). None with fewer than two batch sizes to fit, and where the law does not hold."""

    layer: str
    pixels: int
    channels: int
    alive: int
    correlation: float
    slope: float | None
    slope_se: float | None
    slope_theory: float | None
    lines: tuple[Line, ...]


@dataclass(frozen=True)
class NoiseLaw:
    """The law of each hidden layer."""

    weights: str
    """Whose they are, in words."""
    norm: str
    mode: str
    """`train` or `frozen`: what the norms below a layer use."""
    layers_below: str
    """The same in words."""
    drawn: str
    data: str
    images: int
    draws: int
    """At least so many random batches of each size."""
    slope_up_to: int | None
    """The largest batch size that the slopes are fitted to; None where all are."""
    layers: tuple[LayerLaw, ...]
    config: Config
    environment: Environment

    def to_json(self) -> JsonObject:
        """As values that JSON takes; numbers that are not finite stay."""
        plain = {key: value for key, value in vars(self).items() if key not in ("layers", "config", "environment")}
        config = {**to_mapping(self.config), "name": self.config.run_name}
        return {**plain, "layers": [asdict(one) for one in self.layers], "config": config, "environment": to_builtins(self.environment)}

    def rows(self) -> list[Mapping[str, Any]]:
        """One row a layer and batch size."""
        return [{"layer": layer.layer, **asdict(line)} for layer in self.layers for line in layer.lines]

    @property
    def answer(self) -> str:
        """The slopes against what theory says, in words."""
        fitted = [layer for layer in self.layers if layer.slope is not None]
        if not fitted:
            return "There are fewer than two batch sizes to fit: no slope. The table has what was measured." + self.beyond_fit
        median = statistics.median(layer.slope for layer in fitted if layer.slope is not None)
        return (
            f"In {self.mode} mode the variance of the batch mean goes as B to the power {median:.3f} (median of the layers' log-log "
            f"slopes). By layer, ± standard error: {', '.join(map(_slope, fitted))}; at least {self.draws} random batches of each "
            "size. Theory is that of independent images: -1, and steeper where batches are drawn without replacement."
            f"{self.beyond_fit}"
        )

    @property
    def beyond_fit(self) -> str:
        """The sentence on batch sizes that were measured and are not in the slope; empty where all are."""
        most = self.slope_up_to
        if most is None or not any(line.batch > most for layer in self.layers for line in layer.lines):
            return ""
        return (
            f" Sizes above {most:,}, half of the training images, are not in the slope: without replacement the variance falls to 0 at "
            f"{self.images:,}."
        )


def _slope(layer: LayerLaw) -> str:
    error = "" if layer.slope_se is None else f" ± {layer.slope_se:.3f}"
    theory = "" if layer.slope_theory is None else f" (theory: {layer.slope_theory:.3f})"
    return f"{layer.layer} {layer.slope:.3f}{error}{theory}"
