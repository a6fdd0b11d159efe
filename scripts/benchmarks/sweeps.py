"""Sweeps: 24 runs by `bnexp sweep`, beside what a user would write instead.

Digits, 2 norms x 4 learning rates x 3 seeds, metrics off, an evaluation after each epoch on both sides. bnexp is timed as a command, from
its start to its exit, with two workers. Nothing is subtracted for what it does beyond the baselines: logs for TensorBoard, saved weights,
three-way test scores, training accuracy, tables. The baselines are the plain script (apps/plain.py), a process a run, one after the
other, two threads each: every run pays its imports; and the same function in two joblib workers of one thread that are warm: imports and
first steps are made before the clock starts. Who is first alternates. A repetition takes about 10 minutes.
"""

from __future__ import annotations

import itertools
import json
import statistics
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.children import Worker, app, bnexp, scratch
from benchmarks.group import Request
from benchmarks.rows import Row, at_least
from benchmarks.sides import Sides
from benchmarks.turns import NotMeasured

NAME, REPETITIONS = "sweeps", 3
WORKERS, PER_EPOCH = 2, 1293
NORMS, LRS, SEEDS = ("batch", "none"), (0.003, 0.01, 0.03, 0.1), 3
GRID = list(itertools.product(NORMS, LRS, range(SEEDS)))
PROCESSES, JOBLIB = "one process a run, two threads", "two warm joblib workers, one thread each"


@dataclass(frozen=True)
class Case:
    """A sweep and its baseline; `asked` is the ratio that bnexp shall reach at least."""

    baseline: str
    batch: int
    epochs: int
    asked: float


CASES = (Case(PROCESSES, 32, 10, 5.0), Case(JOBLIB, 32, 30, 1.5), Case(JOBLIB, 4, 10, 2.0))


@dataclass(frozen=True)
class Timed:
    """Wall seconds, those before bnexp's training began, the runs' mean test accuracy, and how many of bnexp's diverged."""

    wall_s: float
    accuracy: float
    startup_s: float = 0.0
    diverged: int = 0


def rows(request: Request) -> Iterator[Row]:
    for case in CASES:
        name = f"{len(GRID)} runs, batch {case.batch}, {case.epochs} epochs: bnexp sweep against {case.baseline}"
        target = at_least(case.asked)
        sides = {"bnexp": lambda case=case: ours(case), "plain": lambda case=case: plain(case)}
        taken, remark = Sides.measure(NAME, sides, request.repetitions, warmup=0), ""
        if not taken.failed:
            accuracy = {side: statistics.mean(one.accuracy for one in held) for side, held in taken.found.items()}
            startup = statistics.median(one.startup_s for one in taken.found["bnexp"])
            remark = f"bnexp's start-up {startup:.1f} s; test accuracy {accuracy['bnexp']:.3f}, plain {accuracy['plain']:.3f}"
            remark += f"; {taken.found['bnexp'][0].diverged} runs of bnexp's diverged"
        shown, of = {"bnexp": "bnexp", "plain": "plain"}, ("plain / bnexp", "plain", "bnexp")
        yield taken.row(name, "s", shown, of, target, value=lambda one: one.wall_s, remark=remark)


def ours(case: Case) -> Timed:
    """The sweep as a command. It has started once the last run of each worker's first stack has its config.yaml."""
    overrides = [
        *("data=digits", "device=cpu", "metrics=off", f"model.norm={','.join(NORMS)}", f"optim.lr={','.join(map(str, LRS))}"),
        *(f"seed=range({SEEDS})", f"train.batch_size={case.batch}", f"train.epochs={case.epochs}"),
        f"train.eval_every={PER_EPOCH // case.batch}",
    ]
    with scratch() as folder:
        began = (folder / "began").touch() or (folder / "began").stat().st_mtime
        done = bnexp(folder, "sweep", "grid", *overrides, "--workers", WORKERS, "--quiet")
        runs = [(path.parent, json.loads(path.read_text())) for path in Path(folder, "runs").glob("*/summary.json")]
        if len(runs) != len(GRID):
            raise NotMeasured(f"bnexp left {len(runs)} of {len(GRID)} runs")
        starts = defaultdict(list)
        for run, summary in runs:
            starts[summary["stack"]["id"]].append((run / "config.yaml").stat().st_mtime - began)
    first = sorted(max(own) for own in starts.values())[:WORKERS]
    summaries = [summary for _, summary in runs]
    accuracy = statistics.mean(summary["test"]["running"]["accuracy"] or 0.0 for summary in summaries)
    return Timed(done.seconds, accuracy, statistics.mean(first), sum(summary["status"] == "diverged" for summary in summaries))


def plain(case: Case) -> Timed:
    """The baseline's wall seconds."""
    with scratch() as folder:
        if case.baseline == JOBLIB:
            with Worker(folder, threads=1) as worker:
                worker.ask("benchmarks.warm:up", workers=WORKERS, batch=case.batch)
                result = worker.ask("benchmarks.warm:trained", runs=GRID, batch=case.batch, epochs=case.epochs)
            return Timed(result["seconds"], statistics.mean(run["test_accuracy"] for run in result["runs"]))
        options = ["--batch", case.batch, "--epochs", case.epochs, "--threads", 2]
        done = [app(folder, "plain", "--norm", norm, "--lr", lr, "--seed", seed, *options, threads=2) for norm, lr, seed in GRID]
    return Timed(sum(one.seconds for one in done), statistics.mean(one.json["test_accuracy"] for one in done))
