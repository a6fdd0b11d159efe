"""Runs into an offline folder of Weights & Biases, which `wandb sync` uploads: nothing here uses the network."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from bnexp.analysis import Study
from bnexp.base.errors import DataError, reason
from bnexp.base.files import make_folder
from bnexp.export.tracked import Tracked, finished, tracked

if TYPE_CHECKING:
    from wandb import Settings

PROJECT = "bnexp"


def write_wandb(study: Study, name: str, out: Path) -> list[Path]:
    """Writes `wandb/offline-run-*` in the folder `out`, one a run, under the run's own id; an earlier one of that id is replaced.

    The config is a tree; the history has slashed keys by step, and the summary the scores of the result under dotted keys. Names of this
    machine and its user, code and packages are not recorded.

    Raises:
        DataError: W&B cannot write it.
    """
    os.environ["WANDB_ERROR_REPORTING"] = "false"  # set before the import: it would report errors over the network
    import wandb
    from wandb.errors import Error

    make_folder(out)
    settings = wandb.Settings(
        silent=True,
        console="off",
        disable_git=True,
        disable_code=True,
        save_code=False,
        x_disable_stats=True,
        x_disable_meta=True,
        x_disable_machine_info=True,
        x_save_requirements=False,
        host="",
    )
    written = []
    try:
        for run, result in finished(study):
            for earlier in offline_runs(out, run.id):
                shutil.rmtree(earlier)
            _write(tracked(run, result), "" if study.kind == "report" else name, out, settings)
            written += offline_runs(out, run.id)
    except (Error, OSError) as error:
        raise DataError(f"W&B cannot write {out}: {reason(error)}") from None
    finally:
        wandb.teardown()
    return written


def offline_runs(out: Path, run_id: str) -> list[Path]:
    """The folders of a run."""
    pattern = re.compile(rf"offline-run-\d+_\d+-{re.escape(run_id)}")
    return sorted(path for path in (out / "wandb").glob("offline-run-*") if pattern.fullmatch(path.name))


def _write(one: Tracked, group: str, out: Path, settings: Settings) -> None:
    import wandb

    with wandb.init(
        project=PROJECT,
        id=one.run.id,
        name=one.run.id,
        group=group or None,
        tags=[one.tags["arm"], one.tags["status"]],
        config=one.config,
        dir=out,
        mode="offline",
        reinit="create_new",
        settings=settings,
    ) as run:
        for step, values in one.history.items():
            run.log(dict(values), step=step)
        run.summary.update(dict(one.scores))
