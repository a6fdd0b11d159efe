"""Network access: what listens where, what TensorBoard serves of somebody else's run, and a Dask cluster with keys."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import psutil
import pytest
from support import ROOT, bn_in, finish, served, start, wait_for

from bnexp.base.files import write_checked_json
from bnexp.base.network import is_loopback, is_open, is_own_name
from bnexp.storage.folder import list_runs
from bnexp.tensorboard.names import run_name

TINY = ["train.steps=16", "model.widths=[2]"]
GRID = ["sweep", "grid", *TINY, "model.norm=batch,none", "--seeds", "1"]


def test_loopback_is_nowhere_but_here_and_all_else_is_a_network() -> None:
    for here, hosts in ((True, ("127.0.0.1", "127.8.9.10", "::1", "localhost")), (False, ("0.0.0.0", "::", "192.0.2.7", "", "no.invalid"))):
        for host in hosts:
            assert is_loopback(host) == here, host
            address = f"[{host}]" if ":" in host else host
            assert is_open(f"tcp://{address}:8786") == is_open(f"ws://{address}:8786/") == (not here)
            assert not is_open(f"tls://{address}:8786")


def test_a_servers_own_names() -> None:
    """On a network any address and this machine's name are its own, too; other names may be a stranger's."""
    own = ("localhost:6006", "LOCALHOST", "127.0.0.1:6006", "[::1]:6006", "127.0.0.2")
    strange = ("", "evil.example", "evil.example:6006", "localhost.evil.example", "127.0.0.1.evil.example", "[::1", "@")
    reachable = ("192.0.2.7:6006", f"{socket.gethostname()}:6006")
    assert all(is_own_name(header, host) for header in own for host in ("127.0.0.1", "0.0.0.0"))
    assert not any(is_own_name(header, host) for header in strange for host in ("127.0.0.1", "0.0.0.0"))
    assert all(is_own_name(header, "0.0.0.0") for header in reachable)
    assert not is_own_name("192.0.2.7:6006", "127.0.0.1")


def listening(pid: int) -> dict[str, set[str]]:
    """The hosts on which a process and all that it began listen, by command line."""
    found: dict[str, set[str]] = {}
    for process in [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]:
        hosts = {one.laddr.ip for one in process.net_connections("inet") if one.status == psutil.CONN_LISTEN}
        if hosts:
            found[f"{process.pid} {' '.join(process.cmdline())}"] = hosts
    return found


def test_a_sweeps_own_cluster_listens_on_this_machine_only(tmp_path: Path) -> None:
    process = start(*GRID, "train.steps=100000", "--workers", "2", runs_dir=tmp_path)
    wait_for(lambda: len(list(tmp_path.glob("*/metrics.jsonl"))) == 2, process)
    found = listening(process.pid)
    process.send_signal(signal.SIGINT)
    finish(process, code=130)
    assert len(found) == 3  # the scheduler with the nannies, and two workers
    assert all(is_loopback(host) for hosts in found.values() for host in hosts), found


def test_an_open_scheduler_warns_in_one_sentence(tmp_path: Path) -> None:
    file = tmp_path / "scheduler.json"
    for address, warns in (("tcp://0.0.0.0:9", True), ("tcp://127.0.0.1:9", False)):
        file.write_text(json.dumps({"address": address}))
        err = bn_in(tmp_path / "runs", *GRID, "--scheduler", str(file), "--dry-run", "--quiet").stderr
        said = f"Warning: whoever reaches the scheduler {address} can run code as you, here and on its workers; "
        assert err == (f"{said}docs/how-to/cluster.md says how to secure it with TLS.\n" if warns else "")


def test_workers_that_cannot_be_started_are_1_and_one_sentence(tmp_path: Path) -> None:
    """Here Dask's own configuration has them import a module that is not there."""
    env = {**os.environ, "DASK_DISTRIBUTED__WORKER__PRELOAD": "no_such_module"}
    _, err = finish(start(*GRID, "--workers", "2", "--quiet", runs_dir=tmp_path, env=env), code=1)
    assert re.fullmatch(r"Error: The workers could not be started \(.+\); --workers 0 trains without them.\n", err)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A runs folder with one run."""
    runs_dir = tmp_path_factory.mktemp("trained")
    bn_in(runs_dir, "train", *TINY)
    return runs_dir


def get(url: str, host: str | None = None) -> tuple[int, str]:
    """The status and the text of a page; `host`: asked for under this name, as a browser would that was led here by it."""
    request = urllib.request.Request(url, headers={} if host is None else {"Host": host})
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, answer.read().decode(errors="replace")
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode(errors="replace")


def test_tensorboard_serves_no_file_that_a_strangers_run_names_and_listens_here_only(trained: Path, tmp_path: Path) -> None:
    """The projector plugin, which is not loaded, serves what `projector_config.pbtxt` names: any file of the user's."""
    runs_dir = shutil.copytree(trained, tmp_path / "runs")
    (run,) = list_runs(runs_dir)
    secret = tmp_path / "secret.tsv"
    secret.write_text("s3cret\n")
    named = "\n".join(f'{key}: "{secret}"' for key in ("metadata_path", "bookmarks_path", "tensor_path"))
    config = f'embeddings {{ tensor_name: "x"\n{named}\ntensor_shape: 1\ntensor_shape: 1\nsprite {{ image_path: "{secret}" }} }}'
    for folder in (runs_dir, run.folder):
        (folder / "projector_config.pbtxt").write_text(config)
    with served(runs_dir, tmp_path / "tmp") as (process, url):
        answers = {}
        for name in (run.id, "."):
            for route in ("runs", "info", "metadata", "bookmarks", "tensor", "sprite_image"):
                wanted = f"data/plugin/projector/{route}?run={name}&name=x"
                answers[wanted] = get(url + wanted)
        plugins = json.loads(get(url + "data/plugins_listing")[1])
        foreign = [get(url + page, "evil.example:6006") for page in ("", "data/runs", "data/plugin/scalars/tags")]
        own = get(url + "data/runs", url.split("/")[2].replace("127.0.0.1", "localhost"))
        found = listening(process.pid)
    assert {code for code, _ in answers.values()} == {404}
    assert not any("s3cret" in body for _, body in answers.values())
    assert {code for code, _ in foreign} == {403}
    assert not any(run.id in body for _, body in foreign)
    assert own[0] == 200
    assert set(plugins) == {
        *("timeseries", "scalars", "custom_scalars", "images", "graphs", "distributions", "histograms", "text", "hparams")
    }
    assert found
    assert all(is_loopback(host) for hosts in found.values() for host in hosts), found


