"""How long the training step of a stack takes at several widths, on this machine: what `calibration` keeps.

Each width is a stack of its own that makes the real training step (`train_step`) on the real data. They take turns of a few steps, so that
whatever the machine does meanwhile falls on all alike, and the best turn of each counts. Nothing of what is trained is kept.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence

import torch

from bnexp.base.errors import BnexpError
from bnexp.base.hardware import on_gpu
from bnexp.config import Config, DataConfig, check_fits
from bnexp.config.cost import Header
from bnexp.data import Dataset
from bnexp.execution.job import load_data, memory_in_one_sentence
from bnexp.execution.machine import keep_memory, resolve_device
from bnexp.execution.terminal import Display
from bnexp.planning.calibration import StepTimes, has_lost
from bnexp.planning.plan import check_memory
from bnexp.training.stack import Stack, train_step

WARMUP_STEPS = 6
"""Steps of each stack before any is timed: they fill caches and choose kernels."""
LEAD_STEPS, TURN_STEPS, GPU_TURN_STEPS = 1, 5, 20
"""Steps of a turn that are not timed (the caches still hold another stack's tensors), and that are. On a GPU these are queued, and the
device is waited for at the turn's ends only. On a CPU a turn is as many steps as have their batches made together, or some times that, so
that each has its share of making them."""
ROUNDS = 10


class Budget:
    """Seconds that measuring may take: of this process's computing on a CPU, as what is measured; else, and four times as many, on the
    clock."""

    def __init__(self, device: torch.device, seconds: float) -> None:
        self._computing = device.type != "cuda"
        self._computed, self._ended = time.process_time() + seconds, time.perf_counter() + seconds * (4 if self._computing else 1)

    def over(self, more: float = 0.0) -> bool:
        """Whether either is spent, or would be after so many seconds more."""
        return self.spent(more) or time.perf_counter() + more > self._ended

    def spent(self, more: float = 0.0) -> bool:
        """Whether what is measured took it, or would; on a CPU others may have taken the time on the clock instead."""
        return time.process_time() + more > self._computed if self._computing else time.perf_counter() + more > self._ended


class Measurer:
    """Measures one structure after another; the data that several have in common are read once."""

    def __init__(self, terminal: Display) -> None:
        self._terminal = terminal
        self._loaded: tuple[DataConfig, torch.device, Dataset] | None = None

    def __call__(self, configs: Sequence[Config], header: Header, widths: Sequence[int], seconds: float) -> StepTimes | None:
        """The step times of the structure that the configs share, on one thread; None where PyTorch computes on another device than the
        machine promises, or there is not enough memory.

        Raises:
            UsageError: the data or the device do not fit.
            DataError: the data cannot be used.
        """
        config = next((config for config in configs if config.optim.weight_decay > 0), configs[0])
        device = resolve_device(config)
        if (device.type == "cuda") != on_gpu(config.device):
            return None
        keep_memory()
        before = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            data = self._data(config, device)
            check_fits(config, *data.header)
            with memory_in_one_sentence():
                return calibrate(config, data, device, widths, seconds)
        finally:
            torch.set_num_threads(before)
            if device.type == "cuda":
                torch.cuda.empty_cache()  # for the workers, who come now

    def _data(self, config: Config, device: torch.device) -> Dataset:
        if self._loaded is None or self._loaded[:2] != (config.data, device):
            self._loaded = None
            self._loaded = config.data, device, load_data(config, device, self._terminal, download=True)
        return self._loaded[2]


def calibrate(config: Config, data: Dataset, device: torch.device, widths: Sequence[int], seconds: float) -> StepTimes | None:
    """Times the step of `config`'s network in stacks of the `widths`, which ascend from 1, for about `seconds` of computing at the most.

    A width is not tried where the time or the memory, beside the narrower stacks, would not suffice, nor after two that gained nothing. So
    of a step that takes most of the time alone nothing wider is known: it has little to gain from company. Where others took the time,
    the wider ones count as not tried, and a later command measures again.

    Returns:
        None where not even a stack of one fits into memory.
    """
    budget, turn = Budget(device, seconds), 0
    stacks: dict[int, Stack] = {}
    ms: dict[int, float] = {}
    tried = 0
    for width in widths:
        needed = 2e-3 * ms[tried] * (WARMUP_STEPS + LEAD_STEPS + turn) if stacks else 0.0
        if stacks and budget.over(needed):
            tried = widths[-1] if budget.spent(needed) else tried
            break
        stack = _warm_stack(config, data, device, width, sum(stacks), budget)
        if stack is None:
            break
        if device.type == "cuda" and not stacks:
            budget = Budget(device, seconds)  # the first stack's first steps also load the libraries
        stacks[width], tried, turn = stack, width, _turn(stack)
        _round(stacks, ms, budget)
        if has_lost(ms):
            tried = widths[-1]
            break
    for _ in range(ROUNDS - 1):
        _round(stacks, ms, budget)
    return StepTimes(ms, tried) if stacks else None


def _warm_stack(config: Config, data: Dataset, device: torch.device, width: int, others: int, budget: Budget) -> Stack | None:
    """A stack of this width after its warm-up; None where there is no memory for it beside stacks of `others` runs."""
    try:
        check_memory(config, data.header, width + others)
        with memory_in_one_sentence():
            stack = Stack([config.replace(seed=seed) for seed in range(width)], data, device)
            _steps_ms(stack, WARMUP_STEPS, budget)
    except BnexpError:
        return None
    return stack


def _turn(stack: Stack) -> int:
    """Timed steps of a stack's turn."""
    ahead = stack.batches.ahead
    return GPU_TURN_STEPS if stack.device.type == "cuda" else math.ceil(TURN_STEPS / ahead) * ahead


def _round(stacks: Mapping[int, Stack], ms: dict[int, float], budget: Budget) -> None:
    """One turn of each stack; its best so far goes into `ms`. When the time is over, only those that had none have it."""
    for width, stack in stacks.items():
        if width not in ms or not budget.over():
            _steps_ms(stack, LEAD_STEPS, budget)
            ms[width] = min(ms.get(width, math.inf), _steps_ms(stack, _turn(stack), budget))


def _steps_ms(stack: Stack, steps: int, budget: Budget) -> float:
    """Makes so many steps, fewer, but one, when the time is over. Milliseconds of each, in the mean.

    On a CPU they are those that this process computes, on its one thread: how long it waits for its turn beside others says nothing about
    the width, and a long step waits more often than a short one.
    """
    now = stack.clock.now if stack.device.type == "cuda" else time.process_time
    made, begun = 0, now()
    while not made or (made < steps and not budget.over()):
        train_step(stack)
        made += 1
    ended = now()
    stack.losses, stack.correct = [], []  # nobody reads them, and they would pile up
    return 1e3 * (ended - begun) / made
