"""How wide stacks are on this machine: times of the real training step by width, measured once, kept in the user's cache folder, and from
then on a part of the plan's rule. No torch.

The file is `$XDG_CACHE_HOME/bnexp/calibration.json`. Without it, and for what it does not hold, `plan`'s fixed rule says how wide.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bnexp.base.errors import reason
from bnexp.base.files import read_checked_json, write_checked_json
from bnexp.base.hardware import machine, on_gpu
from bnexp.base.locks import holding
from bnexp.config import Config
from bnexp.config.cost import Header
from bnexp.data.cache import cache_home
from bnexp.planning.plan import GPU_WIDEST, group_seconds, structure, widest

FORMAT = 2
"""Version of the file, and of the training step that it has times of: a change that moves these is a reason for the next, too."""
WIDTHS = tuple(2**power for power in range(GPU_WIDEST.bit_length()))
GAIN = 1.03
"""A wider stack has to be faster by this factor, a run: noise alone chooses none."""
WORTH_S = 30.0
"""Seconds of training on all cores, as estimated, from which on a structure is worth measuring, which takes a few of them on one core."""
LEAST_S, SHARE, MAX_S = 4.0, 0.05, 20.0
"""Seconds that measuring one structure may take: so many, or this share of its training where that is more, within bounds."""
MAX_ENTRIES, MAX_BYTES, MAX_MS = 300, 2**20, 1e9
LOCK_S = 10.0
UNSEEN: Mapping[str, Sequence[str]] = {
    "model": ("bn_momentum", "bn_eps", "bn_freeze_at"),
    "optim": ("beta2", "eps", "schedule", "warmup_steps", "step_size", "gamma"),
    "train": ("epochs", "steps", "target", "until_target", "eval_every"),
}
"""Keys of a structure that make no step longer or shorter. No more do the metrics, and data but by their shape and augmentation."""


@dataclass(frozen=True)
class StepTimes:
    """Milliseconds of one step of a whole stack, by its width, and up to which width it was tried: wider ones had lost, or were not asked
    for."""

    ms: Mapping[int, float]
    tried: int


Measure = Callable[[Sequence[Config], Header, Sequence[int], float], StepTimes | None]
"""Times the step of a structure's configs at the widths, for at most about so many seconds; None: it cannot be measured here."""


def choose(ms: Mapping[int, float]) -> int:
    """The width of a table: from narrow to wide, one is taken if a run's share of its step is clearly less than the best so far."""
    best = 1
    for width in sorted(ms):
        if ms[width] / width < ms[best] / best / GAIN:
            best = width
    return best


def has_lost(ms: Mapping[int, float]) -> bool:
    """Whether the two widest of a table gain nothing, so that still wider ones need not be tried."""
    return sorted(ms).index(choose(ms)) <= len(ms) - 3


def widths_for(configs: Sequence[Config]) -> tuple[int, ...]:
    """The widths that are tried for the configs of one structure: up to the first that holds them all, and no wider than their device's."""
    return tuple(width for width in WIDTHS if width < 2 * len(configs) and width <= widest(configs[0]))


def step_of(configs: Sequence[Config], header: Header) -> dict[str, Any] | None:
    """What the step's time depends on, with the machine: the structure that the configs share, without what a step does not see. None where
    they are not computed alike, with one thread, or this machine cannot be identified, or they are compiled."""
    first = configs[0]
    gpu = on_gpu(first.device)
    where = machine(gpu)
    if first.compile:  # compiling each width would take longer than it measures
        return None
    alike = all(config.threads in ("auto", 1) and on_gpu(config.device) == gpu for config in configs)
    if where is None or not alike:
        return None
    tree = json.loads(structure(first))
    for part, names in UNSEEN.items():
        for name in names:
            tree[part].pop(name)
    shape, _, classes = header
    tree["optim"]["has_decay"] = any(config.optim.weight_decay > 0 for config in configs)
    tree["data"] = {"shape": list(shape), "classes": classes, "augment": first.data.augment}
    return {**{part: value for part, value in tree.items() if part != "metrics"}, "machine": where}


def worth_s() -> float:
    """Seconds of training on one core from which on a structure is worth measuring: others wait meanwhile."""
    return WORTH_S * (os.cpu_count() or 1)


def label(config: Config) -> str:
    """The structure, for people."""
    network = f", {config.model.name}" if config.model.name != "blocknet" else ""
    return f"{config.data.name}, batch {config.train.batch_size}, norm {config.model.norm}{network}"