def test_tensorboard_shows_nothing_that_a_link_in_a_run_leads_to(trained: Path, tmp_path: Path) -> None:
    runs_dir = shutil.copytree(trained, tmp_path / "runs")
    outside = shutil.copytree(list_runs(trained)[0].folder, tmp_path / "outside")
    (run,) = list_runs(runs_dir)
    (events,) = outside.glob("events.out.tfevents.*")
    shown = {run_name(run), "means/with BN (2 seeds)"}
    (mean := runs_dir / ".groups" / "0123abcd" / "batch-mean2").mkdir(parents=True)
    shutil.copy(events, mean)
    (run.folder / "peek").symlink_to(outside)
    (mean.parent / "peek-mean2").symlink_to(outside)
    (runs_dir / "linked-0123abcd").symlink_to(outside)
    for name in ("a-12345678", "b-12345678"):
        shutil.copytree(run.folder, runs_dir / name, ignore=shutil.ignore_patterns("events*"), symlinks=True)
        write_checked_json(runs_dir / name / "summary.json", {**run.result().tree(), "id": name}, 1)
    (runs_dir / "a-12345678" / events.name).symlink_to(events)
    os.mkfifo(runs_dir / "b-12345678" / events.name)
    for names in ([], [run.id, "a-12345678", "b-12345678"]):
        with served(runs_dir, tmp_path / "tmp", *names) as (_, url):
            end = time.monotonic() + 60
            while not (found := set(json.loads(get(url + "data/runs")[1]))) and time.monotonic() < end:
                time.sleep(0.1)
            time.sleep(1)
            found = set(json.loads(get(url + "data/runs")[1]))
        assert found == (shown if not names else {run_name(run)})


