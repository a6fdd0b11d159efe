"""A run as experiment trackers take it: parameters, curves by step, scores, tags."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from bnexp.analysis import Study
from bnexp.analysis.wording import label
from bnexp.base.files import JsonObject, digest
from bnexp.config.fields import show
from bnexp.storage.curves import curves
from bnexp.storage.result import Row, RunResult, flatten
from bnexp.storage.run import Run

SCORES = ("steps", "epochs", "diverged_at_step", "parameters", "test", "train", "val", "target", "running_statistics", "speed")
"""What of a result is its scores."""
TAGS = ("environment.bnexp", "environment.torch", "environment.device")
"""What else is recorded of a run: neither its command nor folders, which may name people and machines."""


@dataclass(frozen=True)
class Tracked:
    """One finished or diverged run."""

    run: Run
    config: JsonObject
    """As a tree, without `data.root`."""
    history: Mapping[int, Mapping[str, float]]
    """By step, in order: what metrics.jsonl holds under slashed keys (`val/loss`); not finite: NaN."""
    scores: Mapping[str, int | float]
    """Under dotted keys (`test.running.accuracy`), as summary.json has them."""
    tags: Mapping[str, str]
    started: float
    """Seconds since 1970, as `ended`."""
    ended: float
    digest: str
    """Of summary.json: another one where the run was trained again."""

    @property
    def params(self) -> dict[str, str]:
        """The config by dotted keys (`optim.lr`), written as overrides have it."""
        return {key: show(value) for key, value in flatten(self.config).items()}


def tracked(run: Run, result: RunResult) -> Tracked:
    """Reads a run. Raises OSError where its files cannot be read."""
    tree = result.tree()
    config = tree.pop("config")
    config["data"].pop("root", None)
    row = flatten(tree)
    history: dict[int, dict[str, float]] = {}
    for key, points in curves(run.metrics_jsonl).items():
        for step, value in points:
            history.setdefault(step, {})[key] = value
    tags = {"id": run.id, "status": result.status, "arm": label(result.norm), **{key.rpartition(".")[2]: str(row.get(key)) for key in TAGS}}
    ended = _written_at(result)
    speed = result.speed
    took = sum(part or 0.0 for part in (speed.train_s, speed.compile_s, speed.eval_s, speed.metrics_s))
    return Tracked(run, config, dict(sorted(history.items())), _scores(row), tags, ended - took, ended, digest(run.summary_json))


def finished(study: Study) -> list[tuple[Run, RunResult]]:
    """The runs that are results; trackers take no others."""
    found = [(run, study.results[run.id]) for run in study.runs if run.id in study.results]
    return [(run, result) for run, result in found if result.is_result]


def _scores(row: Row) -> dict[str, int | float]:
    numbers = {key: value for key, value in row.items() if isinstance(value, (int, float)) and not isinstance(value, bool)}
    return {key: value for key, value in numbers.items() if key.partition(".")[0] in SCORES}


def _written_at(result: RunResult) -> float:
    """0 where that is not recorded."""
    try:
        return datetime.strptime(result.written_at or "", "%Y-%m-%dT%H:%M:%S%z").timestamp()
    except ValueError:
        return 0.0
