"""How close `bnexp train` comes to the floor.

The floor is the same architecture in plain `torch.nn` with `torch.optim.SGD` on one resident batch: forward, backward and step only, in
the better of its memory formats, with the same number of threads. bnexp's figure is what a run reports: its training clock, warm-up left
out, with real batches, learning-rate schedule, loss and accuracy bookkeeping and divergence checks. Repetitions are interleaved, so
that a machine that drifts drifts for both; the ratio is taken pair by pair.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from bench_plain import plain_network
from torch import nn

WARMUP = 10


def floor(batch: int, norm: bool, steps: int, memory_format: torch.memory_format) -> float:
    """Images a second of the plain loop."""
    torch.manual_seed(0)
    network = plain_network(norm).to(memory_format=memory_format)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1 if norm else 0.01, momentum=0.9)
    x = torch.randn(batch, 1, 8, 8).to(memory_format=memory_format)
    y = torch.randint(10, (batch,))
    start = 0.0
    for step in range(steps + WARMUP):
        if step == WARMUP:
            start = time.perf_counter()
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(x), y).backward()
        optimizer.step()
    return batch * steps / (time.perf_counter() - start)


def ours(batch: int, norm: str, runs_dir: Path) -> float:
    """Images a second that a whole `bnexp train` reports."""
    from bnexp.config import METRICS, Config  # not above: the sweep's baseline reads this file too, and has no bnexp in its processes
    from bnexp.launch import launch

    config = Config().replace(
        **{"train.batch_size": batch, "train.epochs": 20, "model.norm": norm, "optim.lr": 0.1 if norm == "batch" else 0.01},
        **{"device": "cpu", "threads": 1, **dict.fromkeys((f"metrics.{name}" for name in METRICS), False)},
    )
    (summary,) = launch([config], runs_dir, fresh=True, quiet=True).summaries
    return float(summary["speed"]["images_per_s"])


def train_rows(repetitions: int) -> list[dict[str, Any]]:
    """Both norms at batch 64, on one thread."""
    torch.set_num_threads(1)
    rows = []
    for batch, norm in ((64, "batch"), (64, "none")):
        figures: dict[str, list[float]] = {"floor, contiguous": [], "floor, channels last": [], "bnexp train": []}
        with tempfile.TemporaryDirectory() as folder:
            for repetition in range(repetitions + 1):
                measured = [
                    floor(batch, norm == "batch", 300, torch.contiguous_format),
                    floor(batch, norm == "batch", 300, torch.channels_last),
                    ours(batch, norm, Path(folder)),
                ]
                if repetition > 0:  # the first fills caches
                    for name, value in zip(figures, measured, strict=True):
                        figures[name].append(value)
        *floors, own = figures.values()
        best = max(floors, key=statistics.median)
        ratios = [a / b for a, b in zip(own, best, strict=True)]
        rows.append(
            {
                "data": "digits",
                "batch": batch,
                "norm": norm,
                "threads": 1,
                "images_per_s": {name: statistics.median(values) for name, values in figures.items()},
                "spread": {name: [min(values), max(values)] for name, values in figures.items()},
                "ratio": statistics.median(ratios),
                "ratio_range": [min(ratios), max(ratios)],
                "n": repetitions,
            }
        )
    return rows


def print_train_rows(rows: list[dict[str, Any]]) -> None:
    print(f"{'':34}{'images/s: median':>18}  (min to max), n = {rows[0]['n']}, 1 thread")
    for row in rows:
        print(f"{row['data']}, batch {row['batch']}, norm {row['norm']}")
        for name, value in row["images_per_s"].items():
            low, high = row["spread"][name]
            print(f"  {name:32}{value:18,.0f}  ({low:,.0f} to {high:,.0f})")
        low, high = row["ratio_range"]
        print(f"  {'bnexp / better floor':32}{row['ratio']:18.3f}  ({low:.3f} to {high:.3f})")
