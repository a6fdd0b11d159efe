"""Means over seeds as TensorBoard runs of their own: RUNS/.groups/<group id>/batch-bs32-lr0.1-mean5/, one for each cell of a sweep.

Read from metrics.jsonl when a sweep or a comparison ends, without torch. A mean's tags are those of the runs, so that it lies over them
in every chart. Runs that failed or were interrupted are not in it. What a run that ended early counts as, afterwards:

- diverged: it is in no mean any more; `seeds/diverged` says how many have. Accuracies at the end are those of runs that trained.
- stopped at its target (`train.until_target`): its last values, since what it was then it stays.
"""

from __future__ import annotations

import math
import re
import shutil
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
from tensorboard.compat.proto.tensor_pb2 import TensorProto
from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto
from tensorboard.compat.proto.types_pb2 import DT_STRING

from bnexp.analysis import Study, varying_keys
from bnexp.base.files import make_folder
from bnexp.storage.curves import curves
from bnexp.storage.group import Group
from bnexp.storage.result import RunResult
from bnexp.tensorboard.files import PATTERN, write_events
from bnexp.tensorboard.layout import CURVES, MARGIN, layout, margin_tag

AT_END = ("test/running/accuracy", "test/precise/accuracy", "test/batch/accuracy")
FOLDER = re.compile(r".+-mean\d+")
Points = Mapping[str, Sequence[tuple[int, float]]]


@dataclass(frozen=True)
class Seed:
    """One result of a cell, and its curves."""

    result: RunResult
    points: Points

    def diverged_by(self, step: int) -> bool:
        at = self.result.diverged_at_step
        return self.result.is_diverged and (at is None or at <= step)


def write_means(group: Group, study: Study) -> list[Path]:
    """Writes the group's means anew and returns their folders: one for each setting that two seeds or more have results of."""
    folders = {run.id: run for run in study.runs}
    kept = []
    for name, results in _cells([result for result in study.results.values() if result.is_result]).items():
        seeds = [Seed(result, curves(folders[result.id].metrics_jsonl)) for result in results]
        kept.append(_write(group.folder / name, seeds))
    for old in group.folder.iterdir() if group.folder.is_dir() else ():
        if old.is_dir() and FOLDER.fullmatch(old.name) and old not in kept:
            shutil.rmtree(old)
    return kept


def mean_events(seeds: Sequence[Seed], wall_time: float) -> Iterator[Event]:
    """The events of one mean: the layout and a text that says what it is, then one a step."""
    yield Event(wall_time=wall_time, step=0, summary=Summary(value=[layout(), _about(seeds)]))
    for step in sorted({step for seed in seeds for curve in CURVES for step, _ in seed.points.get(curve, ())}):
        values = {"seeds/diverged": float(sum(seed.diverged_by(step) for seed in seeds))}
        for curve in CURVES:
            values |= _mean(curve, seeds, step)
        yield _event(wall_time, step, values)
    step = max((step for seed in seeds for tag in AT_END for step, _ in seed.points.get(tag, ())), default=0)
    trained = [seed for seed in seeds if not seed.result.is_failure]
    ends = {tag: [seed.points[tag][-1][1] for seed in trained if tag in seed.points] for tag in AT_END}
    yield _event(wall_time, step, {tag: fmean(values) for tag, values in ends.items() if values})


def _cells(results: Sequence[RunResult]) -> dict[str, list[RunResult]]:
    """The results of each setting, a result a seed, under the setting's name. It is the runs' own name without the seed; where two settings
    share that, what they differ in follows: `batch-bs32-lr0.1-steps400-mean5`."""
    keys = varying_keys(results)
    cells: dict[str, dict[int, RunResult]] = {}
    for result in sorted(results, key=lambda result: (result.seed, result.id)):
        cells.setdefault(repr([result.setting(key) for key in keys]), {}).setdefault(result.seed, result)
    several = [list(cell.values()) for cell in cells.values() if len(cell) > 1]
    alike: dict[str, list[list[RunResult]]] = {}
    for cell in several:
        first = cell[0]
        alike.setdefault(first.config.run_name.removesuffix(f"-s{first.seed}"), []).append(cell)
    named: dict[str, list[RunResult]] = {}
    for base, group in alike.items():
        differing = [key for key in keys if len({repr(cell[0].setting(key)) for cell in group}) > 1]
        for cell in group:
            settings = [(key.rpartition(".")[2], cell[0].setting(key)) for key in differing]
            name = "-".join([base, *(f"{key}{_text(value)}" for key, value in settings if value is not None)])[:200]
            while f"{name}-mean{len(cell)}" in named:
                name += "-again"
            named[f"{name}-mean{len(cell)}"] = cell
    return named


def _text(value: Any) -> str:
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return re.sub(r"[^A-Za-z0-9._-]+", "_", text).strip("_")


def _mean(curve: str, seeds: Sequence[Seed], step: int) -> dict[str, float]:
    """The mean of a curve at a step, and, of two seeds or more, its margin. Nothing where a living seed has no value yet."""
    values = []
    for seed in seeds:
        if not seed.diverged_by(step):
            points = seed.points.get(curve, ())
            before = bisect_right(points, step, key=lambda point: point[0])
            if before == 0:
                return {}
            values.append(points[before - 1][1])
    if not values:
        return {}
    mean = fmean(values)
    if len(values) == 1 or not all(map(math.isfinite, values)):
        return {curve: mean}
    spread = stdev(values)
    margin = dict(zip(MARGIN, (mean, mean - spread, mean + spread), strict=True))
    return {curve: mean, **{margin_tag(curve, which): value for which, value in margin.items()}}


def _write(folder: Path, seeds: Sequence[Seed]) -> Path:
    """One event file in a folder of its own. The time in it is that of the latest run, so that the same runs give the same file."""
    wall_time = max(_written_at(seed.result) for seed in seeds)
    make_folder(folder)
    path = folder / f"events.out.tfevents.{wall_time:010.0f}.means"
    write_events(path, mean_events(seeds, wall_time))
    for old in folder.glob(PATTERN):
        if old != path:
            old.unlink()
    return folder


def _written_at(result: RunResult) -> float:
    try:
        return datetime.strptime(result.written_at or "", "%Y-%m-%dT%H:%M:%S%z").timestamp()
    except ValueError:
        return 0.0


def _about(seeds: Sequence[Seed]) -> Summary.Value:
    """What the mean is of, for the Text tab."""
    text = (
        f"Mean of {len(seeds)} runs that differ in the seed, of which {sum(seed.result.is_diverged for seed in seeds)} diverged; "
        "lower and upper are one standard deviation (n - 1) away. A diverged run is in no mean from then on. "
        "A run that stopped at its target keeps its last values.\n\n" + "\n".join(f"- {seed.result.id}" for seed in seeds)
    )
    metadata = SummaryMetadata(plugin_data=SummaryMetadata.PluginData(plugin_name="text"))
    return Summary.Value(
        tag="about",
        metadata=metadata,
        tensor=TensorProto(dtype=DT_STRING, tensor_shape=TensorShapeProto(), string_val=[text.encode()]),
    )


def _event(wall_time: float, step: int, values: Mapping[str, float]) -> Event:
    points = [Summary.Value(tag=tag, simple_value=value) for tag, value in values.items()]
    return Event(wall_time=wall_time, step=step, summary=Summary(value=points))
