"""Files that were cut short, emptied, flipped by a bit, or written in another format: each file that a run holds."""

import json
import random
import re
import shutil
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from support import bn_in, cut_short, is_told, no_pages, some

from bnexp.base.files import read_checked_json, write_checked_json
from bnexp.storage.checkpoint import load_checkpoint, save_checkpoint
from bnexp.storage.folder import list_runs
from bnexp.storage.run import Run

TINY = ["data.subset=100", "train.batch_size=16", "train.steps=12", "train.eval_every=4", "train.checkpoint_every=4", "model.widths=[4]"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A runs folder with one finished run."""
    runs_dir = tmp_path_factory.mktemp("finished")
    bn_in(runs_dir, "train", *TINY)
    return runs_dir


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One with the same run stopped at step 10 of 12, its checkpoints at 4, 8 and 10."""
    runs_dir = tmp_path_factory.mktemp("interrupted")
    cut_short(runs_dir, "train", *TINY, steps=10)
    return runs_dir


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def flipped(path: Path, seed: int = 0) -> None:
    data = bytearray(path.read_bytes())
    at = random.Random(seed).randrange(len(data) * 8)
    data[at // 8] ^= 1 << at % 8
    path.write_bytes(data)


def random_bytes(path: Path) -> None:
    path.write_bytes(random.Random(1).randbytes(5000))


def missing(path: Path) -> None:
    path.unlink()


def a_link(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")


DAMAGE = [cut, flipped, *(pytest.param(one, marks=pytest.mark.slow) for one in (emptied, random_bytes, missing, a_link))]
FILES = ["config.yaml", "summary.json", "metrics.jsonl", "model.pt", "train.log", "events.out.tfevents.*"]


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_file_is_never_a_traceback_and_the_same_command_repairs_the_run(
    name: str, damage: Callable[[Path], None], finished: Path, run: Run
) -> None:
    (path,) = run.folder.glob(name)
    damage(path)
    commands = [["runs"], ["runs", "--json"], ["runs", "show", run.id], ["evaluate", run.id], ["resume", run.id]]
    for command in commands + [["report"]] * (name in ("summary.json", "metrics.jsonl")):
        assert is_told(bn_in(run.runs_dir, *command, code=None)), command
    again = bn_in(run.runs_dir, "train", *TINY, "--json")
    if name == "model.pt" and damage not in (missing,):  # nobody looks into it until it is used
        bn_in(run.runs_dir, "runs", "rm", run.id)
        again = bn_in(run.runs_dir, "train", *TINY, "--json")
    whole = list_runs(finished)[0]
    assert json.loads(again.stdout)["test"] == whole.result().tree()["test"]
    assert run.model_pt.read_bytes() == whole.model_pt.read_bytes()


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Run:
    """A finished run, in a folder of its own."""
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    (run,) = list_runs(tmp_path)
    return run


def test_no_flipped_bit_of_a_summary_passes(run: Run) -> None:
    """A digit of an accuracy is one bit from another digit."""
    whole = run.summary_json.read_bytes()
    for seed in range(25):
        run.summary_json.write_bytes(whole)
        flipped(run.summary_json, seed)
        assert run.status is None
        assert "unreadable" in bn_in(run.runs_dir, "runs").stdout


def test_no_flipped_bit_of_a_model_passes(run: Run) -> None:
    whole = run.model_pt.read_bytes()
    for seed in range(25):
        run.model_pt.write_bytes(whole)
        flipped(run.model_pt, seed)
        assert "model.pt" in bn_in(run.runs_dir, "evaluate", run.id, code=1).stderr


def test_a_summary_that_cannot_be_read_is_said_to_be_trained_anew(run: Run) -> None:
    cut(run.summary_json)
    assert "summary.json cannot be read; the run is trained anew" in bn_in(run.runs_dir, "train", *TINY).stderr
    assert run.done


def test_curves_that_are_not_what_was_written_are_said_to_be_so(run: Run) -> None:
    def said() -> list[bool]:
        page = Path(bn_in(run.runs_dir, "report").stdout.strip()).read_text()
        return ["was damaged or changed" in text for text in (page, bn_in(run.runs_dir, "runs", "show", run.id).stderr)]

    assert said() == [False, False]
    run.metrics_jsonl.write_text(run.metrics_jsonl.read_text().replace('"val/loss": 2', '"val/loss": 1', 1))
    assert said() == [True, True]


def test_versions_of_the_format(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    write_checked_json(path, {"a": [1, 2], "b": "é"}, 1)
    assert json.loads(path.read_text()) == read_checked_json(path, 1)
    body, _, rest = path.read_bytes().partition(b',\n  "checksum": "')
    assert rest == f'{zlib.crc32(body):08x}"\n}}\n'.encode()  # of the bytes before it
    write_checked_json(path, read_checked_json(path, 1), 2)  # by a program that comes after this one
    with pytest.raises(ValueError, match="format 2 is newer than this program, which reads up to 1"):
        read_checked_json(path, 1)
    path.write_text('{"a": 1}')  # from before there were versions
    assert read_checked_json(path, 1) == {"a": 1}
    path.write_text('{"a": 1, "format": 1}')
    with pytest.raises(ValueError, match="its checksum is missing"):
        read_checked_json(path, 1)
    numbers = [f'{{"a": {value}}}' for value in ("NaN", "-Infinity", "1e999", '"\\ud800"')]
    for bad in ('["a"]', "[" * 100_000, '{"format": "one"}', "", "null", *numbers):
        path.write_text(bad)
        with pytest.raises(ValueError, match=r"."):
            read_checked_json(path, 1)


@pytest.mark.parametrize("damage", [cut, flipped, a_link])
@pytest.mark.parametrize("names", [["checkpoint.pt"], ["checkpoint.pt", "checkpoint.prev.pt"]])
def test_a_damaged_checkpoint_falls_back_and_the_bits_stay(
    names: list[str], damage: Callable[[Path], None], interrupted: Path, finished: Path, tmp_path: Path
) -> None:
    shutil.copytree(interrupted, tmp_path, dirs_exist_ok=True)
    (run,) = list_runs(tmp_path)
    (stack,) = (tmp_path / ".stacks").iterdir()
    for name in names:
        damage(stack / name)
    with run.metrics_jsonl.open("a") as file:
        file.write('{"step": 12, "val/l')  # torn
    result = bn_in(tmp_path, "resume", run.id)
    told = result.stderr.count("It is not used.")
    assert told == len(names) or damage is flipped  # a bit between the records is nobody's
    assert ("Resuming at step" in result.stderr) == (told < 2)
    assert ("Resuming at step 8 of 12" in result.stderr) == (told == 1)
    assert run.model_pt.read_bytes() == list_runs(finished)[0].model_pt.read_bytes()
    records = [json.loads(line) for line in run.metrics_jsonl.read_text().splitlines()]  # none is torn
    assert [record["step"] for record in records if "val/loss" in record] == [4, 8, 12]


def first_line(path: Path) -> None:
    path.write_bytes(path.read_bytes().splitlines(keepends=True)[0])


def zeros(path: Path) -> None:
    """Some file systems leave a file its length, and none of what was written last."""
    path.write_bytes(bytes(path.stat().st_size))


def after_step_4(path: Path) -> None:
    path.write_bytes(b"".join(line for line in path.read_bytes().splitlines(keepends=True) if json.loads(line)["step"] <= 4))


@pytest.mark.parametrize("shorten", [emptied, missing, first_line, zeros, after_step_4])
def test_curves_that_are_behind_the_checkpoint_are_made_again(
    shorten: Callable[[Path], None], interrupted: Path, finished: Path, tmp_path: Path
) -> None:
    """As after a loss of power: the checkpoint is there, and what was logged before it is not. Checkpoints are of 10 and 8."""
    shutil.copytree(interrupted, tmp_path, dirs_exist_ok=True)
    (run,) = list_runs(tmp_path)
    shorten(run.metrics_jsonl)
    err = bn_in(tmp_path, "resume", run.id).stderr
    assert len(re.findall(r"checkpoint\.(?:prev\.)?pt does not fit: .*metrics\.jsonl has \d of the \d records", err)) == 2
    assert "Resuming" not in err
    whole = list_runs(finished)[0]
    assert curves_of(run) == curves_of(whole)
    assert run.model_pt.read_bytes() == whole.model_pt.read_bytes()


def test_the_checkpoint_before_serves_where_the_curves_reach_up_to_it(interrupted: Path, finished: Path, tmp_path: Path) -> None:
    shutil.copytree(interrupted, tmp_path, dirs_exist_ok=True)
    (run,) = list_runs(tmp_path)
    (stack,) = (tmp_path / ".stacks").iterdir()
    state = some(load_checkpoint(stack, print))
    save_checkpoint(stack, {**state, "records": {run.id: 1000}})  # the one before is now that of step 10
    err = bn_in(tmp_path, "resume", run.id).stderr
    assert "records that it had then. It is not used." in err
    assert "Resuming at step 10 of 12" in err
    assert curves_of(run) == curves_of(list_runs(finished)[0])


def curves_of(run: Run) -> list[dict[str, Any]]:
    """The records of a run without what is timed."""
    records = [json.loads(line) for line in run.metrics_jsonl.read_text().splitlines()]
    return [{key: value for key, value in record.items() if not key.startswith("speed/")} for record in records]


def test_no_flipped_bit_of_a_checkpoint_changes_what_is_loaded(tmp_path: Path) -> None:
    """The archive has a CRC32 for each record, which torch writes and does not look at."""

    def state(step: int) -> dict[str, Any]:
        return {"step": step, "network": {"weight": torch.arange(60.0) * step}, "tracks": [{"best": 0.5 * step}]}

    save_checkpoint(tmp_path / "a", state(1))
    save_checkpoint(tmp_path / "a", state(2))
    kept = (tmp_path / "a" / "checkpoint.pt").read_bytes()
    fell_back = 0
    for seed in range(400):
        (tmp_path / "a" / "checkpoint.pt").write_bytes(kept)
        flipped(tmp_path / "a" / "checkpoint.pt", seed)
        told: list[str] = []
        found = some(load_checkpoint(tmp_path / "a", told.append))
        expected = state(1 if told else 2)
        fell_back += bool(told)
        assert found["step"] == expected["step"]
        assert torch.equal(found["network"]["weight"], expected["network"]["weight"])
        assert found["tracks"] == expected["tracks"]
    assert fell_back > 100


SWEEP = ["sweep", "norm", "--values", "batch,none", "--seeds", "1", *TINY, "--workers", "0", "--quiet"]


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    runs_dir = tmp_path_factory.mktemp("swept")
    bn_in(runs_dir, *SWEEP)
    return runs_dir


@pytest.mark.slow
@pytest.mark.parametrize("name", ["plan.json", "members.json"])
@pytest.mark.parametrize("damage", DAMAGE)
def test_a_sweeps_own_files(name: str, damage: Callable[[Path], None], swept: Path, tmp_path: Path) -> None:
    shutil.copytree(swept, tmp_path, dirs_exist_ok=True)
    (group,) = (tmp_path / ".groups").iterdir()
    bn_in(tmp_path, "runs", "rm", list_runs(tmp_path)[0].id)
    damage(group / name)
    with no_pages():
        for command in (["report", group.name], ["runs"]):
            assert is_told(bn_in(tmp_path, *command, code=None)), command
        bn_in(tmp_path, *SWEEP)
        assert read_checked_json(group / name, 1)
        bn_in(tmp_path, "report", group.name)
