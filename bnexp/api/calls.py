"""`train`, `compare` and `sweep`: what the commands of these names do, with their results as objects."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, overload

from bnexp.api.overrides import Value, overrides_of
from bnexp.api.shown import ShownResult, ShownResults, ShownStudy
from bnexp.base.errors import BnexpError, Interrupted, UsageError, reason, short
from bnexp.storage.result import RunResult

if TYPE_CHECKING:
    from bnexp.analysis import Study
    from bnexp.config import Config
    from bnexp.execution.launch import Outcome

MOST = 1024
"""Seeds or workers of a call, as of a command."""


@overload
def train(
    *overrides: str,
    seeds: None = None,
    fresh: bool = False,
    runs_dir: str | Path = "runs",
    config_dir: str | Path | None = None,
    quiet: bool = False,
    **keys: Value,
) -> RunResult: ...
@overload
def train(
    *overrides: str,
    seeds: int,
    fresh: bool = False,
    runs_dir: str | Path = "runs",
    config_dir: str | Path | None = None,
    quiet: bool = False,
    **keys: Value,
) -> list[RunResult]: ...
def train(
    *overrides: str,
    seeds: int | None = None,
    fresh: bool = False,
    runs_dir: str | Path = "runs",
    config_dir: str | Path | None = None,
    quiet: bool = False,
    **keys: Value,
) -> RunResult | list[RunResult]:
    """Trains one run and gives its result; with `seeds=N` a list of N results, of the seeds seed, seed+1, ..., trained together.

    A finished run of the same config is not trained again; an interrupted one is resumed. A notebook shows a result as a small table.

    Args:
        overrides: config values as on the command line: `"optim.lr=0.3"`, `"data=mnist"`.
        keys: the same as keywords, with two underscores for the dot of a key: `optim__lr=0.3, data="mnist"`.
        fresh: train finished runs again.
        quiet: no progress on stderr.

    Raises:
        bnexp.UsageError: an override is wrong, or does not fit the data; nothing was started.
        bnexp.DataError: the data cannot be used.
        KeyboardInterrupt: the state was saved; the same call resumes from it.
    """
    from bnexp.config.compose import compose
    from bnexp.execution.launch import launch

    words = overrides_of(overrides, keys)
    _check("seeds", seeds, 1)
    with _as_command("train", words, {"--seeds": seeds, "--fresh": fresh}):
        config = compose(words, config_dir)
        _caution([config], quiet)
        configs = [config.replace(seed=config.seed + offset) for offset in range(seeds or 1)]
        outcome = launch(configs, Path(runs_dir), fresh=fresh, quiet=quiet)
    results = ShownResults(ShownResult.of(outcome.results[run.id]) for run in outcome.runs)
    return results[0] if seeds is None else results


def compare(
    *overrides: str,
    norms: Sequence[str] | str = ("none",),
    lrs: Sequence[float] | str | None = None,
    seeds: int | None = None,
    refine: bool = False,
    margin: float | None = None,
    workers: int | None = None,
    fresh: bool = False,
    runs_dir: str | Path = "runs",
    config_dir: str | Path | None = None,
    quiet: bool = False,
    **keys: Value,
) -> Study:
    """Compares the network with others that differ in their norm, paired by seed; a notebook shows the answer and a table.

    Its results are stored as those of `bnexp compare`; `bnexp report` draws the page.

    Args:
        overrides, keys, fresh, quiet: as of `train`.
        norms: what the config's own norm (`batch`) is compared with; `none` is the network without BN.
        lrs: the learning rates that each arm is tried with; None: half-decades from 0.003 to 3.
        seeds: seeds an arm and learning rate; None: 10.
        refine: bisect each arm's largest stable learning rate twice.
        margin: test whether the arms' test accuracies are equivalent within so many points.
        workers: processes on this machine; None: one a core, or one a GPU; 0: this one.

    Raises: as `train`; bnexp.BnexpError where no run of an arm has a result.
    """
    from bnexp.execution.grid import widths_here
    from bnexp.execution.terminal import Terminal
    from bnexp.studies import compare as compares

    words, terminal = overrides_of(overrides, keys), Terminal(quiet)
    _check("seeds", seeds, 1)
    _check("workers", workers, 0)
    norms = norms.split(",") if isinstance(norms, str) else norms
    listed = None if lrs is None else [str(lr) for lr in (lrs.split(",") if isinstance(lrs, str) else lrs)]
    others = [word for norm in norms for word in (("--no-bn",) if norm == "none" else ("--norm", norm))]
    options = {"--lrs": None if listed is None else ",".join(listed), "--seeds": seeds, "--refine": refine, "--margin": margin}
    with _as_command("compare", [*others, *words], {**options, "--workers": workers, "--fresh": fresh}):
        share = compares.share_of(margin)
        configs = compares.request(words, norms, lrs=listed, seeds=seeds, config_dir=None if config_dir is None else Path(config_dir))
        _caution(configs, quiet)
        arms, widths, refinements = compares.arms_by_norm(configs), widths_here(terminal), compares.REFINEMENTS if refine else 0
        outcome = compares.train(
            configs, arms, Path(runs_dir), refinements=refinements, fresh=fresh, widths=widths, workers=workers, quiet=quiet
        )
        if compares.lacks_an_arm(outcome, arms):
            raise BnexpError(outcome.failure)
        return _kept(compares.study_of(outcome, arms, terminal, share), outcome)


def sweep(
    kind: str,
    *overrides: str,
    values: Sequence[float | str] | str | None = None,
    seeds: int | None = None,
    workers: int | None = None,
    fresh: bool = False,
    runs_dir: str | Path = "runs",
    config_dir: str | Path | None = None,
    quiet: bool = False,
    **keys: Value,
) -> Study:
    """Trains a grid of runs and says what they show together; a notebook shows the answer and a table.

    Args:
        kind: `batch-size`, `lr`, `norm`, or `grid`: every combination of the values that the overrides list, as in
            `sweep("grid", optim__lr=(0.01, 0.1), model__norm=("batch", "none"))`.
        overrides, keys, fresh, quiet: as of `train`.
        values: what to go through, instead of the usual; not of a grid.
        seeds, workers: as of `compare`.

    Raises: as `compare`.
    """
    from bnexp.execution.grid import prepare, widths_here
    from bnexp.execution.terminal import Terminal
    from bnexp.studies import sweep as sweeps

    words = overrides_of(overrides, keys)
    _check("seeds", seeds, 1)
    _check("workers", workers, 0)
    listed = None if values is None else [str(value) for value in (values.split(",") if isinstance(values, str) else values)]
    options = {"--values": None if listed is None else ",".join(listed), "--seeds": seeds, "--workers": workers, "--fresh": fresh}
    if kind not in sweeps.KINDS:
        raise sweeps.unknown_kind(kind)
    with _as_command("sweep", [kind, *words], options):
        asked = sweeps.request(kind, words, values=listed, seeds=seeds, config_dir=None if config_dir is None else Path(config_dir))
        _caution(asked.configs, quiet)
        prepared = prepare(asked.configs, Path(runs_dir), fresh=fresh, widths=widths_here(Terminal(quiet)))
        outcome = sweeps.train(asked, prepared, workers=workers, quiet=quiet)
        if not outcome.results:
            raise BnexpError(outcome.failure)
        return _kept(sweeps.study_of(asked, prepared, outcome), outcome)


def _kept(study: Study, outcome: Outcome) -> Study:
    """The study, stored beside its runs, with its means over seeds for TensorBoard. What cannot be written, and runs that failed, are
    warned of: the results are shown anyhow."""
    from bnexp.analysis import to_json, to_table
    from bnexp.storage.group import group_of, store
    from bnexp.tensorboard.means import write_means

    group = group_of(outcome.runs)
    try:
        store(group.results_folder(study.name), study.kind.replace(" ", "-"), to_json(study), to_table(study.results.values()))
        write_means(group, study)
    except OSError as error:
        warnings.warn(f"The results could not be written to {group.runs_dir} ({reason(error)}).", stacklevel=3)
    if outcome.failed:
        warnings.warn(outcome.failure, stacklevel=3)
    return ShownStudy.of(study)


def _caution(configs: Sequence[Config], quiet: bool) -> None:
    from bnexp.config.fits import doubtful

    if not quiet and (sentence := doubtful(configs)):
        warnings.warn(sentence, stacklevel=3)


@contextmanager
def _as_command(name: str, words: Sequence[str], options: Mapping[str, int | float | str | None]) -> Iterator[None]:
    """Meanwhile the process is the command that does the same: its line is stored with the results, and the workers do not import the
    script or notebook that called, which may have no `if __name__ == "__main__"` around the call. Threads of PyTorch and an interrupt are
    the caller's again afterwards.

    Raises:
        KeyboardInterrupt: a signal stopped the training; its state is saved.
    """
    from bnexp.execution.session import threads_restored

    used = [text for option, value in options.items() if value is not None and value is not False for text in _option(option, value)]
    argv, main = sys.argv, sys.modules["__main__"]
    sys.argv, sys.modules["__main__"] = ["bnexp", name, *words, *used], ModuleType("__main__")
    try:
        with threads_restored():
            yield
    except Interrupted as interrupted:
        raise KeyboardInterrupt(str(interrupted)) from None
    finally:
        sys.argv, sys.modules["__main__"] = argv, main


def _option(name: str, value: float | str) -> list[str]:
    return [name] if value is True else [name, str(value)]


def _check(name: str, value: int | None, least: int) -> None:
    """Raises UsageError where a number of seeds or workers is none."""
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or not least <= value <= MOST):
        raise UsageError(f"{name}={short(repr(value))} is not a number of {name}; give a whole number from {least} to {MOST}.")
