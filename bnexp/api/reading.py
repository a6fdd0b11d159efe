"""What runs left, as objects: networks, data, rows, curves, and data frames of these."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from bnexp.analysis.part import Study
from bnexp.base.errors import DataError, UsageError, reason
from bnexp.storage.curves import curves as read_curves
from bnexp.storage.folder import find_run, list_runs, results_of, rows
from bnexp.storage.result import Row, RunResult
from bnexp.storage.run import Run

if TYPE_CHECKING:
    import pandas
    import polars
    from torch import Tensor, nn

One = RunResult | str | Path
Runs = Study | One | Iterable[One]
"""A study, or one or several runs: results, ids, beginnings of ids that fit one run, paths, or `last`."""


class Point(NamedTuple):
    """One number that a run recorded; NaN where it was not finite."""

    run: str
    step: int
    key: str
    """`train/loss`, `val/accuracy`, ..."""
    value: float


@dataclass(frozen=True)
class Examples:
    """x_[N, C, *map] float32, normalized, and labels y_[N] int64, on the CPU."""

    x: Tensor
    y: Tensor


@dataclass(frozen=True)
class NetworkData:
    """A data set as a network saw it: (pixel - mean) / std with mean_[C] and std_[C] of the training images, without augmentation."""

    name: str
    classes: tuple[str, ...]
    """The names of the labels 0, 1, ..."""
    train: Examples
    validation: Examples
    test: Examples
    mean: Tensor
    std: Tensor


def load(run: One, runs_dir: str | Path = "runs") -> nn.Sequential:
    """A run's trained network: normalized x_[B, C, *map] -> logits_[B, K], in eval mode.

    Args:
        run: a result, an id, a unique prefix of one, a path, or `last`.
        runs_dir: the folder the run is in.

    Raises:
        bnexp.UsageError: there is no such run.
        bnexp.DataError: its files are missing or damaged.
    """
    from bnexp.storage.checkpoint import load_network

    return load_network(_found(run, Path(runs_dir)))


def dataset(run: One, runs_dir: str | Path = "runs") -> NetworkData:
    """The data that a run was trained, validated and tested on, as its network saw them; nothing is downloaded.

    Raises:
        bnexp.UsageError: there is no such run, or the data are not there, or are others than those that it was trained on.
        bnexp.DataError: the data cannot be used.
    """
    import torch

    from bnexp.data import Split
    from bnexp.execution.identity import identify_saved
    from bnexp.execution.session import load_data
    from bnexp.execution.terminal import Terminal

    found = _found(run, Path(runs_dir))
    (config,) = identify_saved([(found, found.trained_config())], {})
    data = load_data(config, torch.device("cpu"), Terminal(quiet=True))

    def seen(split: Split) -> Examples:
        return Examples(data.normalize(split.x), split.y)

    return NetworkData(data.name, data.classes, seen(data.train), seen(data.val), seen(data.test), data.mean, data.std)


def runs(folder: str | Path = "runs") -> list[Row]:
    """One flat row a run, oldest first: `id`, `status`, `test.running.accuracy`, `config.optim.lr`, ..."""
    return rows(Path(folder))


def curves(runs: Runs | None = None, key: str | None = None, runs_dir: str | Path = "runs") -> list[Point]:
    """What runs recorded while they trained, as a long table: `bnexp.frame(bnexp.curves(study))` has the columns run, step, key, value.

    Args:
        runs: a study, or one or several runs; None: all of the folder.
        key: one key alone, as `val/accuracy`; a study of many runs records millions of numbers under all of them.
        runs_dir: the folder the runs are in, unless they are a study's.

    Raises:
        bnexp.UsageError: there is no such run, or none of them recorded the key.
        bnexp.DataError: a file cannot be read.
    """
    chosen, found = _chosen(runs, Path(runs_dir)), []
    for run in chosen:
        try:
            recorded = read_curves(run.metrics_jsonl, key)
        except OSError as error:
            raise DataError(f"{run.metrics_jsonl} cannot be read: {reason(error)}.") from None
        found += [Point(run.id, step, name, value) for name, points in recorded.items() for step, value in points]
    if key is not None and chosen and not found:
        known = ", ".join(sorted(read_curves(chosen[0].metrics_jsonl)))
        raise UsageError(f"None of these runs recorded '{key}'; {chosen[0].id} has {known or 'no curves'}.")
    return found


def frame(runs: Runs | list[Point] | None = None, runs_dir: str | Path = "runs") -> pandas.DataFrame | polars.DataFrame:
    """One row a run, with the columns of `bnexp.runs`; or, of what `curves` gave, one row a number. A frame of pandas where that is
    installed, else of polars.

    Args:
        runs: as of `curves`, or its result.

    Raises:
        bnexp.UsageError: there is no such run; or neither pandas nor polars is installed.
    """
    library = next((name for name in ("pandas", "polars") if find_spec(name)), None)
    if library is None:
        raise UsageError("A data frame needs pandas or polars, and neither is installed. Type: pip install pandas")
    points = [one for one in runs if isinstance(one, Point)] if isinstance(runs, list) else []
    records: list[Any]
    if points:
        records = [point._asdict() for point in points]
    elif isinstance(runs, Study):
        records = [result.row() for result in runs.results.values()]
    else:
        chosen = _chosen(runs, Path(runs_dir))  # type: ignore[arg-type] # no points are left
        records = [result.row() for result in results_of(chosen).values()]
    module = import_module(library)
    return module.DataFrame(records) if library == "pandas" else module.DataFrame(records, infer_schema_length=None)


def _chosen(runs: Runs | None, runs_dir: Path) -> list[Run]:
    """The runs that are meant, each once. Raises UsageError where one is not there."""
    if runs is None:
        return list_runs(runs_dir)
    if isinstance(runs, Study):
        return list(runs.runs)
    return list(dict.fromkeys(_found(one, runs_dir) for one in ([runs] if isinstance(runs, One) else runs)))


def _found(run: One, runs_dir: Path) -> Run:
    return find_run(run.id if isinstance(run, RunResult) else str(run), runs_dir)
