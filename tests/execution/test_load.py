"""Long and large: what grows, and what is read, with the number of steps, stacks and runs. Memory and files are counted here, as time
varies with the machine: that is measured by `scripts/bench load`."""

import gc
import json
import os
import sys
import threading
import tracemalloc
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import pytest
from support import bn_in

from bnexp.base.files import checked_json
from bnexp.base.signals import Stop
from bnexp.config import METRICS, Config
from bnexp.config.compose import expand
from bnexp.execution.identity import identify
from bnexp.execution.launch import launch
from bnexp.execution.live import Live
from bnexp.execution.terminal import Terminal
from bnexp.execution.workers import run_stacks
from bnexp.planning.plan import StackPlan, plan
from bnexp.storage.folder import list_runs, listed, results_of
from bnexp.storage.run import locked
from bnexp.training.fit import BLOCK

SMALL = {"model.widths": [4], "train.epochs": None, "device": "cpu"}
OFF = {f"metrics.{name}": False for name in METRICS}
LISTED_RUNS = 2000


class Scales(Terminal):
    """Counts the blocks that Python's objects lie in, after the steps `at`: one for a float, several for a tensor."""

    def __init__(self, at: tuple[int, ...]) -> None:
        super().__init__(quiet=True)
        self.at, self.step = at, 0
        self.blocks: list[int] = []

    def due(self) -> bool:
        self.step += 1
        if self.step in self.at:
            gc.collect()
            self.blocks.append(sys.getallocatedblocks())
        return False


@pytest.mark.parametrize("every", [64, 10_000], ids=["evaluated often", "evaluated once"])
def test_steps_leave_nothing(every: int, tmp_path: Path) -> None:
    """Not even a float each: two thousand are made between two moments that lie alike between evaluations, and between blocks of losses."""
    steps = 2 * BLOCK
    scales = Scales((200, 200 + steps))
    launch([Config().replace(**SMALL, **{"train.steps": 210 + steps, "train.eval_every": every})], tmp_path, scales)
    before, after = scales.blocks
    assert (after - before) / steps < 0.5


def test_stacks_leave_no_files_threads_or_objects(tmp_path: Path) -> None:
    """A worker trains hundreds one after the other."""

    def counts() -> dict[str, int]:
        gc.collect()
        files = len(list(Path("/proc/self/fd").iterdir()))
        return {"files": files, "threads": threading.active_count(), "objects": len(gc.get_objects())}

    def train(seed: int) -> None:
        launch([Config().replace(**SMALL, **{"seed": seed + member, "train.steps": 2}) for member in (0, 100)], tmp_path, quiet=True)

    for seed in range(3):
        train(seed)
    before = counts()
    for seed in range(3, 13):
        train(seed)
    after = counts()
    assert after["files"] <= before["files"]
    assert after["threads"] <= before["threads"]
    assert after["objects"] - before["objects"] < 10 * 20  # an optimizer, a network or a log is hundreds


