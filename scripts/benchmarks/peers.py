"""Peers: one run, and a short sweep, beside what a user would write or take instead.

Each peer is a small script in scripts/benchmarks/apps, which trains the same network on the same data with the same optimizer and
schedule, evaluates after each epoch and on the test set, and writes nothing. Single runs are compared in training (images a second; warm-
up, evaluation and, for bnexp with metrics, nothing else left out) and as whole commands, imports included. bnexp also logs, saves and
evaluates in three ways. A sweep is a whole command with one worker a core; `one after the other` is the plain script, a process a run.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TypeVar

from benchmarks.children import Done, app, bnexp, bnexp_worker, scratch
from benchmarks.group import LRS, Request, arm, noise
from benchmarks.rows import Row
from benchmarks.sides import Sides
from benchmarks.turns import NotMeasured
from bnexp.base.hardware import cores

T = TypeVar("T")
NAME, REPETITIONS = "peers", 2
NEEDED = {
    "Lightning": "lightning",
    "skorch": "skorch",
    "Hydra multirun, joblib": "hydra_plugins.hydra_joblib_launcher",
    "Ray Tune": "ray.tune",
}
INSTALL = ".venv/bin/pip install -c constraints.txt -e '.[bench]'"
PLAIN = "DataLoader script"
APPS = {PLAIN: "plain", "Lightning": "lightning_run", "skorch": "skorch_run"}
SWEEPS = {"joblib workers": "joblib_sweep", "Hydra multirun, joblib": "hydra_sweep", "Ray Tune": "ray_sweep"}
GRID = list(itertools.product(("batch", "none"), (0.03, 0.1), (0, 1)))
"""norm, learning rate, seed of each run of the sweep."""
SWEPT_EPOCHS, BATCH = 5, 32
IMAGES = 2_000
"""Of 28x28 noise; a tenth of them is for validation."""


def rows(request: Request) -> Iterator[Row]:
    with scratch() as folder:
        with bnexp_worker(folder, threads=1) as worker:
            small = noise(worker, folder, IMAGES, 200)
        yield from _single(request.repetitions, folder, "digits", [], 32, 10)
        yield from _single(max(1, request.repetitions // 2), folder, "28x28", small, 64, 2)
        yield from _sweep(request, folder)


def lacking(name: str) -> str | None:
    """What a peer's row says where its package is not installed."""
    package = NEEDED.get(name)
    try:
        there = package is None or find_spec(package) is not None
    except ImportError:
        there = False
    return None if there else f"{package} is not installed; {INSTALL}"


def needing(name: str, side: Callable[[], T]) -> Callable[[], T]:
    """The side of a peer whose package may be missing."""

    def checked() -> T:
        if why := lacking(name):
            raise NotMeasured(why)
        return side()

    return checked


def sides(folder: Path, overrides: list[str], batch: int, epochs: int) -> dict[str, Callable[[], Done]]:
    """One run each as a command, on one thread."""
    file = overrides[-1].partition("=")[2] if overrides else "digits"
    theirs = ["--data", file, "--batch", batch, "--epochs", epochs, "--threads", 1, "--lr", LRS["batch"]]

    def ours(preset: str) -> Callable[[], Done]:
        case = [*overrides, *arm("batch", batch), f"train.epochs={epochs}", f"metrics={preset}"]
        return lambda: bnexp(folder, "train", *case, "--fresh", "--quiet", "--json", threads=1)

    found = {"bnexp, metrics off": ours("off"), "bnexp, as it comes": ours("light")}
    return found | {name: needing(name, lambda name=name: app(folder, APPS[name], *theirs, threads=1)) for name in APPS}


def _single(repetitions: int, folder: Path, data: str, overrides: list[str], batch: int, epochs: int) -> Iterator[Row]:
    taken = Sides.measure(NAME, sides(folder, overrides, batch, epochs), repetitions, warmup=0)
    case = f"{data}, batch {batch}, {epochs} epochs, 1 thread"
    for own, peer in itertools.product(("bnexp, metrics off", "bnexp, as it comes"), APPS):
        name, shown = f"{case}: {own}, against {peer}", {"bnexp": own, "peer": peer}
        yield taken.row(f"{name}: training", "images/s", shown, ("bnexp / peer", own, peer), value=_rate)
        yield taken.row(f"{name}: whole command", "s", shown, ("peer / bnexp", peer, own), value=lambda done: done.seconds)


def _rate(done: Done) -> float:
    """Images a second of training; bnexp's metrics are part of it."""
    result = done.json
    if "speed" not in result:
        return float(result["images_per_s"])
    speed = result["speed"]
    if not speed["metrics_s"]:
        return float(speed["images_per_s"])
    return float(result["config"]["train"]["batch_size"] * result["steps"] / (speed["train_s"] + speed["metrics_s"]))


def _sweep(request: Request, folder: Path) -> Iterator[Row]:
    workers = cores()
    values = [["--norm", norm, "--lr", lr, "--seed", seed] for norm, lr, seed in GRID]

    def ours() -> float:
        axes = ["model.norm=batch,none", "optim.lr=0.03,0.1", "seed=range(2)"]
        case = [f"train.batch_size={BATCH}", f"train.epochs={SWEPT_EPOCHS}", "train.eval_every=40", "metrics=off", "device=cpu"]
        return bnexp(folder, "sweep", "grid", *axes, *case, "--workers", workers, "--fresh", "--quiet").seconds

    def one_by_one() -> float:
        common = ["--batch", BATCH, "--epochs", SWEPT_EPOCHS, "--threads", workers]
        return math.fsum(app(folder, "plain", *one, *common, threads=workers).seconds for one in values)

    def swept(name: str) -> Callable[[], float]:
        def seconds() -> float:
            arguments = json.dumps({"workers": workers, "batch": BATCH, "epochs": SWEPT_EPOCHS})
            done = app(folder, SWEEPS[name], arguments, threads=1)
            if (trained := done.json["runs"]) != len(GRID):
                raise NotMeasured(f"it trained {trained} of {len(GRID)} runs")
            return done.seconds

        return needing(name, seconds)

    theirs = {f"{PLAIN}, one after the other": one_by_one} | {name: swept(name) for name in SWEEPS}
    taken = Sides.measure(NAME, {"bnexp sweep": ours} | theirs, max(1, request.repetitions // 2), warmup=0)
    for name in theirs:
        case = f"{len(GRID)} runs, digits, batch {BATCH}, {SWEPT_EPOCHS} epochs, {workers} workers: bnexp sweep against {name}"
        yield taken.row(case, "s", {"bnexp": "bnexp sweep", "peer": name}, ("peer / bnexp", name, "bnexp sweep"))
