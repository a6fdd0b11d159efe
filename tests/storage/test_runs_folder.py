"""The runs folder when it does not look as it should: foreign folders, links, damaged and removed files, leftovers of kills.

Each of these once lost data, lied, or ended in a traceback.
"""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from support import CONFIG, bn_in, interrupt, write_summary
from typer.testing import CliRunner

from bnexp.base.errors import DataError
from bnexp.cli import app
from bnexp.cli.options import print_json
from bnexp.config import Config
from bnexp.execution import launch as launching
from bnexp.execution.identity import identify
from bnexp.execution.launch import launch
from bnexp.planning.plan import plan
from bnexp.storage import curves as records
from bnexp.storage.folder import list_runs
from bnexp.storage.result import RunResult
from bnexp.storage.run import Run
from bnexp.storage.stack_folder import StackFolder

TINY = ["model.widths=[4,4]", "train.steps=24", "train.eval_every=8"]


@pytest.fixture
def runs_dir(tmp_path: Path) -> Path:
    return tmp_path / "runs"


def steps_logged(run: Run) -> list[int]:
    """Of evaluations and test scores; the metrics' own records stand between them."""
    records = map(json.loads, run.metrics_jsonl.read_text().splitlines())
    return [record["step"] for record in records if "val/loss" in record or "test/running/loss" in record]