@dataclass
class Calibrated:
    """The widths that `plan` asks for: as measured before; measured now, where that is worth it; else None, for the fixed rule.

    Attributes:
        say: called, with one sentence each, on what is measured, and what of the stored table cannot be used or stored.
        measure: None measures nothing.
        unmeasured: a config of each structure that would have been measured.
    """

    say: Callable[[str], None]
    measure: Measure | None = None
    unmeasured: list[Config] = field(default_factory=list)
    _table: dict[str, dict[str, Any]] | None = None
    _named: set[str] = field(default_factory=set)
    _told: bool = False

    def __call__(self, configs: Sequence[Config], header: Header) -> int | None:
        step = step_of(configs, header)
        if step is None:
            return None
        if self._table is None:
            self._table = self._load()
        name = hashlib.sha256(json.dumps(step, sort_keys=True).encode()).hexdigest()[:16]
        known = times_in(self._table.get(name))
        widths, seconds = widths_for(configs), group_seconds(configs, header)
        if (known is None or known.tried < widths[-1]) and len(widths) > 1 and seconds >= worth_s() and name not in self._named:
            self._named.add(name)  # once a command, whatever comes of it
            if self.measure is None:
                self.unmeasured.append(configs[0])
            else:
                self.say(f"Measuring stack widths for {label(configs[0])} ...")
                found = self.measure(configs, header, widths, min(MAX_S, max(LEAST_S, SHARE * seconds)))
                known = known if found is None else self._keep(name, step, found)
        return None if known is None else choose(known.ms)

    def _load(self) -> dict[str, dict[str, Any]]:
        path = None
        try:
            path = calibration_json()
            return read(path)
        except (OSError, ValueError) as error:
            self.say(f"The stack widths measured before cannot be read ({'' if path is None else f'{path}: '}{reason(error)}).")
            return {}

    def _keep(self, name: str, step: dict[str, Any], found: StepTimes) -> StepTimes:
        """Stores what was found, unless another command just did: both then go by the same."""
        assert self._table is not None
        ms = {str(width): round(one, 4) for width, one in found.ms.items()}
        self._table[name] = {"ms": ms, "tried": found.tried, "measured_at": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "step": step}
        try:
            self._table.update(save(calibration_json(), name, self._table[name]))
        except OSError as error:
            if not self._told:
                self.say(f"Measured stack widths cannot be saved ({reason(error)}); this command uses them, the next measures again.")
            self._told = True
        return times_in(self._table[name]) or found


def calibration_json() -> Path:
    """The file. Raises OSError where nobody knows this user's home."""
    return cache_home() / "bnexp" / "calibration.json"


def read(path: Path) -> dict[str, dict[str, Any]]:
    """The file's entries, as yet unchecked, by name and from the oldest on; none where there is no file. Nothing is made.

    Raises:
        OSError, ValueError: it cannot be read, is damaged, or of another version.
    """
    try:
        stored = read_checked_json(path, FORMAT, MAX_BYTES)
    except FileNotFoundError:
        return {}
    entries = stored.get("entries")
    if stored.get("format") != FORMAT or not isinstance(entries, dict):
        raise ValueError("it is of another version")
    return entries


def times_in(entry: object) -> StepTimes | None:
    """What an entry of the file says, where it says what we write: whoever wrote it."""
    if not isinstance(entry, dict) or not isinstance(ms := entry.get("ms"), dict) or entry.get("tried") not in WIDTHS:
        return None
    found = {width: ms[str(width)] for width in WIDTHS if str(width) in ms}
    if 1 not in found or not all(type(one) in (int, float) and 0 < one < MAX_MS for one in found.values()):
        return None
    return StepTimes(found, entry["tried"])


def save(path: Path, name: str, entry: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Adds an entry to what the file holds by now, but for one of its name that tried as much; the oldest go when there are too many.

    Returns:
        The file's entries.

    Raises:
        OSError: it cannot be written, or not be locked within `LOCK_S`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    begun = time.monotonic()

    def wait() -> None:
        if time.monotonic() - begun > LOCK_S:
            raise TimeoutError(errno.ETIMEDOUT, "another process holds its lock", str(path))

    with holding(path.with_name(f"{path.name}.lock"), wait):
        try:
            entries = read(path)
        except (OSError, ValueError):
            entries = {}
        there, new = times_in(entries.get(name)), times_in(entry)
        if there is None or new is None or there.tried < new.tried:
            entries = dict([*((key, value) for key, value in entries.items() if key != name), (name, entry)][-MAX_ENTRIES:])
            write_checked_json(path, {"entries": entries}, FORMAT)
    return entries
