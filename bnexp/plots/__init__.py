"""Figures. What they show is measured and summarised elsewhere: nothing here computes a statistic. No torch.

matplotlib is imported from this folder: it reads a `matplotlibrc` in the working folder, and of a pipe of that name, or of what is not
text, it would never get to our own settings (`style.own_style`). MPLBACKEND is hidden from it: Jupyter and Colab name a backend there that
only they have installed, and figures that are only written to files need none.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from pathlib import Path

if "matplotlib" not in sys.modules:
    backend = os.environ.pop("MPLBACKEND", None)
    # It writes about its caches ("building the font cache", a folder that cannot be written) on stderr, where --quiet promises silence.
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    with contextlib.suppress(FileNotFoundError), contextlib.chdir(Path(__file__).parent):  # the working folder may have been deleted
        import matplotlib
    if backend is not None:
        os.environ["MPLBACKEND"] = backend

import matplotlib

from bnexp.plots.style import Picture

__all__ = ["Picture", "matplotlib"]
