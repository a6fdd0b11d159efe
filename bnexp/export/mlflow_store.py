"""Runs into a local SQLite store of MLflow: one MLflow run a run, in the experiment `bnexp`."""

from __future__ import annotations

import logging
import os
import re
import sqlite3
import warnings
from collections.abc import Iterable, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from bnexp.analysis import Study
from bnexp.base.errors import DataError, UsageError, reason
from bnexp.base.files import make_folder
from bnexp.export.tracked import Tracked, finished, tracked

if TYPE_CHECKING:
    from mlflow import MlflowClient

EXPERIMENT = "bnexp"
SQLITE = b"SQLite format 3\0"
METRICS, PARAMS = 1000, 100
"""How many MLflow takes in one request."""
T = TypeVar("T")


def write_mlflow(study: Study, name: str, out: Path) -> list[Path]:
    """Adds the runs to the database `out`, which is made where there is none; configs and summaries go beside it, into `<out>-artifacts/`.

    A run that is there already is left as it is; one that was trained again since, or was not written to its end, is replaced. Parameters
    are the config by dotted keys; metrics have slashed keys, with their steps, and the scores of the result dotted ones, at the last step.

    Raises:
        UsageError: `out` is a file of something else.
        DataError: MLflow cannot write it.
    """
    check_database(out)
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"  # set before the import: it would report its use over the network
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MLflow's own, about what it imports
        from mlflow import MlflowClient
        from mlflow.exceptions import MlflowException
        from sqlalchemy.exc import SQLAlchemyError

        logging.getLogger("mlflow").setLevel(logging.ERROR)
        make_folder(out.parent)
        try:
            client = MlflowClient(tracking_uri=f"sqlite:///{out.absolute()}")
            _write(client, study, name, out)
        except (MlflowException, SQLAlchemyError) as error:
            raise DataError(f"MLflow cannot write {out}: {reason(error).splitlines()[0][:300]}") from None
    return [out]


def check_database(out: Path) -> None:
    """Raises UsageError where `out` is there and no database of MLflow's, so that nothing of others is changed."""
    if re.search("[?#%]", str(out.absolute())):
        raise UsageError(f"MLflow cannot write {out}: its path has a ?, # or %, which addresses read differently; name another with --out.")
    if not out.exists():
        return
    if out.is_dir():
        raise UsageError(f"--out {out} is a folder; MLflow's runs go into a SQLite file. Write: --out {out / 'mlflow.db'}")
    with out.open("rb") as file:
        begin = file.read(len(SQLITE))
    if not begin or (begin == SQLITE and _is_of_mlflow(out)):
        return
    raise UsageError(f"--out {out} is a file, but no database of MLflow; name a new one.")


def _is_of_mlflow(path: Path) -> bool:
    """Whether a SQLite file has MLflow's tables, or none at all; False for a damaged one."""
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as found:
            tables = {name for (name,) in found.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    except sqlite3.DatabaseError:
        return False
    return not tables or {"experiments", "runs", "alembic_version"} <= tables


def _write(client: MlflowClient, study: Study, name: str, out: Path) -> None:
    found = client.get_experiment_by_name(EXPERIMENT)
    artifacts = out.absolute().with_name(f"{out.stem}-artifacts").as_uri()
    experiment = found.experiment_id if found else client.create_experiment(EXPERIMENT, artifact_location=artifacts)
    studies = {} if study.kind == "report" else {f"bnexp.study.{name}": study.kind}
    for run, result in finished(study):
        one = tracked(run, result)
        whole = _whole(client, experiment, one)
        if whole is None:
            whole = _add(client, experiment, one)
        for key, value in studies.items():
            client.set_tag(whole, key, value)


def _whole(client: MlflowClient, experiment: str, one: Tracked) -> str | None:
    """The MLflow run that has all of this run, as it is now; others of its id are deleted."""
    whole = None
    for found in client.search_runs([experiment], f"tags.`bnexp.id` = '{one.run.id}'"):
        if whole is None and found.info.status == "FINISHED" and found.data.tags.get("bnexp.summary") == one.digest:
            whole = found.info.run_id
        else:
            client.delete_run(found.info.run_id)
    return whole


def _add(client: MlflowClient, experiment: str, one: Tracked) -> str:
    from mlflow.entities import Metric, Param

    tags = {**{f"bnexp.{key}": value for key, value in one.tags.items()}, "bnexp.summary": one.digest}
    started, ended = int(1000 * one.started), int(1000 * one.ended)
    added: str = client.create_run(experiment, start_time=started, tags=tags, run_name=one.run.id).info.run_id
    last = max(one.history, default=0)
    metrics = [Metric(key, value, ended, step) for step, values in one.history.items() for key, value in values.items()]
    metrics += [Metric(key, value, ended, last) for key, value in one.scores.items()]
    for params in _batches([Param(key, value) for key, value in one.params.items()], PARAMS):
        client.log_batch(added, params=params)
    for values in _batches(metrics, METRICS):
        client.log_batch(added, metrics=values)
    for path in (one.run.config_yaml, one.run.summary_json):
        client.log_artifact(added, str(path))
    client.set_terminated(added, end_time=ended)
    return added


def _batches(values: Sequence[T], size: int) -> Iterable[Sequence[T]]:
    return (values[start : start + size] for start in range(0, len(values), size))
