"""scripts/bench: what it is asked, what becomes of sides that fail, and the page. Nothing here is about how long something takes."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from benchmarks import __main__ as bench
from benchmarks import group, page, peers, precision, stacks
from benchmarks.children import Worker, bnexp_worker, last_line, run, scratch
from benchmarks.rows import NOISY_CORES, Load, Row, Target, at_least, at_most, figure, measured, not_measured, ratio, row_of
from benchmarks.turns import NotMeasured, take_turns

DOCS = Path(__file__).parent.parent / "docs"
MACHINE = {"processor": "a processor", "cores": 2, "memory_gib": 24, "platform": "Linux", "python": "3.11", "versions": {"torch": "2.13.0"}}
QUIET, BUSY = Load(0.1, 1.0, NOISY_CORES / 2), Load(0.1, 3.0, 2 * NOISY_CORES)
ROWS = [
    measured("steps", "a | b", [figure("floor", "images/s", [100, 90, 110])], ratio("x / floor", [96], [100]), at_least(0.95), load=QUIET),
    measured("steps", "slow", [figure("floor", "images/s", [100])], ratio("x / floor", [90], [100]), at_least(0.95), load=BUSY),
    measured("steps", "told", [figure("floor", "images/s", [100])], remark="40 steps"),
    not_measured("steps", "absent", "no such package", at_least(2.0)),
]


def entry(rows: list[Row], date: str = "2001-02-03") -> dict[str, Any]:
    return page.entry(rows, MACHINE, date, 3, 61.4)


def titles() -> dict[str, str]:
    return {name: module.__doc__ or "" for name, module in bench.modules().items()}


def test_help_lists_every_group(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        bench.main(["--help"])
    assert ended.value.code == 0
    said = capsys.readouterr().out
    for name, module in bench.modules().items():
        assert re.search(rf"^  {name} +{re.escape((module.__doc__ or '').splitlines()[0])}$", said, re.M)
        assert module.REPETITIONS >= 1


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["stepps"], 2, "there is no stepps; choose from steps, stacks, startup, peers, memory, growth, gpu, profile, precision"),
        (["steps", "--repetitions", "0"], 2, "counts from 1"),
        (["steps", "--mnist", "nowhere"], 2, "there is no MNIST/raw"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_measured(
    arguments: list[str], code: int, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        bench.main([*arguments, "--out", str(tmp_path)])
    assert ended.value.code == code
    assert said in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("text", ["{", "[]", '{"groups": {"steps": {"rows": [{"name": 1}]}}}', '{"groups": {"steps": {"rows": []}}}'])
def test_a_damaged_file_is_left_alone(text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "benchmarks.json"
    file.write_text(text)
    with pytest.raises(SystemExit) as ended:
        bench.main(["gpu", "--out", str(tmp_path)])
    assert ended.value.code == 1
    assert "cannot be used" in capsys.readouterr().err
    assert file.read_text() == text


def test_the_page_says_target_verdict_and_noise() -> None:
    lines = page.page({"steps": entry(ROWS)}, titles(), "## Why\n\nBecause.\n").splitlines()
    (fast,) = [line for line in lines if line.startswith("| a \\| b |")]
    assert fast == "| a \\| b | 100 (90.0 to 110) | x / floor | 0.96 | >= 0.95 | met | 1, 3 | 0.1 to 1; 0.1 |"
    (slow,) = [line for line in lines if line.startswith("| slow |")]
    assert "| 0.9 | >= 0.95 | **missed**; **noisy** |" in slow
    assert "| told | 100 |  |  | no target | 40 steps | 1 |  |" in lines
    assert "| absent | >= 2.0 | no such package |" in lines
    assert "1 of 2 targets that were measured are met, 0 of these by construction; 1 were not measured; 1 noisy rows." in lines
    assert "- steps: absent, target >= 2.0: no such package" in lines
    assert "- steps: slow: 0.9, target >= 0.95" in lines
    assert any(line.startswith("Measured 2001-02-03 in 61 s, 3 repetitions. a processor, 2 cores, 24 GiB, Linux;") for line in lines)
    assert lines[-3:] == ["## Why", "", "Because."]


def test_tables_have_as_many_cells_as_heads() -> None:
    for table in page.tables(ROWS):
        widths = {len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}
        assert len(widths) == 1


def test_the_page_is_written_anew_without_measuring(tmp_path: Path) -> None:
    page.write(tmp_path, {"steps": entry(ROWS)}, titles())
    (tmp_path / "benchmarks.md").unlink()
    before = (tmp_path / "benchmarks.json").read_bytes()
    assert bench.main(["--page", "--out", str(tmp_path)]) == 0
    assert (tmp_path / "benchmarks.json").read_bytes() == before
    assert (tmp_path / "benchmarks.md").read_text().endswith(page.NOTES.read_text().strip("\n") + "\n")


def test_former_rows_keep_their_date(tmp_path: Path) -> None:
    page.write(tmp_path, {"steps": entry(ROWS)}, titles())
    groups = page.load(tmp_path / "benchmarks.json")
    assert [row_of(tree) for tree in groups["steps"]["rows"]] == ROWS
    page.write(tmp_path, {"gpu": entry([], "2002-02-02"), **groups}, titles())
    text = (tmp_path / "benchmarks.md").read_text()
    assert "Measured 2001-02-03" in text
    assert "Measured 2002-02-02" in text
    assert text.index("## Training steps") < text.index("## GPU")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["benchmarks.json", "benchmarks.md"]


@pytest.mark.parametrize(
    ("target", "value", "met"),
    [(at_least(0.95), 0.95, True), (at_least(0.95), 0.949, False), (at_most(12), 12, True), (at_most(12), 12.1, False)],
)
def test_targets(target: Target, value: float, met: bool) -> None:
    assert target.met_by(value) == met


def test_ratios_are_taken_pair_by_pair() -> None:
    """A machine that becomes twice as fast for both sides changes no ratio."""
    found = ratio("a / b", [10, 20, 44], [5, 10, 20])
    assert (found.median, found.low, found.high, found.n) == (2.0, 2.0, 2.2, 3)


def test_turns_alternate_and_a_side_that_fails_is_left_out() -> None:
    order = []

    def side(name: str, fails_at: int | None = None) -> Any:
        made = 0

        def measure() -> int:
            nonlocal made
            made += 1
            order.append(name)
            if made == fails_at:
                raise NotMeasured("it broke")
            return made

        return measure

    found, failed = take_turns({"a": side("a"), "b": side("b"), "c": side("c", fails_at=2)}, repetitions=2)
    assert order == ["c", "b", "a", "a", "b", "c", "b", "a"]
    assert found == {"a": [2, 3], "b": [2, 3]}  # the first time is warm-up
    assert failed == {"c": "it broke"}


def test_a_command_is_weighed_and_its_failure_tells_no_path(tmp_path: Path) -> None:
    done = run([sys.executable, "-c", "held = b'x' * (300 << 20); print('{\"a\": 1}')"], tmp_path)
    assert done.most_bytes >= 300 << 20
    assert done.json == {"a": 1}
    with pytest.raises(NotMeasured, match=r"^python.* ended with 3: cannot read \.\.\.$"):
        run([sys.executable, "-c", f"import sys; sys.stderr.write('cannot read {tmp_path}/x/y'); sys.exit(3)"], tmp_path)
    with pytest.raises(NotMeasured, match=r"took longer than 0\.1 s"):
        run([sys.executable, "-c", "import time; time.sleep(60)"], tmp_path, limit_s=0.1)
    assert last_line("Traceback\n  File '/a/b/c.py', line 3\nOSError: [Errno 2] '/home/me/x.npz'\n") == "OSError: [Errno 2] '...'"


def test_a_worker_keeps_what_it_has_and_outlives_an_error(tmp_path: Path) -> None:
    with Worker(tmp_path, threads=1) as worker:
        with pytest.raises(NotMeasured, match="ModuleNotFoundError"):
            worker.ask("no_such_module:f")
        assert worker.ask("os:getpid") == worker.process.pid
        with pytest.raises(NotMeasured, match="ended with its process"):
            worker.ask("os:_exit", status=5)


def test_the_process_that_measures_is_light() -> None:
    """A process begins with the memory of the one that starts it, as the kernel counts its peak."""
    code = "import sys; from benchmarks import __main__; __main__.modules(); print({'torch', 'scipy', 'numpy'} & set(sys.modules))"
    env = {**os.environ, "PYTHONPATH": str(DOCS.parent / "scripts")}  # PYTHONSAFEPATH may be set: `bnexp.cli.main` does so
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_a_peer_that_is_not_installed_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(peers.NEEDED, "Lightning", "no_such_package.part")
    with pytest.raises(NotMeasured, match=r"no_such_package\.part is not installed; \.venv/bin/pip install -c constraints\.txt"):
        peers.sides(tmp_path, [], 32, 1)["Lightning"]()
    assert peers.lacking(peers.PLAIN) is None


def test_a_group_that_cannot_go_on_keeps_what_it_has(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def half(request: group.Request) -> Iterator[Row]:
        yield ROWS[0]
        raise NotMeasured("the disk is full")

    monkeypatch.setattr(bench.modules()["steps"], "rows", half)
    assert bench.main(["steps", "--out", str(tmp_path)]) == 0
    held = [row_of(tree) for tree in page.load(tmp_path / "benchmarks.json")["steps"]["rows"]]
    assert held == [ROWS[0], not_measured("steps", "the rest of the group", "the disk is full")]


def test_a_stack_is_compared_with_separate_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stacks, "SECONDS", 0.01)
    overrides = [*group.arm("batch", 4), "metrics=off", *group.budget(10**6)]
    with scratch() as folder, bnexp_worker(folder, threads=1) as own:
        assert stacks.picked_width(own, overrides) >= 1
        row = stacks.compared("stacks", "tiny", own, overrides, 2, 1, None)
        assert row.name == "tiny: width 2"
        assert [one.name for one in row.figures] == ["separate", "stack"]
        assert row.result is not None
        assert row.result.median == pytest.approx(row.figures[0].median / row.figures[1].median)
        alone = stacks.compared("stacks", "tiny", own, overrides, 1, 1, at_least(1.0))
        assert (alone.name, alone.verdict, alone.remark) == ("tiny: width 1 (separate)", "met", "by construction")


def test_the_interval_is_students() -> None:
    low, mean, high = precision.interval([1.0, 2.0, 3.0])
    assert mean == 2.0
    assert high - mean == pytest.approx(4.302653 / 3**0.5)
    assert mean - low == pytest.approx(high - mean)


@pytest.mark.slow
def test_a_group_as_a_command(tmp_path: Path) -> None:
    assert bench.main(["startup", "--repetitions", "1", "--out", str(tmp_path)]) == 0
    rows = [row_of(tree) for tree in json.loads((tmp_path / "benchmarks.json").read_text())["groups"]["startup"]["rows"]]
    assert [row.remark for row in rows if row.verdict == "not measured"] == []
    assert {row.target for row in rows} == {None, "<= 12", "<= 35", "<= 1.4"}
    assert all(row.result is not None and row.result.median > 0 for row in rows)


NORMS, ONE = ("norm batch", "norm none"), "1 thread: metrics"
SMALL, LARGE = ("digits, batch 32", "digits, batch 256"), ("28x28, batch 32", "28x28, batch 256")
ACCURACY = "test accuracy, bf16", "95 % interval within +-0.5 points"
TARGETS = [
    *(("steps", f"{case}, {norm}, {ONE} off", ">= 0.95") for case in (*SMALL, *LARGE) for norm in NORMS),
    ("steps", f"28x28, batch 32, norm batch, {ONE} light, an epoch", ">= 0.90"),
    *(("stacks", f"digits, batch 4, {norm}", ">= 2.2") for norm in NORMS),
    *(("stacks", f"digits, batch 32, {norm}", ">= 1.6") for norm in NORMS),
    *(("stacks", f"{case}, {norm}", ">= 1.0") for case in ("digits, batch 256", "28x28, batch 4", *LARGE) for norm in NORMS),
    ("startup", "bnexp --help", "<= 12"),
    ("startup", "bnexp runs, 100 runs", "<= 35"),
    ("startup", "bnexp train to its first step", "<= 1.4"),
    ("precision", "28x28, batch 256, norm batch: bf16", "about 2"),
    ("precision", f"digits, batch 32, 10 epochs: {ACCURACY[0]}", ACCURACY[1]),
    ("precision", f"MNIST, batch 64, 1 epoch: {ACCURACY[0]}", ACCURACY[1]),
    ("gpu", "digits, batch 32: 64 runs in a stack", ">= 20"),
    ("gpu", "3x32x32, batch 512, widths 64/128/256", ">= 0.40"),
]


@pytest.mark.parametrize(("name", "case", "target"), TARGETS)
def test_every_target_stands_on_the_page(name: str, case: str, target: str) -> None:
    held = [row_of(tree) for tree in json.loads((DOCS / "benchmarks.json").read_text())["groups"][name]["rows"]]
    (row,) = [row for row in held if row.target is not None and re.match(rf"{case}\b", row.name)]
    assert row.target == target
    assert row.verdict in ("met", "missed", "not measured")
    assert f"| {row.name} |" in (DOCS / "benchmarks.md").read_text()


def test_the_page_is_made_of_its_data_and_what_misses_has_its_reason() -> None:
    groups, notes = page.load(DOCS / "benchmarks.json"), page.NOTES.read_text()
    assert (DOCS / "benchmarks.md").read_text() == page.page(groups, titles(), notes)
    for name, held in groups.items():
        if any(row_of(tree).verdict == "missed" for tree in held["rows"]):
            section = re.search(rf"^### {name}$(.*?)(?=^#|\Z)", notes, re.M | re.S)
            assert section, f"notes.md has no section {name}"
            assert section[1].strip(), f"notes.md gives no reason for what {name} misses"
