"""A grid of configs to finished runs: existing ones are reused, the rest is planned as stacks, stored as a plan, and trained by workers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

from bnexp.analysis import Arms
from bnexp.base.errors import refused_as_usage
from bnexp.base.signals import Stop
from bnexp.config import EMBEDDED, SAMPLED, Config
from bnexp.config.cost import Header
from bnexp.execution.cluster import local_workers
from bnexp.execution.distribute import drop_left
from bnexp.execution.identity import identify, with_absolute_root
from bnexp.execution.launch import Outcome, check_device
from bnexp.execution.live import Live
from bnexp.execution.workers import run_stacks
from bnexp.planning.calibration import Calibrated, StepTimes
from bnexp.planning.plan import Estimate, StackPlan, check_memory, estimate, plan
from bnexp.storage.folder import list_runs
from bnexp.storage.group import Group, group_of
from bnexp.storage.run import Run

if TYPE_CHECKING:
    from bnexp.execution.step_times import Measurer
    from bnexp.execution.terminal import Display


class PlannedStack(TypedDict):
    """A stack of a `PlanDocument`; `steps` is None where they are not known before the data are read."""

    norm: str
    batch_size: int
    data: str
    width: int
    steps: int | None
    runs: list[str]


class PlanDocument(TypedDict):
    """What `--dry-run --json` prints; `parts` has the number of runs of each part of the request, by its name; `estimate` has `minutes`,
    `bytes` and `calibrated_on_runs`, the number of finished runs that it is based on."""

    runs: int
    reused: int
    parts: dict[str, int]
    stacks: list[PlannedStack]
    steps: int
    unmeasured: list[dict[str, str | int]]
    estimate: dict[str, float]


@dataclass(frozen=True)
class GridPlan:
    """A checked grid: each run once with its config, and the stacks that train what is missing."""

    runs: tuple[Run, ...]
    configs: tuple[Config, ...]
    ids: Mapping[Config, str]
    """The run that each config asked for is; several may be the same."""
    stacks: tuple[StackPlan, ...]
    group: Group
    unmeasured: tuple[Config, ...] = ()
    """A config of each structure whose stack widths would be measured before, after which the stacks may be others."""

    @property
    def missing(self) -> int:
        """Runs that are to be trained."""
        return sum(not run.done for stack in self.stacks for run in stack.runs)

    def estimate(self, workers: int | None) -> Estimate:
        """Minutes and disk of what is missing, on so many workers of this machine."""
        count = 1 if workers == 0 else workers or local_workers(self.configs[0].device)
        return estimate(self.stacks, count, [run for run in list_runs(self.runs[0].runs_dir) if run.done])

    def plain(self, workers: int | None, parts: Mapping[str, int]) -> PlanDocument:
        """The plan as values that JSON takes."""
        found = self.estimate(workers)
        stacks: list[PlannedStack] = [
            {
                "norm": stack.configs[0].model.norm,
                "batch_size": stack.configs[0].train.batch_size,
                "data": stack.configs[0].data.name,
                "width": len(stack.runs),
                "steps": stack.steps or None,
                "runs": [run.id for run in stack.runs],
            }
            for stack in self.stacks
        ]
        return {
            "runs": len(self.runs),
            "reused": len(self.runs) - self.missing,
            "parts": dict(parts),
            "stacks": stacks,
            "steps": sum(stack.steps for stack in self.stacks),
            "unmeasured": [
                {"norm": config.model.norm, "batch_size": config.train.batch_size, "data": config.data.name, "model": config.model.name}
                for config in self.unmeasured
            ],
            "estimate": {"minutes": found.seconds / 60, "bytes": found.bytes, "calibrated_on_runs": found.calibrated},
        }


def prepare(configs: Sequence[Config], runs_dir: Path, *, fresh: bool = False, widths: Calibrated | None = None) -> GridPlan:
    """Identifies the runs of a grid and plans their stacks. Nothing is started; what a killed process left half done is repaired.

    Args:
        widths: how wide stacks are on this machine, which may be measured here; None: by the fixed rule, as for others' machines.

    Raises:
        UsageError, DataError: a config does not fit its data, or the data are not there.
    """
    runs_dir = runs_dir.absolute()  # a worker may have another working directory
    found: dict[str, tuple[Run, Config]] = {}
    ids: dict[Config, str] = {}
    for data in dict.fromkeys(config.data for config in configs):
        requested = [config for config in configs if config.data == data]
        located = [with_absolute_root(config) for config in requested]
        for as_requested, config, run in zip(requested, located, identify(located, runs_dir), strict=True):
            found.setdefault(run.id, (run, config))
            ids[as_requested] = run.id
    runs, configs = [run for run, _ in found.values()], [config for _, config in found.values()]
    group = group_of(runs)
    if widths is None:
        return GridPlan(tuple(runs), tuple(configs), ids, tuple(plan(configs, runs, fresh=fresh, stored=group.plan())), group)
    stacks = plan(configs, runs, fresh=fresh, stored=group.plan(), widths=widths)
    return GridPlan(tuple(runs), tuple(configs), ids, tuple(stacks), group, tuple(widths.unmeasured))


def widths_here(terminal: Display, *, dry_run: bool = False) -> Calibrated:
    """The widths of stacks that this machine trains: as they were measured, or are, unless this is a `dry_run`."""
    measurer: Measurer | None = None

    def measure(configs: Sequence[Config], header: Header, widths: Sequence[int], seconds: float) -> StepTimes | None:
        nonlocal measurer
        if measurer is None:
            from bnexp.execution.step_times import Measurer  # torch, which a sweep's own process does not need else

            measurer = Measurer(terminal)
        return measurer(configs, header, widths, seconds)

    return Calibrated(terminal.say, None if dry_run else measure)


def train_all(
    prepared: GridPlan,
    *,
    kind: str = "",
    parts: Mapping[str, Sequence[Run]] | None = None,
    arms: Arms | None = None,
    workers: int | None = None,
    scheduler: str | None = None,
    quiet: bool = False,
) -> Outcome:
    """Trains what is missing. The plan is stored first, so that the same command resumes the same stacks; and the group's members
    (`Group.store_members`), so that they are found as one while they train.

    Raises:
        UsageError: there is no such device, the scheduler does not answer, or its workers do not see the runs folder.
        DataError: the data cannot be used.
        Interrupted: every stack's state is saved.
    """
    stacks, ids = prepared.stacks, [run.id for run in prepared.runs]
    drop_left(prepared.group.runs_dir)
    members = parts or {"": prepared.runs}
    if scheduler is None:
        check_device(prepared.configs)
    if not stacks:
        with suppress(OSError):  # all is there: a folder that cannot be written is no reason not to show it
            prepared.group.store_members(kind, members, asdict(arms) if arms else None)
        return Outcome(list(prepared.runs), frozenset(ids))
    for stack in stacks if scheduler is None else ():  # others' machines may have more memory
        check_memory(stack.configs[0], stack.header, len(stack.runs))
    missing = {run.id for stack in stacks for run in stack.runs if not run.done}
    prepared.group.store_members(kind, members, asdict(arms) if arms else None)
    prepared.group.store_plan([[run.id for run in stack.runs] for stack in stacks])
    stop = Stop()
    with Live(stacks, reused=len(ids) - len(missing), quiet=quiet) as live:
        read_once(prepared.configs, live)
        say_sampling(stacks, live)
        report = run_stacks(stacks, stop, live.on_event, live.ended, workers=workers, scheduler=scheduler)
    gone = {run.id: "it was removed, or its files were damaged, meanwhile" for run in prepared.runs if not run.done}
    return Outcome(list(prepared.runs), frozenset(ids) - report.trained - gone.keys(), {**gone, **report.failed})


def say_sampling(stacks: Sequence[StackPlan], live: Live) -> None:
    """Says once what metrics that take several passes add to the training's time."""
    if any(not set(SAMPLED).isdisjoint(stack.configs[0].metrics.on) for stack in stacks):
        from bnexp.metrics import sampling_note  # PyTorch

        for note in dict.fromkeys(sampling_note(stack.configs[0], stack.steps) for stack in stacks):
            if note is not None:
                live.say(note)


def read_once(configs: Sequence[Config], live: Live) -> None:
    """Reads files in this process before workers start: what is missing is downloaded once, what is damaged stops the command, and what is
    to be known of the data is said once."""
    for data in dict.fromkeys(config.data for config in configs if config.data.name not in EMBEDDED or config.data.augment != "none"):
        import torch  # only here: the embedded sets, which every process makes for itself, need no torch in this process

        from bnexp.data import load

        with refused_as_usage():
            for note in load(data, torch.device("cpu"), live.say, lambda done, total: None).notes:
                live.say(note)
