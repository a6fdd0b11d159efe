"""Measured ratios: `train`, how close a run comes to the floor (bench_floor.py); `metrics`, what they cost (bench_metrics.py); `sweep`, 24
runs beside what a user would write instead (bench_sweep.py, bench_plain.py); `report`, a page on 200 runs (bench_report.py); `load`, what
10,000 runs, a sweep of 1,000 and 50,000 steps take (bench_load.py). No group means all. Run it on an idle machine: `sweep` takes about
10 minutes a repetition, `metrics` 3, `load` about 2 in all.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
from typing import Any

import bench_floor
import bench_load
import bench_metrics
import bench_report
import bench_sweep
import torch

GROUPS = ("train", "metrics", "sweep", "report", "load")


def main() -> None:
    parser = argparse.ArgumentParser(
        description="\n".join(
            (__doc__, bench_floor.__doc__, bench_metrics.__doc__, bench_sweep.__doc__, bench_report.__doc__, bench_load.__doc__)
        ),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("groups", nargs="*", metavar="train|metrics|sweep|report|load", help="which rows (default: all)")
    parser.add_argument("--repetitions", type=int, metavar="N", help="default: 9 of train, 5 of load's listing, 3 of the others")
    parser.add_argument("--mnist", metavar="FOLDER", help="metrics: the folder that holds MNIST/raw (default: noise of its size)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    parser.add_argument("--epochs", type=int, metavar="N", help="sweep: a try with so few epochs; its ratios are not judged")
    parser.add_argument("--seeds", type=int, metavar="N", help="sweep: a try with so few seeds; its ratios are not judged")
    options = parser.parse_args()
    unknown = [name for name in options.groups if name not in GROUPS]  # argparse's own choices refuse the empty list
    if unknown:
        parser.error(f"there is no {unknown[0]}; choose from {', '.join(GROUPS)}")
    if any(value is not None and value < 1 for value in (options.repetitions, options.epochs, options.seeds)):
        parser.error("--repetitions, --epochs and --seeds count from 1")
    groups = options.groups or GROUPS
    machine = {"torch": torch.__version__, "cores": os.cpu_count(), "load": os.getloadavg()[0]}
    found: dict[str, Any] = {"machine": {**machine, "platform": platform.platform()}}
    if not options.json:
        print(", ".join(f"{name} {value}" for name, value in machine.items()), flush=True)
    if "train" in groups:
        found["rows"] = bench_floor.train_rows(options.repetitions or 9)
        if not options.json:
            bench_floor.print_train_rows(found["rows"])
    if "metrics" in groups:
        found["metrics"] = []
        for row in bench_metrics.metrics_rows(options.repetitions or 3, options.mnist):
            found["metrics"].append(row)
            if not options.json:
                bench_metrics.print_metrics_row(row)
    if "sweep" in groups:
        found["sweeps"] = []
        for row in bench_sweep.sweep_rows(options.repetitions or 3, options.epochs, options.seeds):
            found["sweeps"].append(row)
            if not options.json:
                bench_sweep.print_sweep_row(row)
    if "report" in groups:
        found["report"] = bench_report.report_row(options.repetitions or 3)
        if not options.json:
            bench_report.print_report_row(found["report"])
    if "load" in groups:
        found["load"] = bench_load.load_row(options.repetitions or 5)
        if not options.json:
            bench_load.print_load_row(found["load"])
    if options.json:
        print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
