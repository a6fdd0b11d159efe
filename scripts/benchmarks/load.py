"""Load: `bnexp runs` over 10,000 runs, the memory of a sweep of 1,000 runs, and that of 50,000 training steps.

The 10,000 folders are copies of one real, short run under ids of their own; each listing is a whole command, start-up included. The
sweep's runs are tiny (two steps, one narrow block, metrics off), in stacks of eight on two workers: the command's own process is weighed
(resident set) as each stack ends. The long run is one tiny run with the default metrics, evaluations and TensorBoard logs, weighed after
each of its evaluations. Slopes are least-squares lines without the first fifth, which fills caches.
"""

from __future__ import annotations

import os
import re
import statistics
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.children import BNEXP, bnexp, bnexp_worker, environment, last_line, run, scratch
from benchmarks.group import Request, budget
from benchmarks.machine import Watch
from benchmarks.rows import Row, Target, at_most, figure, measured, not_measured
from benchmarks.turns import NotMeasured, take_turns

NAME, REPETITIONS = "load", 5
FOLDERS, LIST = 10_000, at_most(2, "s")
RUNS, RUN_BYTES = 1_000, at_most(20_000, "bytes")
STEPS, STEP_BYTES = 50_000, at_most(40, "bytes")
TINY = ("model.widths=[4]", "device=cpu")
WARMUP_SHARE = 0.2


def rows(request: Request) -> Iterator[Row]:
    yield _listing(request.repetitions)
    name = f"sweep of {RUNS:,} runs: its own process"
    overrides = [*TINY, *budget(2), "metrics=off", f"seed=range({RUNS})", "--workers", "2"]
    yield _slope(name, "bytes a run", RUN_BYTES, ["sweep", "grid", *overrides], r"(\d+)/(\d+)  ", RUNS)
    yield _slope(f"{STEPS:,} steps", "bytes a step", STEP_BYTES, ["train", *TINY, *budget(STEPS)], r"step (\d+)/(\d+)", STEPS)


def _listing(repetitions: int) -> Row:
    """Seconds of `bnexp runs`."""
    name = f"bnexp runs over {FOLDERS:,} runs"
    with scratch() as folder, bnexp_worker(folder, threads=1) as worker:
        try:
            bnexp(folder, "train", *TINY, *budget(200), "--quiet")
            (origin,) = [path.parent for path in Path(folder, "runs").glob("*/summary.json")]
            worker.ask("benchmarks.library:copies", origin=str(origin), runs_dir=str(folder / "listed"), count=FOLDERS)
        except NotMeasured as error:
            return not_measured(NAME, name, str(error), LIST)

        def listed() -> float:
            done = run([*BNEXP, "runs", "--runs-dir", folder / "listed"], folder)
            if sum(line.startswith("batch-") for line in done.stdout.splitlines()) != FOLDERS:
                raise NotMeasured(f"it did not list {FOLDERS:,} runs")
            return done.seconds

        watch = Watch()
        found, failed = take_turns({"runs": listed}, repetitions)  # the first reads the disk
        if failed:
            return not_measured(NAME, name, failed["runs"], LIST)
        return measured(NAME, name, [], figure("whole command", "s", found["runs"]), LIST, load=watch.load)


def _slope(name: str, unit: str, target: Target, command: Sequence[Any], pattern: str, total: int) -> Row:
    """Bytes by which a process grows with what its progress counts; weighed at each line of it."""
    watch, weighed = Watch(), []
    with scratch() as folder:
        whole = [*map(str, BNEXP), *command, "--runs-dir", str(folder / "runs")]
        said = ""
        with subprocess.Popen(
            whole, cwd=folder, env=environment(folder), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        ) as process:
            assert process.stderr is not None
            for line in process.stderr:
                said = line if line.strip() else said
                if found := re.match(pattern, line):
                    weighed.append((int(found[1]) / int(found[2]) * total, resident(process.pid)))
        if process.returncode != 0 or not weighed or weighed[-1][0] != total:
            return not_measured(NAME, name, f"it ended with {process.returncode}: {last_line(said)}", target)
    figures = [figure("begins at", "MB", [weighed[0][1] / 1e6]), figure("ends at", "MB", [weighed[-1][1] / 1e6])]
    return measured(NAME, name, figures, figure("growth", unit, [slope_of(weighed)]), target, load=watch.load)


def slope_of(points: Sequence[tuple[float, int]]) -> float:
    """Bytes for each unit of the first value, after the warm-up."""
    warm = [point for point in points if point[0] > WARMUP_SHARE * points[-1][0]]
    return statistics.linear_regression(*zip(*warm, strict=True)).slope


def resident(pid: int) -> int:
    """Bytes of a process in memory; 0 once it is gone."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError):
        return 0
