"""matplotlib, imported from a folder where nobody else can have put a `matplotlibrc`: it reads one in the working folder, and of a pipe of
that name, or of what is not text, it would never come to our own settings (`style.own_style`). MPLBACKEND is out of its sight, too: Jupyter
and Colab name one there that only they have installed, and figures that are only written to files need none."""

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
    with contextlib.suppress(FileNotFoundError), contextlib.chdir(Path(__file__).parent):  # the folder one started in may be gone
        import matplotlib
    if backend is not None:
        os.environ["MPLBACKEND"] = backend

import matplotlib

__all__ = ["matplotlib"]
