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

SCHEMAS = [f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor" for name in ("nms", "qnms")]
_kept: list[torch.library.Library] = []
"""A library's definitions live as long as the object does."""


def torchvision_datasets() -> ModuleType:
    """The module `torchvision.datasets`. Raises DataError where torchvision is not installed, or does not work beside this torch for
    another reason."""
    for is_last in (False, True):
        try:
            return importlib.import_module("torchvision.datasets")
        except ImportError as error:
            raise DataError(f"torchvision cannot be imported ({error}); run `pip install torchvision`.") from error
        except RuntimeError as error:
            if is_last or "torchvision::" not in str(error):
                hint = "install builds that match"
                raise DataError(f"torchvision does not work beside torch {torch.__version__} ({error}); {hint}.") from error
        define_missing_operators()
        for name in [name for name in sys.modules if name == "torchvision" or name.startswith("torchvision.")]:
            del sys.modules[name]  # what the first attempt left half-made
    raise AssertionError


def define_missing_operators() -> list[str]:
    """Defines the schemas (no kernels) of the operators that are missing and returns their names: none where the builds match."""
    missing = [schema for schema in SCHEMAS if not hasattr(torch.ops.torchvision, schema.partition("(")[0])]
    if missing:
        library = torch.library.Library("torchvision", "FRAGMENT")
        for schema in missing:
            library.define(schema)
        _kept.append(library)
    return [schema.partition("(")[0] for schema in missing]
