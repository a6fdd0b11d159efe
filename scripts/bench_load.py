"""Long and large: `bnexp runs` over 10,000 runs, the memory of a sweep of 1,000 runs, and that of 50,000 training steps.

The 10,000 folders are copies of one real, short run under ids of their own; each listing is a whole command, start-up included, and the
processor's seconds stand beside those of the clock. The sweep's runs are tiny (two steps, one narrow block, metrics off), in stacks of
eight on two workers: the command's own process is weighed (resident set) as each stack ends. The long run is one tiny run with the default
metrics, evaluations and TensorBoard logs, weighed after each of its evaluations. Slopes are least-squares lines without the first
fifth, which fills caches.
"""

from __future__ import annotations

import json
import os
import re
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from bnexp.files import checked_json
from bnexp.run import FORMAT

FOLDERS, ASKED_LIST_S = 10_000, 2.0
RUNS, ASKED_RUN_BYTES = 1_000, 20_000
STEPS, ASKED_STEP_BYTES = 50_000, 40
TINY = ("model.widths=[4]", "train.epochs=null", "device=cpu")
WARMUP_SHARE = 0.2


def load_row(repetitions: int) -> dict[str, Any]:
    """One row: the three measurements, each with what was asked."""
    load = os.getloadavg()[0]
    found = {"listing": listing(repetitions), "sweep": sweep(), "steps": steps(), "load": load}
    return {**found, "met": found["listing"]["met"] and found["sweep"]["met"] and found["steps"]["met"]}


def listing(repetitions: int) -> dict[str, Any]:
    """Seconds of `bnexp runs`."""
    with tempfile.TemporaryDirectory() as scratch:
        runs_dir = Path(scratch, "runs")
        _say(f"load: making {FOLDERS:,} run folders")
        copies(runs_dir, Path(scratch, "origin"))
        seconds, cpu = [], []
        for repetition in range(repetitions + 1):
            before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
            listed = subprocess.run([*_bnexp(), "runs", "--runs-dir", str(runs_dir)], capture_output=True, text=True, check=True)
            taken, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
            if sum(line.startswith("batch-") for line in listed.stdout.splitlines()) != FOLDERS:
                raise SystemExit(f"bnexp runs did not list {FOLDERS} runs")
            if repetition > 0:  # the first reads the disk
                seconds.append(taken)
                cpu.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    median = statistics.median(seconds)
    return {
        **{"runs": FOLDERS, "n": repetitions, "seconds": median, "seconds_range": [min(seconds), max(seconds)]},
        **{"cpu_s": statistics.median(cpu), "asked_s": ASKED_LIST_S, "met": median < ASKED_LIST_S},
    }


def copies(runs_dir: Path, scratch: Path) -> None:
    """The folders: each with a summary that names it, and the same config, curve and model."""
    _run("train", *TINY, "train.steps=200", "--runs-dir", str(scratch))
    (origin,) = [path.parent for path in scratch.glob("*/summary.json")]
    summary = json.loads((origin / "summary.json").read_text())
    name = summary["config"]["name"]
    for seed in range(FOLDERS):
        own = f"{name.removesuffix('-s0')}-s{seed}"
        folder = runs_dir / f"{own}-{seed:08x}"
        folder.mkdir(parents=True)
        config = {**summary["config"], "name": own, "seed": seed}
        text = checked_json({**summary, "id": folder.name, "seed": seed, "config": config}, FORMAT)
        (folder / "summary.json").write_bytes(text)
        for file in ("config.yaml", "metrics.jsonl", "model.pt"):
            shutil.copyfile(origin / file, folder / file)