@pytest.mark.slow
def test_a_sweep_leaves_little_in_its_own_process(tmp_path: Path) -> None:
    """Dask's own logs were 16 kB a stack, until each had a thousand entries."""
    configs = expand(["model.widths=[4]", "metrics=off", "train.epochs=null", "train.steps=2", "train.eval_every=range(100,240)"])
    stacks = plan(configs, identify(configs, tmp_path))
    live = Live(stacks, reused=0, quiet=True)
    ends: list[str] = []
    weighed: list[int] = []

    def ended(planned: StackPlan, reason: str) -> None:
        live.ended(planned, reason)
        ends.append(reason)
        gc.collect()
        weighed.append(tracemalloc.get_traced_memory()[0])

    tracemalloc.start()
    try:
        run_stacks(stacks, Stop(), live.on_event, ended, workers=2)
    finally:
        tracemalloc.stop()
    assert ends == ["done"] * 140
    assert median(weighed[120:]) - median(weighed[60:80]) < 60 * 4000  # medians: what is on its way comes and goes


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Copies of one real run under ids of their own; one has failed to be written, one says that it is running."""
    origin, runs_dir = tmp_path_factory.mktemp("origin"), tmp_path_factory.mktemp("many")
    (run,) = launch([Config().replace(**SMALL, **OFF, **{"train.steps": 2})], origin, quiet=True).runs
    summary, curve = run.result().tree(), run.metrics_jsonl.read_bytes()
    for index in range(LISTED_RUNS):
        folder = runs_dir / f"batch-bs32-lr0.1-s{index}-{index:08x}"
        folder.mkdir()
        (folder / "summary.json").write_bytes(checked_json({**summary, "id": folder.name}, 1))
        (folder / "metrics.jsonl").write_bytes(curve)
        os.utime(folder / "summary.json", ns=(index, index + 1))
    torn, running = (runs_dir / f"batch-bs32-lr0.1-s{index}-{index:08x}" / "summary.json" for index in (1, 2))
    torn.write_text("{")
    running.write_bytes(checked_json({**summary, "id": running.parent.name, "status": "running"}, 1))
    for index, path in ((1, torn), (2, running)):
        os.utime(path, ns=(index, index + 1))
    return runs_dir


_watched: list[tuple[str, str]] | None = None


def _hook(event: str, args: tuple[Any, ...]) -> None:
    if _watched is not None and event in ("open", "os.scandir", "os.listdir", "os.mkdir") and isinstance(args[0], (str, Path)):
        _watched.append((event, str(args[0])))


@contextmanager
def watched(folder: Path) -> Iterator[list[tuple[str, str]]]:
    """What is opened, listed and made below a folder meanwhile. An audit hook stays for good, so that there is only one."""
    global _watched
    if not getattr(sys, "_bnexp_watched", False):
        sys.addaudithook(_hook)
        sys._bnexp_watched = True  # type: ignore[attr-defined]
    found: list[tuple[str, str]] = []
    _watched = []
    try:
        yield found
    finally:
        found += [(event, os.path.relpath(path, folder)) for event, path in _watched if Path(path).is_relative_to(folder)]
        _watched = None


def test_a_list_opens_each_summary_once_and_makes_nothing(many: Path) -> None:
    with watched(many) as seen:
        lines = bn_in(many, "runs").stdout.splitlines()
    counted = Counter(seen)
    names = [run.id for run in list_runs(many)]
    assert counted.pop(("os.scandir", ".")) == 1
    assert all(counted.pop(("open", f"{name}/summary.json")) == 1 for name in names)
    assert counted.pop(("open", f".locks/{names[2]}.lock")) == 1  # it says that it is running, which only a held lock means
    assert sorted(counted.elements()) == sorted(("open", f"{name}/metrics.jsonl") for name in names[-50:])
    assert [line.split()[:2] for line in lines[1:4]] == [[names[0], "finished"], [names[1], "unreadable"], [names[2], "interrupted"]]
    assert lines[LISTED_RUNS].startswith(names[-1])
    assert not (many / ".locks").exists()


def test_a_run_that_is_named_in_full_is_found_without_the_others(many: Path) -> None:
    name = list_runs(many)[7].id
    with watched(many) as seen:
        assert json.loads(bn_in(many, "runs", "show", name, "--json").stdout)["id"] == name
    assert {where.split("/")[0] for _, where in seen} == {name}


def test_what_a_list_decodes_is_what_the_results_say(many: Path) -> None:
    results, seen = results_of(list_runs(many)), 0
    for one in listed(many):
        if (result := results.get(one.id)) is not None:
            assert (one.status, one.steps, one.written_at) == (result.status, result.steps, result.written_at)
            assert (one.val_loss, one.test_accuracy) == (result.val.loss, result.test.running.accuracy)
            assert one.reached_step == result.target.reached_step
            seen += 1
    assert seen == len(results) == LISTED_RUNS - 1  # one cannot be read


def test_a_run_in_work_is_running(many: Path) -> None:
    run = list_runs(many)[2]
    try:
        with locked([run], waiting=None):
            assert listed(many)[2].status == results_of([run])[run.id].status == "running"
        assert listed(many)[2].status == results_of([run])[run.id].status == "interrupted"
    finally:
        (many / ".locks" / f"{run.id}.lock").unlink()
        (many / ".locks").rmdir()
