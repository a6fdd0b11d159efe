"""The layout of the Custom Scalars tab: charts that overlay all selected runs, with and without batch norm, and margins over seeds.

Every run and every mean has the same layout in its event file. TensorBoard merges them and leaves out charts that it has already, so that
any folder shows it once.
"""

from __future__ import annotations

from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
from tensorboard.compat.proto.tensor_pb2 import TensorProto
from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto
from tensorboard.compat.proto.types_pb2 import DT_STRING
from tensorboard.plugins.custom_scalar import layout_pb2, metadata

CURVES = {
    "val/accuracy": "validation accuracy",
    "val/loss": "validation loss",
    "train/accuracy": "training accuracy",
    "train/loss": "training loss",
}
"""The curves that are averaged over seeds, with their charts' titles."""
MARGIN = ("mean", "lower", "upper")
OVERLAYS = {
    "BN and no BN": {title: f"^{curve}$" for curve, title in CURVES.items()},
    "Inside the network": {
        "gradient norms": "^gradients/.*/gradient_norm$",
        "effective learning rates": "^gradients/.*/effective_lr$",
        "drift of pre-activations since the last measurement (w1)": "^drift/.*/last/w1$",
        "dead channels": "^relu_balance/.*/dead$",
    },
    "Cost": {"images a second": "^speed/images_per_s$"},
}
"""By category the charts, each with the tags that it shows of every selected run."""


def margin_tag(curve: str, which: str) -> str:
    """`seeds/val/accuracy/upper`: a tag that only means over seeds have, so that single runs do not fail to show a margin."""
    return f"seeds/{curve}/{which}"


def layout() -> Summary.Value:
    charts = []
    for curve, title in CURVES.items():
        value, lower, upper = (margin_tag(curve, which) for which in MARGIN)
        series = layout_pb2.MarginChartContent.Series(value=value, lower=lower, upper=upper)
        charts.append(layout_pb2.Chart(title=title, margin=layout_pb2.MarginChartContent(series=[series])))
    categories = [layout_pb2.Category(title="Mean over seeds, ± standard deviation", chart=charts)]
    for title, overlays in OVERLAYS.items():
        lines = [layout_pb2.Chart(title=name, multiline=layout_pb2.MultilineChartContent(tag=[tag])) for name, tag in overlays.items()]
        categories.append(layout_pb2.Category(title=title, chart=lines, closed=title != next(iter(OVERLAYS))))
    text = layout_pb2.Layout(category=categories).SerializeToString()
    data = SummaryMetadata.FromString(metadata.create_summary_metadata().SerializeToString())
    return Summary.Value(
        tag=metadata.CONFIG_SUMMARY_TAG,
        metadata=data,
        tensor=TensorProto(dtype=DT_STRING, tensor_shape=TensorShapeProto(), string_val=[text]),
    )
