"""A run and its folder: id, paths, status. Nothing else knows how the runs folder is laid out.

- RUNS/<id>/                config.yaml summary.json metrics.jsonl model.pt events.out.tfevents.* train.log, and labels.json: see `labels`
- RUNS/.stacks/<stack id>/  plan.json checkpoint.pt checkpoint.prev.pt, until all members are finished: see `stack_folder`
- RUNS/.fresh/<id>/         the successor of a finished run while it is trained (--fresh)
- RUNS/.locks/<id>.lock     held while a run is trained or removed
- RUNS/.groups/<group id>/ and RUNS/reports/<name>-<group id>/  what spans runs: see `group`
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

from msgspec import structs

from bnexp.base import files
from bnexp.base.errors import BnexpError, DataError, UnreadableError, UsageError, reason
from bnexp.base.locks import holding
from bnexp.config import Config, from_mapping, to_mapping
from bnexp.storage.facts import ListedRun, WholeConfig
from bnexp.storage.result import DONE, RunResult

FORMAT = 1
"""Version of summary.json and of a stack's plan.json. A newer one is refused; the first versions wrote none."""
MAX_DIGESTED = 2**34
"""Bytes of a model.pt or metrics.jsonl that is compared with its digest: more than any network here has, and a minute's work."""


Summary = TypeVar("Summary", RunResult, ListedRun)


class InWork(UsageError):
    """Another process holds the lock of a run."""


@dataclass(frozen=True)
class Run:
    """One run on disk. `fresh` is the successor of a finished run, in a folder of its own until it is complete."""

    runs_dir: Path
    id: str
    fresh: bool = False

    @property
    def folder(self) -> Path:
        return hidden_folder(self.runs_dir, ".fresh", self.id) if self.fresh else self.runs_dir / self.id

    @property
    def config_yaml(self) -> Path:
        return self.folder / "config.yaml"

    @property
    def summary_json(self) -> Path:
        return self.folder / "summary.json"

    @property
    def metrics_jsonl(self) -> Path:
        return self.folder / "metrics.jsonl"

    @property
    def model_pt(self) -> Path:
        return self.folder / "model.pt"

    @property
    def train_log(self) -> Path:
        return self.folder / "train.log"

    @property
    def labels_json(self) -> Path:
        return self.folder / "labels.json"

    @property
    def lock(self) -> Path:
        return hidden_folder(self.runs_dir, ".locks") / f"{self.id}.lock"

    @property
    def status(self) -> str | None:
        """That of its result; None where it has no readable one."""
        try:
            return self.result().status
        except BnexpError:
            return None

    @property
    def done(self) -> bool:
        return self.status in DONE and self.model_pt.is_file()

    def result(self) -> RunResult:
        """What its summary.json holds; raises DataError where it is missing, cannot be read, or holds what no run writes."""
        return self._decoded(lambda: RunResult.from_tree(files.read_checked_json(self.summary_json, FORMAT)))

    def listed(self, *, with_config: bool = False) -> ListedRun:
        """What a list shows of it, which is no successor: the rest of its summary.json is not decoded. Errors as `result`."""

        def decode() -> ListedRun:
            data = files.read_checked(f"{self.runs_dir}/{self.id}/summary.json")  # pathlib takes a fifth of the time of reading
            found: ListedRun = files.decode_json(data, ListedRun)
            files.check_format(found.format, data, FORMAT)
            return structs.replace(found, tree=files.decode_json(data, WholeConfig).config) if with_config else found

        return self._decoded(decode)

    def _decoded(self, decode: Callable[[], Summary]) -> Summary:
        """What `decode` makes of the summary; raises DataError where it fails."""
        try:
            found = decode()
        except (FileNotFoundError, NotADirectoryError):
            raise DataError(f"Run {self.id} has no summary.json; it was not started properly.") from None
        except OSError as error:
            raise UnreadableError(f"{self.summary_json} cannot be read: {reason(error)}.") from None
        except ValueError as error:
            raise DataError(f"{self.summary_json} cannot be read: {reason(error)}.") from None
        if found.id != self.id:
            raise DataError(f"{self.summary_json} does not hold the summary of {self.id}.")
        return found

    def config(self) -> Config:
        """The run's own config, read back without Hydra; raises DataError where config.yaml is missing or holds no config."""
        import yaml  # here and below: a list of runs needs no YAML, and importing it takes as long as reading their summaries

        from bnexp.config import plain_yaml

        try:
            return from_mapping(plain_yaml.load(self.config_yaml))
        except (OSError, yaml.YAMLError, ValueError, RecursionError, BnexpError) as error:
            raise DataError(f"{self.config_yaml} cannot be used: {' '.join(reason(error).split())[:300]}") from None

    def trained_config(self) -> Config:
        """Its own config; raises DataError where that is not the config of its summary, or one of the two cannot be read."""
        config, recorded = self.config(), self.result().config
        if recorded != replace(config, name=config.run_name):
            raise DataError(f"{self.folder}: config.yaml is not the config of summary.json; one of them was changed or damaged.")
        return config

    def start(self, config: Config) -> None:
        files.make_folder(self.folder)
        with files.atomic_write(self.config_yaml) as file:
            file.write(to_yaml(config).encode())

    def digests(self) -> dict[str, str]:
        """SHA-256 of the files beside the summary that hold the run's results; the summary has them under `files`."""
        return {path.name: files.digest(path) for path in (self.model_pt, self.metrics_jsonl)}

    def is_whole(self, path: Path, result: RunResult | None = None) -> bool:
        """Whether one of them is still what the run wrote, as its result says; True where no digest is recorded."""
        try:
            expected = ((result or self.result()).files or {}).get(path.name)
            return expected is None or files.digest(path, MAX_DIGESTED) == expected
        except (DataError, OSError):
            return False

    def write_result(self, result: RunResult) -> None:
        files.write_checked_json(self.summary_json, result.tree(), FORMAT)

    def promote(self) -> Run:
        """Puts a complete fresh run in the place of its predecessor, whose tags and note it takes over."""
        final = Run(self.runs_dir, self.id)
        labels = b""
        with suppress(OSError):  # there are none, or it is no file of ours
            labels = files.read_plain(final.labels_json, files.MAX_JSON)
        if labels:
            with files.atomic_write(self.labels_json) as file:
                file.write(labels)
        shutil.rmtree(self._replaced, ignore_errors=True)
        if final.folder.exists():
            final.folder.replace(self._replaced)
        self.folder.replace(final.folder)
        files.sync_folder(self.runs_dir)
        shutil.rmtree(self._replaced, ignore_errors=True)
        return final

    @property
    def _replaced(self) -> Path:
        """Where a predecessor is while it is deleted."""
        return hidden_folder(self.runs_dir, ".fresh", f"{self.id}.replaced")

    @property
    def successor(self) -> Run:
        return Run(self.runs_dir, self.id, fresh=True)

    def settle(self) -> None:
        """Ends a replacement that was interrupted: the complete successor moves into place, the predecessor goes. Needs the lock."""
        if self.successor.done:
            self.successor.promote()
        elif self.folder.exists():
            shutil.rmtree(self._replaced, ignore_errors=True)

    def remove(self) -> None:
        """Deletes the run and its successor. The summary goes first, so that a half-deleted run is never taken for a finished one, and the
        config last, so that it can be named to be deleted until nothing is left."""
        for run in (self, self.successor):
            run.summary_json.unlink(missing_ok=True)
            if run.folder.exists():
                for path in run.folder.iterdir():
                    if path.is_dir() and not path.is_symlink():
                        shutil.rmtree(path)
                    elif path != run.config_yaml:
                        path.unlink()
                shutil.rmtree(run.folder)


