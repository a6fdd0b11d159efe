"""matplotlib, imported from a folder where nobody else can have put a `matplotlibrc`: it reads one in the working folder, and of a pipe of
that name, or of what is not text, it would never come to our own settings (`style.own_style`)."""

from __future__ import annotations

import contextlib
import logging
import sys
from pathlib import Path

if "matplotlib" not in sys.modules:
    # It tells of its caches ("building the font cache", a folder that cannot be written) on stderr, where --quiet promises silence.
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    with contextlib.suppress(FileNotFoundError), contextlib.chdir(Path(__file__).parent):  # the folder one started in may be gone
        import matplotlib

import matplotlib

__all__ = ["matplotlib"]
