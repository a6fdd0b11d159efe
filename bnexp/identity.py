"""Which runs configs are: their ids need the content of the user's own data. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bnexp.config import Config, check_fits
from bnexp.data import fingerprint, header
from bnexp.errors import UsageError
from bnexp.run import Run, check_rooms


def identify(configs: Sequence[Config], runs_dir: Path) -> list[Run]:
    """The runs that these configs are (they share their data), after the checks that need the header of the user's own data.

    Raises:
        UsageError, DataError: the data are not there, cannot be used, or do not fit the config.
    """
    check_rooms(runs_dir)
    data = configs[0].data
    if data.name in ("folder", "npz"):
        shape, train, classes = header(data)
        for config in configs:
            check_fits(config, shape, train, classes)
    content = fingerprint(data)
    runs = [Run(runs_dir, config.run_id(content)) for config in configs]
    for run in runs:
        if run.folder.is_symlink():
            raise UsageError(f"{run.folder} is a link, and bnexp follows none inside a runs folder; remove it, or use another --runs-dir.")
    return runs
