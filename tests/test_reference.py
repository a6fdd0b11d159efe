"""Declarations and what follows from them agree."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
import reference
from support import ROOT, bn
from typer.main import get_command

from bnexp.cli import app
from bnexp.config import KEYS, Config
from bnexp.storage.result import RunResult

PAGES = ROOT / "docs/reference"


def test_what_follows_from_declarations_is_written_down() -> None:
    for path, text in reference.files():
        assert path.exists(), f"{path} is missing: run scripts/reference"
        assert path.read_text() == text, f"{path} is out of date: run scripts/reference"


def _commands(command: Any, path: str) -> Iterator[tuple[str, Any]]:
    yield path, command
    for name, sub in getattr(command, "commands", {}).items():
        yield from _commands(sub, f"{path} {name}")


@pytest.mark.parametrize(("path", "command"), list(_commands(get_command(app), "bnexp"))[1:], ids=lambda item: str(item))
def test_the_page_of_commands_has_every_option_of_the_help(path: str, command: Any) -> None:
    section = (PAGES / "commands.md").read_text().split(f"## `{path}`\n")[1].split("\n## ")[0]
    help_text = bn(*path.split()[1:], "--help").stdout.split("Options:")[1].split("\nCommands:")[0]
    shown = set(re.findall(r"^ +(?:-\w, )?(--[a-z-]+).*\w", help_text, re.M)) - {"--help"}
    described = {option for param in command.params if param.help for option in param.opts if option.startswith("--")}
    assert shown & described
    assert set(re.findall(r"^\| `(?:-\w, )?(--[a-z-]+)", section, re.M)) == shown & described


def test_the_pages_have_every_config_key_and_every_key_of_a_summary() -> None:
    config = (PAGES / "config.md").read_text()
    assert all(f"| `{key}` |" in config for key in KEYS)
    summary = (PAGES / "summary.md").read_text()
    tree = RunResult("id", "finished", 0, Config()).tree()
    assert all(f"`{key}`" in summary for key in tree)
