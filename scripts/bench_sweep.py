"""How long `bnexp sweep` takes for 24 runs, beside what a user would write instead.

The runs: digits, 2 norms x 4 learning rates x 3 seeds, metrics off, an evaluation after each epoch on both sides. bnexp is timed as a
command, from its start to its exit, with two workers. Nothing is subtracted for what it does beyond the baselines: logs for TensorBoard,
saved weights, three-way test scores, training accuracy, tables. The baselines (bench_plain.py):
  processes  the plain script, one process a run, one after the other, two threads each: each run pays its imports.
  joblib     the same function in two joblib workers of one thread that are warm: imports and first steps are made before the clock starts.
Start-up is measured in the timed command itself: from its start until the last run of a stack has its config.yaml, just before training.
The parts of a wall time are means over the two workers and add up to it. bnexp and the baseline take turns, and who is first alternates.
"""

from __future__ import annotations

import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from bench_floor import floor
from bench_plain import N_TRAIN, train
from joblib import Parallel, delayed
from joblib.externals.loky import get_reusable_executor

HERE = Path(__file__).parent
WORKERS = 2
NORMS = ("batch", "none")
LRS = (0.003, 0.01, 0.03, 0.1)
FORMATS = {"contiguous": torch.contiguous_format, "channels last": torch.channels_last}
FLOOR_STEPS = 300
BUSY_LOAD = 0.5


@dataclass(frozen=True)
class Case:
    """A sweep and its baseline; `asked` is the ratio that bnexp shall reach at least."""

    baseline: str
    batch: int
    epochs: int
    asked: float
    seeds: int = 3

    @property
    def grid(self) -> list[tuple[str, float, int]]:
        return list(itertools.product(NORMS, LRS, range(self.seeds)))

    @property
    def threads(self) -> int:
        return 2 if self.baseline == "processes" else 1

    @property
    def title(self) -> str:
        against = "one process a run, two threads" if self.baseline == "processes" else "two warm joblib workers, one thread each"
        return f"{len(self.grid)} runs on digits, batch {self.batch}, {self.epochs} epochs, against the plain script: {against}"


CASES = (Case("processes", 32, 10, 5.0), Case("joblib", 32, 30, 1.5), Case("joblib", 4, 10, 2.0))


@dataclass(frozen=True)
class Timed:
    """One measurement: wall seconds, the parts that add up to them, the runs' mean test accuracy, and how many of bnexp's diverged."""

    wall_s: float
    parts: dict[str, float]
    test_accuracy: float
    diverged: int = 0
    images_per_s: dict[str, float] | None = None
    """By norm, evaluation and start-up left out; the baselines only."""


def sweep_rows(repetitions: int, epochs: int | None, seeds: int | None) -> Iterator[dict[str, Any]]:
    """A row a case, as each is done; `epochs` and `seeds` make it short, for a try."""
    tried = epochs is not None or seeds is not None
    if (load := os.getloadavg()[0]) > BUSY_LOAD:
        _say(f"load average {load:.1f}: beside others two-thread steps fall several times, which flatters bnexp; better run it alone")
    warm_up()
    for case in CASES:
        case = replace(case, epochs=epochs or case.epochs, seeds=seeds or case.seeds)
        yield _row(case, repetitions, tried)


def warm_up() -> None:
    """Reads every file once, so that nobody pays for a cold disk."""
    _say("warm-up")
    case = Case("processes", 32, 1, 0.0, seeds=1)
    bnexp(case)
    processes(case, limit=1)


def _row(case: Case, repetitions: int, tried: bool) -> dict[str, Any]:
    own: list[Timed] = []
    theirs: list[Timed] = []
    to_floor: list[dict[str, float]] = []
    load = []
    for repetition in range(repetitions):
        load.append(os.getloadavg()[0])
        for who in ("bnexp", case.baseline)[:: -1 if repetition % 2 else 1]:
            if who == "bnexp":
                own.append(bnexp(case))
            elif who == "processes":
                theirs.append(processes(case))
                to_floor.append(_floor_here(case.batch, case.threads))
            else:
                with warm_workers(case) as parallel:
                    theirs.append(joblib_workers(case, parallel))
                    to_floor.append(_floor_in(parallel, case.batch))
        _say(f"{case.title}: {repetition + 1}/{repetitions}: bnexp {own[-1].wall_s:.1f} s, plain {theirs[-1].wall_s:.1f} s")
    ratio = statistics.median(one.wall_s for one in theirs) / statistics.median(one.wall_s for one in own)
    started = [one.wall_s - one.parts["start-up"] for one in own]
    shares = [
        statistics.mean((one.images_per_s or {})[norm] / max(floors[f"{norm}, {kind}"] for kind in FORMATS) for norm in NORMS)
        for one, floors in zip(theirs, to_floor, strict=True)
    ]
    return {
        "title": case.title,
        "runs": len(case.grid),
        "batch": case.batch,
        "epochs": case.epochs,
        "baseline": case.baseline,
        "n": repetitions,
        "load_before": load,
        "bnexp": _summary(own),
        "plain": _summary(theirs),
        "ratio": ratio,
        "ratio_range": _spread([b.wall_s / a.wall_s for a, b in zip(own, theirs, strict=True)])["range"],
        "ratio_after_startup": statistics.median(one.wall_s for one in theirs) / statistics.median(started),
        "plain_to_floor": _spread(shares),
        "floor_images_per_s": {name: statistics.median(one[name] for one in to_floor) for name in to_floor[0]},
        "asked": case.asked,
        "met": None if tried else ratio >= case.asked,
    }


