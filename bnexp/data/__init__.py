"""The data: every set as tensors on the device.

`load` gives a `Dataset`; `header` and `fingerprint` say what a config check and a run's id need, without torch. Each is
imported on first use, so that `from bnexp.data import header` loads no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bnexp.data.augment import crop_flip, draw_crop_flip
    from bnexp.data.dataset import Dataset, Split, load
    from bnexp.data.facts import fingerprint, header

__all__ = ["Dataset", "Split", "crop_flip", "draw_crop_flip", "fingerprint", "header", "load"]


MODULES = {
    **dict.fromkeys(("Dataset", "Split", "load"), "dataset"),
    **dict.fromkeys(("crop_flip", "draw_crop_flip"), "augment"),
    **dict.fromkeys(("fingerprint", "header"), "facts"),
}


def __getattr__(name: str) -> Any:
    if name in MODULES:
        return getattr(import_module(f"bnexp.data.{MODULES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
