"""Stack widths: the rule on tables, the file that keeps them, and sweeps that measure and go by it. Nothing here asserts a speed."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from support import finish, some, start
from typer.testing import CliRunner

from bnexp.base.files import checked_json, write_checked_json
from bnexp.cli import app
from bnexp.config import Config
from bnexp.config.compose import expand
from bnexp.config.cost import Header
from bnexp.execution.grid import prepare, train_all, widths_here
from bnexp.execution.terminal import Terminal
from bnexp.planning import calibration
from bnexp.planning.calibration import Calibrated, StepTimes, calibration_json, choose, has_lost, read, save, step_of, times_in
from bnexp.planning.plan import group_seconds, width

DIGITS: Header = ((1, 8, 8), 1437, 10)
CPU_WIDTHS, GPU_WIDTHS = (1, 2, 4, 8), (1, 2, 4, 8, 16, 32, 64)
LONG = Config().replace(**{"train.epochs": None, "train.steps": 10**6, "device": "cpu"})
LONG_RUNS = [LONG.replace(seed=seed) for seed in range(8)]


@pytest.fixture(autouse=True)
def cache(own_cache: Path) -> Path:
    return own_cache


class Known:
    """Stands for a measurement that finds a given table, and counts."""

    def __init__(self, ms: dict[int, float], tried: int = 8) -> None:
        self.found, self.asked = StepTimes(ms, tried), list[tuple[int, ...]]()

    def __call__(self, configs: Sequence[Config], header: Header, widths: Sequence[int], seconds: float) -> StepTimes:
        self.asked.append(tuple(widths))
        assert 4 <= seconds <= 20
        return self.found


def stored(ms: dict[int, float], tried: int = 8) -> dict[str, Any]:
    return {"ms": {str(width): one for width, one in ms.items()}, "tried": tried}


@pytest.mark.parametrize(
    ("ms", "width"),
    [
        ({1: 5.0}, 1),
        ({1: 1.0, 2: 2.0, 4: 4.0, 8: 8.0}, 1),  # nothing gained, nothing chosen
        ({1: 1.0, 2: 1.98, 4: 3.9, 8: 7.8}, 1),  # less than the noise
        ({1: 1.0, 2: 1.5, 4: 2.9, 8: 5.7}, 4),  # 8 gains on 4 what noise may be
        ({1: 1.0, 2: 2.4, 4: 2.0, 8: 3.0}, 8),  # 2 loses, and 4 is tried all the same
        ({1: 1.0, 2: 1.9, 4: 4.8, 8: 9.0}, 2),
        ({8: 3.0, 1: 1.0}, 8),
    ],
)
def test_the_width_is_the_widest_that_clearly_gains(ms: dict[int, float], width: int) -> None:
    assert choose(ms) == width
    assert ms[width] / width <= ms[1]
    assert width == 1 or ms[width] / width < ms[1] / calibration.GAIN


def test_two_widths_in_a_row_that_gain_nothing_end_the_trying() -> None:
    assert not has_lost({1: 1.0})
    assert not has_lost({1: 1.0, 2: 2.2})
    assert has_lost({1: 1.0, 2: 2.2, 4: 4.4})
    assert not has_lost({1: 1.0, 2: 2.2, 4: 2.0})
    assert has_lost({1: 1.0, 2: 1.2, 4: 3.0, 8: 8.0})


def test_no_wider_than_it_takes_to_hold_all_runs_and_than_the_device_is_given() -> None:
    for device, most in (("cpu", CPU_WIDTHS), ("cuda", GPU_WIDTHS)):
        runs = [LONG.replace(device=device)] * 100
        for count, expected in ((1, (1,)), (2, (1, 2)), (3, (1, 2, 4)), (4, (1, 2, 4)), (5, CPU_WIDTHS), (8, CPU_WIDTHS), (100, most)):
            assert calibration.widths_for(runs[:count]) == expected
        assert width(LONG.replace(device=device), (1, 8, 8)) == most[-1]


SAME = {"train.steps": 7, "train.epochs": None, "train.target": 0.5, "optim.lr": 1.0, "seed": 3, "metrics.ics": True, "name": "x"}
SAME |= {"optim.schedule": "step", "model.bn_momentum": 0.5, "threads": 1, "train.eval_every": 3}
OTHER: dict[str, Any] = {"train.batch_size": 4, "model.norm": "none", "model.widths": [16, 32], "precision": "bf16", "optim.name": "adam"}
OTHER |= {"optim.momentum": 0.0, "optim.weight_decay": 1e-4, "optim.nesterov": True, "data.augment": "crop_flip", "model.bn_affine": False}


def test_what_the_step_does_not_see_is_no_other_step() -> None:
    first = some(step_of([Config()], DIGITS))
    assert step_of([Config().replace(**SAME)], ((1, 8, 8), 99, 10)) == first
    for key, value in OTHER.items():
        assert step_of([Config().replace(**{key: value})], DIGITS) != first, key
    assert step_of([Config()], ((1, 8, 9), 1437, 10)) != first != step_of([Config()], ((1, 8, 8), 1437, 11))
    decayed = Config().replace(**{"optim.weight_decay": 0.1})
    assert step_of([Config(), decayed], DIGITS) == step_of([decayed], DIGITS)  # one with decay makes all of them compute it
    assert step_of([Config(), Config().replace(threads=2)], DIGITS) is None  # not the one thread that is measured


def test_measured_once_and_kept_for_the_next_command(cache: Path) -> None:
    said: list[str] = []
    measure = Known({1: 1.0, 2: 1.5, 4: 2.0, 8: 8.0})
    assert Calibrated(said.append, measure)(LONG_RUNS, DIGITS) == 4
    assert said == ["Measuring stack widths for digits, batch 32, norm batch ..."]
    again = Calibrated(said.append, measure)
    assert again(LONG_RUNS, DIGITS) == 4
    assert again(LONG_RUNS[:1], DIGITS) == 4  # as many as there are at the most
    assert again([config.replace(**{"train.steps": 5}) for config in LONG_RUNS], DIGITS) == 4  # a short one knows it, too
    assert measure.asked == [CPU_WIDTHS]
    assert len(said) == 1
    assert [path.name for path in (cache / "bnexp").iterdir() if path.suffix == ".json"] == ["calibration.json"]


def test_only_what_is_worth_it_is_measured(cache: Path) -> None:
    measure = Known({1: 1.0, 2: 1.5, 4: 2.0, 8: 2.5})
    widths = Calibrated(pytest.fail, measure)
    short = [config.replace(**{"train.steps": 50}) for config in LONG_RUNS]
    assert group_seconds(short, DIGITS) < calibration.worth_s() < group_seconds(LONG_RUNS, DIGITS)
    assert widths(short, DIGITS) is None
    assert widths(LONG_RUNS[:1], DIGITS) is None
    assert measure.asked == []
    assert not cache.exists()


def test_of_few_runs_nothing_is_known_of_many() -> None:
    measure = Known({1: 1.0, 2: 1.2}, tried=2)
    assert Calibrated(lambda line: None, measure)(LONG_RUNS[:2], DIGITS) == 2
    measure.found = StepTimes({1: 1.0, 2: 1.2, 4: 2.0, 8: 3.0}, 8)
    assert Calibrated(lambda line: None, measure)(LONG_RUNS, DIGITS) == 8
    assert Calibrated(pytest.fail, measure)(LONG_RUNS[:2], DIGITS) == 8
    assert measure.asked == [(1, 2), CPU_WIDTHS]


DAMAGED = [
    *(b"", b"{", b"[]", b"\xff\xfe", b'{"entries": {}}'),  # the last has no version
    checked_json({"entries": {}}, calibration.FORMAT + 1),
    checked_json({"entries": []}, calibration.FORMAT),
    checked_json({"entries": {}}, calibration.FORMAT).replace(b"entries", b"Entries"),
    b" " * (calibration.MAX_BYTES + 1),
]


@pytest.mark.parametrize("content", DAMAGED)
def test_a_file_that_is_none_of_ours_counts_as_not_measured(content: bytes) -> None:
    path = calibration_json()
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    said: list[str] = []
    assert Calibrated(said.append)(LONG_RUNS, DIGITS) is None
    (line,) = said
    assert str(path) in line
    assert path.read_bytes() == content
    assert Calibrated(said.append, Known({1: 1.0, 2: 1.0}))(LONG_RUNS, DIGITS) == 2  # and is replaced
    assert Calibrated(pytest.fail)(LONG_RUNS, DIGITS) == 2


def test_links_folders_and_other_things_in_its_place(tmp_path: Path, cache: Path) -> None:
    target = tmp_path / "target"
    save(target, "x", StepTimes({1: 1.0}, 8))
    before = target.read_bytes()
    for make in (lambda path: path.symlink_to(target), lambda path: path.mkdir(), os.mkfifo):
        path = calibration_json()
        path.parent.mkdir(parents=True, exist_ok=True)
        make(path)
        said: list[str] = []
        assert Calibrated(said.append)(LONG_RUNS, DIGITS) is None
        assert len(said) == 1
        assert Calibrated(said.append, Known({1: 1.0, 2: 1.0}))(LONG_RUNS, DIGITS) == 2
        assert target.read_bytes() == before
        path.rmdir() if path.is_dir() else path.unlink()
    lock = calibration_json().with_name("calibration.json.lock")
    lock.unlink()
    lock.symlink_to(target)
    with pytest.raises(OSError, match="link"):
        save(calibration_json(), "x", StepTimes({1: 2.0}, 8))
    assert target.read_bytes() == before


@pytest.mark.parametrize(
    "value",
    [
        *(None, [], {}, {"ms": [], "tried": 8}, {"ms": {"1": 1.0}}),
        *({"ms": {"1": 1.0}, "tried": tried} for tried in (10**9, [8])),
        *({"ms": ms, "tried": 8} for ms in ({"2": 1.0}, {"1": 0}, {"1": -1.0}, {"1": True}, {"1": "1"}, {"1": 1.0, "8": None})),
        {"ms": {"1": 10**400}, "tried": 8},
    ],
)
def test_an_entry_that_says_something_else_says_nothing(value: object) -> None:
    assert times_in(value) is None


def test_a_width_that_is_never_tried_is_none_of_a_tables() -> None:
    assert times_in(stored({1: 2.0, 2: 3.0, 128: 0.1, 3: 0.1})) == StepTimes({1: 2.0, 2: 3.0}, 8)


@pytest.mark.parametrize("home", ["", "relative/cache"])
def test_a_cache_folder_that_is_empty_or_relative_is_not_meant(home: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", home)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert calibration_json() == tmp_path / ".cache" / "bnexp" / "calibration.json"


@pytest.mark.parametrize("home", ["/proc/nowhere", "/dev/null"])
def test_where_nothing_can_be_saved_this_command_goes_by_it_all_the_same(home: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", home)
    said: list[str] = []
    measure = Known({1: 1.0, 2: 1.5, 4: 2.0, 8: 8.0})
    widths = Calibrated(said.append, measure)
    others = [config.replace(**{"model.norm": "none"}) for config in LONG_RUNS]
    assert [widths(runs, DIGITS) for runs in (LONG_RUNS, LONG_RUNS, others)] == [4, 4, 4]
    assert len(measure.asked) == 2
    assert sum("cannot be saved" in line for line in said) == 1
    assert len(said) == 3 + (home == "/dev/null")  # which is no folder: something is in the way


def test_the_oldest_entries_go() -> None:
    path = calibration_json()
    path.parent.mkdir(parents=True)
    write_checked_json(path, {"entries": {f"{index}": stored({1: 1.0}) for index in range(calibration.MAX_ENTRIES)}}, calibration.FORMAT)
    for index in range(calibration.MAX_ENTRIES, calibration.MAX_ENTRIES + 3):
        save(path, f"{index}", StepTimes({1: 1.0}, 8))
    assert list(read(path)) == [f"{index}" for index in range(3, calibration.MAX_ENTRIES + 3)]
    assert path.stat().st_size < calibration.MAX_BYTES
    longest = step_of([Config().replace(**{"model.widths": [4096] * 64})], DIGITS)
    assert calibration.MAX_ENTRIES * len(json.dumps(longest, indent=9)) < calibration.MAX_BYTES


def test_what_was_saved_first_holds_unless_it_tried_less() -> None:
    path = calibration_json()
    save(path, "x", StepTimes({1: 1.0, 2: 1.0}, 2))
    assert save(path, "x", StepTimes({1: 9.0, 2: 9.0}, 2))["x"].ms[1] == 1.0
    assert save(path, "x", StepTimes({1: 5.0, 8: 9.0}, 8))["x"].ms[1] == 5.0
    assert save(path, "x", StepTimes({1: 1.0, 2: 1.0}, 2))["x"].ms[1] == 5.0
    assert read(path)["x"].ms[1] == 5.0


def test_a_command_goes_by_what_another_measured_meanwhile() -> None:
    """Two sweeps of one grid at once, which plan the same then."""

    class Late(Known):
        def __call__(self, *args: Any) -> StepTimes:
            Calibrated(lambda line: None, Known({1: 1.0, 2: 1.0}))(LONG_RUNS, DIGITS)
            return super().__call__(*args)

    assert Calibrated(lambda line: None, Late({1: 1.0, 2: 1.5, 4: 2.0, 8: 2.5}))(LONG_RUNS, DIGITS) == 2


def test_processes_that_save_at_once_lose_nothing() -> None:
    code = (
        "import sys; from bnexp.planning.calibration import *\n"
        "for index in range(20): save(calibration_json(), f'{sys.argv[1]}-{index}', StepTimes({1: 1.0}, 8))"
    )
    processes = [subprocess.Popen([sys.executable, "-c", code, name]) for name in ("a", "b")]
    assert [process.wait(timeout=60) for process in processes] == [0, 0]
    assert sorted(read(calibration_json())) == sorted(f"{name}-{index}" for name in ("a", "b") for index in range(20))


GRID = ["sweep", "grid", "model.widths=[2]", "train.steps=30000", "train.until_target=true", "train.target=0.001", "metrics=off"]
GRID += ["train.eval_every=5", "device=cpu"]
"""Estimated at minutes, by its limit of steps; its target is reached at the first look."""


def remember(ms: dict[int, float], *overrides: str) -> None:
    """Writes a table for the sweep's structure."""
    step = step_of(expand([*GRID[2:], *overrides]), DIGITS)
    measured = Calibrated(lambda line: None, Known(ms))
    assert measured([config.replace(seed=seed) for config in expand([*GRID[2:], *overrides]) for seed in range(8)], DIGITS) == choose(ms)
    assert step in [entry.step for entry in read(calibration_json()).values()]


