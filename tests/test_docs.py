"""README.md and docs/ say what exists: every command runs, links and pictures are there, and the site is built without a network."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import documents
import pytest
from documents import NEEDS, PAGES, Command, blocks, commands
from PIL import Image
from support import ROOT
from typer.main import get_command

import bnexp
from bnexp.cli import app
from bnexp.config import KEYS

README = ROOT / "README.md"
EXAMPLES_OF_HELP = ROOT / "docs/reference/commands.md"
"""Its commands do not follow one another: each has a folder of its own, with the runs that it names."""


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[Path, Path]:
    """A folder for each page, made when its first command is run."""

    class Folders(dict[Path, Path]):
        def __missing__(self, page: Path) -> Path:
            self[page] = tmp_path_factory.mktemp(page.stem.lower())
            documents.prepare(self[page], page)
            return self[page]

    return Folders()


@pytest.mark.slow
@pytest.mark.parametrize("command", commands(), ids=str)
def test_every_command_runs(command: Command, folders: dict[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if command.in_text or command.page == EXAMPLES_OF_HELP:
        monkeypatch.chdir(tmp_path)
        documents.prepare(tmp_path, command.page)
        documents.make_named_runs(command.line)
    else:
        monkeypatch.chdir(folders[command.page])
    documents.run(command)


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "python")], ids=lambda page: page.stem)
def test_every_python_block_runs(page: Path, folders: dict[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """After the page's commands, in one folder with them; by itself after a run."""
    monkeypatch.chdir(folders[page])
    documents.make_named_runs("last" if not Path("runs").exists() else "")
    names: dict[str, object] = {}
    for block in blocks(page, "python"):
        exec(block, names)
    if "rows" in names:
        assert names["rows"] == bnexp.runs("runs") != []


def test_what_is_not_run_says_why() -> None:
    """A line in a block of `sh` needs what a test does not have; blocks have no other languages."""
    for page in PAGES:
        languages = set(re.findall(r"^ *```(\w+)$", page.read_text(), re.M))
        assert languages <= {"console", "python", "sh", "text", "yaml"}, (page.name, languages)
        for line in "\n".join(blocks(page, "sh")).splitlines():
            if re.search(r"\bbnexp [a-z]", line):
                assert any(need in line for need in NEEDS), (page.name, line)


def test_every_command_of_a_text_exists() -> None:
    known = {**get_command(app).commands}  # type: ignore[attr-defined]
    for page in PAGES:
        for name, options in re.findall(r"`bnexp ([a-z][a-z-]*)([^`]*)`", page.read_text()):
            assert name in known, (page.name, name)
            declared = {option for param in known[name].params for option in param.opts}
            declared |= {option for sub in getattr(known[name], "commands", {}).values() for param in sub.params for option in param.opts}
            assert set(re.findall(r"(?<!\S)--[a-z-]+", options)) <= declared | {"--help"}, (page.name, name, options)


def test_the_readme_is_short_and_shows_the_commands() -> None:
    assert len(README.read_text().split()) <= 1200
    shown = set(re.findall(r"bnexp ([a-z]+)", README.read_text()))
    assert {"train", "sweep", "compare", "runs", "resume", "stats", "tensorboard", "config"} <= shown


def test_keys_that_pages_name_exist() -> None:
    groups = "|".join({key.partition(".")[0] for key in KEYS if "." in key})
    for page in PAGES:
        if page.name not in ("benchmarks.md", "summary.md"):
            named = {
                name for name in re.findall(rf"`((?:{groups})\.\w+)`", page.read_text()) if not name.endswith((".pt", ".jsonl", ".log"))
            }
            assert named <= set(KEYS), page.name


def test_pictures_are_there_described_and_light() -> None:
    named = []
    for page in PAGES:
        text = page.read_text()
        found = re.findall(r'<img src="([^"]+)"[^>]*? alt="([^"]+)"', text)
        found += [(path, alt) for alt, path in re.findall(r"!\[([^\]]*)\]\(([^)]+)\)", text)]
        assert len(found) == text.count("<img ") + text.count("![")
        for path, alt in found:
            assert len(alt) > 30
            with Image.open(page.parent / path) as image:
                assert image.width > 600
            assert (page.parent / path).stat().st_size < 300_000
            named.append((page.parent / path).name)
    figures = (ROOT / "scripts/figures").read_text()
    assert set(named) <= {f"{name}.png" for name in re.findall(r"^take \S+ \S+ (\S+)$", figures, re.M)}


def test_links_lead_somewhere() -> None:
    for page in PAGES:
        for link in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text()):
            assert link.startswith("http") or (page.parent / link).exists(), (page.name, link)


def test_the_site_is_built_without_a_network_and_loads_nothing_from_elsewhere(tmp_path: Path) -> None:
    """`--strict` makes a page that is not in the navigation, and a link or an anchor that leads nowhere, an error."""
    proxies = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")]
    built = subprocess.run(command, cwd=ROOT, env={**os.environ, **proxies}, capture_output=True, text=True, timeout=120)
    assert built.returncode == 0, built.stderr
    pages = list((tmp_path / "site").rglob("*.html"))
    assert len(pages) > len(PAGES) - 1
    for page in pages:
        assert not re.findall(r"""<(?:script|link|img|iframe)[^>]*(?:src|href)=["'](?:https?:)?//[^"']*""", page.read_text()), page.name


@pytest.mark.slow
def test_a_page_of_the_site_asks_no_other_host(tmp_path: Path, chromium: object) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--site-dir", str(tmp_path / "site")]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=120)
    asked: list[str] = []
    page = chromium.new_page()  # type: ignore[attr-defined]
    page.on("request", lambda request: asked.append(request.url))
    page.goto(f"file://{tmp_path}/site/tutorial/lab.html")
    details = page.locator("details").first
    assert not details.locator("strong").first.is_visible()
    details.locator("summary").click()
    assert details.locator("strong").first.is_visible()
    assert asked
    assert all(url.startswith(("file:", "data:")) for url in asked), asked