def sweep() -> dict[str, Any]:
    """Bytes a run by which the command's process grows, and its seconds."""
    _say(f"load: a sweep of {RUNS:,} runs")
    overrides = [*TINY, "train.steps=2", "metrics=off", f"seed=range({RUNS})"]
    with tempfile.TemporaryDirectory() as scratch:
        start, ends = time.perf_counter(), []
        command = [*_bnexp(), "sweep", "grid", *overrides, "--workers", "2", "--runs-dir", scratch]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
            assert process.stderr is not None
            for line in process.stderr:
                if found := re.match(r"(\d+)/(\d+)  ", line):  # a stack ended
                    ends.append((int(found[1]) / int(found[2]) * RUNS, resident(process.pid)))
        seconds = time.perf_counter() - start
        if process.returncode != 0 or len(list(Path(scratch).glob("*/model.pt"))) != RUNS:
            raise SystemExit(f"the sweep ended with {process.returncode}")
    slope = slope_of(ends)
    return {
        **{"runs": RUNS, "stacks": len(ends), "n": 1, "seconds": seconds, "bytes_a_run": slope, "asked_bytes_a_run": ASKED_RUN_BYTES},
        **{"resident_mb": [ends[0][1] / 1e6, ends[-1][1] / 1e6], "met": slope < ASKED_RUN_BYTES},
    }


def steps() -> dict[str, Any]:
    """Bytes a step by which a training grows, and its seconds."""
    _say(f"load: {STEPS:,} steps")
    with tempfile.TemporaryDirectory() as scratch:
        start, weighed = time.perf_counter(), []
        command = [*_bnexp(), "train", *TINY, f"train.steps={STEPS}", "--runs-dir", scratch]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
            assert process.stderr is not None
            for line in process.stderr:
                if found := re.match(r"step (\d+)/", line):  # an evaluation
                    weighed.append((float(found[1]), resident(process.pid)))
        seconds = time.perf_counter() - start
        if process.returncode != 0 or weighed[-1][0] != STEPS:
            raise SystemExit(f"the training ended with {process.returncode}")
    slope = slope_of(weighed)
    return {
        **{"steps": STEPS, "evaluations": len(weighed), "n": 1, "seconds": seconds, "bytes_a_step": slope},
        **{
            "asked_bytes_a_step": ASKED_STEP_BYTES,
            "resident_mb": [weighed[0][1] / 1e6, weighed[-1][1] / 1e6],
            "met": slope < ASKED_STEP_BYTES,
        },
    }


def slope_of(points: list[tuple[float, int]]) -> float:
    """Bytes for each unit of the first value, after the warm-up."""
    warm = [point for point in points if point[0] > WARMUP_SHARE * points[-1][0]]
    return statistics.linear_regression(*zip(*warm, strict=True)).slope


def resident(pid: int) -> int:
    """Bytes of a process in memory; 0 once it is gone."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError):
        return 0


def print_load_row(row: dict[str, Any]) -> None:
    listed, swept, stepped = row["listing"], row["sweep"], row["steps"]
    low, high = listed["seconds_range"]
    print(
        f"bnexp runs over {listed['runs']:,} runs: {listed['seconds']:.2f} s ({low:.2f} to {high:.2f}, n = {listed['n']}), "
        f"{listed['cpu_s']:.2f} s of processor time, asked < {listed['asked_s']:g} s: {_met(listed)}"
    )
    low, high = swept["resident_mb"]
    print(
        f"sweep of {swept['runs']:,} runs in {swept['stacks']} stacks: {swept['bytes_a_run'] / 1e3:+.1f} kB a run in its own process "
        f"({low:.0f} to {high:.0f} MB), asked < {swept['asked_bytes_a_run'] / 1e3:g} kB: {_met(swept)}; {swept['seconds']:.0f} s"
    )
    low, high = stepped["resident_mb"]
    print(
        f"{stepped['steps']:,} steps, {stepped['evaluations']:,} evaluations: {stepped['bytes_a_step']:+.1f} bytes a step "
        f"({low:.0f} to {high:.0f} MB), asked < {stepped['asked_bytes_a_step']:g}: {_met(stepped)}; {stepped['seconds']:.0f} s "
        f"(load {row['load']:.1f})"
    )


def _met(part: dict[str, Any]) -> str:
    return "met" if part["met"] else "NOT MET"


def _bnexp() -> list[str]:
    return [sys.executable, "-m", "bnexp"]


def _run(*args: str) -> None:
    done = subprocess.run([*_bnexp(), *args, "--quiet"], capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"bnexp {args[0]} ended with {done.returncode}:\n{done.stderr[-2000:]}")


def _say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)
