"""How long a report over 200 runs takes, and how large it is.

The runs are real and short: batch sizes 16 to 256, four learning rates, both arms, five seeds, 60 steps, the default
metrics. `bnexp report` is timed as a whole command, start-up included.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ASKED_S, ASKED_BYTES = 20.0, 10e6
SWEEP = "sweep batch-size --values 16,32,64,128,256 --seeds 5 train.epochs=null train.steps=60 device=cpu --quiet --json"


def report_row(repetitions: int) -> dict[str, Any]:
    """One row: seconds of each repetition, and bytes of the page."""
    command = str(Path(sys.executable).parent / "bnexp")
    with tempfile.TemporaryDirectory() as folder:
        print("report: training 200 short runs", file=sys.stderr, flush=True)
        done = subprocess.run([command, *SWEEP.split(), "--runs-dir", folder], capture_output=True, text=True)
        if done.returncode != 0:
            raise SystemExit(f"the sweep ended with {done.returncode}:\n{done.stderr[-2000:]}")
        runs = len(json.loads(done.stdout)["runs"])
        (group,) = [path.parent.name for path in Path(folder).glob(".groups/*/members.json")]
        seconds, load = [], os.getloadavg()[0]
        for _ in range(repetitions):
            start = time.perf_counter()
            subprocess.run([command, "report", group, "--runs-dir", folder], capture_output=True, check=True)
            seconds.append(time.perf_counter() - start)
        page = Path(folder, ".groups", group, "report.html")
        size, figures = page.stat().st_size, len(list(page.parent.glob("figures/*.svg")))
    median = statistics.median(seconds)
    return {
        **{"runs": runs, "n": repetitions, "seconds": median, "seconds_range": [min(seconds), max(seconds)], "asked_s": ASKED_S},
        **{"bytes": size, "asked_bytes": ASKED_BYTES, "figures": figures, "load": load, "met": median < ASKED_S and size < ASKED_BYTES},
    }


def print_report_row(row: dict[str, Any]) -> None:
    low, high = row["seconds_range"]
    print(
        f"report over {row['runs']} runs, {row['figures']} figures: {row['seconds']:.1f} s ({low:.1f} to {high:.1f}, n = {row['n']}), "
        f"asked < {row['asked_s']:g} s; {row['bytes'] / 1e6:.2f} MB, asked < {row['asked_bytes'] / 1e6:g} MB: "
        f"{'met' if row['met'] else 'NOT MET'} (load {row['load']:.1f})"
    )
