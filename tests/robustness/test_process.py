"""What needs a process of its own: start-up, kills and signals, the wheel."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support import BNEXP, ROOT, SLOW, bn_in, finish, logged, start, wait_for

from bnexp.storage.folder import list_runs
from bnexp.storage.run import Run


def curves(run: Run) -> list[dict[str, float]]:
    """The run's records without their timings."""
    records = [json.loads(line) for line in run.metrics_jsonl.read_text().splitlines()]
    return [{key: value for key, value in record.items() if not key.startswith("speed/")} for record in records]


def numbers(run: Run) -> dict[str, object]:
    summary = run.result().tree()
    return {key: summary[key] for key in ("id", "status", "steps", "test", "val", "diverged_at_step")}


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> dict[int, list[Run]]:
    """One run, and a stack of three: what the interrupted ones must equal."""
    found = {}
    for seeds in (1, 3):
        runs_dir = tmp_path_factory.mktemp("whole")
        bn_in(runs_dir, "train", *SLOW, "--seeds", str(seeds))
        found[seeds] = sorted(list_runs(runs_dir), key=lambda run: run.id)
    return found


@pytest.mark.parametrize(
    ("seeds", "again"), [(1, "resume"), pytest.param(1, "train", marks=pytest.mark.slow), pytest.param(3, "resume", marks=pytest.mark.slow)]
)
def test_kill_9_then_resume_equals_uninterrupted(uninterrupted: dict[int, list[Run]], tmp_path: Path, seeds: int, again: str) -> None:
    command = ["train", *SLOW, "--seeds", str(seeds)]
    process = start(*command, runs_dir=tmp_path)
    wait_for(lambda: logged(tmp_path, 100), process)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not any(run.done for run in list_runs(tmp_path))
    assert list(tmp_path.glob(".stacks/*/checkpoint*.pt"))  # checkpoint.pt is away for a moment, between the two renames of a save
    err = bn_in(tmp_path, *(["resume", "last"] if again == "resume" else command)).stderr
    assert re.search(r"Resuming at step \d*0 of 300", err)
    assert "Waiting" not in err  # the lock of a dead process holds nobody up
    runs = sorted(list_runs(tmp_path), key=lambda run: run.id)
    for run, whole in zip(runs, uninterrupted[seeds], strict=True):
        assert run.model_pt.read_bytes() == whole.model_pt.read_bytes()
        assert curves(run) == curves(whole)
        assert numbers(run) == numbers(whole)
    assert not list(tmp_path.glob(".stacks/*"))


@pytest.mark.parametrize(
    "number", [signal.SIGINT, signal.SIGTERM, *(pytest.param(number, marks=pytest.mark.slow) for number in (signal.SIGUSR1, signal.SIGHUP))]
)
def test_signals_save_and_exit_130(uninterrupted: dict[int, list[Run]], tmp_path: Path, number: signal.Signals) -> None:
    process = start("train", *SLOW, runs_dir=tmp_path)
    wait_for(lambda: logged(tmp_path, 50), process)
    process.send_signal(number)
    out, err = finish(process, code=130)
    assert "state saved" in err
    assert "Traceback" not in err
    assert out == ""
    run = list_runs(tmp_path)[0]
    assert run.status == "interrupted"
    bn_in(tmp_path, "resume", run.id[:-3])
    assert run.model_pt.read_bytes() == uninterrupted[1][0].model_pt.read_bytes()


def test_too_little_memory_for_pytorch_is_one_sentence(tmp_path: Path) -> None:
    words = ["bash", "-c", 'ulimit -v 350000 && exec "$@"', "bash", *BNEXP, "train", "train.steps=1", "--runs-dir", str(tmp_path)]
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}  # which else takes memory for each core
    result = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=100, check=False)
    assert (result.returncode, result.stderr) == (1, "Error: There is not enough memory; ulimit -v is 350000.\n")