def bnexp(case: Case) -> Timed:
    """The sweep as a command."""
    overrides = [
        *("data=digits", "device=cpu", f"model.norm={','.join(NORMS)}", f"optim.lr={','.join(map(str, LRS))}"),
        *(f"seed=range({case.seeds})", f"train.batch_size={case.batch}", f"train.epochs={case.epochs}"),
        f"train.eval_every={N_TRAIN // case.batch}",
    ]
    if (HERE.parent / "configs/metrics/off.yaml").exists():  # whatever the default
        overrides.append("metrics=off")
    with tempfile.TemporaryDirectory() as folder:
        command = [Path(sys.executable).parent / "bnexp", "sweep", "grid", *overrides]
        began, start = time.time(), time.perf_counter()
        _finish([*command, "--workers", str(WORKERS), "--quiet", "--runs-dir", folder])
        wall = time.perf_counter() - start
        runs = [(path.parent, json.loads(path.read_text())) for path in Path(folder).glob("*/summary.json")]
        if len(runs) != len(case.grid):
            raise SystemExit(f"bnexp left {len(runs)} of {len(case.grid)} runs")
        stacks = defaultdict(list)
        for run, summary in runs:
            stacks[summary["stack"]["id"]].append((run, summary))
        starts = [max(_mtime(run / "config.yaml") for run, _ in stack) - began for stack in stacks.values()]
        ends = [max(_mtime(run / "summary.json") for run, _ in stack) - began for stack in stacks.values()]
        speeds = [stack[0][1]["speed"] for stack in stacks.values()]  # a stack's members share its clock
    parts = {
        "start-up": statistics.mean(sorted(starts)[:WORKERS]),
        "training": sum(speed["train_s"] for speed in speeds) / WORKERS,
        "evaluation": sum(speed["eval_s"] + speed["metrics_s"] for speed in speeds) / WORKERS,
    }
    parts["logs and saving"] = (sum(ends) - sum(starts)) / WORKERS - parts["training"] - parts["evaluation"]
    parts["results and exit"] = wall - max(ends)
    parts["a worker idle"] = wall - sum(parts.values())
    summaries = [summary for _, summary in runs]
    accuracy = statistics.mean(summary["test"]["running"]["accuracy"] or 0.0 for summary in summaries)
    return Timed(wall, parts, accuracy, sum(summary["status"] == "diverged" for summary in summaries))


def processes(case: Case, limit: int | None = None) -> Timed:
    """Baseline 1: one process a run, one after the other."""
    found = []
    start = time.perf_counter()
    for norm, lr, seed in case.grid[:limit]:
        values = {"norm": norm, "lr": lr, "seed": seed, "batch": case.batch, "epochs": case.epochs, "threads": case.threads}
        arguments = itertools.chain.from_iterable((f"--{name}", str(value)) for name, value in values.items())
        found.append(json.loads(_finish([sys.executable, HERE / "bench_plain.py", *arguments])))
    wall = time.perf_counter() - start
    return _plain(wall, found, workers=1)


@contextmanager
def warm_workers(case: Case) -> Iterator[Parallel]:
    """Two joblib workers, each of which has trained an epoch. They end afterwards, so that nothing of theirs is beside bnexp."""
    with Parallel(n_jobs=WORKERS, backend="loky", batch_size=1) as parallel:
        warm: set[int] = set()
        while len(warm) < WORKERS:  # one may take the other's call
            warm |= set(parallel(delayed(_warm)(case.batch, case.threads) for _ in range(WORKERS)))
        yield parallel
    get_reusable_executor().shutdown(wait=True)


