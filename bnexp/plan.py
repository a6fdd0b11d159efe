"""Which runs share a stack: a pure function of the grid and of a fixed rule, never of the number of workers. No torch.

A plan is stored before anything starts (`.stacks/<stack id>/plan.json`), so that the same command goes on with the same stacks, and
hence the same bits, after whatever happened.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass

from bnexp.config import DATASETS, Config, to_mapping, val_size
from bnexp.run import Run, StackFolder, planned_with, stack_of, tidy

OWN = ("seed", "optim.lr", "optim.momentum", "optim.weight_decay", "name", "train.checkpoint_every", "device", "threads")
"""What the runs of one stack may have of their own; everything else is their structure."""
CACHE_BYTES = 2**21
"""A stack pays while its first layer's activations fit into a core's cache, and loses beyond."""
WIDEST = 16


@dataclass(frozen=True)
class Planned:
    """One stack to be trained: its runs, and their configs, in the same order."""

    runs: tuple[Run, ...]
    configs: tuple[Config, ...]
    unwritten: frozenset[str] = frozenset()
    """Members that are trained along for the others' bits, and leave nothing: they are done already, or were removed."""

    @property
    def folder(self) -> StackFolder:
        return stack_of(self.runs)

    @property
    def steps(self) -> int:
        """Steps to train, where the size of the training set is known beforehand; else 0."""
        config = self.configs[0]
        if config.train.steps is not None:
            return config.train.steps
        spec = DATASETS[config.data.name]
        size = config.data.subset or (spec.train if spec else 0)
        left = size - val_size(size, config.data.val_fraction) if size else 0
        return (config.train.epochs or 0) * (left // config.train.batch_size)

    @property
    def cost(self) -> float:
        """For ordering only: images, weighed with what each step costs whatever its batch (about 12 images of the default network)."""
        return self.steps * len(self.runs) * (self.configs[0].train.batch_size + 12)


def structure(config: Config) -> str:
    """What the members of a stack have in common, as text."""
    tree = to_mapping(config)
    for key in OWN:
        *path, last = key.split(".")
        node = tree
        for part in path:
            node = node[part]
        del node[last]
    tree["optim"]["has_momentum"] = config.optim.momentum > 0  # without momentum there is no velocity to keep
    return json.dumps(tree, sort_keys=True)


def width(config: Config, shape: tuple[int, ...] | None) -> int:
    """How many runs of this structure a stack holds at the most, for examples of `shape` [C, *map]; 1 where the shape is not known."""
    if shape is None:
        return 1
    channels = max(shape[0], config.model.widths[0])
    spatial = math.prod(shape[1:]) if config.model.name == "blocknet" else 1
    return max(1, min(WIDEST, CACHE_BYTES // (4 * config.train.batch_size * channels * spatial)))


def plan(
    configs: Sequence[Config],
    runs: Sequence[Run],
    *,
    one_stack: bool = False,
    fresh: bool = False,
    stored: Sequence[Sequence[str]] = (),
) -> list[Planned]:
    """The stacks that train what is not done yet, longest first; `one_stack` puts all new runs into one, whatever the rule.

    An unfinished stack whose members are all asked for goes on as it was planned, with members that are done already (a kill amid the
    last summaries), for the sake of the others' bits; so do `stored` stacks (run ids) that were planned and not begun. With `fresh`, a
    finished run's successor is asked for in its place.
    """
    asked: dict[str, tuple[Run, Config]] = {}
    for run, config in zip(runs, configs, strict=True):
        tidy(run)
        wanted = run.successor if fresh and (run.done or run.successor.folder.exists()) else run
        asked[run.id] = (wanted, config)
    left = {name: pair for name, pair in asked.items() if not pair[0].done}
    found = []
    for run, _ in list(left.values()):
        planned = planned_with(run)
        if run.id in left and planned and all(member.id in asked and asked[member.id][0] == member for member, _ in planned):
            found.append(Planned(tuple(member for member, _ in planned), tuple(asked[member.id][1] for member, _ in planned)))
            for member, _ in planned:
                left.pop(member.id, None)
    taken = {run.id for planned in found for run in planned.runs}
    for ids in stored:
        if asked.keys() >= set(ids) and not left.keys().isdisjoint(ids) and taken.isdisjoint(ids):
            found.append(Planned(tuple(asked[name][0] for name in ids), tuple(asked[name][1] for name in ids)))
            for name in ids:
                left.pop(name, None)
    groups: dict[str, list[tuple[Run, Config]]] = {}
    for run, config in left.values():
        groups.setdefault(structure(config), []).append((run, config))
    for group in groups.values():
        spec = DATASETS[group[0][1].data.name]
        most = len(group) if one_stack else width(group[0][1], spec.shape if spec else None)
        for chunk in _even_chunks(group, most):
            found.append(Planned(tuple(run for run, _ in chunk), tuple(config for _, config in chunk)))
    return sorted(found, key=lambda stack: -stack.cost)


def _even_chunks(items: list[tuple[Run, Config]], most: int) -> list[list[tuple[Run, Config]]]:
    """As few chunks as hold at most `most` items each, as even as they can be, the larger ones first."""
    count = math.ceil(len(items) / most)
    size, extra = divmod(len(items), count)
    cuts = [index * size + min(index, extra) for index in range(count + 1)]
    return [items[start:end] for start, end in itertools.pairwise(cuts)]
