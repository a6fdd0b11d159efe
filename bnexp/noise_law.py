"""The statistics-noise law without training: how the batch's mean and variance vary with the batch size, at frozen weights.

Weights are those of a saved run, or fresh. The norms below a layer use precise statistics (pooled over training data, as constants), so
that what a layer sees of an image does not depend on the other images of the batch, and the law of independent images (`metrics.batch_law`)
is exact. Batches are drawn with replacement from the training images.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from bnexp.config import Config, check_fits, to_mapping
from bnexp.data import Dataset
from bnexp.engine import load_data
from bnexp.errors import DataError
from bnexp.evaluate import evaluation_batch, precise_statistics, shared_inputs, train_part, using
from bnexp.files import finite
from bnexp.machine import environment, resolve_device, set_threads
from bnexp.metrics import batch_law
from bnexp.models import anatomy, build, init, memory_format
from bnexp.plan import check_room
from bnexp.run import Run
from bnexp.saved import load_saved
from bnexp.seeds import derive
from bnexp.terminal import Display

BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
DRAWS = 200
CHUNK = 2**22
"""Numbers that are gathered at once."""


@dataclass(frozen=True)
class Line:
    """One layer at one batch size: `DRAWS` random batches measured, and what the law says. Means over channels, each in units of its own
    variance s2 (or standard deviation); None where a batch has no such number."""

    batch: int
    mean_variance: float
    """Var[mu_B] / s2."""
    mean_variance_theory: float
    sample_size: float
    """M_eff = s2 / Var[mu_B]."""
    sample_size_theory: float
    variance_variance: float
    """Var[s2_B] / s2^2."""
    variance_variance_theory: float
    running_var: float | None
    """What PyTorch's running_var tends to, over s2."""
    running_var_theory: float | None
    outlier_sensitivity: float | None
    """max_i |mu_B - mu_{B without i}| / sigma."""


@dataclass(frozen=True)
class LayerLaw:
    """One layer: its map's size, how many of its channels vary, the correlation rho of pixels within an image, and the log-log slope of
    Var[mu_B] against B with its standard error (theory: -1; None with fewer than two batch sizes, the error with fewer than three)."""

    layer: str
    pixels: int
    channels: int
    alive: int
    correlation: float
    slope: float | None
    slope_se: float | None
    lines: tuple[Line, ...]


def of_run(run: Run, batch_sizes: Sequence[int], terminal: Display, place: Mapping[str, Any] = MappingProxyType({})) -> dict[str, Any]:
    """The law at the weights of a saved run; `place` says where its data are now (`compose.PLACE`), if they moved.

    Raises:
        UsageError, DataError: the run or its data cannot be used, or have changed; its weights are not finite.
    """
    config, network = load_saved(run, place)
    if not all(param.isfinite().all() for param in network.parameters()):
        raise DataError(f"{run.id} diverged: its weights are not finite, and have no statistics to measure.")
    device = resolve_device(config)
    return _result(config, network, load_data(config, device, terminal), device, batch_sizes, f"those of {run.id}", terminal)


def of_config(config: Config, batch_sizes: Sequence[int], terminal: Display) -> dict[str, Any]:
    """The law at the weights that a run of this config begins with.

    Raises:
        UsageError, DataError: the config does not fit its data, or these cannot be used.
    """
    device = resolve_device(config)
    data = load_data(config, device, terminal, download=True)
    check_fits(config, data.shape, len(data.train) + len(data.val), len(data.classes))
    check_room(config, (data.shape, len(data.train) + len(data.val), len(data.classes)))
    network = build(config.model, data.shape, len(data.classes))
    init(network, config.model, [derive(config.seed, "init")])
    return _result(config, network, data, device, batch_sizes, f"fresh ones of seed {config.seed}", terminal)


def _result(
    config: Config, network: nn.Sequential, data: Dataset, device: torch.device, sizes: Sequence[int], weights: str, terminal: Display
) -> dict[str, Any]:
    set_threads(config, data.shape, 1)
    network.to(device=device, memory_format=memory_format(len(data.shape) - 1, device))  # type: ignore[call-overload]
    terminal.say(f"Measuring {DRAWS} random batches of each size ...")
    laws = law(network, data, config, sizes)
    return finite(
        {
            "weights": weights,
            "norm": config.model.norm,
            "layers_below": "precise statistics, as constants" if config.model.norm != "none" else "no norm",
            "data": data.name,
            "images": len(train_part(data)),
            "draws": DRAWS,
            "layers": [asdict(one) for one in laws],
            "config": {**to_mapping(config), "name": config.run_name},
            "environment": environment(device, torch.get_num_threads(), config),
        }
    )


def law(network: nn.Sequential, data: Dataset, config: Config, batch_sizes: Sequence[int]) -> list[LayerLaw]:
    """The law of each hidden layer, where its norm is, or would be."""
    indices = {size: _batches(size, len(train_part(data))) for size in dict.fromkeys(batch_sizes)}
    return [_layer(name, pixels, mean, square, indices) for name, pixels, mean, square in _image_moments(network, data, config)]