def test_rm_deletes_runs_only(runs_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bn_in(runs_dir, "train", *TINY)
    (project := tmp_path / "project").mkdir()
    (project / "config.yaml").write_text("a: 1")
    (project / "summary.json").write_text("{}")
    (runs_dir / "linked").symlink_to(list_runs(runs_dir)[0].folder)
    monkeypatch.chdir(tmp_path)
    for name, why in (
        ("project", "not that of a run"),
        (str(runs_dir / "linked"), "is a link"),
        ("linked", "There is no run"),
        ("x" * 5000, "no run"),
    ):
        assert why in bn_in(runs_dir, "runs", "rm", name, code=2).stderr
    assert (project / "config.yaml").exists()
    assert list_runs(runs_dir)[0].done


def test_an_id_wins_over_a_path(runs_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bn_in(runs_dir, "train", *TINY)
    run = list_runs(runs_dir)[0]
    (tmp_path / run.id).mkdir()
    monkeypatch.chdir(tmp_path)
    assert json.loads(bn_in(runs_dir, "runs", "show", run.id, "--json").stdout)["id"] == run.id


def test_damaged_runs_are_listed_and_can_be_removed(runs_dir: Path) -> None:
    bn_in(runs_dir, "train", *TINY)
    for name, text in (("half-00000001", "{}"), ("half-00000002", '{"status": "finished"}'), ("half-00000003", "\x00\xff")):
        (runs_dir / name).mkdir()
        (runs_dir / name / "summary.json").write_bytes(text.encode("latin-1"))
    (runs_dir / "half-00000004").mkdir()
    (runs_dir / "half-00000004" / "config.yaml").write_text("seed: 0")
    (runs_dir / "note.txt").write_text("mine")
    rows = json.loads(bn_in(runs_dir, "runs", "--json").stdout)["runs"]
    assert [row["status"] for row in rows] == ["finished"] + ["unreadable"] * 4
    assert "unreadable" in bn_in(runs_dir, "runs").stdout
    for command in (["runs", "show"], ["evaluate"], ["resume"]):
        for name in ("half-00000001", "half-00000002", "half-00000003"):
            assert name in bn_in(runs_dir, *command, name, code=1).stderr
    bn_in(runs_dir, "runs", "rm", *[f"half-0000000{digit}" for digit in "1234"])
    assert len(list_runs(runs_dir)) == 1


def test_the_group_hands_its_options_on(runs_dir: Path) -> None:
    bn_in(runs_dir, "train", *TINY)
    result = CliRunner().invoke(app, ["runs", "--runs-dir", str(runs_dir), "--json", "show", "last"])
    assert json.loads(result.stdout)["status"] == "finished"


def test_an_interrupted_fresh_run_goes_on_and_replaces(runs_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (run,) = launch([CONFIG], runs_dir, quiet=True).runs
    before, model = run.summary_json.read_bytes(), run.model_pt.read_bytes()
    for go_on in (["resume", run.id], ["train", *TINY, "--fresh"]):
        interrupt([CONFIG], runs_dir, monkeypatch, fresh=True)
        assert run.summary_json.read_bytes() == before
        assert "not trained again" in bn_in(runs_dir, "train", *TINY).stderr
        assert "Resuming at step 10" in bn_in(runs_dir, *go_on).stderr
        assert run.summary_json.read_bytes() != before
        assert run.model_pt.read_bytes() == model
        assert steps_logged(run) == [8, 16, 24, 24]
        assert not list((runs_dir / ".stacks").iterdir())
        assert not list((runs_dir / ".fresh").iterdir())
        before = run.summary_json.read_bytes()


def test_rm_of_a_run_takes_its_interrupted_successor_along(runs_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (run,) = launch([CONFIG], runs_dir, quiet=True).runs
    interrupt([CONFIG], runs_dir, monkeypatch, fresh=True)
    bn_in(runs_dir, "runs", "rm", run.id)
    assert not list((runs_dir / ".stacks").iterdir())
    assert "Resuming" not in bn_in(runs_dir, "train", *TINY).stderr
    assert steps_logged(run) == [8, 16, 24, 24]


def test_fresh_over_a_finished_and_an_interrupted_run(runs_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pair = [CONFIG, CONFIG.replace(seed=1)]
    whole = [launch([config], runs_dir.parent / "whole", quiet=True).runs[0] for config in pair]  # each was started alone
    (first,) = launch(pair[:1], runs_dir, quiet=True).runs
    before = first.summary_json.read_bytes()
    interrupt(pair[1:], runs_dir, monkeypatch)
    interrupt(pair, runs_dir, monkeypatch, fresh=True)
    assert first.summary_json.read_bytes() == before
    outcome = launch(pair, runs_dir, quiet=True, fresh=True)
    assert outcome.reused == frozenset()
    for run, same in zip(outcome.runs, whole, strict=True):
        assert run.model_pt.read_bytes() == same.model_pt.read_bytes()
        assert steps_logged(run) == [8, 16, 24, 24]
    assert not list((runs_dir / ".stacks").iterdir())


def test_a_complete_successor_is_put_in_place_by_the_next_command(runs_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (run,) = launch([CONFIG], runs_dir, quiet=True).runs
    with monkeypatch.context() as patch:
        patch.setattr(Run, "promote", lambda self: self)  # killed just before
        launch([CONFIG], runs_dir, quiet=True, fresh=True)
    written = run.successor.result().tree()
    bn_in(runs_dir, "train", *TINY)
    assert run.result().tree() == written
    assert not list((runs_dir / ".fresh").iterdir())


def test_a_deleted_folder_starts_over_whatever_checkpoint_is_left(runs_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    interrupt([CONFIG], runs_dir, monkeypatch)
    run = list_runs(runs_dir)[0]
    shutil.rmtree(run.folder)
    assert "Resuming" not in bn_in(runs_dir, "train", *TINY).stderr
    assert steps_logged(run) == [8, 16, 24, 24]


def test_a_removed_member_does_not_keep_the_others_from_going_on(runs_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pair = [CONFIG, CONFIG.replace(seed=1)]
    whole = launch(pair, runs_dir.parent / "whole", quiet=True).runs
    interrupt(pair, runs_dir, monkeypatch)
    first, second = launching.identify(pair, runs_dir)
    bn_in(runs_dir, "runs", "rm", first.id)
    bn_in(runs_dir, "resume", second.id)
    assert second.model_pt.read_bytes() == whole[1].model_pt.read_bytes()
    assert not first.folder.exists()
    assert not list((runs_dir / ".stacks").iterdir())


def test_resuming_a_finished_run_goes_on_with_the_others_of_its_stack(runs_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kill between the last summaries leaves one run finished and another not."""
    pair = [CONFIG, CONFIG.replace(seed=1)]
    whole = launch(pair, runs_dir.parent / "whole", quiet=True).runs
    write, dead = Run.write_result, []

    def killed(run: Run, result: RunResult) -> None:
        if dead or (result.seed == 1 and result.status == "finished"):
            dead.append(run)  # and nothing is written any more
            raise KeyboardInterrupt
        write(run, result)

    with monkeypatch.context() as patch:
        patch.setattr(Run, "write_result", killed)
        with pytest.raises(KeyboardInterrupt):
            launch(pair, runs_dir, quiet=True)
    first, second = launching.identify(pair, runs_dir)
    assert (first.done, second.done) == (True, False)
    before = first.summary_json.read_bytes()
    bn_in(runs_dir, "resume", first.id)
    assert first.summary_json.read_bytes() == before
    assert [run.model_pt.read_bytes() for run in (first, second)] == [run.model_pt.read_bytes() for run in whole]
    assert not list((runs_dir / ".stacks").iterdir())


def test_a_finished_run_without_its_model_is_trained_again(runs_dir: Path) -> None:
    bn_in(runs_dir, "train", *TINY)
    run = list_runs(runs_dir)[0]
    run.model_pt.unlink()
    assert "resume" in bn_in(runs_dir, "evaluate", "last", code=1).stderr
    bn_in(runs_dir, "resume", "last")
    assert run.done
    bn_in(runs_dir, "evaluate", "last")


def test_evaluate_and_resume_refuse_changed_data_and_config(runs_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def write(seed: int) -> None:
        rng = np.random.default_rng(seed)
        np.savez(tmp_path / "mine.npz", x=rng.normal(size=(60, 1, 8)), y=np.arange(60) % 3)

    write(0)
    monkeypatch.chdir(tmp_path)
    bn_in(runs_dir, "train", "data=npz", "data.root=mine.npz", "train.batch_size=8", *TINY)
    run = list_runs(runs_dir)[0]
    (elsewhere := tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(elsewhere)  # the root is kept absolute
    bn_in(runs_dir, "evaluate", "last")
    write(1)
    assert "holds other data" in bn_in(runs_dir, "evaluate", "last", code=2).stderr
    write(0)
    text = run.config_yaml.read_text()
    run.config_yaml.write_text(text.replace("bn_eps: 1.0e-05", "bn_eps: 0.5"))
    assert run.config_yaml.read_text() != text
    assert "changed since" in bn_in(runs_dir, "evaluate", "last", code=2).stderr


def test_folding_a_network_with_nan_is_refused(runs_dir: Path) -> None:
    bn_in(runs_dir, "train", *TINY, "optim.lr=1e30")
    result = bn_in(runs_dir, "evaluate", "last", "--folded", code=1)
    assert "not finite" in result.stderr


def test_a_large_interrupted_sweep_is_planned_with_one_look_at_each_stack(runs_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each run once looked into each stack: a minute before the first line, with 1,000 runs in 64 stacks."""
    stacks = [[CONFIG.replace(**{"seed": seed, "optim.lr": lr}) for seed in range(2)] for lr in (0.01, 0.02, 0.03, 0.04)]
    for configs in stacks:
        interrupt(configs, runs_dir, monkeypatch)
    every = [config for configs in stacks for config in configs]
    read: list[str] = []
    members = StackFolder.members

    def counted(folder: StackFolder) -> list[tuple[Run, Config]]:
        read.append(folder.id)
        return members(folder)

    monkeypatch.setattr(StackFolder, "members", counted)
    planned = plan(every, identify(every, runs_dir))
    assert sorted(len(stack.runs) for stack in planned) == [2, 2, 2, 2]
    assert len(read) == 2 * len(stacks)  # what is left over of each; what each goes on as
    assert len(set(read)) == len(stacks)


def test_a_strangers_summary_cannot_ask_for_a_million_threads(runs_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    interrupt([CONFIG], runs_dir, monkeypatch)
    (run,) = list_runs(runs_dir)
    summary = run.result().tree()
    for threads in (-1, True, "2"):
        write_summary(run, {**summary, "environment": {"threads": threads}})
        with pytest.raises(DataError, match=r"its environment\.threads is wrong"):
            launching._threads_before(run)
    for threads in (2**40, 60_000, 0):
        write_summary(run, {**summary, "environment": {"threads": threads}})
        assert launching._threads_before(run) is None
    bn_in(runs_dir, "resume", "last")


def test_names_of_folders_are_no_escape_sequences(tmp_path: Path) -> None:
    """A terminal obeys what is written to it: here, to be called otherwise."""
    folder = tmp_path / "a\x1b]0;owned\x07b"
    assert "\\x1b]0;owned\\x07" in bn_in(folder, "runs", code=2).stderr
    folder.mkdir()
    assert "\\x1b]0;owned\\x07" in bn_in(folder, "runs").stderr
    bn_in(folder, "train", *TINY)
    said = [bn_in(folder, "runs", "rm", "last"), bn_in(folder, "runs", "rm", "last", code=2), bn_in(folder, "runs", "--json")]
    for result in said:
        assert not {"\x1b", "\x07"} & set(result.stdout + result.stderr)
    assert "Removed" in said[0].stdout


def test_json_on_stdout_has_nothing_that_a_terminal_obeys(capsys: pytest.CaptureFixture[str]) -> None:
    value = {"a": "\x1b[2J\x9b\u061c\u202e\u2028\U000e0041 é 日本 😀", "b": [1, 2]}
    print_json(value)
    out = capsys.readouterr().out
    assert json.loads(out) == value
    assert all(letter.isprintable() or letter == "\n" for letter in out)
    assert "é 日本 😀" in out


def test_a_predecessor_that_a_killed_process_did_not_delete_goes_with_the_next_command(runs_dir: Path) -> None:
    """Killed between the last rename of `--fresh` and the end of the deletion."""
    bn_in(runs_dir, "train", *TINY, "--quiet")
    (run,) = list_runs(runs_dir)
    left = runs_dir / ".fresh" / f"{run.id}.replaced"
    shutil.copytree(run.folder, left)
    bn_in(runs_dir, "train", *TINY, "--quiet")
    assert not left.exists()
    assert run.done


def test_a_run_whose_removal_was_cut_short_can_be_named_to_be_removed(runs_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bn_in(runs_dir, "train", *TINY, "--quiet")
    (run,) = list_runs(runs_dir)

    class Killed(BaseException):
        pass

    unlink, rmtree = Path.unlink, shutil.rmtree
    left = [0]  # deletions until the kill

    def one_more() -> None:
        left[0] -= 1
        if left[0] < 0:
            raise Killed

    def dying_unlink(path: Path, missing_ok: bool = False) -> None:
        one_more()
        unlink(path, missing_ok=missing_ok)

    def dying_rmtree(path: Path, ignore_errors: bool = False) -> None:
        assert len(list(path.iterdir())) <= 1  # in what order it deletes, nobody knows
        one_more()
        rmtree(path, ignore_errors)

    copied = Run(runs_dir.with_name("copy"), run.id)
    for done in range(6):
        shutil.copytree(runs_dir, copied.runs_dir)
        with monkeypatch.context() as patch:
            patch.setattr(Path, "unlink", dying_unlink)
            patch.setattr("bnexp.storage.run.shutil.rmtree", dying_rmtree)
            left[0] = done
            with pytest.raises(Killed):
                copied.remove()
        assert copied.folder.exists()
        bn_in(copied.runs_dir, "runs", "rm", run.id)
        assert not copied.folder.exists()
        rmtree(copied.runs_dir)


@pytest.mark.parametrize("where", ["--runs-dir", "--out", "the working directory"])
def test_folders_that_are_not_utf8_are_refused_before_anything_starts(where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    odd = tmp_path / os.fsdecode(b"odd\xff")
    odd.mkdir()
    monkeypatch.chdir(odd if where == "the working directory" else tmp_path)
    for command in (["train", *TINY], ["compare", "--no-bn", *TINY], ["stats", *TINY], ["report"]):
        if where == "--out" and command[0] == "train":
            continue
        options = [] if where == "the working directory" else [where, str(odd)]
        result = CliRunner().invoke(app, [*command, *options], prog_name="bnexp")
        assert result.exit_code == 2, (command, result.exception)
        assert "odd\\udcff" in result.stderr
        assert "is not UTF-8" in result.stderr
    assert list(tmp_path.iterdir()) == [odd]
    assert list(odd.iterdir()) == []


def test_a_bool_is_no_step(tmp_path: Path) -> None:
    """`resume` once ended in a traceback over it."""
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": true, "val/loss": 1.0}\n{"step": 1, "val/loss": 2.0}\n')
    assert [step for _, step, _ in records.read(path)] == [1]
    assert records.curve(path, "val/loss") == records.curves(path)["val/loss"] == [(1, 2.0)]
