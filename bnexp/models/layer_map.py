"""Where in a network its layers are: the chain of its modules, and which of them belong to which layer.

Layers have the same names in every arm (`block1.conv1`, `layer2`, `head`), whatever norm stands between their modules.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from bnexp.models.network import WEIGHTED


@dataclass(frozen=True)
class Layer:
    """One weighted layer with its norm and nonlinearity, as places in the network's chain of modules.

    `start` is its first module, `weighted` its convolution or linear layer. The head has neither norm nor activation.
    """

    name: str
    start: int
    weighted: int
    norm: int | None
    activation: int | None
    site: int
    """The module whose input is what the norm normalizes, or would, were there one."""


@dataclass(frozen=True)
class LayerMap:
    """`chain` maps input to output, module by module; `names` are the modules' names in the network's state_dict."""

    chain: tuple[nn.Module, ...]
    names: tuple[str, ...]
    layers: tuple[Layer, ...]

    @property
    def hidden(self) -> tuple[Layer, ...]:
        """The layers with a nonlinearity: all but the head."""
        return tuple(layer for layer in self.layers if layer.activation is not None)

    def weight(self, layer: Layer) -> nn.Parameter:
        """The weights of a layer's convolution or linear map, [R*C_out, ...]."""
        weight = self.chain[layer.weighted].weight
        assert isinstance(weight, nn.Parameter)
        return weight


def layer_map(network: nn.Sequential, placement: str) -> LayerMap:
    """The layers of a network that `build` made, in the order of the forward pass."""
    chain: list[nn.Module] = []
    names: list[str] = []
    layers: list[Layer] = []
    for name, part in network.named_children():
        inner = list(part.children()) if isinstance(part, nn.Sequential) else [part]
        count = sum(isinstance(module, WEIGHTED) for module in inner)
        for index in range(count):  # the layers of a block are alike
            size = len(inner) // count
            label = f"{name}.conv{index + 1}" if count > 1 else name
            layers.append(_layer(label, inner[index * size : (index + 1) * size], len(chain) + index * size, placement))
        chain += inner
        names += [f"{name}.{index}" for index in range(len(inner))] if isinstance(part, nn.Sequential) else [name]
    return LayerMap(tuple(chain), tuple(names), tuple(layers))


def _layer(name: str, modules: list[nn.Module], start: int, placement: str) -> Layer:
    weighted = next(place for place, module in enumerate(modules, start) if isinstance(module, WEIGHTED))
    others = [place for place in range(start, start + len(modules)) if place != weighted]
    if not others:
        return Layer(name, start, weighted, None, None, weighted)
    first = {"conv-norm-relu": 1, "norm-conv-relu": 0, "conv-relu-norm": 2}[placement]  # counted as if there were a norm
    norm = start + first if len(modules) == 3 else None
    activation = next(place for place in others if place != norm)
    return Layer(name, start, weighted, norm, activation, start + first)
