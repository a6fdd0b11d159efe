"""The HParams tab: a run's config values and how it ended, in the run's own event file.

`SummaryWriter.add_hparams` would make a second run for each; and a tab without an experiment's list of metrics would show every scalar.
"""

from __future__ import annotations

from typing import Any

from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
from tensorboard.compat.proto.tensor_pb2 import TensorProto
from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto
from tensorboard.compat.proto.types_pb2 import DT_FLOAT
from tensorboard.plugins.hparams import api_pb2, plugin_data_pb2

from bnexp.config import Config
from bnexp.config.fields import leaves

# As in `tensorboard.plugins.hparams.metadata`, which takes longer to import than all else of the logs: it imports TensorFlow's stand-in.
PLUGIN, VERSION = "hparams", 0
EXPERIMENT_TAG, START_TAG, END_TAG = (f"_hparams_/{name}" for name in ("experiment", "session_start_info", "session_end_info"))
NO_TENSOR = TensorProto(dtype=DT_FLOAT, tensor_shape=TensorShapeProto(dim=[TensorShapeProto.Dim(size=0)]))

VARIED = ("model.norm", "train.batch_size", "optim.lr", "seed", "data.name")
"""The keys of the five columns that TensorBoard shows at first: those that are marked to differ."""
KEYS = (
    *VARIED,
    *("data.subset", "data.augment", "model.name", "model.widths", "model.placement", "model.bn_momentum"),
    *("optim.name", "optim.momentum", "optim.weight_decay", "optim.schedule", "optim.warmup_steps"),
    *("train.epochs", "train.steps", "train.until_target", "precision", "compile"),
)
"""The config values that one would filter or sort runs by. One that a run has set to null has no value."""
KINDS = {
    key: api_pb2.DATA_TYPE_BOOL if isinstance(value, bool) else api_pb2.DATA_TYPE_STRING
    for key, value in leaves(Config())
    if isinstance(value, (bool, str, tuple))
}
"""The kinds of the values that are not numbers."""
METRICS = {
    "test/running/accuracy": ("test accuracy", "on test data, with running statistics, at the end"),
    "val/accuracy": ("val accuracy", "on validation data, at the last evaluation"),
    "hparams/steps_to_target": ("steps to target", "updates until validation accuracy reached train.target; none where it did not"),
    "hparams/diverged": ("diverged", "1: the loss or the weights stopped being finite"),
}
"""The tab's metrics. `hparams/...` are the only scalars that metrics.jsonl does not have."""


def opening(config: Config) -> list[Summary.Value]:
    """What the experiment is, the same in every run, and this run's config values. Lists are texts: `[16, 32, 64]`."""
    infos = [api_pb2.HParamInfo(name=key, type=KINDS.get(key, api_pb2.DATA_TYPE_FLOAT64), differs=key in VARIED) for key in KEYS]
    metrics = [
        api_pb2.MetricInfo(name=api_pb2.MetricName(tag=tag), display_name=name, description=text) for tag, (name, text) in METRICS.items()
    ]
    experiment = api_pb2.Experiment(hparam_infos=infos, metric_infos=metrics)
    start = plugin_data_pb2.SessionStartInfo()
    for key, value in leaves(config):
        if key in KEYS and value is not None:
            _set(start.hparams[key], value)
    return [
        _summary(EXPERIMENT_TAG, plugin_data_pb2.HParamsPluginData(experiment=experiment)),
        _summary(START_TAG, plugin_data_pb2.HParamsPluginData(session_start_info=start)),
    ]


def closing(steps_to_target: int | None, diverged: bool) -> list[Summary.Value]:
    """How a run ended: a diverged one as a failure. A missed target (None) has no value: the tab sorts runs without one behind all others,
    and cannot draw an infinite one."""
    status = api_pb2.STATUS_FAILURE if diverged else api_pb2.STATUS_SUCCESS
    end = plugin_data_pb2.SessionEndInfo(status=status)
    values = [
        _summary(END_TAG, plugin_data_pb2.HParamsPluginData(session_end_info=end)),
        Summary.Value(tag="hparams/diverged", simple_value=float(diverged)),
    ]
    if steps_to_target is not None:
        values.append(Summary.Value(tag="hparams/steps_to_target", simple_value=steps_to_target))
    return values


def _set(field: Any, value: Any) -> None:
    if isinstance(value, bool):
        field.bool_value = value
    elif isinstance(value, (int, float)):
        field.number_value = value
    else:
        field.string_value = str(list(value)) if isinstance(value, tuple) else value


def _summary(tag: str, data: plugin_data_pb2.HParamsPluginData) -> Summary.Value:
    data.version = VERSION
    kind = SummaryMetadata.PluginData(plugin_name=PLUGIN, content=data.SerializeToString())
    return Summary.Value(tag=tag, metadata=SummaryMetadata(plugin_data=kind), tensor=NO_TENSOR)
