"""How long the real training step (`train_step`) takes on this machine, on real data: `step_times` says it of each arm of a comparison that
has ended, as a stack of one; `Measurer` of one structure at several stack widths, before a grid is planned (see `calibration`).

Runs that train beside each other share caches and memory, and their seconds say little of either. Here nothing else runs, and the stacks
that are compared take turns of a few steps, so that whatever the machine does meanwhile falls on all of them alike. Nothing is written, and
nothing of what is trained is kept.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from statistics import median, quantiles

import torch

from bnexp.analysis import StepTime
from bnexp.base.errors import BnexpError
from bnexp.base.hardware import on_gpu
from bnexp.config import Config
from bnexp.config.cost import Header
from bnexp.execution.machine import device_name, resolve_device
from bnexp.execution.session import Session, memory_in_one_sentence, threads_restored
from bnexp.execution.terminal import Display, Terminal
from bnexp.planning.calibration import StepTimes, has_lost
from bnexp.training.clock import WARMUP_STEPS
from bnexp.training.stack import Stack, train_step

LEAD_STEPS, TURN_STEPS, GPU_TURN_STEPS = 1, 5, 20
"""Steps of a turn that are not timed (the caches still hold another stack's tensors, and the number of threads may have changed), and that
are. An arm whose steps take long has fewer, so that `FEWEST_TURNS` turns do not take longer than is asked for. The turn of a width on a CPU
is as many steps as have their batches made together, or some times that, so that each has its share of making them; on a GPU steps are
queued, and the device is waited for at the turn's ends only."""
FEWEST_TURNS = 20
"""Turns of an arm at the least, however long they take: the ratio of two arms is known as well as it agrees from turn to turn."""
WIDTH_WARMUP_STEPS, WIDTH_TURNS = 6, 10
"""Untimed first steps of a stack of each width, which fill caches and choose kernels, and its turns, of which the best counts."""

Parts = dict[str, float]
"""Seconds of one step's forward, backward and optimizer part (of a replayed step, all under the last); their sum is the step's."""


def step_times(
    configs: Mapping[str, Config], *, seconds: float = 4.0, threads: int | None = None, terminal: Display | None = None
) -> dict[str, StepTime]:
    """The step time of each arm, by its label; the arms are timed in turns for about `seconds` in all, after their data are loaded.

    Args:
        configs: one run's config for each arm.
        threads: what `threads=auto` means; None: what it means for a single run.
        terminal: shows the progress while data are read.

    Raises:
        UsageError: the data, the device or the memory do not fit.
        DataError: the data cannot be used.
        BnexpError: the memory ran out.
    """
    terminal = terminal or Terminal(quiet=True)
    session: Session | None = None
    stacks, used = {}, {}
    with threads_restored(), memory_in_one_sentence():
        for label, config in configs.items():
            session = Session.open(config, terminal, threads=threads, like=session)
            session.check_memory()
            used[label] = session.threads
            stacks[label] = Stack([config], session.data, session.device)
            stacks[label].warm_up()
        timed = take_turns(stacks, used, seconds)
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
    _forget_losses(stack)
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
        self._session: Session | None = None

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
        with threads_restored(), memory_in_one_sentence():
            self._session = Session.open(config.replace(threads=1), self._terminal, download=True, like=self._session)
            try:
                return calibrate(self._session, widths, seconds)
            finally:
                if device.type == "cuda":
                    torch.cuda.empty_cache()  # for the workers, who come now


def calibrate(session: Session, widths: Sequence[int], seconds: float) -> StepTimes | None:
    """Times the step of the session's network in stacks of the `widths`, which ascend from 1, for about `seconds` of computing at the most.

    A width is not tried where the time or the memory, beside the narrower stacks, would not suffice, nor after two that gained nothing. So
    of a step that takes most of the time alone nothing wider is known: it has little to gain from company. Where others took the time,
    the wider ones count as not tried, and a later command measures again.

    Returns:
        None where not even a stack of one fits into memory.
    """
    budget, turn = Budget(session.device, seconds), 0
    stacks: dict[int, Stack] = {}
    ms: dict[int, float] = {}
    tried = 0
    for width in widths:
        needed = 2e-3 * ms[tried] * (WIDTH_WARMUP_STEPS + LEAD_STEPS + turn) if stacks else 0.0
        if stacks and budget.over(needed):
            tried = widths[-1] if budget.spent(needed) else tried
            break
        stack = _warm_stack(session, width, sum(stacks), budget)
        if stack is None:
            break
        if session.device.type == "cuda" and not stacks:
            budget = Budget(session.device, seconds)  # the first stack's first steps also load the libraries
        stacks[width], tried, turn = stack, width, _turn_steps(stack)
        _round(stacks, ms, budget)
        if has_lost(ms):
            tried = widths[-1]
            break
    for _ in range(WIDTH_TURNS - 1):
        _round(stacks, ms, budget)
    return StepTimes(ms, tried) if stacks else None


def _warm_stack(session: Session, width: int, others: int, budget: Budget) -> Stack | None:
    """A stack of this width after its warm-up; None where there is no memory for it beside stacks of `others` runs."""
    try:
        session.check_memory(width + others)
        with memory_in_one_sentence():
            stack = Stack([session.config.replace(seed=seed) for seed in range(width)], session.data, session.device)
            _steps_ms(stack, WIDTH_WARMUP_STEPS, budget)
    except BnexpError:
        return None
    return stack


def _turn_steps(stack: Stack) -> int:
    """Timed steps of a stack's turn."""
    ahead = stack.batches.ahead
    return GPU_TURN_STEPS if stack.device.type == "cuda" else math.ceil(TURN_STEPS / ahead) * ahead


def _round(stacks: Mapping[int, Stack], ms: dict[int, float], budget: Budget) -> None:
    """One turn of each stack; its best so far goes into `ms`. When the time is over, only those that had none have it."""
    for width, stack in stacks.items():
        if width not in ms or not budget.over():
            _steps_ms(stack, LEAD_STEPS, budget)
            ms[width] = min(ms.get(width, math.inf), _steps_ms(stack, _turn_steps(stack), budget))


def _steps_ms(stack: Stack, steps: int, budget: Budget) -> float:
    """Makes so many steps, fewer, but one, when the time is over. Milliseconds of each, in the mean.

    On a CPU they are those that this process computes, on its one thread: how long it waits beside other processes depends on
    them, not on the width, and a long step waits more often than a short one.
    """
    now = stack.clock.now if stack.device.type == "cuda" else time.process_time
    made, begun = 0, now()
    while not made or (made < steps and not budget.over()):
        train_step(stack)
        made += 1
    ended = now()
    _forget_losses(stack)
    return 1e3 * (ended - begun) / made


def _forget_losses(stack: Stack) -> None:
    stack.losses, stack.correct = [], []  # they are not used, and would pile up
