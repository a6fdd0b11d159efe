"""The arrays of an .npz file: which are x and y of which part, whether shapes and types fit, and which axis holds the channels."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bnexp.base.errors import DataError, short
from bnexp.data.arrays import Array
from bnexp.data.parts import part_of

IMAGES = frozenset(("image", "images", "img", "imgs"))
"""Words for x that say what it is: MedMNIST has `train_images` [N, H, W] or [N, H, W, 3]."""
SIGNALS = frozenset(("signal", "signals"))
"""Words for x that say that its three axes are [N, C, L], whatever their lengths."""
WORDS = {"x": IMAGES | SIGNALS | {"x", "data", "features", "inputs"}, "y": frozenset(("y", "label", "labels", "target", "targets"))}
"""What arrays are called, in any case, before or after the name of a part or without one."""
MAX_COLOURS = 4
"""Channels of a picture as Keras, PIL and OpenCV store it, [H, W, C]."""
ADDED = "[:, None]"


@dataclass(frozen=True)
class Member:
    """An array as its .npy header describes it, and its name in the file."""

    shape: tuple[int, ...]
    dtype: np.dtype[np.generic]
    name: str = ""

    @property
    def bytes(self) -> int:
        """Its size in memory."""
        return math.prod(self.shape) * self.dtype.itemsize

    @property
    def holds_images(self) -> bool:
        """Whether its name says so."""
        return not IMAGES.isdisjoint(_words(self.name))

    @property
    def holds_signals(self) -> bool:
        """Whether its name says so of its three axes."""
        return len(self.shape) == 3 and not SIGNALS.isdisjoint(_words(self.name))

    @property
    def sides(self) -> str:
        """The shape of an example, in words."""
        return ", ".join(map(str, self.shape[1:]))

    @property
    def repair(self) -> str | None:
        """What brings its axes into order, see `repair`."""
        return None if self.holds_signals else repair(self.shape, images=self.holds_images)

    @property
    def example(self) -> tuple[int, ...]:
        """The shape of an example, in order."""
        if self.repair is None:
            return self.shape[1:]
        return (1, *self.shape[1:]) if self.repair == ADDED else (self.shape[-1], *self.shape[1:-1])


def role_of(name: str) -> str | None:
    """`x_train` for `train_images`, `X_train` or `x_train`; `x` for `images` or `X`; None: another array."""
    words = _words(name)
    axes = [axis for axis, known in WORDS.items() for word in words if word in known]
    parts = [part_of(word) for word in words if not any(word in known for known in WORDS.values())]
    if len(axes) != 1 or len(parts) > 1 or None in parts:
        return None
    return "_".join([*axes, *filter(None, parts)])


def _words(name: str) -> list[str]:
    return re.split(r"[\W_]+", name.lower())


def chosen(path: Path, found: Mapping[str, Member]) -> tuple[dict[str, Member], list[str]]:
    """The arrays that are used, x before y in each part, and a note on the others. Raises DataError where one is missing or ambiguous."""
    roles: dict[str, Member] = {}
    for name, member in found.items():
        role = role_of(name)
        if role is not None and role in roles:
            raise DataError(f"{path} holds {roles[role].name} and {name}, which mean the same; leave one of them out.")
        if role is not None:
            roles[role] = member
    train = "_train" if {"x_train", "y_train"} & roles.keys() else ""
    wanted = {"x_train": f"x{train}", "y_train": f"y{train}"}
    for part in ("val", "test"):
        if {f"x_{part}", f"y_{part}"} & roles.keys():
            wanted |= {f"{axis}_{part}": f"{axis}_{part}" for axis in "xy"}
    if missing := [name for name in wanted.values() if name not in roles]:
        names = short(", ".join(sorted(found)[:100]), 200) or "none"
        lacks = "arrays" if len(missing) > 1 else missing[0]
        raise DataError(
            f"{path} lacks {lacks}: it should hold x and y, or x_train, y_train, x_test and y_test (and x_val, y_val where "
            f"there is a validation part), and it holds {names}."
        )
    members = {role: roles[name] for role, name in wanted.items()}
    unused = [name for name in found if name not in {member.name for member in members.values()}]
    return members, [f"Not read: {len(unused):,} array{'s' * (len(unused) != 1)} ({short(', '.join(unused[:20]), 200)})"] * bool(unused)


def check_member(path: Path, role: str, member: Member) -> None:
    name, dtype, shape = member.name, member.dtype, list(member.shape)
    if dtype.hasobject:
        raise DataError(f"{path} holds pickled Python objects in {name}, which are never loaded; save it as an array of numbers.")
    if math.prod(shape) == 0:
        raise DataError(f"{path} has {name} of shape {shape}, which is empty.")
    if role.startswith("y"):
        if shape[1:] not in ([], [1]):
            hint = f" ({name}.argmax(1), if they are one-hot)" if len(shape) == 2 else ""
            raise DataError(f"{path} has {name} of shape {shape}; it should be [N], one label an example{hint}.")
        if dtype.kind not in "iub":
            whole = f"{name}.astype(int)" if dtype.kind == "f" else f"numpy.unique({name}, return_inverse=True)[1]"
            raise DataError(f"{path} holds {dtype} in {name}; it should be whole numbers: save {whole}.")
        return
    if dtype.kind not in "iubf":
        raise DataError(f"{path} holds {dtype} in {name}; it should be whole numbers or floats.")
    if len(shape) < 2:
        raise DataError(f"{path} has {name} of shape {shape}; it should be [N, C, ...] or [N, features].")
    if member.repair is not None and not member.holds_images:
        channels, *rest = member.shape[1:]
        read = f"{channels} channels of {'length ' if len(rest) == 1 else ''}{'x'.join(map(str, rest))}"
        signals = "_".join("signals" if word in WORDS["x"] else word for word in _words(name))
        kept = f"call it {signals}" if len(rest) == 1 else f"{name}.swapaxes(-1, -2)"
        repairs = f"save {name}{member.repair}, or {kept} if the channels do come first"
        raise DataError(f"{path} has {name} of shape [N, {member.sides}], which would be {read}: {repairs}.")


def repair(shape: tuple[int, ...], *, images: bool = False) -> str | None:
    """What to write behind an array of `shape` [N, ...] in NumPy so that it becomes [N, C, *map]; None where it reads as that already.

    `[N, H, W]` lacks an axis of channels, and `[N, H, W, C]` has it last, as `[N, T, C]` and `[N, D, H, W, C]` have. Of three axes, equal
    sides are taken for a picture's, and a second one that is more than twice the third for the time of `[N, T, C]`; all else may be
    `[N, C, L]`. `images`: the array is said to hold images, so that any three axes are `[N, H, W]`, and four equal sides are a volume's.
    """
    sides = shape[1:]
    if len(sides) == 2:
        if images or (sides[0] == sides[1] and _is_map(*sides)):
            return ADDED
        return ".transpose(0, 2, 1)" if sides[0] > 2 * sides[1] else None
    if len(sides) in (3, 4) and sides[-1] <= MAX_COLOURS and _is_map(*sides[:-1]):
        return f".transpose(0, {len(sides)}, {', '.join(map(str, range(1, len(sides))))})"
    return ADDED if images and len(sides) == 3 and _is_map(*sides) else None


def repaired(x: Array, how: str | None) -> Array:
    """`x` after what `repair` says."""
    if how is None:
        return x
    return x[:, None] if how == ADDED else np.moveaxis(x, -1, 1)


def _is_map(*sides: int) -> bool:
    """Whether these may be the sides of one picture: about equal, where the channels of signals or of layers are few or many."""
    least, largest = min(sides), max(sides)
    return least >= 5 if least == largest else least >= 8 and largest <= 2 * least
