"""Imports torchvision's data sets where torch and torchvision are builds that do not match.

The registry has torchvision 0.28 as a CUDA build only. Beside a CPU torch its native library cannot be loaded, so the operators `nms` and
`qnms` are never defined, and its import dies with `operator torchvision::nms does not exist` when it registers their shapes. The data sets
need no native operator: it is enough that the two names exist. Where the builds match, nothing here happens.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType

import torch

from bnexp.base.errors import DataError

SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
_kept: list[torch.library.Library] = []
"""A library's definitions live as long as the object does."""


def torchvision_datasets() -> ModuleType:
    """The module `torchvision.datasets`. Raises DataError where torchvision is not installed, or does not work beside this torch for
    another reason."""
    try:
        return importlib.import_module("torchvision.datasets")
    except ImportError as error:
        raise DataError(f"torchvision cannot be imported ({error}); run `pip install torchvision`.") from error
    except RuntimeError as error:
        if "torchvision::" not in str(error):
            raise DataError(f"torchvision does not work beside torch {torch.__version__} ({error}); install builds that match.") from error
    define_missing_operators()
    for name in [name for name in sys.modules if name == "torchvision" or name.startswith("torchvision.")]:
        del sys.modules[name]  # what the first attempt left half-made
    try:
        return importlib.import_module("torchvision.datasets")
    except (ImportError, RuntimeError) as error:
        raise DataError(f"torchvision does not work beside torch {torch.__version__} ({error}); install builds that match.") from error


def define_missing_operators() -> list[str]:
    """Defines the schemas (no kernels) of the operators that are not there; returns their names, none where the builds match."""
    missing = [schema for schema in SCHEMAS if not hasattr(torch.ops.torchvision, schema.partition("(")[0])]
    if missing:
        library = torch.library.Library("torchvision", "FRAGMENT")
        for schema in missing:
            library.define(schema)
        _kept.append(library)
    return [schema.partition("(")[0] for schema in missing]
