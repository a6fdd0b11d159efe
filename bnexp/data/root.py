"""data.root as a path. The system's own refusals (a name that is too long, a user that is not there) mean that nothing is there."""

from __future__ import annotations

import os
from pathlib import Path


def user_path(root: str) -> Path:
    """`root` with a leading ~ or ~user replaced, where there is such a user."""
    return Path(os.path.expanduser(root))  # noqa: PTH111 (Path's own raises RuntimeError for a user that is not there)


def is_folder(path: Path) -> bool:
    """Whether a folder is at `path`."""
    return os.path.isdir(path)  # noqa: PTH112 (Path's own raises OSError for a name that is too long)


def is_there(path: Path) -> bool:
    """Whether anything is at `path`."""
    return os.path.exists(path)  # noqa: PTH110 (as above)