@torch.inference_mode()
def _image_moments(network: nn.Sequential, data: Dataset, config: Config) -> Iterator[tuple[str, int, Tensor, Tensor]]:
    """(layer, pixels, mean_[N, C] of each image's map, mean_[N, C] of its squares), float64 on the CPU, of each hidden layer."""
    parts, images = anatomy(network, config.model.placement), train_part(data).x
    found: dict[str, list[tuple[Tensor, Tensor]]] = {layer.name: [] for layer in parts.hidden}
    sizes: dict[str, int] = {}
    sites = {layer.site: layer.name for layer in parts.hidden}
    with using(network, precise_statistics(network, data, config)):
        for part in images.split(evaluation_batch(network, data, config)):
            x = shared_inputs(network, data, part)
            for place, module in enumerate(parts.chain):
                if place in sites:
                    x_NCP = (x.flatten(2) if x.dim() > 2 else x.unsqueeze(2)).double()
                    found[sites[place]].append((x_NCP.mean(2).cpu(), x_NCP.square().mean(2).cpu()))
                    sizes[sites[place]] = x_NCP.shape[2]
                x = module(x)
    for name, moments in found.items():
        yield name, sizes[name], torch.cat([mean for mean, _ in moments]), torch.cat([square for _, square in moments])


def _batches(size: int, images: int) -> Tensor:
    """`DRAWS` batches with replacement, [DRAWS, size]; the same for every layer."""
    return torch.randint(images, (DRAWS, size), generator=torch.Generator().manual_seed(derive(0, "batches", size)))


def _layer(name: str, pixels: int, mean_NC: Tensor, square_NC: Tensor, indices: dict[int, Tensor]) -> LayerLaw:
    centre_C = mean_NC.mean(0)
    z_NC = mean_NC - centre_C
    u_NC = square_NC - 2 * centre_C * mean_NC + centre_C.square()
    s2_C = u_NC.mean(0)
    alive_C = s2_C > 1e-12 * square_NC.mean(0)  # the rest is rounding of a constant
    z_NC, u_NC, s2_C = z_NC[:, alive_C], u_NC[:, alive_C], s2_C[alive_C]
    v_C, map_size = z_NC.square().mean(0), torch.tensor(pixels)
    lines = tuple(_line(z_NC, u_NC, s2_C, v_C, map_size, index) for index in indices.values() if len(s2_C))
    slope, error = log_log_slope([line.batch for line in lines], [line.mean_variance for line in lines])
    correlation = batch_law.correlation(s2_C, v_C, map_size).mean() if len(s2_C) else math.nan
    return LayerLaw(name, pixels, len(alive_C), int(alive_C.sum()), float(correlation), slope, error, lines)


def _line(z_NC: Tensor, u_NC: Tensor, s2_C: Tensor, v_C: Tensor, pixels: Tensor, index: Tensor) -> Line:
    batch = index.shape[1]
    means, variances, sensitivities = [], [], []
    for part in index.split(max(1, CHUNK // (batch * max(1, z_NC.shape[1])))):
        z = z_NC[part]  # [draws, B, C]
        mu = z.mean(1)
        means.append(mu)
        variances.append(u_NC[part].mean(1) - mu.square())
        if batch > 1:
            sensitivities.append(batch_law.outlier_sensitivity(z, s2_C.sqrt()))
    mean_variance = float((torch.cat(means).var(0) / s2_C).mean())
    theory = float((v_C / (batch * s2_C)).mean())
    n, s2_BC = batch * int(pixels), torch.cat(variances)
    bias = batch_law.running_var_bias(s2_C, v_C, batch, pixels)
    var_theory = batch_law.variance_of_variance(z_NC, u_NC, batch)
    return Line(
        batch,
        mean_variance,
        theory,
        1 / mean_variance if mean_variance else math.inf,
        1 / theory if theory else math.inf,
        float((s2_BC.var(0) / s2_C.square()).mean()),
        float((var_theory / s2_C.square()).mean()),
        float((n / (n - 1) * s2_BC.mean(0) / s2_C).mean()) if n > 1 else None,
        float(bias.mean()) if n > 1 else None,
        float(torch.cat(sensitivities).mean()) if batch > 1 else None,
    )


def log_log_slope(x: Sequence[float], y: Sequence[float]) -> tuple[float | None, float | None]:
    """The least-squares slope of log y against log x, and its standard error; None with too few positive points."""
    points = [(math.log(a), math.log(b)) for a, b in zip(x, y, strict=True) if a > 0 and b > 0 and math.isfinite(b)]
    if len({a for a, _ in points}) < 2:
        return None, None
    mean_x, mean_y = (sum(values) / len(points) for values in zip(*points, strict=True))
    spread = sum((a - mean_x) ** 2 for a, _ in points)
    slope = sum((a - mean_x) * (b - mean_y) for a, b in points) / spread
    left = sum((b - mean_y - slope * (a - mean_x)) ** 2 for a, b in points)
    return slope, math.sqrt(left / (len(points) - 2) / spread) if len(points) > 2 else None
