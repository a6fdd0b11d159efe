"""What the metrics cost, as a share of the run's own training time: the presets `light` and `full`, with and without batch norm.

A run reports the seconds of its training and of its metrics, their logs included (`speed.train_s`, `speed.metrics_s`); the ratio is taken
run by run. Runs are whole commands, one after the other, and the presets take turns. MNIST comes from `--mnist FOLDER`; without it, random
images of its size and number stand in, which cost the same.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

ARMS = {"batch": ["optim.lr=0.1"], "none": ["model.norm=none", "optim.lr=0.03"]}
ASKED = {("digits", "light"): 0.15, ("digits", "full"): 0.60, ("MNIST", "light"): 0.03, ("MNIST", "full"): 0.15}
"""The most that metrics may cost of a default run on digits, and of an epoch of MNIST."""


def metrics_rows(repetitions: int, mnist: str | None) -> Iterator[dict[str, Any]]:
    """A row for each data set, preset and arm, as each data set is done."""
    with tempfile.TemporaryDirectory() as folder:
        data = {"digits": [], "MNIST": ["data=mnist", f"data.root={mnist}"] if mnist else _stand_in(Path(folder) / "mnist.npz")}
        for name, overrides in data.items():
            epochs = [] if name == "digits" else ["train.epochs=1"]
            found: dict[tuple[str, str], list[dict[str, float]]] = {}
            for repetition in range(repetitions):
                for preset in ("light", "full")[:: -1 if repetition % 2 else 1]:
                    for norm, arm in ARMS.items():
                        speed = _run([*overrides, *epochs, *arm, f"metrics={preset}", f"seed={repetition}"])
                        found.setdefault((preset, norm), []).append(speed)
                print(f"metrics on {name}: {repetition + 1}/{repetitions}", file=sys.stderr, flush=True)
            for (preset, norm), speeds in found.items():
                ratios = [speed["metrics_s"] / speed["train_s"] for speed in speeds]
                yield {
                    "data": name if name == "digits" or mnist else "MNIST-sized noise",
                    "preset": preset,
                    "norm": norm,
                    "n": repetitions,
                    "ratio": statistics.median(ratios),
                    "ratio_range": [min(ratios), max(ratios)],
                    "train_s": statistics.median(speed["train_s"] for speed in speeds),
                    "metrics_s": statistics.median(speed["metrics_s"] for speed in speeds),
                    "asked": ASKED[name, preset],
                    "met": statistics.median(ratios) <= ASKED[name, preset],
                    "load": os.getloadavg()[0],
                }


def _run(overrides: list[str]) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        command = [str(Path(sys.executable).parent / "bnexp"), "train", *overrides, "device=cpu", "--json", "--quiet", "--runs-dir", folder]
        done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr[-2000:]}")
    speed: dict[str, float] = json.loads(done.stdout)["speed"]
    return speed


def _stand_in(path: Path) -> list[str]:
    """Noise of MNIST's size: 60,000 + 10,000 images of 28x28 in ten classes."""
    generator = np.random.default_rng(0)
    x = {
        f"x_{part}": generator.integers(0, 256, (count, 1, 28, 28), dtype=np.uint8) for part, count in (("train", 60_000), ("test", 10_000))
    }
    y = {f"y_{part}": np.arange(count) % 10 for part, count in (("train", 60_000), ("test", 10_000))}
    np.savez(path, **x, **y)
    return ["data=npz", f"data.root={path}"]


def print_metrics_row(row: dict[str, Any]) -> None:
    low, high = (100 * share for share in row["ratio_range"])
    print(f"metrics={row['preset']:6} {row['data']}, norm {row['norm']:6}", end="")
    print(f"{100 * row['ratio']:6.1f} %  ({low:.1f} to {high:.1f}), n = {row['n']}; ", end="")
    print(f"training {row['train_s']:.2f} s, metrics {row['metrics_s']:.2f} s; ", end="")
    print(f"asked at most {100 * row['asked']:.0f} %: {'met' if row['met'] else 'NOT MET'}", flush=True)
