"""The floor: the same network in plain torch.nn with torch.optim.SGD on one resident batch; forward, backward and step only. It knows
nothing of bnexp, and runs in a process of its own."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import torch
from torch import nn

from benchmarks.apps.plain import plain_network
from benchmarks.group import FORMATS

WARMUP = 10
FEWEST = 6
"""Timed steps at the least."""
KINDS = dict(zip(FORMATS, (torch.contiguous_format, torch.channels_last), strict=True))


Step = Callable[[], None]


def rate(*, shape: Sequence[int], batch: int, norm: str, kind: str, threads: int, seconds: float = 1.0) -> dict[str, float]:
    """`images_per_s` of the plain loop in one of `KINDS`, over about `seconds` and `steps`; examples have `shape` [C, H, W]."""
    step = _plain(shape, batch, norm, kind, threads)
    taken: list[float] = []
    while len(taken) < WARMUP and sum(taken) < seconds:
        start = time.perf_counter()
        step()
        taken.append(time.perf_counter() - start)
    steps = max(FEWEST, round(seconds / min(taken)))
    start = time.perf_counter()
    for _ in range(steps):
        step()
    return {"images_per_s": batch * steps / (time.perf_counter() - start), "steps": steps}


def profile(*, shape: Sequence[int], batch: int, norm: str, kind: str, threads: int, steps: int) -> dict[str, float]:
    """Microseconds a step of each operator of the plain loop."""
    from torch.profiler import ProfilerActivity

    from benchmarks.profile import operators

    step = _plain(shape, batch, norm, kind, threads)
    for _ in range(WARMUP):
        step()
    with torch.profiler.profile(activities=[ProfilerActivity.CPU]) as profiled:
        for _ in range(steps):
            step()
    return operators(profiled, steps)


def _plain(shape: Sequence[int], batch: int, norm: str, kind: str, threads: int) -> Step:
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    network = plain_network(norm == "batch", shape[0]).to(memory_format=KINDS[kind])
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1 if norm == "batch" else 0.01, momentum=0.9)
    x = torch.randn(batch, *shape).to(memory_format=KINDS[kind])
    y = torch.randint(10, (batch,))

    def step() -> None:
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(x), y).backward()
        optimizer.step()

    return step
