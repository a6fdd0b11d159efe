"""Which runs configs are: their ids need the content of the user's own data. No torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bnexp.base.errors import BnexpError, UsageError, refused_as_usage, short
from bnexp.config import OWN_FILES, READERS, Config, check_fits
from bnexp.data import fingerprint, header
from bnexp.data.cache import is_there, user_path
from bnexp.storage.run import Run, refuse_symlink


def identify(configs: Sequence[Config], runs_dir: Path) -> list[Run]:
    """The runs that these configs are (they share their data), after the checks that need the header of the user's own data.

    Raises:
        UsageError: the data are not there, cannot be trained on, or do not fit the config.
        DataError: a file cannot be read.
    """
    data = configs[0].data
    with refused_as_usage():
        if data.name in OWN_FILES:
            shape, train, classes = header(data)
            for config in configs:
                check_fits(config, shape, train, classes)
        content = fingerprint(data)
    runs = [Run(runs_dir, config.run_id(content)) for config in configs]
    for run in runs:
        refuse_symlink(run.folder)
    return runs


def identify_saved(members: Sequence[tuple[Run, Config]], place: Mapping[str, Any]) -> list[Config]:
    """The configs of saved runs that share their data, which lie where `place` says now (`compose.PLACE`), and are the same as before.

    Raises:
        UsageError: the data are not there, other data, or read from no such place; or the runs' configs or the results version changed
            since.
        DataError: as `identify`.
    """
    first, name, root = members[0][0], members[0][1].data.name, members[0][1].data.root
    for key in place:
        if name not in READERS[key]:
            raise UsageError(f"{first.id} was trained on data={name}, which does not read {key}; leave it out.")
    if name in OWN_FILES and root is not None and "data.root" not in place and not is_there(user_path(root)):
        raise UsageError(f"The data of {first.id} are not at {short(root, 300)} any more; add data.root=PATH, where they are now.")
    configs = [with_absolute_root(config.replace(**place)) for _, config in members]
    for (run, _), config, now in zip(members, configs, identify(configs, first.runs_dir), strict=True):
        if now.id != run.id:
            what = "its config or the results version of bnexp changed since"
            if _recorded_fingerprint(run) not in (None, fingerprint(config.data)):
                what = f"{short(str(config.data.root), 300)} holds other data than those that it was trained on"
            raise UsageError(f"{run.id} cannot be used again: {what}.")
    return configs


def with_absolute_root(config: Config) -> Config:
    """A saved run must find its data from any folder."""
    root = config.data.root
    return config if root is None else config.replace(**{"data.root": str(user_path(root).absolute())})


def _recorded_fingerprint(run: Run) -> str | None:
    """The fingerprint of the data in the run's summary; None where there is no summary, or it has none."""
    try:
        return run.result().fingerprint
    except BnexpError:
        return None
