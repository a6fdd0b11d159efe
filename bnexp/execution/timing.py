"""The solo step time of each arm of a comparison, measured after it, with nothing else running.

Runs that train beside each other share caches and memory, and their seconds say little of an arm. Here each arm is a stack of one and
makes the real training step (`train_step`) on the real data. The arms take turns of a few steps, so that whatever the machine does
meanwhile falls on all of them alike. Nothing is written, and nothing of what is trained is kept.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median, quantiles

import torch

from bnexp.analysis import StepMs
from bnexp.config import Config, check_fits
from bnexp.execution.job import load_data, memory_in_one_sentence
from bnexp.execution.machine import device_name, keep_memory, resolve_device, set_threads
from bnexp.execution.terminal import Display, Terminal
from bnexp.planning.plan import check_memory
from bnexp.training.clock import WARMUP_STEPS
from bnexp.training.stack import Stack, train_step

TURN_STEPS = 5
"""Timed steps of an arm's turn. Those that take long have fewer, so that `FEWEST_TURNS` turns do not take longer than is asked for."""
LEAD_STEPS = 1
"""Steps before them that are not timed: the caches still hold the other arm's tensors, and the number of threads may have changed."""
FEWEST_TURNS = 20
"""Turns of an arm at the least, however long they take: the ratio of two arms is known as well as it agrees from turn to turn."""

Parts = dict[str, float]
"""Seconds of one step's forward, backward and optimizer part (of a replayed step, all under the last); their sum is the step's."""


@dataclass(frozen=True)
class StepTime:
    """Milliseconds of one arm's training step: the median and quartiles of the whole, and the median of each part.

    Forward includes the batch (small ones are made several at a time, and the median step finds its own made: see `Batches`), the
    learning rate and the loss; backward is autograd alone; the optimizer's part includes the
    step's bookkeeping. The parts of a step add up to it, their medians only nearly; they are None where a CUDA graph makes the whole step.
    On CUDA the device is waited for after each part, so that a step here is longer than one of a training, whose kernels are queued while
    Python goes on.

    `turns_ms` has the median step of each of the arm's turns: the i-th turns of all arms came one after another, and share what the
    machine did then.
    """

    median_ms: float
    low_ms: float
    high_ms: float
    forward_ms: float | None
    backward_ms: float | None
    optimizer_ms: float | None
    steps: int
    threads: int
    device: str
    turns_ms: StepMs


def step_times(
    configs: Mapping[str, Config], *, seconds: float = 4.0, threads: int | None = None, terminal: Display | None = None
) -> dict[str, StepTime]:
    """The step time of each arm, by its label; the arms are timed in turns for about `seconds` in all, after their data are loaded.

    Args:
        configs: one run's config for each arm.
        threads: what `threads=auto` means; None: what it means for a single run.
        terminal: told while data are read.

    Raises:
        UsageError: the data, the device or the memory do not fit.
        DataError: the data cannot be used.
        BnexpError: the memory ran out.
    """
    terminal = terminal or Terminal(quiet=True)
    keep_memory()
    before = torch.get_num_threads()
    loaded, stacks, used = {}, {}, {}
    try:
        with memory_in_one_sentence():
            for label, config in configs.items():
                where = config.data, resolve_device(config)
                if where not in loaded:
                    loaded[where] = load_data(config, where[1], terminal)
                data = loaded[where]
                check_fits(config, *data.header)
                check_memory(config, data.header)
                used[label] = set_threads(config, data.shape, 1, threads)
                stacks[label] = Stack([config], data, where[1])
                stacks[label].warm_up()
            timed = take_turns(stacks, used, seconds)
    finally:
        torch.set_num_threads(before)
    return {label: _summed_up(timed[label], used[label], stack.device) for label, stack in stacks.items()}


def take_turns(stacks: Mapping[str, Stack], threads: Mapping[str, int], seconds: float) -> dict[str, list[list[Parts]]]:
    """The timed steps of each turn of each arm: warm-up first, then rounds of one turn an arm until `seconds` are over and there are
    enough. Every other round goes through the arms backwards, so that none always comes first."""
    timed: dict[str, list[list[Parts]]] = {label: [] for label in stacks}
    begun = time.perf_counter()
    warm_s = sum(sum(parts.values()) for label in stacks for parts in _turn(stacks[label], threads[label], WARMUP_STEPS))
    steps = max(1, min(TURN_STEPS, math.floor(seconds / FEWEST_TURNS / max(warm_s / WARMUP_STEPS, 1e-9)) - LEAD_STEPS))
    rounds, order = 0, list(stacks)
    while stacks and (time.perf_counter() - begun < seconds or rounds < FEWEST_TURNS):
        for label in order:
            timed[label].append(_turn(stacks[label], threads[label], LEAD_STEPS + steps)[LEAD_STEPS:])
        order.reverse()
        rounds += 1
    return timed


def _turn(stack: Stack, threads: int, steps: int) -> list[Parts]:
    torch.set_num_threads(threads)
    timed = [_timed_step(stack) for _ in range(steps)]
    stack.losses, stack.correct = [], []  # nobody reads them, and they would pile up
    return timed


def _timed_step(stack: Stack) -> Parts:
    parts: Parts = {}
    begun = stack.clock.now()

    def mark(part: str) -> None:
        nonlocal begun
        ended = stack.clock.now()
        parts[part] = ended - begun
        begun = ended

    train_step(stack, mark)
    return parts


def _summed_up(turns: list[list[Parts]], threads: int, device: torch.device) -> StepTime:
    timed = [parts for turn in turns for parts in turn]
    low, middle, high = quantiles([_ms(parts) for parts in timed], n=4, method="inclusive")
    parts: dict[str, float | None] = {"forward_ms": None, "backward_ms": None, "optimizer_ms": None}
    if all("forward" in own for own in timed):
        parts = {f"{name}_ms": 1e3 * median(own[name] for own in timed) for name in ("forward", "backward", "optimizer")}
    turns_ms = tuple(median(map(_ms, turn)) for turn in turns)
    return StepTime(middle, low, high, **parts, steps=len(timed), threads=threads, device=device_name(device), turns_ms=turns_ms)


def _ms(parts: Parts) -> float:
    return 1e3 * sum(parts.values())
