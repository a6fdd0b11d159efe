"""The Slurm batch script: what can be known of it without Slurm."""

import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest
from click import Command
from distributed.cli.dask_scheduler import main as scheduler
from distributed.cli.dask_worker import main as worker
from support import ROOT

SCRIPT = ROOT / "scripts" / "slurm" / "sweep.sbatch"


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
    assert any(line.startswith("#SBATCH --signal=B:USR1@") for line in lines[:first])
    assert "#SBATCH --requeue" in lines[:first]


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


FAKES = {
    "dask": """
        while [ $# -gt 0 ]; do [ "$1" != --scheduler-file ] || file=$2; shift; done
        echo $$ >scheduler.pid; [ -e never ] || echo {} >"$file"; exec sleep 60""",
    "srun": "while kill -0 $(<scheduler.pid); do sleep 0.05; done",
    "scontrol": 'echo "$@" >>scontrol.log',
    "bnexp": """
        trap 'echo TERM >>bnexp.log; exit 130' TERM
        trap 'echo USR1 >>bnexp.log; exit ${BNEXP_CODE:-130}' USR1
        touch training; while :; do sleep 0.05; done""",
}
"""Instead of Slurm's and Dask's programs and of a training: what the script does with signals is seen without them."""


@pytest.mark.parametrize(
    ("number", "environment", "code", "saved", "requeued"),
    [
        (signal.SIGUSR1, {}, 130, ["USR1"], True),
        pytest.param(signal.SIGUSR1, {"SLURM_RESTART_COUNT": "99"}, 130, ["USR1"], True, marks=pytest.mark.slow),
        pytest.param(signal.SIGUSR1, {"SLURM_RESTART_COUNT": "100"}, 130, ["USR1"], False, marks=pytest.mark.slow),
        pytest.param(signal.SIGUSR1, {"BNEXP_CODE": "0"}, 0, ["USR1"], False, marks=pytest.mark.slow),  # it had come to its end
        (signal.SIGTERM, {}, 130, ["TERM"], False),
    ],
)
def test_before_the_time_limit_it_saves_and_requeues_itself_and_a_term_saves_and_ends_it(
    tmp_path: Path, number: signal.Signals, environment: dict[str, str], code: int, saved: list[str], requeued: bool
) -> None:
    process = job(tmp_path, environment)
    appears(tmp_path / "training")
    process.send_signal(number)
    assert process.wait(30) == code
    assert (tmp_path / "bnexp.log").read_text().split() == saved
    assert (tmp_path / "scontrol.log").exists() == requeued
    if requeued:
        assert (tmp_path / "scontrol.log").read_text() == "requeue 7\n"
    assert not (tmp_path / ".bnexp-7").exists()


def test_a_signal_before_anything_is_trained_does_not_requeue(tmp_path: Path) -> None:
    """A time limit that is too short would have the job start again and again for nothing."""
    (tmp_path / "never").touch()
    process = job(tmp_path, {})
    appears(tmp_path / ".bnexp-7" / "cert.pem")
    process.send_signal(signal.SIGUSR1)
    assert process.wait(30) == 130
    assert not (tmp_path / "training").exists()
    assert not (tmp_path / "scontrol.log").exists()


def job(folder: Path, environment: dict[str, str]) -> subprocess.Popen[bytes]:
    bin_ = folder / "bin"
    bin_.mkdir()
    for name, body in FAKES.items():
        (bin_ / name).write_text(f"#!/bin/bash\n{body}\n")
        (bin_ / name).chmod(0o755)
    known = {"PATH": f"{bin_}:/usr/bin:/bin", "SLURM_JOB_ID": "7", "SLURM_SUBMIT_DIR": str(folder), **environment}
    return subprocess.Popen(["bash", str(SCRIPT), "sweep", "lr"], cwd=folder, env=known, stderr=subprocess.DEVNULL)


def appears(path: Path) -> None:
    end = time.monotonic() + 30
    while not path.exists():
        assert time.monotonic() < end
        time.sleep(0.02)
