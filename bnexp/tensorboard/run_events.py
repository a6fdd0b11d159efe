"""What an event file holds once: at a run's beginning what it trains on and how, at its end what became of it."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from tensorboard.compat.proto.graph_pb2 import GraphDef
from tensorboard.compat.proto.summary_pb2 import Summary
from torch import Tensor

from bnexp.config import Config
from bnexp.data import Dataset
from bnexp.models import LayerMap
from bnexp.storage.result import RunResult
from bnexp.tensorboard import hparams, pictures
from bnexp.tensorboard.graph import graph
from bnexp.tensorboard.layout import layout

EXAMPLES = 32
"""Training examples that are shown; spread evenly over the split, as the images of a folder lie class by class."""


def shared(config: Config, data: Dataset) -> tuple[list[Summary.Value], GraphDef]:
    """What a stack's runs have in common, made once for all: the charts' layout, some training examples, the graph."""
    train = data.train
    count = min(EXAMPLES, len(train))
    index = (torch.arange(count) * len(train) // count).to(train.x.device)
    picture = pictures.examples(train.x[index].cpu().numpy(), train.y[index].tolist(), data.classes)
    return [layout(), pictures.value("examples/train", picture)], graph(config.model, data.shape, len(data.classes))


def opening(config: Config, own: Mapping[str, Tensor], layer_map: LayerMap, shape: tuple[int, ...]) -> list[Summary.Value]:
    """One run's hparams and its first filters. `own` is its state_dict, `shape` an example's [C, *map]."""
    return [*hparams.opening(config), *_filters(own, layer_map, shape)]


def closing(
    result: RunResult, own: Mapping[str, Tensor], layer_map: LayerMap, shape: tuple[int, ...], classes: tuple[str, ...]
) -> list[Summary.Value]:
    """How one run ended, by its result; its last filters; its confusion matrix on test data with running statistics, where it has one."""
    reached = None if result.is_diverged else result.target.reached_step
    counts = result.test.confusion
    matrix = [] if counts is None else [pictures.value("confusion/test", pictures.confusion(counts, classes))]
    return [*hparams.closing(reached, result.is_diverged), *_filters(own, layer_map, shape), *matrix]


def _filters(own: Mapping[str, Tensor], layer_map: LayerMap, shape: tuple[int, ...]) -> list[Summary.Value]:
    """The first layer's weights as a picture; an mlp's units as their input weights."""
    first = layer_map.layers[0]
    weight = own[f"{layer_map.names[first.weighted]}.weight"].float()
    picture = pictures.filters((weight.unflatten(1, shape) if weight.dim() == 2 else weight).numpy())
    return [] if picture is None else [pictures.value(f"filters/{first.name}", picture)]
