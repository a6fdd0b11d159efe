"""Values out of a checkpoint, which may be of another program: each is checked before it replaces one that works.

All raise ValueError, which `checkpoint.load_checkpoint` takes for a checkpoint that does not fit.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

MAX_STEPS = 2**53
"""No budget has so many."""
MAX_SECONDS = 1e9
"""Thirty years; a float of so many still resolves microseconds."""


def group(value: Any, what: str) -> dict[Any, Any]:
    """A dict; a tensor, which can be indexed too, is none."""
    if not isinstance(value, dict):
        raise ValueError(f"{what} is no group")
    return value


def whole(value: Any, least: int, most: int, what: str) -> int:
    if type(value) is not int or not least <= value <= most:
        raise ValueError(f"{what} is no whole number from {least} to {most}")
    return value


def seconds(value: Any, what: str) -> float:
    if type(value) not in (int, float) or not 0 <= value <= MAX_SECONDS:
        raise ValueError(f"{what} is no time")
    return float(value)


def share(value: Any, what: str) -> float:
    """An accuracy; it may be NaN."""
    if type(value) is not float or not (0 <= value <= 1 or math.isnan(value)):
        raise ValueError(f"{what} is no share")
    return value


def tensor(value: Any, shape: tuple[int | None, ...], dtype: torch.dtype, what: str) -> Tensor:
    """A tensor of that type and shape, None where any length is right, with all its numbers stored."""
    if not isinstance(value, Tensor) or value.dtype != dtype or value.dim() != len(shape):
        raise ValueError(f"{what} is no tensor of {len(shape)} axes of {dtype}")
    if value.nbytes > value.untyped_storage().nbytes():
        raise ValueError(f"{what} is larger than what is stored of it")
    if any(known is not None and length != known for length, known in zip(value.shape, shape, strict=True)):
        raise ValueError(f"{what} has the shape {list(value.shape)}")
    return value


def tensors(value: Any, like: Mapping[str, Tensor], what: str) -> dict[str, Tensor]:
    """A state_dict of the names, shapes and types of `like`."""
    if not isinstance(value, dict) or value.keys() != like.keys():
        raise ValueError(f"{what} has other names")
    return {name: tensor(value[name], tuple(own.shape), own.dtype, f"{what} {name}") for name, own in like.items()}
