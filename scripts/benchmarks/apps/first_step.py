"""`bnexp train` until it has made its first training step; ends right there. The argument is the runs folder."""

from __future__ import annotations

import importlib.util
import os
import sys
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from bnexp.cli import main


class EndsWithTheFirstStep(MetaPathFinder):
    """Imports `bnexp.training.fit` when the command does, and no earlier: the order of a start-up is a part of it."""

    def find_spec(self, name: str, path: object, target: ModuleType | None = None) -> ModuleSpec | None:
        if name != "bnexp.training.fit":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        assert spec is not None
        assert spec.loader is not None
        execute = spec.loader.exec_module

        def executed(module: Any) -> None:
            execute(module)
            made = module.train_step

            def step(*args: Any) -> None:
                made(*args)
                os._exit(0)

            module.train_step = step

        spec.loader.exec_module = executed  # type: ignore[method-assign]
        return spec


if __name__ == "__main__":
    sys.meta_path.insert(0, EndsWithTheFirstStep())
    sys.argv = ["bnexp", "train", "device=cpu", "threads=1", "--fresh", "--quiet", "--runs-dir", sys.argv[1]]
    main()
    sys.exit("no step was made")
