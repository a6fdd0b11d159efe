"""Sweeps as a user runs them: real processes, a Dask cluster started by hand, Ctrl-C, two at once."""

import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from support import ROOT, bn_in, finish, start, wait_for

from bnexp.base.errors import UsageError
from bnexp.config import Config
from bnexp.execution.cluster import connected
from bnexp.execution.grid import prepare, train_all
from bnexp.execution.workers import mark_failed
from bnexp.storage.folder import list_runs

GRID = ["sweep", "grid", "model.widths=[4,4]", "train.steps=40", "model.norm=batch,none", "optim.lr=0.03,0.1", "--seeds", "2"]
LONG = [*GRID, "train.steps=1500", "train.eval_every=500", "train.checkpoint_every=100"]


def models(runs_dir: Path) -> dict[str, bytes]:
    return {run.id: run.model_pt.read_bytes() for run in list_runs(runs_dir)}


@contextmanager
def dask_cluster(folder: Path) -> Iterator[tuple[Path, Callable[[str], None], subprocess.Popen[bytes]]]:
    """The file of a scheduler, what starts a worker, and the scheduler; each is a process with another working folder."""
    file = folder / "scheduler.json"
    flags = ["--scheduler-file", str(file), "--host", "127.0.0.1", "--no-dashboard", "--dashboard-address", "127.0.0.1:0"]
    processes: list[subprocess.Popen[bytes]] = []

    def dask(*args: str) -> None:
        command = [sys.executable, "-m", "dask", *args, *flags]
        processes.append(subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=folder))

    dask("scheduler", "--port", "0")
    end = time.monotonic() + 60
    while not file.exists():
        assert time.monotonic() < end
        time.sleep(0.05)
    try:
        options = ["--nthreads", "1", "--memory-limit", "0", "--local-directory"]
        yield file, lambda name: dask("worker", *options, str(folder / name)), processes[0]
    finally:
        for process in reversed(processes):
            process.send_signal(signal.SIGINT)
        for process in processes:
            process.wait(timeout=30)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The file of a scheduler with two workers."""
    with dask_cluster(tmp_path_factory.mktemp("cluster")) as (file, add_worker, _):
        add_worker("a")
        add_worker("b")
        yield file


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The models of the grid, trained in one process."""
    runs_dir = tmp_path_factory.mktemp("alone")
    bn_in(runs_dir, *GRID, "--workers", "0")
    return models(runs_dir)


@pytest.mark.slow
def test_a_cluster_started_by_hand_serves_scheduler_with_the_same_bits(cluster: Path, alone: dict[str, bytes], tmp_path: Path) -> None:
    """A relative --runs-dir is relative to the command, not to the worker's folder."""
    address = json.loads(cluster.read_text())["address"]
    for name, scheduler in (("file", str(cluster)), ("address", address)):
        env = {**os.environ, "PYTHONPATH": str(ROOT)}
        out, _ = finish(start(*GRID, "--scheduler", scheduler, "--json", runs_dir=Path(name), cwd=tmp_path, env=env))
        assert json.loads(out)["failed"] == {}
        assert models(tmp_path / name) == alone


def test_a_worker_that_does_not_see_the_runs_folder_is_refused(cluster: Path, tmp_path: Path) -> None:
    """The folder is given through a file descriptor of this process, which no other process has."""
    descriptor = fcntl.fcntl(os.open(tmp_path, os.O_RDONLY), fcntl.F_DUPFD, 900)
    runs_dir = Path(f"/proc/self/fd/{descriptor}")
    configs = [Config().replace(**{"train.epochs": None, "train.steps": 5})]
    try:
        with pytest.raises(UsageError, match=r"does not see .*all machines share"):
            train_all(prepare(configs, runs_dir), scheduler=str(cluster), quiet=True)
    finally:
        os.close(descriptor)
    assert not list_runs(tmp_path)


@pytest.mark.slow
def test_workers_may_come_late(tmp_path: Path) -> None:
    (tmp_path / "cluster").mkdir()
    with dask_cluster(tmp_path / "cluster") as (file, add_worker, _):
        process = start(*GRID, "--scheduler", str(file), runs_dir=tmp_path / "runs")
        assert process.stderr is not None
        said = ""
        while "Waiting for the scheduler to have workers" not in said:
            said = process.stderr.readline()
            assert said, "it ended"
        add_worker("late")
        finish(process)
    assert [run.status for run in list_runs(tmp_path / "runs")] == ["finished"] * 8


@pytest.mark.slow
def test_a_scheduler_that_does_not_answer_is_2_and_trains_nothing(tmp_path: Path) -> None:
    _, err = finish(start(*GRID, "--scheduler", "tcp://127.0.0.1:9", runs_dir=tmp_path), code=2)
    assert "The scheduler tcp://127.0.0.1:9 does not answer" in err
    assert "Traceback" not in err
    assert not list_runs(tmp_path)


