"""How close `bnexp train` comes to the floor.

The floor is the same architecture in plain `torch.nn` with `torch.optim.SGD` on one resident batch: forward, backward and step only, in
the better of its memory formats, with the same number of threads. bnexp's figure is what a run reports: its training clock, warm-up left
out, with real batches, learning-rate schedule, loss and accuracy bookkeeping and divergence checks. Repetitions are interleaved, so
that a machine that drifts drifts for both; the ratio is taken pair by pair.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from pathlib import Path

import torch
from torch import nn

from bnexp.config import Config
from bnexp.launch import launch

WARMUP = 10


def plain_network(norm: bool) -> nn.Sequential:
    """The default network for 8x8 digits, written out as a user would."""
    layers: list[nn.Module] = []
    channels = 1
    for index, width in enumerate((16, 32, 64)):
        for source, stride in ((channels, 1 if index == 0 else 2), (width, 1)):
            layers += [nn.Conv2d(source, width, 3, stride=stride, padding=1, bias=not norm)]
            layers += [nn.BatchNorm2d(width)] if norm else []
            layers += [nn.ReLU()]
        channels = width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 10))


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


def ours(config: Config, runs_dir: Path) -> float:
    """Images a second that a whole `bnexp train` reports."""
    (summary,) = launch([config], runs_dir, fresh=True, quiet=True).summaries
    return float(summary["speed"]["images_per_s"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=9)
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for batch, norm in ((64, "batch"), (64, "none")):
        config = Config().replace(
            **{"train.batch_size": batch, "train.epochs": 20, "model.norm": norm, "optim.lr": 0.1 if norm == "batch" else 0.01},
            **{"device": "cpu", "threads": 1},
        )
        figures: dict[str, list[float]] = {"floor, contiguous": [], "floor, channels last": [], "bnexp train": []}
        with tempfile.TemporaryDirectory() as folder:
            for repetition in range(options.repetitions + 1):
                measured = [
                    floor(batch, norm == "batch", 300, torch.contiguous_format),
                    floor(batch, norm == "batch", 300, torch.channels_last),
                    ours(config, Path(folder)),
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
                "images_per_s": {name: statistics.median(values) for name, values in figures.items()},
                "spread": {name: [min(values), max(values)] for name, values in figures.items()},
                "ratio": statistics.median(ratios),
                "ratio_range": [min(ratios), max(ratios)],
                "n": options.repetitions,
            }
        )
    machine = {"torch": torch.__version__, "threads": torch.get_num_threads(), "cores": os.cpu_count(), "load": os.getloadavg()[0]}
    if options.json:
        print(json.dumps({"machine": {**machine, "platform": platform.platform()}, "rows": rows}, indent=2))
        return
    print(", ".join(f"{name} {value}" for name, value in machine.items()))
    print(f"{'':34}{'images/s: median':>18}  (min to max), n = {options.repetitions}")
    for row in rows:
        print(f"{row['data']}, batch {row['batch']}, norm {row['norm']}")
        for name, value in row["images_per_s"].items():
            low, high = row["spread"][name]
            print(f"  {name:32}{value:18,.0f}  ({low:,.0f} to {high:,.0f})")
        low, high = row["ratio_range"]
        print(f"  {'bnexp / better floor':32}{row['ratio']:18.3f}  ({low:.3f} to {high:.3f})")


if __name__ == "__main__":
    main()
