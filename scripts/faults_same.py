"""Whether two runs folders hold the same, as far as the same command must give it again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

TIMED = ("speed", "written_at", "environment", "reached_train_s", "seconds", "step_ms", "train_s", "metrics.jsonl", "command", "checksum")
"""Parts of keys whose values are times, depend on times, or name the program."""


def contents(folder: Path) -> dict[str, Any]:
    """What a runs folder holds, by path, as far as the same command must give it again: bytes, numbers, or only the name."""
    found: dict[str, Any] = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = str(path.relative_to(folder))
        if path.name in ("config.yaml", "model.pt"):
            found[name] = path.read_bytes()
        elif path.name == "metrics.jsonl":
            found[name] = [untimed(json.loads(line)) for line in path.read_text().splitlines()]
        elif path.name.startswith("events.out.tfevents"):
            found.setdefault(f"{path.parent.relative_to(folder)}/events", []).extend(_scalars(path))
        elif path.suffix == ".json":
            found[name] = untimed(json.loads(path.read_text()))
            if "stacks" in found[name]:  # a plan's; their order is that in which they were begun
                found[name]["stacks"].sort()
        else:
            found[name] = "there"
    return {name: sorted(value) if name.endswith("/events") else value for name, value in found.items()}


def untimed(value: Any) -> Any:
    """A JSON value without the keys that hold times or the process."""
    if isinstance(value, dict):
        return {key: untimed(part) for key, part in value.items() if not any(name in key for name in TIMED)}
    return [untimed(part) for part in value] if isinstance(value, list) else value


def _scalars(path: Path) -> list[tuple[str, int, float]]:
    from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader
    from tensorboard.compat.proto.event_pb2 import Event

    found = []
    for raw in RawEventFileLoader(str(path)).Load():
        event = Event.FromString(raw)
        for value in event.summary.value:
            if value.HasField("simple_value") and not any(name in value.tag for name in TIMED):
                found.append((value.tag, event.step, value.simple_value))
    return found


def difference(whole: dict[str, Any], now: dict[str, Any]) -> str | None:
    """The first thing that is not as in the uninterrupted one."""
    if missing := sorted(whole.keys() - now.keys()):
        return f"{missing[0]} is not there"
    if left := sorted(now.keys() - whole.keys()):
        return f"{left[0]} is left over"
    for name, value in whole.items():
        if repr(now[name]) != repr(value):  # by their text, in which NaN is NaN
            return f"{name} differs{_where(value, now[name])}"
    return None


def _where(value: Any, other: Any, path: str = "") -> str:
    if isinstance(value, dict) and isinstance(other, dict):
        for key in value.keys() | other.keys():
            if repr(value.get(key)) != repr(other.get(key)):
                return _where(value.get(key), other.get(key), f"{path}/{key}")
    if isinstance(value, list) and isinstance(other, list):
        if len(value) != len(other):
            return f" at {path}: {len(value)} and {len(other)} items"
        for index, (one, two) in enumerate(zip(value, other, strict=True)):
            if repr(one) != repr(two):
                return _where(one, two, f"{path}/{index}")
    return f" at {path}: {repr(value)[:80]} and {repr(other)[:80]}"