def joblib_workers(case: Case, parallel: Parallel) -> Timed:
    """Baseline 2: the same function in workers that are warm."""
    start = time.perf_counter()
    found = parallel(delayed(train)(*run, batch=case.batch, epochs=case.epochs, threads=case.threads) for run in case.grid)
    wall = time.perf_counter() - start
    return _plain(wall, found, workers=WORKERS)


def _warm(batch: int, threads: int) -> int:
    for norm in NORMS:
        train(norm, lr=0.01, seed=0, batch=batch, epochs=1, threads=threads)
    return os.getpid()


def _plain(wall: float, found: list[dict[str, Any]], workers: int) -> Timed:
    parts = {"training": sum(run["train_s"] for run in found) / workers, "evaluation": sum(run["eval_s"] for run in found) / workers}
    parts["imports, data, exit" if workers == 1 else "set-up, a worker idle"] = wall - sum(parts.values())
    rates = {}
    for norm in {run["norm"] for run in found}:
        of_norm = [run for run in found if run["norm"] == norm]
        rates[norm] = sum(run["images"] for run in of_norm) / sum(run["train_s"] for run in of_norm)
    return Timed(wall, parts, statistics.mean(run["test_accuracy"] for run in found), images_per_s=rates)


def _floor_at(batch: int, threads: int, norm: str, kind: str) -> float:
    torch.set_num_threads(threads)
    return floor(batch, norm == "batch", FLOOR_STEPS, FORMATS[kind])


def _floor_here(batch: int, threads: int) -> dict[str, float]:
    """The floor in images a second, by norm and memory format."""
    return {f"{norm}, {kind}": _floor_at(batch, threads, norm, kind) for norm in NORMS for kind in FORMATS}


def _floor_in(parallel: Parallel, batch: int) -> dict[str, float]:
    """The floor where the plain loop ran: in both workers at once, since a core beside an idle one is faster."""
    rates = {}
    for norm, kind in itertools.product(NORMS, FORMATS):
        rates[f"{norm}, {kind}"] = statistics.mean(parallel(delayed(_floor_at)(batch, 1, norm, kind) for _ in range(WORKERS)))
    return rates


def _finish(command: list[Any]) -> str:
    """Runs a command to its end; what it printed."""
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(map(str, command))} ended with {done.returncode}:\n{done.stderr[-2000:]}")
    return done.stdout


def _mtime(path: Path) -> float:
    return path.stat().st_mtime


def _say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


def _spread(values: list[float]) -> dict[str, Any]:
    return {"median": statistics.median(values), "range": [min(values), max(values)], "all": values}


def _summary(measured: list[Timed]) -> dict[str, Any]:
    return {
        "wall_s": _spread([one.wall_s for one in measured]),
        "parts_s": {name: _spread([one.parts[name] for one in measured]) for name in measured[0].parts},
        "test_accuracy": statistics.mean(one.test_accuracy for one in measured),
        "diverged": measured[0].diverged,
    }


def print_sweep_row(row: dict[str, Any]) -> None:
    print(row["title"])
    load = ", ".join(f"{value:.2f}" for value in row["load_before"])
    print(f"  {'':32}{'seconds: median':>18}  (min to max), n = {row['n']}; load average before each: {load}")
    for name in ("bnexp", "plain"):
        wall = row[name]["wall_s"]
        _print(f"{name}: wall", wall, 2)
        for part, values in row[name]["parts_s"].items():
            _print(f"  {part}", values, 2, f"  {100 * values['median'] / wall['median']:3.0f} %")
    verdict = "a try: not judged" if row["met"] is None else "met" if row["met"] else "NOT MET"
    pairs = {"median": row["ratio"], "range": row["ratio_range"]}
    _print("plain / bnexp, start-up included", pairs, 2, f"  asked >= {row['asked']:g}: {verdict}  (ratio of medians; pairs' range)")
    print(f"  {'plain / bnexp after its start-up':34}{row['ratio_after_startup']:16.2f}  (for information)")
    _print("plain loop / better floor", row["plain_to_floor"], 2, "  (images/s of training, mean of both norms)")
    accuracies = f"bnexp {row['bnexp']['test_accuracy']:.3f}, plain {row['plain']['test_accuracy']:.3f}"
    print(f"  mean test accuracy: {accuracies}; {row['bnexp']['diverged']} runs of bnexp's diverged\n", flush=True)


def _print(name: str, values: dict[str, Any], digits: int, more: str = "") -> None:
    low, high = values["range"]
    print(f"  {name:34}{values['median']:16.{digits}f}  ({low:.{digits}f} to {high:.{digits}f}){more}")