@pytest.mark.slow
def test_signals_save_every_stack_and_the_same_command_goes_on_with_the_same_bits(tmp_path: Path) -> None:
    bn_in(tmp_path / "whole", *LONG, "--workers", "0")
    runs_dir = tmp_path / "runs"
    for number in (signal.SIGINT, signal.SIGHUP):
        process = start(*LONG, "--workers", "2", runs_dir=runs_dir, start_new_session=True)
        wait_for(lambda: [run.status for run in list_runs(runs_dir)] == ["running"] * 8, process)
        os.killpg(process.pid, number)
        _, err = finish(process, code=130)
        assert "the state of every stack is saved" in err
        assert "Traceback" not in err
        assert {run.status for run in list_runs(runs_dir)} == {"interrupted"}
    bn_in(runs_dir, *LONG, "--workers", "0")
    assert models(runs_dir) == models(tmp_path / "whole")
    assert not list(runs_dir.glob(".stacks/*"))


@pytest.mark.slow
def test_a_second_ctrl_c_ends_a_sweep_and_its_workers_at_once(tmp_path: Path) -> None:
    """Workers do not even end what keeps them from looking for a stop (here they are suspended); what was done is gone on with."""
    process = start(*GRID, "train.eval_every=1", "--workers", "2", runs_dir=tmp_path, start_new_session=True)
    wait_for(lambda: any(run.status == "running" for run in list_runs(tmp_path)), process)
    workers = [child.pid for child in psutil.Process(process.pid).children() if "spawn_main" in " ".join(child.cmdline())]
    assert len(workers) == 2
    for pid in workers:
        os.kill(pid, signal.SIGSTOP)
    os.killpg(process.pid, signal.SIGINT)
    time.sleep(1)
    assert process.poll() is None
    began = time.monotonic()
    os.killpg(process.pid, signal.SIGINT)
    _, err = finish(process, code=130)
    assert time.monotonic() - began < 3  # politely it would take more than four
    assert err.endswith("Interrupted.\n")
    assert not any(psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE for pid in workers)
    bn_in(tmp_path, *GRID, "train.eval_every=1", "--workers", "0")
    assert {run.status for run in list_runs(tmp_path)} == {"finished"}


@pytest.mark.slow
def test_two_sweeps_at_once_train_each_run_once(tmp_path: Path) -> None:
    pair = [start(*LONG, "--workers", "1", "--json", runs_dir=tmp_path) for _ in range(2)]
    results = [json.loads(finish(process)[0]) for process in pair]
    assert [run["id"] for run in results[0]["runs"]] == [run["id"] for run in results[1]["runs"]]
    assert {run["status"] for run in results[0]["runs"]} == {"finished"}
    begun = [run.train_log.read_text().count("begins: 1500 steps") for run in list_runs(tmp_path)]
    assert begun == [1] * 8


def test_what_failed_before_its_data_were_read_can_be_shown(tmp_path: Path) -> None:
    (planned,) = prepare([Config().replace(**{"train.epochs": None, "train.steps": 5})], tmp_path).stacks
    mark_failed(planned, "its worker process died 2 times")
    out = bn_in(tmp_path, "runs", "show", planned.runs[0].id).stdout
    assert "failed" in out
    assert "its worker process died 2 times" in out


@pytest.mark.slow
def test_a_sweep_of_which_some_runs_fail_exits_3_and_then_completes_them(tmp_path: Path) -> None:
    dry = json.loads(bn_in(tmp_path, *GRID, "--dry-run", "--json").stdout)
    blocked = tmp_path / dry["stacks"][0]["runs"][0]
    blocked.parent.mkdir(parents=True, exist_ok=True)
    blocked.write_text("a file where the run's folder should be")
    out, err = finish(start(*GRID, "--json", runs_dir=tmp_path), code=3)
    found = json.loads(out)
    assert set(found["failed"]) == set(dry["stacks"][0]["runs"])
    assert "4 of 8 runs failed" in err
    assert "trains only what is missing" in err
    assert {run["id"]: run["status"] for run in found["runs"] if run["id"] in dry["stacks"][1]["runs"]} == dict.fromkeys(
        dry["stacks"][1]["runs"], "finished"
    )
    blocked.unlink()
    again = json.loads(bn_in(tmp_path, *GRID, "--workers", "0", "--json").stdout)
    assert sorted(again["reused"]) == sorted(dry["stacks"][1]["runs"])
    assert {run["status"] for run in again["runs"]} == {"finished"}


@pytest.mark.slow
def test_a_run_that_is_removed_meanwhile_is_missed_and_then_completed(tmp_path: Path) -> None:
    process = start(*GRID, "train.eval_every=40", "--workers", "1", "--json", runs_dir=tmp_path)
    wait_for(lambda: sum(run.done for run in list_runs(tmp_path)) == 4, process)
    gone = next(run for run in list_runs(tmp_path) if run.done)
    bn_in(tmp_path, "runs", "rm", gone.id)
    out, err = finish(process, code=3)
    found = json.loads(out)
    assert list(found["failed"]) == [gone.id]
    assert "removed" in err
    assert [run["status"] for run in found["runs"] if run["id"] == gone.id] == ["failed"]
    bn_in(tmp_path, *GRID, "train.eval_every=40", "--workers", "0")
    assert gone.done


