"""What an event file holds once: at a run's beginning what it trains on and how, at its end what became of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from tensorboard.compat.proto.attr_value_pb2 import AttrValue
from tensorboard.compat.proto.graph_pb2 import GraphDef
from tensorboard.compat.proto.node_def_pb2 import NodeDef
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto
from torch import Tensor, nn

from bnexp.config import Config, ModelConfig
from bnexp.data import Dataset
from bnexp.models import LayerMap, build, layer_map
from bnexp.storage.result import RunResult
from bnexp.tensorboard import hparams, pictures
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


def graph(config: ModelConfig, shape: tuple[int, ...], classes: int) -> GraphDef:
    """The graph of one run's network in eval mode, for examples of `shape` [C, *map]; `block1.conv1` has its convolution, norm and ReLU.
    Hooks record each module's output shape: torch's tracer would take half a second, and draw a node for every constant."""
    with torch.random.fork_rng(devices=[]):
        network = build(config, shape, classes).eval()
    parts = layer_map(network, config.placement)
    names = dict(zip(parts.chain, parts.names, strict=True))
    for layer in parts.layers:
        for what, place in (("weighted", layer.weighted), ("norm", layer.norm), ("activation", layer.activation)):
            if place is not None:
                kind = "norm" if what == "norm" else type(parts.chain[place]).__name__.lower()
                names[parts.chain[place]] = f"{layer.name.replace('.', '/')}/{kind}" if layer.activation is not None else layer.name
    nodes = [NodeDef(name="input", op="Input", attr={"_output_shapes": _shapes(shape)})]

    def note(module: nn.Module, _: Any, out: Tensor) -> None:
        attr = {"_output_shapes": _shapes(out.shape[1:]), "module": AttrValue(s=repr(module).encode())}
        nodes.append(NodeDef(name=names[module], op=type(module).__name__, input=[nodes[-1].name], attr=attr))

    for module in parts.chain:
        module.register_forward_hook(note)
    with torch.inference_mode():
        network(torch.zeros(1, *shape))
    nodes.append(NodeDef(name="logits", op="Output", input=[nodes[-1].name], attr={"_output_shapes": _shapes((classes,))}))
    return GraphDef(node=nodes)


def _shapes(shape: tuple[int, ...]) -> AttrValue:
    """One example's shape behind a batch of any size."""
    sizes = [TensorShapeProto.Dim(size=size) for size in (-1, *shape)]
    return AttrValue(list=AttrValue.ListValue(shape=[TensorShapeProto(dim=sizes)]))
