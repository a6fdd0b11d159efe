"""The console script started where a stranger's files lie: modules of theirs are not run, in this process or in those that it starts."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from support import ROOT

BNEXP = str(Path(sys.executable).parent / "bnexp")
TINY = ["train.steps=4", "model.widths=[2]", "metrics=off", "device=cpu"]
MODULES = (
    *("multiprocessing", "json", "logging", "pathlib", "typing", "pickle", "socket", "random", "sitecustomize", "usercustomize"),
    *("bnexp", "torch", "numpy", "yaml", "dask", "distributed", "tensorboard", "matplotlib", "hydra", "omegaconf", "typer"),
)
"""What bnexp and Python's own start-up of processes import."""


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    folder = tmp_path / "downloads"
    folder.mkdir()
    for name in MODULES:
        (folder / f"{name}.py").write_text(f"with open({str(tmp_path / 'executed')!r}, 'a') as file:\n    file.write({name!r} + '\\n')\n")
    return folder


def executed(folder: Path) -> list[str]:
    marker = folder.parent / "executed"
    return sorted(set(marker.read_text().split())) if marker.exists() else []


@pytest.mark.parametrize(
    "command",
    [
        ["train", *TINY, "--json"],
        ["sweep", "norm", "--values", "batch,none", "--seeds", "1", *TINY, "--workers", "2", "--json"],
    ],
    ids=["train", "sweep"],
)
def test_modules_in_the_working_directory_are_not_run(hostile: Path, command: list[str]) -> None:
    env = {name: value for name, value in os.environ.items() if name != "PYTHONSAFEPATH"} | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([BNEXP, *command], cwd=hostile, env=env, capture_output=True, text=True, timeout=300, check=False)
    assert executed(hostile) == [], done.stderr[-2000:]
    assert done.returncode == 0, done.stderr[-2000:]
    assert {run["status"] for run in json.loads(done.stdout).get("runs", [{"status": "finished"}])} == {"finished"}


def test_the_modules_would_be_run_where_python_looks_for_them(hostile: Path) -> None:
    """The trap itself: `python -c` looks into the working directory first, unless told not to."""
    code = f"import {', '.join(name for name in MODULES if not name.endswith('customize'))}"
    for safe, caught in (("", True), ("1", False)):
        env = {**os.environ, "PYTHONSAFEPATH": safe, "PYTHONPATH": str(ROOT)}
        subprocess.run([sys.executable, "-c", code], cwd=hostile, env=env, capture_output=True, timeout=300, check=False)
        assert bool(executed(hostile)) == caught
        (hostile.parent / "executed").unlink(missing_ok=True)
