"""The README says what is there: its commands run, its tables name what exists."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.main import get_command
from typer.testing import CliRunner

import bnexp
from bnexp.cli import app
from bnexp.config import KEYS

README = (Path(__file__).parent.parent / "README.md").read_text()
COMMANDS = [line[2:] for block in re.findall(r"```console\n(.*?)```", README, re.S) for line in block.splitlines() if line.startswith("$ ")]
SHORT = ["train.epochs=null", "train.steps=6", "model.widths=[4]"]
OPTIONS = "seeds fresh stats folded host port values workers scheduler dry-run out no-bn norm lrs batch-sizes"
OFFLINE = ["data=digits"]  # the sets that would be downloaded


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("readme")
    pixels = np.random.default_rng(0).integers(256, size=(2, 40, 8, 8, 3), dtype=np.uint8)
    for name, images in zip(("cats", "dogs"), pixels, strict=True):  # the README's `photos`
        (folder / "photos" / name).mkdir(parents=True)
        for index, image in enumerate(images):
            Image.fromarray(image).save(folder / "photos" / name / f"{index}.png")
    return folder


def test_the_readme_shows_every_command() -> None:
    shown = {shlex.split(line)[1] for line in COMMANDS}
    assert {"train", "sweep", "compare", "evaluate", "runs", "stats", "report", "tensorboard", "config"} <= shown
    assert len(COMMANDS) >= 10
    for name, command in get_command(app).commands.items():  # type: ignore[attr-defined]
        assert re.search(rf"\| `bnexp {name}\b", README), name
        for option in (f"--{name}" for name in OPTIONS.split()):
            if any(option in param.opts for param in command.params):
                assert re.search(rf"\| `bnexp {name}[^|]*(\\\|[^|]*)*{option}", README), (name, option)


@pytest.mark.slow
@pytest.mark.parametrize("line", [line for line in COMMANDS if " tensorboard" not in line])
def test_the_readmes_commands_run(line: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the README's order and one folder; training is shortened by appended overrides."""
    monkeypatch.chdir(folder)
    args = shlex.split(line)[1:]
    if args[0] == "train":
        args += SHORT + (OFFLINE if re.search(r"data=(mnist|cifar10)\b|ioffe", line) else [])
    elif args[0] == "sweep" or "--no-bn" in args:
        args += [*SHORT, *(OFFLINE if re.search(r"data=(mnist|cifar10)\b|ioffe", line) else []), "--workers", "0"]
        args += [] if "seed=" in line else ["--seeds", "1"]
        several = {"batch-size": "--values=32,64", "lr": "--values=0.1,1", "norm": "--values=batch,none", "--no-bn": "--lrs=0.1,1"}
        args = [word for before, word in zip(["", *args], args, strict=False) if not {before, word} & {"--values", "--lrs"}]
        args += [option for name, option in several.items() if name in args]
    result = CliRunner().invoke(app, args, prog_name="bnexp")
    assert result.exit_code == 0, (result.stdout, result.stderr, result.exception)
    assert result.stdout


def test_the_readmes_pictures_are_there_described_and_light() -> None:
    root = Path(__file__).parent.parent
    docs = {root: README, root / "docs": "\n".join(path.read_text() for path in (root / "docs").glob("*.md"))}
    named = []
    for folder, text in docs.items():
        found = re.findall(r'<img src="([^"]+)"[^>]*? alt="([^"]+)"', text) + [
            (p, alt) for alt, p in re.findall(r"!\[([^\]]*)\]\(([^)]+)\)", text)
        ]
        assert len(found) == text.count("<img ") + text.count("![")
        for path, alt in found:
            assert len(alt) > 30
            with Image.open(folder / path) as image:
                assert image.width > 600
            assert (folder / path).stat().st_size < 300_000
            named.append((folder / path).name)
    figures = (root / "scripts/figures").read_text()
    assert set(named) <= {f"{name}.png" for name in re.findall(r"^take \S+ \S+ (\S+)$", figures, re.M)}


def test_links_lead_somewhere() -> None:
    root = Path(__file__).parent.parent
    for path in (root / "README.md", *(root / "docs").glob("*.md")):
        for link in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", path.read_text()):
            assert link.startswith("http") or (path.parent / link).exists(), (path.name, link)


@pytest.mark.slow
def test_the_readmes_python_runs(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    (code,) = re.findall(r"```python\n(.*?)```", README, re.S)
    names: dict[str, object] = {}
    exec(code, names)
    assert names["rows"] == bnexp.runs("runs")
    assert names["rows"]


def test_the_readmes_tables_name_what_exists() -> None:
    config = README.split("## Config")[1].split("##")[0]
    named = set(re.findall(r"`((?:data|model|optim|train|metrics)\.\w+|seed|name|device|precision|compile|threads)`", config))
    assert named <= set(KEYS)
    assert len(named) > 20