def test_a_killed_tensorboards_folder_goes_with_the_next_and_a_host_of_the_network_warns(trained: Path, tmp_path: Path) -> None:
    runs_dir, temporary = trained, tmp_path / "tmp"
    with served(runs_dir, temporary, "last") as (killed, _):
        (left,) = temporary.glob("bnexp-tensorboard-*")
        killed.kill()
        killed.wait()
    assert left.exists()
    with served(runs_dir, temporary, "last") as (process, _):
        (own,) = temporary.glob("bnexp-tensorboard-*")
        assert own != left
        with served(runs_dir, temporary, "last", "--host", "0.0.0.0") as (other, _):
            assert own.exists()  # that of a live process stays
            other.send_signal(signal.SIGTERM)
            _, err = finish(other)
        assert err == "Warning: with --host 0.0.0.0 everybody on the network can read these runs; nothing asks for a password.\n"
        process.send_signal(signal.SIGINT)
        _, err = finish(process)
        assert err == ""
    assert not list(temporary.glob("bnexp-tensorboard-*"))
    assert list_runs(runs_dir)[0].done  # a link went, and not what it leads to


def test_a_host_that_is_not_here_is_2(tmp_path: Path) -> None:
    assert "--host 192.0.2.7 is no address of this machine" in bn_in(tmp_path, "tensorboard", "--host", "192.0.2.7", code=2).stderr


@pytest.mark.slow
def test_the_readmes_cluster_with_keys_trains_and_refuses_who_has_none(tmp_path: Path) -> None:
    """Its commands as they stand there, on loopback and with a short sweep."""
    (commands,) = (
        block for block in re.findall(r"```sh\n(.*?)```", (ROOT / "docs/how-to/cluster.md").read_text(), re.S) if "openssl" in block
    )
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    commands = commands.replace("HOST:8786", f"127.0.0.1:{port}").replace("--port 8786", f"--port {port}").replace("HOST", "127.0.0.1")
    before, sweep = commands.split("bnexp sweep lr")
    env = {name: value for name, value in os.environ.items() if not name.startswith("DASK_")}
    env |= {"PATH": f"{Path(sys.executable).parent}:{env['PATH']}", "PYTHONPATH": str(ROOT)}
    script = f"set -e\n{before}\ntouch up\n{sys.executable} -m bnexp {' '.join(GRID)} {sweep.strip()} --json >out.json\ntouch done\nwait"
    shell = subprocess.Popen(["bash", "-c", script], cwd=tmp_path, env=env, start_new_session=True, stderr=subprocess.PIPE, text=True)
    try:
        wait_for((tmp_path / "done").exists, shell)
        found = json.loads((tmp_path / "out.json").read_text())
        assert [run["status"] for run in found["runs"]] == ["finished", "finished"]
        for address, said in ((f"tls://127.0.0.1:{port}", "asks for keys (TLS)"), (f"tcp://127.0.0.1:{port}", "does not answer")):
            _, err = finish(start(*GRID, "--seeds", "2", "--scheduler", address, runs_dir=tmp_path / "refused", env=env), code=2)
            assert said in err
            assert "Traceback" not in err
        # Another's key is no key of this cluster's.
        subject = ["-subj", "/CN=bnexp", "-keyout", "other.pem", "-out", "other-cert.pem"]
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", *subject], cwd=tmp_path, check=True, capture_output=True
        )
        tls = "DASK_DISTRIBUTED__COMM__TLS__"
        stranger = {f"{tls}CA_FILE": "cert.pem", f"{tls}CLIENT__CERT": "other-cert.pem", f"{tls}CLIENT__KEY": "other.pem"}
        sweep = [*GRID, "--seeds", "2", "--scheduler", f"tls://127.0.0.1:{port}"]
        finish(start(*sweep, runs_dir=Path("refused"), env={**env, **stranger}, cwd=tmp_path), code=2)
        assert list_runs(tmp_path / "refused") == []
    finally:
        os.killpg(shell.pid, signal.SIGTERM)
        time.sleep(1)
        os.killpg(shell.pid, signal.SIGKILL)
        shell.communicate()