def is_run_id(text: object) -> bool:
    """Whether `text` can name a run's folder: letters, digits, underscores, hyphens and dots, and no hyphen or dot first."""
    return isinstance(text, str) and re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,199}", text) is not None


def hidden_folder(runs_dir: Path, *names: str) -> Path:
    """The path of a folder of bnexp's own inside a runs folder, such as RUNS/.groups/<group id>. All paths in one begin here.
    Raises UsageError where it is a link, or below one, which may lead to any folder."""
    path = runs_dir
    for name in names:
        path = refuse_symlink(path / name)
    return path


def refuse_symlink(path: Path) -> Path:
    if path.is_symlink():
        raise UsageError(f"{path} is a link, and bnexp follows none inside a runs folder; remove it, or use another --runs-dir.")
    return path


@contextmanager
def locked(runs: Sequence[Run], waiting: Callable[[str], None] | None, stop: Callable[[], bool] = lambda: False) -> Iterator[None]:
    """Holds the locks of `runs`; a dead process holds none. `waiting` is called once with a run that another process holds, before the wait
    for it; `stop` is polled meanwhile. Raises InWork for a lock that is held where `waiting` is None, UsageError where a lock is a link,
    and InterruptedError where `stop` returns True."""
    reported: set[str] = set()

    def wait(run_id: str) -> None:
        if waiting is None:
            raise InWork(f"Another process is working on {run_id}; stop it first.")
        if run_id not in reported:
            waiting(run_id)
            reported.add(run_id)
        if stop():
            raise InterruptedError

    with ExitStack() as held:
        for run_id, path in sorted({(run.id, run.lock) for run in runs}):  # one order in all processes: no deadlock
            try:
                held.enter_context(holding(path, partial(wait, run_id)))
            except OSError as error:
                if error.errno not in files.NOT_PLAIN:
                    raise
                raise UsageError(f"{path} is a link, or no file, and bnexp follows none inside a runs folder; remove it.") from None
        yield


def to_yaml(config: Config) -> str:
    import yaml

    return yaml.safe_dump(to_mapping(config), sort_keys=False, default_flow_style=None, allow_unicode=True)