@pytest.mark.slow
def test_a_scheduler_that_dies_is_1_and_what_was_done_is_kept(tmp_path: Path) -> None:
    (tmp_path / "cluster").mkdir()
    runs_dir = tmp_path / "runs"
    with dask_cluster(tmp_path / "cluster") as (file, add_worker, scheduler):
        add_worker("a")
        process = start(*LONG, "--scheduler", str(file), runs_dir=runs_dir)
        wait_for(lambda: bool(list(runs_dir.glob(".stacks/*/checkpoint.pt"))), process)
        scheduler.kill()
        _, err = finish(process, code=1)
    assert "The Dask scheduler went away" in err
    assert "Traceback" not in err
    bn_in(runs_dir, *LONG, "--workers", "0")
    assert all(run.done for run in list_runs(runs_dir))


STRANGER = """
import asyncio, json, os, sys
from distributed.core import connect
from distributed.security import Security

given = json.loads(sys.stdin.read())
if os.getuid() == 0:  # another user, who finds the ports where everybody can read them
    os.setgroups([]), os.setgid(65534), os.setuid(65534)
listed = [line.split() for line in open("/proc/net/tcp").readlines()[1:]]
listed = {int(words[1].split(":")[1], 16) for words in listed if words[3] == "0A"}

async def kind(address, security):
    arguments = security.get_connection_args("client") if security else {}
    try:
        comm = await connect(address, timeout=2, **arguments)
        await comm.write({"op": "identity"})
        return (await comm.read())["type"].lstrip("_")
    except Exception as error:
        return "refused"

async def page(port):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET / HTTP/1.0\\r\\n\\r\\n")
    try:
        return "HTTP" if b"HTTP" in await asyncio.wait_for(reader.read(100), 2) else "refused"
    except OSError:
        return "refused"

async def main():
    owner, ports = Security(require_encryption=True, **given["keys"]), given["ports"]
    for security, scheme in ((None, "tcp"), (Security.temporary(), "tls"), (owner, "tls")):
        yield await asyncio.gather(*(kind(f"{scheme}://127.0.0.1:{port}", security) for port in ports))
    yield await asyncio.gather(*map(page, ports))

async def collect():
    return [answers async for answers in main()]

print(json.dumps([sorted(set(given["ports"]) & listed), *asyncio.run(collect())]))
"""
"""Asks each port what it is: without a key, with a key of its own, with the sweep's key, and as a browser does."""


def listening() -> set[int]:
    """The ports on which this process and all that it began listen."""
    processes = [psutil.Process(), *psutil.Process().children(recursive=True)]
    sockets = [one for process in processes for one in process.net_connections("inet")]
    return {one.laddr.port for one in sockets if one.status == psutil.CONN_LISTEN}


def test_who_has_no_key_gets_nothing_from_a_sweeps_own_cluster() -> None:
    before = listening()
    with connected("cpu", 2, 2, None) as client:
        ports = sorted(listening() - before)
        keys = {name: getattr(client.security, name) for name in ("tls_ca_file", "tls_client_cert", "tls_client_key")}
        given = json.dumps({"ports": ports, "keys": keys})
        stranger = subprocess.run([sys.executable, "-c", STRANGER], input=given, capture_output=True, text=True, check=True)
        listed, *answers, pages = json.loads(stranger.stdout)
        assert sorted(client.nthreads().values()) == [1, 1]  # the owner's connection outlives all that
    assert len(ports) == 5  # the scheduler, two nannies, two workers, and no HTTP server
    assert listed == ports
    assert answers[:2] == [["refused"] * 5] * 2
    assert sorted(answers[2]) == ["Nanny", "Nanny", "Scheduler", "Worker", "Worker"]
    assert pages == ["refused"] * 5


def test_a_worker_that_is_killed_while_it_starts_is_started_again() -> None:
    """It would end the whole sweep, of which nothing was trained yet."""
    killed: list[int] = []

    def kill() -> None:
        while not killed:
            for child in psutil.Process().children():
                if "spawn_main" in " ".join(child.cmdline()):
                    killed.append(child.pid)
                    child.kill()
                    return
            time.sleep(0.001)

    thread = threading.Thread(target=kill)
    thread.start()
    try:
        with connected("cpu", 2, 2, None) as client:
            assert sorted(client.nthreads().values()) == [1, 1]
            assert killed[0] not in client.run(os.getpid).values()
    finally:
        killed.append(0)  # ends the thread, whatever happened
        thread.join()
    assert killed[0] != 0
