"""One override (`key=value`) in Hydra's grammar, checked before Hydra does, whose error texts recommend `+key` and name its internals."""

from __future__ import annotations

import itertools
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bnexp.base.errors import UsageError, did_you_mean, one_of, short
from bnexp.base.quoting import quoted, typed
from bnexp.config import KEYS, check_key
from bnexp.config.group_files import GROUPS, group_choices
from bnexp.config.names import key_meant

if TYPE_CHECKING:
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.core.override_parser.types import Override

BY_GROUP = {"data.name": "data", "model.name": "model"}
"""Keys that are set by choosing a group: `data=mnist`, never `data.name=mnist`, which would leave out what else data/mnist.yaml says."""
TEXTS = ("data.root", "name")
"""Keys whose values are any text. What Hydra's grammar does not read as text (`~/photos`, `2024`) is taken as it was typed."""
OPTIONS = {name: f"--{name}" for name in ("seeds", "workers", "values", "lrs", "out")} | {
    "runs_dir": "--runs-dir",
    "batch_sizes": "--batch-sizes",
}
"""Options of commands that are typed as if they were keys."""
OTHER_CHOICES = {"metrics": {"all": "full", "none": "off", "no": "off", "false": "off"}, "model": {"cnn": "blocknet", "conv": "blocknet"}}
"""What a group's files are called elsewhere."""
MAX_CELLS = 100_000
MAX_LETTERS = 10_000
"""Of one override: Hydra's parser takes a second for so many, and a hundred times as long for ten times as many."""


def parse(overrides: Sequence[str]) -> list[Override]:
    """Each override as Hydra reads it. Raises UsageError where one cannot be read, or is too long."""
    from hydra.core.override_parser.overrides_parser import OverridesParser

    parser = OverridesParser.create()
    parsed: list[Override] = []
    for at, text in enumerate(overrides):
        if len(text) > MAX_LETTERS:
            raise UsageError(f"'{short(text)}' has {len(text):,} characters; {MAX_LETTERS:,} are the most (range() writes long lists).")
        if "=" not in text and not text.startswith("~"):
            before = parsed[-1] if parsed and parsed[-1].key_or_group == "data.root" else None
            hint = f" If it belongs to the path before it, type {typed('data.root', f'{typed_value(before)} {text}')}." if before else ""
            spaced = overrides[at + 1 : at + 3]  # optim.lr = 0.1
            write = f"{text}={spaced[1]}" if spaced[:1] == ["="] and len(spaced) == 2 else meant_by_word(text)
            write = write or "key=value, for example optim.lr=0.3"
            raise UsageError(f"'{short(text)}' is not an override; write {short(write)}.{hint}")
        parsed.append(_parse_one(parser, text))
    return parsed


def _parse_one(parser: OverridesParser, text: str) -> Override:
    from hydra.errors import HydraException

    key, _, value = text.partition("=")
    as_it_is = f"{key}={quoted(value)}"
    try:
        found = parser.parse_override(text)
        if key not in TEXTS or found.is_sweep_override() or isinstance(found.value(), str | None):
            return found
    except (HydraException, ValueError) as error:  # ValueError: a number of more digits than Python reads
        if key not in TEXTS:
            reason = short((str(error).splitlines() or ["syntax error"])[0])
            spaces = " No space stands around the =." if key != key.strip() else ""
            raise UsageError(f"'{short(text)}' cannot be read as key=value: {reason}.{spaces}") from None
    except RecursionError:
        raise UsageError(f"'{short(text)}' cannot be read: its brackets are nested too deeply.") from None
    except AttributeError:  # Hydra reads functions and dictionaries with what stands in its asserts
        if not sys.flags.optimize:
            raise
        raise UsageError(
            f"'{short(text)}' cannot be read by an optimized Python: unset PYTHONOPTIMIZE (or leave out -O), or write all values out."
        ) from None
    return parser.parse_override(as_it_is)


