"""Faults and strangers, tried by the dozen: `kill` at random moments (faults_kill.py), each kind of touch of a file at each site in the
code once (`touches`, faults_touches.py; a quarter of an hour), what happens to processes (`process`, faults_process.py), `hostile` files
and run folders (faults_hostile.py, faults_hostile_run.py), generated `input` (faults_input.py). No group means all; it takes about half an
hour on two idle cores.

Exit code 1 if anything was lost, executed, or broke a promise. docs/reliability.md has the figures of the last full run.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import platform
import sys
import time
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

GROUPS = ("kill", "touches", "process", "hostile", "input")


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
    groups = options.groups or GROUPS
    found: dict[str, Any] = {"machine": {"torch": torch.__version__, "cores": os.cpu_count(), "platform": platform.platform()}}
    broken: list[str] = []
    if "kill" in groups:
        begun = time.monotonic()
        killed = faults_kill.try_kills(options.moments, options.seed, say)
        found["kill"] = {**dataclasses.asdict(killed), "tried": killed.count, "minutes": minutes(begun)}
        broken += killed.lost
    if "touches" in groups:
        begun = time.monotonic()
        touches = faults_touches.try_touches(options.seed, say)
        found["touches"] = {**dataclasses.asdict(touches), "tried": touches.count, "minutes": minutes(begun)}
        broken += touches.problems
    if "process" in groups:
        begun = time.monotonic()
        processes = faults_process.try_processes(say=say)
        found["process"] = {**dataclasses.asdict(processes), "minutes": minutes(begun)}
        broken += processes.problems
    if "hostile" in groups:
        begun = time.monotonic()
        files = faults_hostile.try_payloads([*faults_hostile_config.payloads(), *faults_hostile_data.payloads()])
        say(f"hostile configs and data: {files.tried} tried, {files.executed} executed")
        folders = faults_hostile_run.try_cases(say=say)
        found["hostile"] = {
            "files": dataclasses.asdict(files),
            "folders": dataclasses.asdict(folders),
            "tried": files.tried + folders.commands,
            "executed": files.executed + folders.executed,
            "minutes": minutes(begun),
        }
        broken += [*files.violations, *folders.problems]
    if "input" in groups:
        begun = time.monotonic()
        lines = faults_input.try_inputs(options.inputs, options.seed)
        found["input"] = {**dataclasses.asdict(lines), "minutes": minutes(begun)}
        broken += lines.violations
    if options.json:
        print(json.dumps(found, indent=2))
    else:
        show(found)
    for line in broken:
        say(f"BROKEN  {line}")
    sys.exit(1 if broken else 0)


def show(found: dict[str, Any]) -> None:
    """The figures, a line a group."""
    if kill := found.get("kill"):
        phases = ", ".join(f"{count} {phase}" for phase, count in sorted(kill["moments"].items()))
        late = f"; {kill['too_late']} came after the end" if kill["too_late"] else ""
        print(f"kill: {kill['tried']} moments tried ({phases}{late}), results lost: {len(kill['lost'])} ({kill['minutes']} min)")
    if touches := found.get("touches"):
        commands = ", ".join(f"{count} {command}" for command, count in touches["touches"].items())
        print(
            f"touches: {touches['tried']} visited ({commands}), {touches['killed']} with a kill; promises broken: "
            f"{len(touches['problems'])} ({touches['minutes']} min)"
        )
    if process := found.get("process"):
        kinds = ", ".join(f"{count} {kind}" for kind, count in process["kinds"].items())
        print(f"process: {kinds}; promises broken: {len(process['problems'])} ({process['minutes']} min)")
    if hostile := found.get("hostile"):
        folders = hostile["folders"]
        print(
            f"hostile: {hostile['files']['tried']} configs and data files, "
            f"{folders['cases']} run folders with {folders['commands']} commands; executed: {hostile['executed']}, other promises broken: "
            f"{len(hostile['files']['violations']) + len(folders['problems'])} ({hostile['minutes']} min)"
        )
    if lines := found.get("input"):
        print(
            f"input: {lines['tried']} lines tried, {lines['refused']} refused, {lines['accepted']} accepted, {lines['run']} of them run; "
            f"promises broken: {len(lines['violations'])} ({lines['minutes']} min)"
        )


def minutes(begun: float) -> float:
    return round((time.monotonic() - begun) / 60, 1)


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
