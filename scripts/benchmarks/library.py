"""What a worker process calls of bnexp: whole runs as `bnexp train` makes them, and steps of separate runs and of stacks."""

from __future__ import annotations

import functools
import json
import math
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

QUEUED, WARMUP, FEWEST = 20, 3, 12
"""Steps between two waits for a GPU; timings left out at the start; the fewest timings."""


def noise(*, file: str, shape: Sequence[int], train: int, test: int) -> None:
    """An .npz of random images in ten classes: they cost what real ones do."""
    generator = np.random.default_rng(0)
    counts = {"train": train, "test": test}
    x = {f"x_{part}": generator.integers(0, 256, (count, *shape), dtype=np.uint8) for part, count in counts.items()}
    y = {f"y_{part}": np.arange(count) % 10 for part, count in counts.items()}
    np.savez(file, **x, **y)


def train(*, overrides: Sequence[str]) -> dict[str, Any]:
    """One run's summary, as a run of `bnexp train` reports it; trained anew, in `runs` of the working directory."""
    from bnexp.config.compose import compose
    from bnexp.execution.launch import launch

    (summary,) = launch([compose(list(overrides))], Path("runs"), fresh=True, quiet=True).summaries
    return {**{key: summary[key] for key in ("steps", "epochs", "speed", "parameters", "status")}, "test": summary["test"]["running"]}


def refused(*, overrides: Sequence[str]) -> str | None:
    """Why such a config is refused; None where it is not."""
    from bnexp.base.errors import UsageError
    from bnexp.config.compose import compose

    try:
        compose(list(overrides))
    except UsageError as error:
        return str(error)
    return None


def picked_width(*, overrides: Sequence[str]) -> int:
    """How many runs of this config the planner puts into a stack, once their training is worth measuring it."""
    from bnexp.config.compose import compose
    from bnexp.data import header
    from bnexp.execution.grid import widths_here
    from bnexp.execution.terminal import Terminal
    from bnexp.planning.calibration import worth_s
    from bnexp.planning.plan import group_seconds, widest, width

    config = compose(list(overrides))
    known = header(config.data)
    many = [config.replace(seed=seed) for seed in range(widest(config))]
    steps = config.train.steps or 1
    worth = math.ceil(1.1 * worth_s() * steps / group_seconds(many, known))  # of measuring, and no more: it takes a share of the training
    many = [one.replace(**{"train.steps": worth}) for one in many]
    return widths_here(Terminal(quiet=True))(many, known) or width(config, known[0])


def step_ms(*, overrides: Sequence[str], width: int, seconds: float, threads: int = 1) -> dict[str, float]:
    """Milliseconds a run and step of a stack of `width` runs, over about `seconds` of training steps; the budget must be larger.

    On a CPU as many steps at a time as have their batches made together. On a GPU steps are queued, and waited for after every `QUEUED`.
    """
    import torch

    from bnexp.training.stack import train_step

    torch.set_num_threads(threads)
    stack = _stack(tuple(overrides), width)
    block = QUEUED if stack.device.type == "cuda" else stack.batches.ahead
    taken: list[float] = []
    begun = time.perf_counter()
    while time.perf_counter() - begun < seconds or len(taken) * block < FEWEST or len(taken) <= WARMUP:
        start = stack.clock.now()
        for _ in range(block):
            train_step(stack)
        taken.append((stack.clock.now() - start) / block)
        if len(stack.losses) > 100:
            stack.losses, stack.correct = [], []  # they are not used
    warm = sorted(taken[WARMUP:])
    return {"ms": 1e3 * warm[len(warm) // 2] / width, "steps": block * len(warm)}


def profile(*, overrides: Sequence[str], steps: int) -> dict[str, float]:
    """Microseconds a step of each operator, of one run's training steps on one thread."""
    import torch
    from torch.profiler import ProfilerActivity

    from benchmarks.profile import operators
    from bnexp.training.stack import train_step

    torch.set_num_threads(1)
    stack = _stack(tuple(overrides), 1)
    for _ in range(WARMUP):
        train_step(stack)
    with torch.profiler.profile(activities=[ProfilerActivity.CPU]) as profiled:
        for _ in range(steps):
            train_step(stack)
    stack.losses, stack.correct = [], []
    return operators(profiled, steps)


@functools.lru_cache(maxsize=4)
def _stack(overrides: tuple[str, ...], width: int) -> Any:
    from bnexp.config.compose import compose
    from bnexp.execution.machine import keep_memory, resolve_device
    from bnexp.execution.session import load_data
    from bnexp.execution.terminal import Terminal
    from bnexp.training.stack import Stack

    keep_memory()
    config = compose(list(overrides))
    device = resolve_device(config)
    data = load_data(config, device, Terminal(quiet=True))
    return Stack([config.replace(seed=seed) for seed in range(width)], data, device)


def copies(*, origin: str, runs_dir: str, count: int) -> None:
    """`count` run folders under names of their own: each with a summary that names it, and the origin's config, curve and model."""
    from bnexp.base.files import checked_json
    from bnexp.storage.run import FORMAT

    summary = json.loads(Path(origin, "summary.json").read_text())
    name = summary["config"]["name"]
    for seed in range(count):
        own = f"{name.rpartition('-s')[0]}-s{seed}"
        folder = Path(runs_dir, f"{own}-{seed:08x}")
        folder.mkdir(parents=True)
        config = {**summary["config"], "name": own, "seed": seed}
        (folder / "summary.json").write_bytes(checked_json({**summary, "id": folder.name, "seed": seed, "config": config}, FORMAT))
        for file in ("config.yaml", "metrics.jsonl", "model.pt"):
            shutil.copyfile(Path(origin, file), folder / file)


def computes_bf16() -> bool:
    """Whether this CPU has instructions for bf16."""
    from bnexp.base.hardware import computes_bf16 as has

    return has()


def cuda() -> str | None:
    """The GPU's name; None where there is none."""
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else None


def share_of_matmul(*, overrides: Sequence[str], seconds: float) -> dict[str, float]:
    """A run's training steps in bf16 beside a large matrix product: TFLOP/s of both, forward and backward counted by PyTorch."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from bnexp.evaluate import autocast
    from bnexp.models import logits, losses

    stack = _stack(tuple(overrides), 1)
    x, y_RB = stack.batches[0]
    counter = FlopCounterMode(display=False)
    with counter:
        with autocast(stack.config, stack.device):
            found = logits(stack.network, x)
        losses(found.to(x.dtype), y_RB).sum().backward()
    step_s = step_ms(overrides=overrides, width=1, seconds=seconds)["ms"] / 1e3
    a, b = (torch.randn(8192, 8192, device=stack.device, dtype=torch.bfloat16) for _ in range(2))
    taken = []
    for _ in range(WARMUP + FEWEST):
        start = stack.clock.now()
        for _ in range(QUEUED):
            a @ b
        taken.append((stack.clock.now() - start) / QUEUED)
    matmul_s = sorted(taken[WARMUP:])[FEWEST // 2]
    rate = stack.config.train.batch_size / step_s
    return {"tflops": counter.get_total_flops() / step_s / 1e12, "matmul": 2 * 8192**3 / matmul_s / 1e12, "images_per_s": rate}