def dry_run(runs_dir: Path, *args: str) -> dict[str, Any]:
    result = CliRunner().invoke(app, [*GRID, *args, "--dry-run", "--json", "--runs-dir", str(runs_dir)])
    assert result.exit_code == 0, (result.stderr, result.exception)
    return dict(json.loads(result.stdout))


def widths_in(plan: dict[str, Any]) -> dict[str, list[int]]:
    return {norm: [s["width"] for s in plan["stacks"] if s["norm"] == norm] for norm in ("batch", "none")}


def test_a_sweep_goes_by_the_table_and_another_machines_does_not(tmp_path: Path) -> None:
    remember({1: 1.0, 2: 1.2, 4: 4.0, 8: 8.0})
    args = ["model.norm=batch,none", "--seeds", "5"]
    plan = dry_run(tmp_path, *args)
    assert widths_in(plan) == {"batch": [2, 2, 1], "none": [5]}
    assert plan["unmeasured"] == [{"norm": "none", "batch_size": 32, "data": "digits", "model": "blocknet"}]
    elsewhere = dry_run(tmp_path, *args, "--scheduler", "tcp://127.0.0.1:9")
    assert widths_in(elsewhere) == {"batch": [5], "none": [5]}
    assert elsewhere["unmeasured"] == []
    shown = CliRunner().invoke(app, [*GRID, *args, "--dry-run", "--runs-dir", str(tmp_path)]).stdout
    assert "Stack widths would be measured first, and may then differ: digits, batch 32, norm none." in " ".join(shown.split())


