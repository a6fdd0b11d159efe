"""The network of a part's runs as boxes, from the config and the shape of the data."""

from __future__ import annotations

import math

from bnexp.analysis.wording import count
from bnexp.config import MODELS, ModelConfig, map_sizes
from bnexp.plots import Picture
from bnexp.plots.network import Box, diagram
from bnexp.report.view import View

ORDER = {
    "conv-norm-relu": ("{layer}", "{norm}", "{activation}"),
    "norm-conv-relu": ("{norm}", "{layer}", "{activation}"),
    "conv-relu-norm": ("{layer}", "{activation}", "{norm}"),
}
"""What a layer is made of, by `model.placement`."""


def network(view: View) -> Picture | None:
    """The diagram, of the arm that stands first; None where the data's shape was not recorded."""
    runs = [run for run in view.part.runs if run.data is not None and run.data.shape and run.data.classes]
    if not runs:
        return None
    first = runs[0]
    assert first.data is not None
    boxes = network_boxes(first.config.model, first.data.shape or (), len(first.data.classes or ()))
    parameters = {run.parameters for run in runs if run.parameters is not None}
    ends = (f"{number:,}" for number in sorted(parameters)[:: max(1, len(parameters) - 1)])
    weights = f"{' to '.join(ends)} parameters" if parameters else count(len(boxes) - 2, "block")
    return diagram(view.name("network"), boxes, weights, "The network")


def network_boxes(model: ModelConfig, shape: tuple[int, ...], classes: int) -> list[Box]:
    """Input, blocks or layers, head; examples have `shape` [C, *map]."""
    convolutional, kernel = MODELS[model.name].convolutional, "x".join(["3"] * (len(shape) - 1))
    words = {"norm": "norm", "activation": {"relu": "ReLU"}.get(model.activation, model.activation)}
    order = ORDER[model.placement]
    boxes: list[Box] = [("input", ("image",), _shape(shape))]
    if convolutional:
        for index, (width, sizes) in enumerate(zip(model.widths, map_sizes(shape[1:], len(model.widths)), strict=True)):
            layers = [part.format(layer=f"conv {kernel}", **words) for part in order] * 2
            boxes.append((f"block {index + 1}", layers, _shape((width, *sizes))))
        boxes.append(("head", ("average pool", "linear"), f"{classes} classes"))
    else:
        boxes[0] = ("input", ("flatten",), f"{math.prod(shape)}")
        for index, width in enumerate(model.widths):
            boxes.append((f"layer {index + 1}", [part.format(layer="linear", **words) for part in order], f"{width}"))
        boxes.append(("head", ("linear",), f"{classes} classes"))
    return boxes


def _shape(sizes: tuple[int, ...]) -> str:
    return " x ".join(map(str, sizes))
