"""What a summary.json may hold, key by key. A stranger's is looked at before anybody computes with it or prints it.

Only what is there is checked: a summary from before a key existed lacks it, and one from a later version may have more. A group that is
null was not known yet when the summary was written.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Mapping
from typing import Any, Literal, get_args, get_origin

from bnexp.base.errors import short
from bnexp.config import KEYS

STATUSES = ("finished", "diverged", "failed", "interrupted", "running")
MAX_WHOLE = 2**53
"""No count, step or seed is larger: floats would not tell it from the next."""
MAX_NUMBER = 1e150
"""Nothing that is measured in float32 is larger, and its square is still a number."""
MAX_DEPTH = 8
"""Levels of what is under a key that is not known here. Ours have three."""

Kinds = frozenset[type]
_NONE = type(None)
_NUMBER: Kinds = frozenset((int, float, _NONE))
_WHOLE: Kinds = frozenset((int, _NONE))
_TEXT: Kinds = frozenset((str, _NONE))
_FLAG: Kinds = frozenset((bool, _NONE))
_SCORE: dict[str, Kinds] = {"loss": _NUMBER, "accuracy": _NUMBER}
_OURS: dict[str, Any] = {
    "seed": _WHOLE,
    "budget": {"steps": _WHOLE, "until_target": _FLAG},
    **dict.fromkeys(("steps", "diverged_at_step", "parameters"), _WHOLE),
    "epochs": _NUMBER,
    "test": {
        **dict.fromkeys(("running", "precise"), _SCORE),
        "batch": {**_SCORE, "accuracy_std": _NUMBER, "shuffles": _WHOLE},
        **{"per_class_accuracy": [_NUMBER], "confusion": [[_WHOLE]], "correct": _TEXT, "chance": _NUMBER},
    },
    "train": {**_SCORE, "images": _WHOLE},
    "val": {**_SCORE, "best_accuracy": _NUMBER, "best_step": _WHOLE},
    "target": {"accuracy": _NUMBER, "reached_step": _WHOLE, "previous_step": _WHOLE, "reached_train_s": _NUMBER},
    "audit": {
        **dict.fromkeys(("initial_weights", "batch_order"), _TEXT),
        "batch_order_epochs": _WHOLE,
        "parameters": dict.fromkeys(("weights", "biases", "norm"), _WHOLE),
    },
    "running_statistics": {"initial_weight": _NUMBER, "warm": _FLAG},
    "speed": dict.fromkeys(("train_s", "compile_s", "eval_s", "metrics_s", "images_per_s", "step_ms_median"), _NUMBER),
    "data": {
        **dict.fromkeys(("name", "fingerprint"), _TEXT),
        **dict.fromkeys(("train", "val", "test"), _WHOLE),
        **{"shape": [_WHOLE], "classes": [_TEXT], "mean": [_NUMBER], "std": [_NUMBER]},
    },
    "stack": {"id": _TEXT, "width": _WHOLE},
    "environment": {},
    "files": {},
    "nonfinite": [_TEXT],
    **dict.fromkeys(("written_at", "error"), _TEXT),
}


def check_summary(summary: Mapping[str, Any]) -> None:
    """Looks at every key.

    Raises:
        ValueError: one holds what no run has written there.
    """
    if summary.get("status") not in STATUSES:
        raise ValueError(f"its status is {_echo(summary.get('status'))}")
    if not isinstance(summary.get("config"), dict):
        raise ValueError("it has no config")
    _check(summary, _shape(), "")


@functools.cache
def _shape() -> Mapping[str, Any]:
    """The kinds under each key: of the config's, those that the config's own description gives."""
    config: dict[str, Any] = {}
    for name, known in KEYS.items():
        *path, last = name.split(".")
        node = config
        for part in path:
            node = node.setdefault(part, {})
        node[last] = _kinds(known.types)
    return {**_OURS, "config": config}


def _kinds(options: tuple[Any, ...]) -> Any:
    if get_origin(options[0]) is tuple:
        return [_kinds(get_args(options[0])[:1])]
    kinds = {type(word) for option in options if get_origin(option) is Literal for word in get_args(option)}
    kinds |= {option for option in options if isinstance(option, type)}
    return frozenset(kinds | {int} if float in kinds else kinds)


def _check(part: Mapping[str, Any], shape: Mapping[str, Any], path: str) -> None:
    """Ten thousand summaries are read for a list: the common case, a plain value of the right kind, comes first and calls nothing."""
    for name, value in part.items():
        wanted, kind = shape.get(name), type(value)
        if type(wanted) is frozenset:
            if kind in wanted and ((0 <= value <= MAX_WHOLE) if kind is int else kind is not float or -MAX_NUMBER <= value <= MAX_NUMBER):
                continue
            raise ValueError(f"its {short(path + name)} is {_echo(value)}")
        if type(wanted) is dict:
            if kind is dict:
                _check(value, wanted, f"{path}{name}.")
            elif value is not None:
                raise ValueError(f"its {short(path + name)} is {_echo(value)}, and no group")
        elif wanted is not None:
            _check_list(value, wanted, path + name)
        else:
            _check_unknown(value, path + name, 0)


def _check_list(value: Any, wanted: list[Any], name: str) -> None:
    """Items by the whole, as a confusion matrix may have a million."""
    if value is None:
        return
    (inner,) = wanted
    if type(value) is not list:
        raise ValueError(f"its {short(name)} is {_echo(value)}, and no list")
    if type(inner) is list:
        if not set(map(type, value)) <= {list, _NONE}:
            raise ValueError(f"its {short(name)} has rows that are no lists")
        _check_list(list(itertools.chain.from_iterable(filter(None, value))), inner, name)
        return
    kinds = set(map(type, value))
    if not kinds <= inner:
        raise ValueError(f"its {short(name)} has items of another kind")
    if int in inner and (numbers := [item for item in value if item is not None] if _NONE in kinds else value):
        least, most = (-MAX_NUMBER, MAX_NUMBER) if float in inner else (0, MAX_WHOLE)
        if min(numbers) < least or max(numbers) > most:
            raise ValueError(f"its {short(name)} has items beyond all measure")


def _check_unknown(value: Any, name: str, depth: int) -> None:
    if isinstance(value, (dict, list)):
        if depth == MAX_DEPTH:
            raise ValueError(f"its {short(name)} is nested too deeply")
        for part in value.values() if isinstance(value, dict) else value:
            _check_unknown(part, name, depth + 1)
    elif isinstance(value, (int, float)) and not -MAX_NUMBER <= value <= MAX_NUMBER:
        raise ValueError(f"its {short(name)} is beyond all measure")


def _echo(value: Any) -> str:
    """A value in a few words: a group or list may be of any size, and Python writes no number of 5,000 digits."""
    if isinstance(value, (dict, list)):
        return "a group" if isinstance(value, dict) else "a list"
    return hex(value)[:20] if isinstance(value, int) and abs(value) > MAX_WHOLE else short(repr(value), 40)
