"""What a config key is, in words: meaning, type, default, range or choices, and an override that sets it.

`bnexp config --explain` prints it, and the reference in docs/ is made of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from bnexp.base.errors import UsageError, one_of, short
from bnexp.config.choices import DATASETS, MODELS
from bnexp.config.fields import Value, leaves, show
from bnexp.config.group_files import GROUPS, group_choices
from bnexp.config.names import name_hint
from bnexp.config.overrides import BY_GROUP
from bnexp.config.tree import KEYS, Config
from bnexp.norms import NORMS

MEANINGS: Mapping[str, Mapping[str, str]] = {
    name: {choice: spec.summary for choice, spec in specs.items()}
    for name, specs in (("data.name", DATASETS), ("model.name", MODELS), ("model.norm", NORMS))
}
"""What the choices of these keys are. Those of other keys say it themselves."""


@dataclass(frozen=True)
class Explanation:
    """One key."""

    key: str
    meaning: str
    type: str
    default: Value
    range: str
    """Empty where its type, or its choices, say all."""
    choices: Mapping[str, str]
    """Each choice with its meaning, which is empty where the choice says it."""
    example: str
    """One override, with those that it needs beside it."""

    @property
    def takes(self) -> str:
        """`a number, at least 0 and at most 1`, or its choices."""
        return " | ".join(self.choices) if self.choices else ", ".join(filter(None, (self.type, self.range)))


def explain(name: str = "") -> Iterator[Explanation]:
    """The key of this name, or every key of the group `name` (data, model, ...), or every key, in the order of the config.

    Raises:
        UsageError: there is no such key or group; with the nearest one.
    """
    found = [full for full in KEYS if not name or full == name or full.startswith(f"{name}.")]
    if not found and name in GROUPS:
        files = one_of(group_choices(name))
        raise UsageError(f"'{name}' has no keys of its own: {name}=NAME takes the values of a file, which is {files}.")
    if not found:
        hint = name_hint(name, (*dict.fromkeys(full.partition(".")[0] for full in KEYS), *KEYS))
        raise UsageError(f"There is no config key or group '{short(name)}'.{hint} `bnexp config --explain` explains them all.")
    defaults = dict(leaves(Config()))
    for full in found:
        key, default = KEYS[full], defaults[full]
        meanings = MEANINGS.get(full, {})
        choices = {choice: meanings.get(choice, "") for choice in key.choices}
        yield Explanation(full, key.doc, key.type_name, default, key.range, choices, _example(full, default))


def _example(name: str, default: Value) -> str:
    key = KEYS[name]
    if "=" in key.example:
        return key.example
    value: Value = key.example
    if not value:
        if key.choices:
            value = next(choice for choice in key.choices if choice != default)
        elif isinstance(default, bool):
            value = not default
        else:
            assert isinstance(default, (int, float)), f"{name} has no number to begin with: give its Key an example"
            value = 2 * default or 1
    return f"{BY_GROUP.get(name, name)}={show(value)}"
