"""A small comparison, one of whose learning rates diverges, that all tests of exports share."""

from pathlib import Path

import pytest
from support import bn_in, no_pages

from bnexp.storage.group import Group

TINY = ["model.widths=[8]", "train.steps=80", "train.eval_every=8", "device=cpu", "--quiet"]


@pytest.fixture(scope="session")
def runs_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("export") / "runs"
    with no_pages():
        bn_in(folder, "compare", "--no-bn", "--lrs", "0.1,1e6", "--seeds", "2", "--workers", "0", "metrics=light", *TINY)
    return folder


@pytest.fixture(scope="session")
def group(runs_dir: Path) -> Group:
    (found,) = [path.parent.name for path in runs_dir.glob(".groups/*/members.json")]
    return Group(runs_dir, found)
