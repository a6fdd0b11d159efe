"""Repetitions in turns: sides that are compared are measured next to each other, so that a machine that drifts drifts for all of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

T = TypeVar("T")


class NotMeasured(Exception):
    """A side cannot be measured here; the text says why, in words for the page."""


def take_turns(sides: Mapping[str, Callable[[], T]], repetitions: int, warmup: int = 1) -> tuple[dict[str, list[T]], dict[str, str]]:
    """What each side gave, `repetitions` times after `warmup` times that are thrown away; and why some sides gave nothing.

    Who is first alternates. A side that fails once is left out from then on, and the others go on.
    """
    found: dict[str, list[T]] = {name: [] for name in sides}
    failed: dict[str, str] = {}
    for repetition in range(-warmup, repetitions):
        for name in [*sides][:: -1 if repetition % 2 else 1]:
            if name not in failed:
                try:
                    value = sides[name]()
                except NotMeasured as error:
                    failed[name] = str(error)
                    del found[name]
                    continue
                if repetition >= 0:
                    found[name].append(value)
    return found, failed