def test_measured_in_the_first_sweep_and_not_in_the_second(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def trained(*seeds: int) -> list[int]:
        configs = [config.replace(seed=seed) for config in expand(GRID[2:]) for seed in seeds]
        outcome = train_all(prepare(configs, tmp_path, widths=widths_here(Terminal())), workers=0, quiet=True)
        assert not outcome.failed
        return sorted(run["stack"]["width"] for run in outcome.summaries)

    first = trained(0, 1)
    assert capsys.readouterr().err == "Measuring stack widths for digits, batch 32, norm batch ...\n"
    (known,) = read(calibration_json()).values()
    assert list(known.ms) == [1, 2]
    assert first == [choose(known.ms)] * 2
    calibration_json().unlink()
    remember({1: 1.0, 2: 1.2, 4: 4.0, 8: 8.0})
    assert trained(10, 11, 12) == [1, 2, 2]
    assert capsys.readouterr().err == ""
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith(".")) == [".groups", ".locks", ".stacks"]


def test_a_table_that_changed_moves_no_stack_that_was_planned(tmp_path: Path) -> None:
    remember({1: 1.0, 2: 1.2, 4: 4.0, 8: 8.0})
    configs = [config.replace(seed=seed) for config in expand(GRID[2:]) for seed in range(5)]

    def stacks() -> list[list[str]]:
        prepared = prepare(configs, tmp_path, widths=Calibrated(pytest.fail))
        prepared.group.store_plan([[run.id for run in stack.runs] for stack in prepared.stacks])
        return [[run.id for run in stack.runs] for stack in prepared.stacks]

    planned = stacks()
    assert [len(stack) for stack in planned] == [2, 2, 1]
    calibration_json().unlink()
    remember({1: 1.0, 2: 2.0, 4: 4.0, 8: 4.0})
    assert stacks() == planned
    assert [len(stack.runs) for stack in prepare(configs, tmp_path / "other", widths=Calibrated(pytest.fail)).stacks] == [5]
    assert [len(stack.runs) for stack in prepare(configs, tmp_path / "fixed").stacks] == [min(5, width(configs[0], (1, 8, 8)))]


def test_ctrl_c_while_measuring_ends_with_a_sentence_and_nothing(tmp_path: Path) -> None:
    process = start(*GRID, "model.widths=[16,16]", "--seeds", "8", "--workers", "0", runs_dir=tmp_path / "runs")
    assert process.stderr is not None
    line = process.stderr.readline()
    assert line == "Measuring stack widths for digits, batch 32, norm batch ...\n"
    process.send_signal(signal.SIGINT)
    _, err = finish(process, code=130)
    assert err.replace(line, "") == "Interrupted.\n"  # Python writes a line again whose writing the signal interrupts
    assert not (tmp_path / "runs").exists()
    assert read(calibration_json()) == {}
