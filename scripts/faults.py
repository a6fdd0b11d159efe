"""Faults and hostile files, tried by the dozen: `kill` at random moments (faults_kill.py), each kind of touch of a file at each site in the
code once (`touches`, faults_touches.py; a quarter of an hour), what happens to processes (`process`, faults_process.py), `hostile` files
and run folders (faults_hostile.py, faults_hostile_run.py), generated `input` (faults_input.py). No group means all; it takes about half an
hour on two idle cores.

Exit code 1 if anything was lost, executed, or broke a promise. docs/reliability.md has the figures of the last full run.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Callable
from typing import Any

import faults_hostile
import faults_hostile_config
import faults_hostile_data
import faults_hostile_run
import faults_input
import faults_kill
import faults_process
import faults_touches
import torch
from faults_tried import Tried


def hostile(options: argparse.Namespace) -> Tried:
    files = faults_hostile.try_payloads([*faults_hostile_config.payloads(), *faults_hostile_data.payloads()])
    say(f"hostile configs and data: {files.counts}")
    folders = faults_hostile_run.try_cases(say=say)
    return Tried(files.counts + folders.counts, files.problems + folders.problems)


GROUPS: dict[str, Callable[[argparse.Namespace], Tried]] = {
    "kill": lambda options: faults_kill.try_kills(options.moments, options.seed, say),
    "touches": lambda options: faults_touches.try_touches(options.seed, say),
    "process": lambda options: faults_process.try_processes(say=say),
    "hostile": hostile,
    "input": lambda options: faults_input.try_inputs(options.inputs, options.seed),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("groups", nargs="*", metavar="|".join(GROUPS), help="which (default: all)")
    parser.add_argument("--moments", type=int, default=50, metavar="N", help="kill: how many moments (default: 50)")
    parser.add_argument("--inputs", type=int, default=1500, metavar="N", help="input: how many lines (default: 1500)")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="of the moments, the touches and the input (default: 0)")
    parser.add_argument("--json", action="store_true", help="print JSON on stdout; what is tried goes to stderr")
    options = parser.parse_args()
    if unknown := [name for name in options.groups if name not in GROUPS]:
        parser.error(f"there is no {unknown[0]}; choose from {', '.join(GROUPS)}")
    if options.moments < 1 or options.inputs < 1 or options.seed < 0:
        parser.error("--moments and --inputs count from 1, --seed from 0")
    found: dict[str, Any] = {}
    for name in options.groups or GROUPS:
        begun = time.monotonic()
        tried = GROUPS[name](options)
        found[name] = {**vars(tried), "minutes": round((time.monotonic() - begun) / 60, 1)}
    if options.json:
        machine = {"torch": torch.__version__, "cores": os.cpu_count(), "platform": platform.platform()}
        print(json.dumps({"machine": machine, **found}, indent=2))
    else:
        for name, group in found.items():
            counts = ", ".join(f"{count:,} {what}" for what, count in group["counts"].items())
            print(f"{name}: {counts}; promises broken: {len(group['problems'])} ({group['minutes']} min)")
    broken = [line for group in found.values() for line in group["problems"]]
    for line in broken:
        say(f"BROKEN  {line}")
    sys.exit(1 if broken else 0)


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
