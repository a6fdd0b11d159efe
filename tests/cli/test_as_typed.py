"""What people type: paths with anything in them, lists given twice, names from elsewhere, files and scripts from Windows. It works, or the
message has the line to type."""

from __future__ import annotations

import random
import re
import shlex
import subprocess
from pathlib import Path

import faults_input
import numpy as np
import pytest

from bnexp.base.errors import UsageError
from bnexp.base.quoting import typed
from bnexp.config.compose import compose, expand, given

AWKWARD = [
    "~/photos",
    "photos (1)",
    "müller/fotos",
    "it's",
    "a=b",
    "2024",
    "1e3",
    "true",
    "[x]",
    "{x}",
    "a;b&c#d",
    "日本",
    'say "hi"',
    "a%b!c",
]
LINE = re.compile(r"type (.*)\.$")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory and home."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "200")
    return tmp_path


def refused(*args: str) -> str:
    code, out, err, error = faults_input.call(args)
    assert (code, out, error) == (2, "", ""), err
    return " ".join(err.split())


def root_of(override: str) -> str | None:
    return compose(["data=npz", override]).data.root


@pytest.mark.parametrize("path", AWKWARD)
def test_a_path_is_taken_as_it_was_typed(path: str) -> None:
    assert root_of(f"data.root={path}") == path


def test_paths_in_quotes_and_lists_of_paths_are_still_read_as_hydra_reads_them() -> None:
    assert root_of("data.root='a, b'") == "a, b"
    assert root_of("data.root=a\\,b") == "a,b"
    assert root_of("data.root=null data") == "null data"
    assert compose(["data.root=null"]).data.root is None
    assert [config.data.root for config in expand(["data=npz", "data.root=a,b"])] == ["a", "b"]


def test_the_line_to_type_passes_the_shell_and_hydra() -> None:
    letters, draw = "ab ,=()[]'\"\\~$!#;&%:é日*?<>|^`/.-", random.Random(0)
    values = [*AWKWARD, "a,b", "a\\", "\\'", *("".join(draw.choices(letters, k=6)) for _ in range(40))]
    values = [value for value in values if "${" not in value and value.strip()]
    script = "printf '%s\\0' " + " ".join(typed("data.root", value) for value in values)
    words = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True).stdout.split("\0")[:-1]
    assert words == [shlex.split(typed("data.root", value))[0] for value in values]
    assert [root_of(word) for word in words] == values


@pytest.mark.parametrize(
    "args",
    [["train", "data=npz", "data.root=a,b"], ["sweep", "lr", "data=npz", "data.root=a,b"], ["compare", "--no-bn", "data.root=a,b"]],
    ids=["train", "sweep", "compare"],
)
def test_a_comma_in_a_path(place: Path, args: list[str]) -> None:
    np.savez(place / "x.npz", x=np.zeros((2, 2)))
    (place / "x.npz").rename(place / "a,b")
    found = LINE.search(refused(*args))
    assert found is not None
    (override,) = shlex.split(found[1])
    assert root_of(override) == "a,b"
    assert given([override]) == {"data.root": False}


@pytest.mark.parametrize("command", [["train"], ["compare", "--no-bn"], ["stats"], ["sweep", "lr"]])
def test_a_path_that_the_shell_split(place: Path, command: list[str]) -> None:
    (place / "my photos").mkdir()
    found = LINE.search(refused(*command, "data=folder", "data.root=my", "photos"))
    assert found is not None
    assert root_of(*shlex.split(found[1])) == "my photos"


def test_a_home_folder_in_an_option(place: Path) -> None:
    """Shells leave `--runs-dir=~/runs` as it is; a folder of the name ~ was made."""
    code, _, err, _ = faults_input.call(["sweep", "lr", "--dry-run", "--values", "0.1", "--out=~/results", "--runs-dir=~/runs"])
    assert code == 0, err
    assert f"no runs in {place}/home/runs" in refused("evaluate", "last", "--runs-dir=~/runs")
    assert f"no runs in {place}/home/runs" in refused("evaluate", "last", "--runs-dir", "~/runs")
    assert not (place / "~").exists()


@pytest.mark.parametrize("args", [["train\r"], ["config", "optim.lr=0.1\r"], ["train", "\r"], ["train", "--quiet\r"]])
def test_a_script_with_the_line_ends_of_windows(place: Path, args: list[str]) -> None:
    """`bnexp train \\` with such an end trained the default config, because the next line was another command."""
    assert r"sed -i 's/\r$//' SCRIPT" in refused(*args)
    script = place / "script"
    script.write_bytes(b"first\r\nsecond\r\n")
    subprocess.run(["sed", "-i", r"s/\r$//", str(script)], check=True)
    assert script.read_bytes() == b"first\nsecond\n"


def test_a_config_with_a_byte_order_mark_or_in_another_encoding(place: Path) -> None:
    (place / "experiment").mkdir()
    file = place / "experiment" / "mine.yaml"
    text = "# @package _global_\r\n# für\r\noptim:\r\n  lr: 0.3\r\n"
    file.write_text(text, encoding="utf-8-sig", newline="")
    said = refused("config", "experiment=mine", "--config-dir", str(place))
    subprocess.run(["bash", "-c", said[said.index("sed -i") :]], check=True)
    assert compose(["experiment=mine"], place).optim.lr == 0.3
    for encoding in ("utf-16", "latin-1"):
        file.write_text(text, encoding=encoding, newline="")
        said = refused("config", "experiment=mine", "--config-dir", str(place))
        subprocess.run(["bash", "-c", said[said.index("iconv") :]], check=True, cwd=place)
        (place / "NEW.yaml").rename(file)
        assert compose(["experiment=mine"], place).optim.lr == 0.3
    (place / "data").mkdir()
    (place / "data" / "own.yaml").write_text("name: digits\r\nsubset: 100\r\n", encoding="utf-8-sig", newline="")
    assert compose(["data=own"], place).data.subset == 100


@pytest.mark.parametrize(
    ("args", "line"),
    [
        (["sweep", "lr", "--values", "0.001,0.01", "--values", "0.1"], "--values 0.001,0.01,0.1"),
        (["compare", "--no-bn", "--lrs", "0.1", "--lrs", "1"], "--lrs 0.1,1"),
        (["stats", "--batch-sizes", "2", "--batch-sizes", "4"], "--batch-sizes 2,4"),
    ],
)
def test_a_list_given_twice(place: Path, args: list[str], line: str) -> None:
    """The first was dropped without a word."""
    assert f"is given 2 times; give all values at once: {line}." in refused(*args)


def test_a_space_beside_the_equals_sign() -> None:
    with pytest.raises(UsageError, match="No space stands around the ="):
        compose(["optim.lr = 0.1"])
