"""The network's graph: a node a module, found by running one example through it."""

from __future__ import annotations

from typing import Any

import torch
from tensorboard.compat.proto.attr_value_pb2 import AttrValue
from tensorboard.compat.proto.graph_pb2 import GraphDef
from tensorboard.compat.proto.node_def_pb2 import NodeDef
from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto
from torch import Tensor, nn

from bnexp.config import ModelConfig
from bnexp.models import build, layer_map


def graph(config: ModelConfig, shape: tuple[int, ...], classes: int) -> GraphDef:
    """The graph of one run's network in eval mode, for examples of `shape` [C, *map]; `block1.conv1` has its convolution, norm and ReLU.

    Hooks note each module's output shape. torch's tracer would take half a second of each process (as would its meta device), warn that it
    is deprecated, and draw a node for every constant. The network's initial weights are drawn, and the generator put back.
    """
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