def check(override: Override, config_dir: Path | None) -> None:
    """Raises UsageError, before Hydra does, for an unknown key, a choice that a group does not have, and Hydra's own settings."""
    key, text = override.key_or_group, echo(override)
    if override.is_delete():
        raise UsageError(f"'{text}': keys cannot be deleted; set the key to another value instead.")
    if key.split(".")[0] == "hydra" or key.split("/")[0] == "hydra":
        raise UsageError(f"'{text}' is refused: Hydra's own settings are not for bnexp's commands.")
    if override.package is not None:
        raise UsageError(f"'{text}': packages (@) are not supported; write group=NAME or key=value.")
    if key in BY_GROUP:
        raise UsageError(f"'{text}' is refused: write {BY_GROUP[key]}={short(typed_value(override)) or 'NAME'}.")
    if key not in GROUPS:
        if key in OPTIONS:
            raise UsageError(f"There is no config key '{key}'. Did you mean the option {OPTIONS[key]} {typed_value(override) or 'VALUE'}?")
        if key not in KEYS and (write := meant_by(key, typed_value(override))):
            raise UsageError(f"There is no config key '{short(key)}'. Did you mean '{short(write)}'? `bnexp config` prints them all.")
        check_key(key)
    if key in GROUPS and not override.is_sweep_override():
        value, choices = override.value(), group_choices(key, config_dir)
        if not isinstance(value, str) or value not in choices:
            known = f"; choose {one_of(choices)}" if choices else f": --config-dir names no folder with {key}/*.yaml"
            write = OTHER_CHOICES.get(key, {}).get(str(value).lower())
            hint = f" Did you mean '{write}'?" if write else did_you_mean(str(value), choices)
            raise UsageError(f"{text} names no {key} config{known}.{hint}")


def meant_by(name: str, value: str = "") -> str | None:
    """The override to type for the name of a key or a group, or what that is called elsewhere, and its value: `optim.lr=0.1` for lr,
    `model.norm=none` for bn=false. None where no key is meant."""
    key = key_meant(BY_GROUP.get(name, name), (*GROUPS, *KEYS))
    if key is None:
        return None
    low = value.lower()
    if key in GROUPS:
        value = OTHER_CHOICES.get(key, {}).get(low) or (low if low in group_choices(key) else value)
    else:
        value = KEYS[key].meant.get(low, value)
    return typed(key, value) if re.search(r"\s", value) else f"{key}={value or 'VALUE'}"


def meant_by_word(word: str) -> str | None:
    """The override to type for a single word: the data set, norm or other choice that it names, or a key with a colon after it."""
    name, colon, value = word.partition(":")
    if colon and (found := meant_by(name, value)):
        return found
    for group in GROUPS:
        if word.lower() in group_choices(group):
            return f"{group}={word.lower()}"
    norm = {choice: choice for choice in KEYS["model.norm"].choices} | {"bn": "batch", "batchnorm": "batch"}
    return f"model.norm={norm[word.lower()]}" if word.lower() in norm else None


def single_values(override: Override) -> list[Override]:
    """The single values of a sweep, each as an override of its own."""
    if not override.is_sweep_override():
        return [override]
    if not override.is_discrete_sweep() or (override.value_type is not None and override.value_type.name == "GLOB_CHOICE_SWEEP"):
        raise UsageError(f"'{echo(override)}' is no list of values; write key=a,b,c or key=range(start,stop).")
    try:
        texts = list(itertools.islice(override.sweep_string_iterator(), MAX_CELLS + 1))
    except (ValueError, ArithmeticError):  # range() with a step of 0, or NaN
        raise UsageError(f"'{echo(override)}' is no range; write key=range(start,stop) or key=range(start,stop,step).") from None
    if not texts:
        raise UsageError(f"'{echo(override)}' is empty: the grid has no cell.")
    if len(texts) > MAX_CELLS:
        raise UsageError(f"'{echo(override)}' has more than {MAX_CELLS:,} values, the most that a grid may have.")
    return parse([f"{override.key_or_group}={text}" for text in texts])


def echo(override: Override) -> str:
    return short(override.input_line or "")


def typed_value(override: Override) -> str:
    return (override.input_line or "").partition("=")[2]


def as_one_value(override: Override) -> str:
    return f" If it is one, with a comma in it, type {typed(override.key_or_group, typed_value(override))}."
