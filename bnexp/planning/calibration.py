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
from typing import Annotated

import msgspec
from msgspec import Meta, Struct, structs

from bnexp.base.errors import reason
from bnexp.base.files import JsonObject, read_checked_json, write_checked_json
from bnexp.base.hardware import machine, on_gpu
from bnexp.base.locks import holding
from bnexp.config import Config
from bnexp.config.cost import Header
from bnexp.data.cache import cache_home
from bnexp.planning.plan import GPU_WIDEST, group_seconds, structure, widest

FORMAT = 2
"""Version of the file, and of the training step whose times it has: a change of code that changes these needs the next version, too."""
WIDTHS = tuple(2**power for power in range(GPU_WIDEST.bit_length()))
GAIN = 1.03
"""A wider stack has to be faster by this factor, a run: noise alone chooses none."""
WORTH_S = 30.0
"""Estimated seconds of training on all cores from which on a structure is worth measuring, which takes a few seconds on one core."""
LEAST_S, SHARE, MAX_S = 4.0, 0.05, 20.0
"""Seconds that measuring one structure may take: so many, or this share of its training where that is more, within bounds."""
MAX_ENTRIES, MAX_BYTES = 300, 2**20
LOCK_S = 10.0
WITHOUT_EFFECT: Mapping[str, Sequence[str]] = {
    "model": ("bn_momentum", "bn_eps", "bn_freeze_at"),
    "optim": ("beta2", "eps", "schedule", "warmup_steps", "step_size", "gamma"),
    "train": ("epochs", "steps", "target", "until_target", "eval_every"),
}
"""Keys of a structure that make no step longer or shorter. The metrics do not either, and of the data only shape and augmentation do."""


class StepTimes(Struct, frozen=True):
    """Milliseconds of one step of a whole stack by its width, and the largest width that was tried. `step` is what they depend on."""

    ms: dict[int, Annotated[float, Meta(gt=0, lt=1e9)]]
    tried: int
    measured_at: str | None = None
    step: JsonObject | None = None


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


def step_of(configs: Sequence[Config], header: Header) -> JsonObject | None:
    """What the step's time depends on: the machine, and of the structure that the configs share what has an effect on it. None where they
    are not computed alike, with one thread, or this machine cannot be identified, or they are compiled."""
    first = configs[0]
    gpu = on_gpu(first.device)
    where = machine(gpu)
    if first.compile:  # compiling each width would take longer than it measures
        return None
    alike = all(config.threads in ("auto", 1) and on_gpu(config.device) == gpu for config in configs)
    if where is None or not alike:
        return None
    tree = json.loads(structure(first))
    for part, names in WITHOUT_EFFECT.items():
        for name in names:
            tree[part].pop(name)
    shape, _, classes = header
    tree["optim"]["has_decay"] = any(config.optim.weight_decay > 0 for config in configs)
    tree["data"] = {"shape": list(shape), "classes": classes, "augment": first.data.augment}
    del tree["metrics"]
    return {**tree, "machine": msgspec.to_builtins(where)}


def worth_s() -> float:
    """Seconds of training on one core from which on a structure is worth measuring: the other cores wait meanwhile."""
    return WORTH_S * (os.cpu_count() or 1)


def label(config: Config) -> str:
    """The structure, for people."""
    network = f", {config.model.name}" if config.model.name != "blocknet" else ""
    return f"{config.data.name}, batch {config.train.batch_size}, norm {config.model.norm}{network}"


@dataclass
class Calibrated:
    """The widths for `plan`: as measured before; measured now, where that is worth it; else None, for the fixed rule.

    Attributes:
        say: called with one sentence on what is measured, and on why the stored table cannot be read or written.
        measure: None measures nothing.
        unmeasured: a config of each structure that would have been measured.
    """

    say: Callable[[str], None]
    measure: Measure | None = None
    unmeasured: list[Config] = field(default_factory=list)
    _table: dict[str, StepTimes] | None = None
    _tried: set[str] = field(default_factory=set)
    _reported: bool = False

    def __call__(self, configs: Sequence[Config], header: Header) -> int | None:
        step = step_of(configs, header)
        if step is None:
            return None
        if self._table is None:
            self._table = self._load()
        name = hashlib.sha256(json.dumps(step, sort_keys=True).encode()).hexdigest()[:16]
        known = self._table.get(name)
        widths, seconds = widths_for(configs), group_seconds(configs, header)
        if (known is None or known.tried < widths[-1]) and len(widths) > 1 and seconds >= worth_s() and name not in self._tried:
            self._tried.add(name)  # once a command, whether it succeeds or not
            if self.measure is None:
                self.unmeasured.append(configs[0])
            else:
                self.say(f"Measuring stack widths for {label(configs[0])} ...")
                found = self.measure(configs, header, widths, min(MAX_S, max(LEAST_S, SHARE * seconds)))
                known = known if found is None else self._keep(name, step, found)
        return None if known is None else choose(known.ms)

    def _load(self) -> dict[str, StepTimes]:
        path = None
        try:
            path = calibration_json()
            return read(path)
        except (OSError, ValueError) as error:
            self.say(f"The stack widths measured before cannot be read ({'' if path is None else f'{path}: '}{reason(error)}).")
            return {}

    def _keep(self, name: str, step: JsonObject, found: StepTimes) -> StepTimes:
        """Stores what was found, unless another command just did: both then use the same."""
        assert self._table is not None
        ms = {width: round(one, 4) for width, one in found.ms.items()}
        self._table[name] = StepTimes(ms, found.tried, time.strftime("%Y-%m-%dT%H:%M:%S%z"), step)
        try:
            self._table |= save(calibration_json(), name, self._table[name])
        except OSError as error:
            if not self._reported:
                self.say(f"Measured stack widths cannot be saved ({reason(error)}); this command uses them, the next measures again.")
            self._reported = True
        return self._table[name]


def calibration_json() -> Path:
    """The file. Raises OSError where this user's home is unknown."""
    return cache_home() / "bnexp" / "calibration.json"


def read(path: Path) -> dict[str, StepTimes]:
    """The file's entries by name, from the oldest on, without those that hold something else; none where there is no file. Raises OSError
    or ValueError where it cannot be read, is damaged, or of another version."""
    try:
        stored = read_checked_json(path, FORMAT, MAX_BYTES)
    except FileNotFoundError:
        return {}
    entries = stored.get("entries")
    if stored.get("format") != FORMAT or not isinstance(entries, dict):
        raise ValueError("it is of another version")
    return {name: found for name, entry in entries.items() if (found := times_in(entry)) is not None}


def times_in(entry: object) -> StepTimes | None:
    """An entry of the file; None where it holds something else."""
    try:
        found = msgspec.convert(entry, StepTimes, str_keys=True)
    except msgspec.ValidationError:
        return None
    ms = {width: found.ms[width] for width in WIDTHS if width in found.ms}
    return structs.replace(found, ms=ms) if 1 in ms and found.tried in WIDTHS else None


def save(path: Path, name: str, entry: StepTimes) -> dict[str, StepTimes]:
    """Adds an entry to the file, unless one of its name has tried as many widths; the oldest go when there are too many. Returns the
    file's entries; raises OSError where it cannot be written, or not be locked within `LOCK_S`."""
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
        if name not in entries or entries[name].tried < entry.tried:
            entries.pop(name, None)  # it becomes the newest
            entries = dict([*entries.items(), (name, entry)][-MAX_ENTRIES:])
            write_checked_json(path, {"entries": msgspec.to_builtins(entries, str_keys=True)}, FORMAT)
    return entries
