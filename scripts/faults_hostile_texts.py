"""Hostile run folders: what is in configs, summaries, curves, event files, plans and sweeps."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import yaml
from faults_hostile_scene import Case, Folder

from bnexp.base.files import dump_json, write_checked_json
from bnexp.storage.run import Run

CONFIG = ("runs show ID", "evaluate ID", "stats ID", "resume ID")
SUMMARY = ("runs", "runs show ID", "report", "evaluate ID", "resume ID")
SHOWN = ("runs", "runs --json", "runs show ID", "report", "compare ID OTHER", "evaluate ID", "resume ID")
"""What prints texts of a run folder."""
CURVES = ("runs", "runs show ID", "report", "resume ID")
LOGS = ("resume ID", "train")
GROUP = ("report GROUP", "compare ID OTHER")
BOMB = "\n".join(["a: &a [x, x, x, x, x, x, x, x, x]", *(f"{two}: &{two} [{', '.join([f'*{one}'] * 9)}]" for one, two in ["ab", "bc", "cd", "de", "ef", "fg", "gh", "hi"])])  # fmt: skip  # noqa: E501
MERGES = "\n".join(["a: &a {x: 1}", *(f"{two}: &{two} {{<<: [{', '.join([f'*{one}'] * 9)}]}}" for one, two in pairwise("abcdefghi"))])
"""YAML's merge keys, which its loader multiplies while it builds."""
ESCAPES = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202e"
MARKUP = "<script>alert(1)</script>[link=file:///etc/passwd]x[/link]{{7*7}}$\\frac{"


def cases() -> dict[str, Case]:
    return {
        "config.yaml with a Python tag": Case(
            lambda f: f.write_both("config.yaml", f"seed: !!python/object/apply:os.system ['touch {f.marker}']\n"), CONFIG
        ),
        "config.yaml that unfolds without end": Case(lambda f: f.write_both("config.yaml", BOMB), CONFIG),
        "config.yaml that merges without end": Case(lambda f: f.write_both("config.yaml", MERGES), CONFIG),
        "config.yaml of 50 MB": Case(lambda f: f.write_both("config.yaml", "a: [" + "x, " * (17 * 10**6) + "]"), CONFIG),
        "config.yaml that nests": Case(lambda f: f.write_both("config.yaml", "[" * 50_000), CONFIG),
        "config.yaml with an interpolation": Case(lambda f: f.write_both("config.yaml", "name: ${oc.env:HOME}\n"), CONFIG),
        "config.yaml that asks for a network of terabytes": Case(_terabytes, CONFIG),
        "data.root at a private file": Case(lambda f: _other_data(f, {"name": "npz", "root": str(f.secret())}), CONFIG),
        "data.root that a download would fill": Case(lambda f: _other_data(f, {"name": "mnist", "root": str(f.outside)}), CONFIG),
        "summary.json with the id of a path": Case(lambda f: f.change(f.finished, lambda s: s.update(id="../../outside")), SUMMARY),
        "summary.json with a stack at a path": Case(lambda f: f.change_both(lambda s: s["stack"].update(id="../../outside")), SUMMARY),
        "summary.json that nests": Case(lambda f: f.write_both("summary.json", "[" * 100_000), SUMMARY),
        "summary.json with numbers beyond all measure": Case(_huge_numbers, SUMMARY),
        "escape sequences": Case(lambda f: f.change_both(lambda s: _everywhere(s, ESCAPES)), SHOWN),
        "markup": Case(lambda f: f.change_both(lambda s: _everywhere(s, MARKUP)), SHOWN),
        "metrics.jsonl with a line of 50 MB": Case(
            lambda f: f.write_both("metrics.jsonl", '{"step": 1, "val/loss": ' + "1" * 50_000_000 + "}\n"), CURVES
        ),
        "metrics.jsonl with keys that are markup": Case(_keys_of_markup, CURVES),
        "an event file that claims a record of 10^18 bytes": Case(lambda f: f.events.write_bytes(b"\xff" * 7 + b"\x00" * 101), LOGS),
        "a sweep of runs outside": Case(_members_outside, GROUP),
        "figures that an earlier report is said to have, outside": Case(_figures_outside, GROUP),
        "a plan that names runs outside": Case(_plan_outside, (*LOGS, "runs rm ID")),
        "matplotlib's settings in the folder": Case(_matplotlibrc, ("report", "compare ID OTHER"), ignored=True),
    }


def _terabytes(f: Folder) -> None:
    f.write_both("config.yaml", f.finished.config_yaml.read_text().replace("widths: [4]", "widths: [4096, 4096, 4096, 4096]"))


def _other_data(f: Folder, data: dict[str, Any]) -> None:
    """Other data in config.yaml and summary.json of both runs."""

    def change(run: Run) -> None:
        tree = yaml.safe_load(run.config_yaml.read_text())
        tree["data"].update(data)
        run.config_yaml.write_text(yaml.safe_dump(tree))

    f.each(change)
    f.change_both(lambda summary: summary["config"]["data"].update(data))


def _huge_numbers(f: Folder) -> None:
    text = dump_json({**f.finished.result().tree(), "seed": 10**400, "steps": 10**400})
    f.write_both("summary.json", text.replace('"checksum"', '"was"'))


def _everywhere(summary: dict[str, Any], text: str) -> None:
    """`text` at the end of every text in a summary but its id and status."""

    def put(value: Any, key: str) -> Any:
        if isinstance(value, dict):
            return {name: put(part, name) for name, part in value.items()}
        if isinstance(value, list):
            return [put(part, key) for part in value]
        return value + text if isinstance(value, str) and key not in ("id", "status", "checksum", "written_at", "norm") else value

    summary.update({key: put(value, key) for key, value in summary.items() if key != "files"})


def _keys_of_markup(f: Folder) -> None:
    keys = '"drift/</text><script>alert(1)</script>/x": 1, "drift/\\u001b[2J/x": 2'
    f.write_both("metrics.jsonl", f'{{"step": 1, "val/loss": 1, {keys}}}\n')


def _members_outside(f: Folder) -> None:
    parts = {"": ["../outside", "/etc", f.finished.id]}
    write_checked_json(f.group / "members.json", {"kind": "x" * 10**6, "parts": parts}, 1)


def _figures_outside(f: Folder) -> None:
    (f.page / "figures").mkdir(exist_ok=True)
    (f.page / "figures" / "figures.txt").write_text("../../../../outside/secret\n../../../../outside/picture\n")


def _plan_outside(f: Folder) -> None:
    write_checked_json(f.stack / "plan.json", {"members": [{"id": "../outside", "fresh": False, "config": {}}]}, 1)


def _matplotlibrc(f: Folder) -> None:
    (f.runs_dir.parent / "matplotlibrc").write_text("text.usetex: True\nbackend: module://evil\nfont.family: nothing\n")
