"""Which runs share a stack: a pure function of the grid and of what is known of the device (a fixed rule, or widths that were measured on
it: see `calibration`), never of the number of workers. No torch.

A plan is stored before anything starts (`.stacks/<stack id>/plan.json`), so that the same command resumes the same stacks, and
hence the same bits, after whatever happened.
"""

from __future__ import annotations

import functools
import itertools
import json
import math
import operator
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bnexp.base.errors import BnexpError, UsageError
from bnexp.base.hardware import on_gpu
from bnexp.config import Config, to_mapping
from bnexp.config.cost import Header, activation_bytes, least_bytes, network_size, run_bytes, stack_seconds
from bnexp.data import header
from bnexp.data.arrays import available_memory, human_bytes
from bnexp.storage.run import Run
from bnexp.storage.stack_folder import StackFolder, planned_with, recover, stack_of

OWN = ("seed", "optim.lr", "optim.momentum", "optim.weight_decay", "name", "train.checkpoint_every", "device", "threads")
"""What the runs of one stack may have of their own; everything else is their structure."""
CACHE_BYTES = 2**21
"""A stack pays while its first layer's activations fit into a core's cache, and loses beyond (measured on a CPU)."""
GPU_CACHE_BYTES = 2**25
"""The same on a GPU: about its second-level cache. Not measured."""
WIDEST, GPU_WIDEST = 8, 64
"""Wider stacks gain little a run on a CPU (digits, batch 32, ms a run and step at width 1, 4, 6, 8, 12, 16: 3.8, 2.6, 2.4, 2.3, 2.3, 2.3,
beside a second worker), and leave workers without any. A GPU has one worker and
waits less the more it is given at once; of several GPUs a small sweep then keeps some idle. Not measured."""

START_S = 4.0
"""Seconds from the command to the first step."""
CALIBRATION_RUNS = 20

Widths = Callable[[Sequence[Config], Header], int | None]
"""How many configs of one structure, which are to be trained on data of this header, share a stack at the most; None: the fixed rule."""


@dataclass(frozen=True)
class StackPlan:
    """One stack to be trained: its runs, and their configs, in the same order."""

    runs: tuple[Run, ...]
    configs: tuple[Config, ...]
    replay_only: frozenset[str] = frozenset()
    """Members that are trained along for the others' bits, and leave nothing: they are done already, or were removed."""
    header: Header = ((1,), 1, 1)
    """Of the data; `plan` puts it in, and only what a stack costs is computed from it."""

    @property
    def folder(self) -> StackFolder:
        return stack_of(self.runs)

    @property
    def steps(self) -> int:
        """Steps to train; runs that stop at their target make fewer."""
        return steps_of(self.configs[0], self.header)

    @property
    def seconds(self) -> float:
        """About how long it takes on one thread: see `cost`."""
        return stack_seconds(self.configs[0], self.header, len(self.runs), self.steps)