NO_THREADS = """
import os, resource
from bnexp.execution import cluster
from bnexp.execution import local_cluster

if os.getuid() == 0:  # whom no such limit holds
    os.setgroups([]), os.setgid(65534), os.setuid(65534)
resource.setrlimit(resource.RLIMIT_NPROC, (1, 1))
try:
    with cluster.connected("cpu", 1, 1, None):
        pass
except cluster.BnexpError as error:
    print(error)
"""


def test_too_few_threads_for_workers_are_one_sentence() -> None:
    result = subprocess.run([sys.executable, "-c", NO_THREADS], capture_output=True, text=True, timeout=100, check=True)
    said = "The workers could not be started (no more threads can be started; ulimit -u is 1); --workers 0 trains without them.\n"
    assert (result.stdout, result.stderr) == (said, "")


def test_a_dask_configuration_that_is_no_yaml_is_refused(tmp_path: Path) -> None:
    (tmp_path / "dask.yaml").write_text("distributed: [\n  a: : b\n")
    command = ["sweep", "grid", "data=waveforms", "train.steps=1", "--seeds", "1", "--workers", "1", "--quiet"]
    _, err = finish(start(*command, runs_dir=tmp_path, env={**os.environ, "DASK_CONFIG": str(tmp_path)}), code=2)
    assert re.fullmatch(r"Error: Dask's configuration cannot be used \(.*dask\.yaml.*\)\. Mend its files, .*\n", err)


def test_what_an_optimized_python_cannot_read_is_refused(tmp_path: Path) -> None:
    """Hydra's parser needs its asserts."""
    command = ["sweep", "grid", "seed=range(2)", "--dry-run", "--runs-dir", str(tmp_path)]
    result = subprocess.run([sys.executable, "-O", "-m", "bnexp", *command], capture_output=True, text=True, timeout=100, check=False)
    assert result.returncode == 2
    assert result.stderr == (
        "Error: 'seed=range(2)' cannot be read by an optimized Python: unset PYTHONOPTIMIZE (or leave out -O), or write all values out.\n"
    )


def test_completion_offers_keys_choices_and_runs(tmp_path: Path) -> None:
    (tmp_path / "runs" / "some-run-12345678").mkdir(parents=True)
    (tmp_path / "runs" / "some-run-12345678" / "summary.json").write_text("{}")

    def complete(words: str) -> list[str]:
        env = {**os.environ, "_BNEXP_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(len(words.split(" ")) - 1)}
        script = "from bnexp.cli import main; main()"
        result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=env, cwd=tmp_path, check=False)
        return result.stdout.split()

    assert complete("bnexp train optim.l") == ["optim.lr="]
    assert complete("bnexp train data=m") == ["data=mnist"]
    assert complete("bnexp train data = m") == ["mnist"]  # as bash splits it
    assert complete("bnexp evaluate some") == ["some-run-12345678"]


@pytest.mark.slow
def test_an_installed_wheel_works_from_any_folder(tmp_path: Path) -> None:
    """Built and installed without dependencies; those of the running interpreter are put on the path behind it."""
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path / "dist"), str(ROOT)],
        check=True,
        capture_output=True,
    )
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    site = tmp_path / "site"
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(site), str(wheel)], check=True)
    assert (site / "bnexp" / "configs" / "data" / "mnist.yaml").is_file()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    script = "import bnexp, sys; print(bnexp.__file__, file=sys.stderr); from bnexp.cli import main; main()"
    options: dict[str, Any] = {"cwd": elsewhere, "env": {**os.environ, "PYTHONPATH": str(site)}, "capture_output": True, "text": True}
    result = subprocess.run([sys.executable, "-c", script, "train", "model=mlp", "train.steps=4", "--json"], check=True, **options)
    assert str(site) in result.stderr
    summary = json.loads(result.stdout)
    assert summary["config"]["model"]["widths"] == [100, 100, 100]
    assert (elsewhere / "runs" / summary["id"] / "model.pt").is_file()
    page = subprocess.run([sys.executable, "-c", script, "report", "last"], check=True, **options).stdout.strip()
    assert summary["id"] in (elsewhere / page).read_text()  # the template is in the wheel
