"""The statistics-noise law without training: how the batch's mean and variance vary with the batch size, at frozen weights.

Weights are those of a saved run, or fresh. There are two modes:

- `train`: batches pass the network as in training. Each is drawn without replacement from the training images and augmented, and every norm
  uses the batch's statistics, so that below a norm the images of a batch are not independent: it centres every batch. What the variance is
  there is measured; the law of independent images (`metrics.batch_law`) stands beside it at the first layer only.
- `frozen`: the norms below a layer use precise statistics (pooled over training data, as constants), so that what a layer sees of an image
  does not depend on the other images of the batch. Batches are drawn with replacement, images are not augmented, and the law is exact.

Without norm there is nothing in which a layer's images depend on each other, so that the law stands beside every layer in both modes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Literal

import torch
from torch import Tensor, nn

from bnexp.analysis.law import LayerLaw, NoiseLaw
from bnexp.base.errors import DataError, UsageError
from bnexp.base.seeds import derive
from bnexp.config import MODELS, Config, map_sizes
from bnexp.data import Dataset
from bnexp.evaluate import evaluation_batch, precise_statistics, shared_inputs, train_part, using
from bnexp.execution.session import Session
from bnexp.execution.terminal import Display
from bnexp.metrics.batch_noise import Draws, draw
from bnexp.metrics.layer_law import Batches, WithoutReplacement, WithReplacement, layer_law
from bnexp.metrics.network_copy import NetworkCopy
from bnexp.models import build, init, layer_map
from bnexp.norms import NORMS
from bnexp.storage.run import Run
from bnexp.studies.re_evaluation import load_saved

Mode = Literal["train", "frozen"]
BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
DRAWS, IMAGES = 200, 1600
"""At least so many batches of a size, and so many images: the means of small batches have longer tails."""


def of_run(
    run: Run, batch_sizes: Sequence[int] | None, mode: Mode, terminal: Display, place: Mapping[str, Any] = MappingProxyType({})
) -> NoiseLaw:
    """The law at the weights of a saved run; `batch_sizes` are those of `BATCH_SIZES` that fit by default; `place` says where its data are
    now (`compose.PLACE`), if they moved.

    Raises:
        UsageError, DataError: the run or its data cannot be used, or have changed; its weights are not finite; a batch size does not fit.
    """
    config, network = load_saved(run, place)
    if not all(param.isfinite().all() for param in network.parameters()):
        raise DataError(f"{run.id} diverged: its weights are not finite, and have no statistics to measure.")
    return _result(Session.open(config, terminal), network, batch_sizes, mode, f"those of {run.id}", terminal)


def of_config(config: Config, batch_sizes: Sequence[int] | None, mode: Mode, terminal: Display) -> NoiseLaw:
    """The law at the weights that a run of this config begins with.

    Raises:
        UsageError, DataError: the config does not fit its data, or these cannot be used; a batch size does not fit.
    """
    session = Session.open(config, terminal, download=True)
    session.check_memory()
    network = build(config.model, session.data.shape, len(session.data.classes))
    init(network, config.model, [derive(config.seed, "init")])
    return _result(session, network, batch_sizes, mode, f"fresh ones of seed {config.seed}", terminal)


def _result(session: Session, network: nn.Sequential, sizes: Sequence[int] | None, mode: Mode, weights: str, terminal: Display) -> NoiseLaw:
    config, data = session.config, session.data
    sizes = check_sizes(sizes, data, config, mode)
    session.place(network)
    terminal.say(
        f"Measuring at least {DRAWS} random batches of each size, {'in train mode' if mode == 'train' else 'below frozen norms'} ..."
    )
    laws = law(network, data, config, sizes, mode)
    below = {"train": "normalized with the batch's statistics, as in training", "frozen": "precise statistics, as constants"}[mode]
    return NoiseLaw(
        weights=weights,
        norm=config.model.norm,
        mode=mode,
        layers_below=below if NORMS[config.model.norm].batch_statistics else "no norm",
        drawn="without replacement, as in training" if mode == "train" else "with replacement",
        data=data.name,
        images=len(data.train if mode == "train" else train_part(data)),
        draws=DRAWS,
        slope_up_to=None if mode == "frozen" else len(data.train) // 2,
        layers=tuple(laws),
        config=config,
        environment=session.environment,
    )


def check_sizes(asked: Sequence[int] | None, data: Dataset, config: Config, mode: Mode) -> Sequence[int]:
    """The batch sizes to measure; by default those of `BATCH_SIZES` that the mode can draw, up to the largest that is fitted.

    Raises:
        UsageError: one that was asked for is too large to be drawn without replacement, or too small to be normalized.
    """
    if mode == "frozen":
        return asked or BATCH_SIZES
    last = map_sizes(data.shape[1:], len(config.model.widths))[-1] if MODELS[config.model.name].convolutional else ()
    least = 2 if NORMS[config.model.norm].batch_statistics and math.prod(last) == 1 else 1
    images = len(data.train)
    if asked is None:
        return [size for size in BATCH_SIZES if least <= size <= max(least, largest_fitted(mode, images))]
    if max(asked) > images:
        raise UsageError(
            f"A batch of {max(asked):,} cannot be drawn without replacement from {images:,} training images; give --batch-sizes up to "
            f"{images:,}, or --mode frozen, which draws with replacement."
        )
    if min(asked) < least:
        raise UsageError(
            "--batch-sizes 1 gives batch norm one value a channel here, which has no variance; give 2 or more, or --mode frozen, in which "
            "nothing is normalized with the batch's statistics."
        )
    return asked


def law(network: nn.Sequential, data: Dataset, config: Config, batch_sizes: Sequence[int], mode: Mode = "train") -> list[LayerLaw]:
    """The law of each hidden layer, where its norm is, or would be."""
    sizes = list(dict.fromkeys(batch_sizes))
    if mode == "frozen":
        indices = [with_replacement(size, len(train_part(data))) for size in sizes]
        return [
            layer_law(name, pixels, [images.batches(index) for index in indices], images)
            for name, pixels, images in _image_moments(network, data, config)
        ]
    copy = NetworkCopy(network, config)
    drawn = [draw(copy, data, size, draws_of(size), derive(0, "train batches", size)) for size in sizes]
    layout, source, norms = drawn[0].layout, WithoutReplacement(len(data.train)), NORMS[config.model.norm].batch_statistics
    most = largest_fitted("train", len(data.train))
    return [
        layer_law(name, layout.pixels[place], [_at_layer(one, place) for one in drawn], source if place == 0 or not norms else None, most)
        for place, name in enumerate(layout.names)
    ]


def largest_fitted(mode: Mode, images: int) -> float:
    """The largest batch size that the slope is fitted to. Without replacement the variance has the factor (N - B) / (N - 1), which makes
    the line steeper, and leaves nothing but rounding at B = N."""
    return images // 2 if mode == "train" else math.inf


def draws_of(size: int) -> int:
    """How many batches of a size are measured."""
    return max(DRAWS, IMAGES // size)


def _at_layer(drawn: Draws, place: int) -> Batches:
    """One layer of a single run's draws."""
    start, channels = sum(drawn.layout.channels[:place]), drawn.layout.channels[place]

    def own(values: Tensor) -> Tensor:
        return values[..., 0, start : start + channels].double().cpu()

    return Batches(drawn.batch, *map(own, (drawn.mean_DRT, drawn.var_DRT, drawn.distance_DRT, drawn.s2_RT, drawn.v_RT)))


@torch.inference_mode()
def _image_moments(network: nn.Sequential, data: Dataset, config: Config) -> Iterator[tuple[str, int, WithReplacement]]:
    """(layer, pixels of its map, its images) of each hidden layer."""
    parts, images = layer_map(network, config.model.placement), train_part(data).x
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
        yield name, sizes[name], WithReplacement(*(torch.cat(parts) for parts in zip(*moments, strict=True)))


def with_replacement(size: int, images: int) -> Tensor:
    """Batches with replacement, [D, size]; the same for every layer."""
    return torch.randint(images, (draws_of(size), size), generator=torch.Generator().manual_seed(derive(0, "batches", size)))