def steps_of(config: Config, header: Header) -> int:
    """Steps of a run's budget."""
    if config.train.steps is not None:
        return config.train.steps
    return (config.train.epochs or 0) * (header[1] // config.train.batch_size)


def check_memory(config: Config, header: Header, width: int = 1) -> None:
    """Raises UsageError where a stack of `width` runs needs more memory than this machine has available, before any is allocated: a machine
    that swaps or kills gives no reason. On a GPU only the weights count, which are drawn on the CPU."""
    weights_only = on_gpu(config.device)
    needed = 4 * width * int(network_size(config, header)[1]) if weights_only else least_bytes(config, header, width)
    if needed > (available := available_memory()):
        what, lower = "A run", "model.widths or train.batch_size"
        if width > 1:
            what, lower = f"A stack of {width} runs", "model.widths, train.batch_size or --seeds"
        raise UsageError(
            f"{what} of this config needs at least {human_bytes(needed)} of memory and {human_bytes(available)} are available; "
            f"lower {lower}."
        )


def structure(config: Config) -> str:
    """What the members of a stack have in common, as text."""
    tree = to_mapping(config)
    for key in OWN:
        *path, last = key.split(".")
        del functools.reduce(operator.getitem, path, tree)[last]
    tree["optim"]["has_momentum"] = config.optim.momentum > 0  # without momentum there is no velocity to keep
    return json.dumps(tree, sort_keys=True)


def width(config: Config, shape: tuple[int, ...]) -> int:
    """The fixed rule: how many runs of this structure a stack holds at the most, for examples of `shape` [C, *map]."""
    cache = GPU_CACHE_BYTES if on_gpu(config.device) else CACHE_BYTES
    return max(1, min(widest(config), cache // (config.train.batch_size * activation_bytes(config, shape))))


def widest(config: Config) -> int:
    """How many runs a stack holds at the most on the config's device, whatever is known of it."""
    return GPU_WIDEST if on_gpu(config.device) else WIDEST


def group_seconds(configs: Sequence[Config], header: Header) -> float:
    """About how long runs of one structure take on one thread, in stacks by the fixed rule."""
    config, most = configs[0], min(len(configs), width(configs[0], header[0]))
    return len(configs) / most * stack_seconds(config, header, most, steps_of(config, header))


def plan(
    configs: Sequence[Config],
    runs: Sequence[Run],
    *,
    one_stack: bool = False,
    fresh: bool = False,
    stored: Sequence[Sequence[str]] = (),
    widths: Widths = lambda configs, header: None,
) -> list[StackPlan]:
    """The stacks that train what is not done yet, longest first; `one_stack` puts all new runs into one, whatever the rule. `widths` is
    asked about each structure that has new runs, the longest first.

    An unfinished stack whose members are all asked for is resumed as it was planned, with members that are done already (a kill amid the
    last summaries), for the sake of the others' bits; so do `stored` stacks (run ids) that were planned and not begun. With `fresh`, a
    finished run's successor is asked for in its place.
    """
    recover(runs)
    asked: dict[str, tuple[Run, Config]] = {}
    for run, config in zip(runs, configs, strict=True):
        wanted = run.successor if fresh and (run.done or run.successor.folder.exists()) else run
        asked[run.id] = (wanted, config)
    headers = {data: header(data) for data in {config.data for config in configs}}

    def planned_as(pairs: Sequence[tuple[Run, Config]]) -> StackPlan:
        return StackPlan(tuple(run for run, _ in pairs), tuple(config for _, config in pairs), header=headers[pairs[0][1].data])

    left = {name: pair for name, pair in asked.items() if not pair[0].done}
    found = []
    for run, _ in list(left.values()):
        planned = planned_with(run) if run.id in left else []  # it may be resumed with another's stack already
        if planned and all(member.id in asked and asked[member.id][0] == member for member, _ in planned):
            found.append(planned_as([asked[member.id] for member, _ in planned]))
            for member, _ in planned:
                left.pop(member.id, None)
    taken = {run.id for planned in found for run in planned.runs}
    for ids in stored:
        if asked.keys() >= set(ids) and not left.keys().isdisjoint(ids) and taken.isdisjoint(ids):
            found.append(planned_as([asked[name] for name in ids]))
            for name in ids:
                left.pop(name, None)
    groups: dict[str, list[tuple[Run, Config]]] = {}
    for run, config in left.values():
        groups.setdefault(structure(config), []).append((run, config))
    new = [(group, [config for _, config in group], headers[group[0][1].data]) for group in groups.values()]
    for group, members, known in sorted(new, key=lambda one: -group_seconds(one[1], one[2])):
        most = len(group) if one_stack else widths(members, known) or width(members[0], known[0])
        found += map(planned_as, _even_chunks(group, most))
    return sorted(found, key=lambda stack: -stack.seconds)


def _even_chunks(items: list[tuple[Run, Config]], most: int) -> list[list[tuple[Run, Config]]]:
    """As few chunks as hold at most `most` items each, as even as they can be, the larger ones first."""
    count = math.ceil(len(items) / most)
    size, extra = divmod(len(items), count)
    cuts = [index * size + min(index, extra) for index in range(count + 1)]
    return [items[start:end] for start, end in itertools.pairwise(cuts)]


@dataclass(frozen=True)
class Estimate:
    """Seconds on the clock and bytes on the disk. `calibrated` finished runs of the folder corrected the seconds."""

    seconds: float
    bytes: int
    calibrated: int


def estimate(stacks: Sequence[StackPlan], workers: int, finished: Sequence[Run]) -> Estimate:
    """What the stacks will take on so many one-thread workers; `finished` are runs of this machine to learn its speed from."""
    factors = [factor for run in list(finished)[-CALIBRATION_RUNS:] if (factor := _observed(run)) is not None]
    factor = statistics.median(factors) if factors else 1.0
    seconds = [factor * stack.seconds for stack in stacks]
    total = 0.0 if not seconds else START_S + max(sum(seconds) / max(1, min(workers, len(stacks))), max(seconds))
    return Estimate(total, sum(len(stack.runs) * run_bytes(stack.configs[0], stack.header) for stack in stacks), len(factors))


def _observed(run: Run) -> float | None:
    """Seconds that a finished run's stack took over what `cost` says; None where that is not known."""
    try:
        result, config = run.result(), run.trained_config()
    except BnexpError:
        return None
    if result.status != "finished" or config.train.until_target:  # how many steps a stack made that may have ended early is not known
        return None
    data, steps, width = result.data, result.budget.steps, result.stack.width
    spent = result.speed.train_s, result.speed.eval_s, result.speed.metrics_s
    if data is None or not (data.shape and data.train and data.classes and steps and width) or None in spent:
        return None
    if result.environment is None or result.environment.device_type != "cpu":
        return None
    return sum(part or 0.0 for part in spent) / stack_seconds(config, (data.shape, data.train, len(data.classes)), width, steps)
