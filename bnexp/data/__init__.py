"""The data: every set as tensors that lie on the device.

`load` gives a `Dataset`; `header` and `fingerprint` say what a config check and a run's id need, without torch. What needs torch is
imported on first use, so that `from bnexp.data import header` stays quick.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bnexp.data.fingerprint import fingerprint
from bnexp.data.header import header

if TYPE_CHECKING:
    from bnexp.data.augment import crop_flip, draw_crop_flip
    from bnexp.data.dataset import Dataset, Split, load

__all__ = ["Dataset", "Split", "crop_flip", "draw_crop_flip", "fingerprint", "header", "load"]


def __getattr__(name: str) -> Any:
    if name in ("Dataset", "Split", "load"):
        from bnexp.data import dataset

        return getattr(dataset, name)
    if name in ("crop_flip", "draw_crop_flip"):
        from bnexp.data import augment

        return getattr(augment, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
