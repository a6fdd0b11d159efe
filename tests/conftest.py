"""What several test files share: one CPU thread, tiny data sets of any dimension, a browser."""

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from support import Tiny

from bnexp.base.signals import SIGNALS
from bnexp.data import Dataset, Split
from bnexp.data.dataset import channel_statistics

LONGEST = (
    *("faults", "strange_summary", "cluster", "hostile_config", "hostile_data", "disk", "terminal", "process", "workers", "tensorboard"),
    *("metrics", "load", "wrong_input", "compare", "network", "damage", "stop", "together", "docs", "benchmarks", "report"),
)
"""Files of tests that take longest: they begin first, so that no process is left alone with one at the end."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    rank = {f"test_{name}": place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: rank.get(item.path.stem, len(rank)))


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session", autouse=True)
def cache_of_its_own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What tests keep between commands is none of the user's, and what the user's commands measured changes no test."""
    with pytest.MonkeyPatch.context() as patch:
        fonts = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "matplotlib"
        patch.setenv("MPLCONFIGDIR", os.environ.get("MPLCONFIGDIR") or str(fonts))  # its list of fonts takes seconds to make
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder for one test, that is not there yet."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="session", autouse=True)
def signals_are_heeded() -> None:
    """Also where the tests were started with `nohup` or in the background: what ignores a signal hands that down to what it starts."""
    for number in SIGNALS:
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)


@pytest.fixture(scope="session")
def tiny() -> Tiny:
    """tiny(shape, train=48, val=20, test=22, classes=3, seed=0): float examples of `shape` [C, *map], noise about one pattern a class."""

    def make(shape: tuple[int, ...], *, train: int = 48, val: int = 20, test: int = 22, classes: int = 3, seed: int = 0) -> Dataset:
        generator = torch.Generator().manual_seed(seed)
        pattern = torch.randn(classes, *shape, generator=generator)

        def split(n: int) -> Split:
            y = torch.arange(n) % classes
            return Split(3 + 2 * (pattern[y] + torch.randn(n, *shape, generator=generator)), y)

        parts = split(train), split(val), split(test)
        return Dataset("tiny", tuple(map(str, range(classes))), *parts, *channel_statistics(parts[0].x))

    return make


@pytest.fixture(scope="module")  # while it is there, an event loop runs in this thread
def chromium() -> Iterator[Any]:
    """A headless Chromium of this machine's, driven by Playwright. Nothing is installed for it: without one its tests are skipped."""
    found = next((path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip("no chromium on this machine: what needs a browser is not tested")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()
