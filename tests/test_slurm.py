"""The Slurm batch script: what can be known of it without Slurm."""

import os
import re
import subprocess
from pathlib import Path

import pytest
from click import Command
from distributed.cli.dask_scheduler import main as scheduler
from distributed.cli.dask_worker import main as worker

SCRIPT = Path(__file__).parent.parent / "scripts" / "slurm" / "sweep.sbatch"


def run(*args: str, **environment: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SLURM_")}
    return subprocess.run([*args], env={**kept, **environment}, capture_output=True, text=True, timeout=60)


def test_bash_takes_the_script() -> None:
    assert run("bash", "-n", str(SCRIPT)).returncode == 0


def test_slurm_reads_every_option() -> None:
    """sbatch stops reading #SBATCH lines at the first command."""
    lines = SCRIPT.read_text().splitlines()
    first = next(number for number, line in enumerate(lines) if line and not line.startswith("#"))
    assert [line for line in lines[first:] if line.startswith("#SBATCH")] == []
    assert any(line.startswith("#SBATCH --signal=B:TERM@") for line in lines[:first])


@pytest.mark.parametrize(("name", "command"), [("scheduler", scheduler), ("worker", worker)])
def test_dask_knows_the_options(name: str, command: Command) -> None:
    text = SCRIPT.read_text().replace("\\\n", " ")
    line = next(line for line in text.splitlines() if f"dask {name} " in line)
    used = set(re.findall(r"(?<!\S)--[a-z-]+", line.split(f"dask {name} ")[1]))
    known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    assert used
    assert used | {"--host", "--interface"} <= known


@pytest.mark.parametrize(
    ("job", "args", "said"),
    [("", ["sweep", "lr"], "start it with sbatch"), ("1", [], "say what to do"), ("1", ["sweep", "lr"], "there is no bnexp")],
)
def test_what_cannot_start_says_why(tmp_path: Path, job: str, args: list[str], said: str) -> None:
    place = {"SLURM_JOB_ID": job, "SLURM_SUBMIT_DIR": str(tmp_path), "PATH": "/usr/bin:/bin", "BNEXP_VENV": ""}
    done = run("bash", str(SCRIPT), *args, **place)
    assert done.returncode == 2
    assert said in done.stderr
    assert list(tmp_path.iterdir()) == []
