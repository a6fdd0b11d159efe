"""Tags and notes of runs: where they are kept, that nothing else changes, and what becomes of them."""

import json
from pathlib import Path

import pytest
from support import CONFIG, bn_in, interrupt

import bnexp
from bnexp.storage.folder import list_runs
from bnexp.storage.labels import Labels, labels_of
from bnexp.storage.run import Run

TINY = ["model.widths=[4,4]", "train.steps=12", "train.eval_every=6"]


def train(runs_dir: Path, *args: str) -> Run:
    bn_in(runs_dir, "train", *TINY, *args, "--quiet")
    return list_runs(runs_dir)[-1]


def test_tags_and_notes_are_shown_and_filtered_by(tmp_path: Path) -> None:
    first, second = train(tmp_path), train(tmp_path, "seed=1")
    before = {path: path.read_bytes() for run in (first, second) for path in run.folder.iterdir()}
    bn_in(tmp_path, "runs", "tag", first.id, second.id, "--add", "paper", "--add", "draft")
    said = bn_in(tmp_path, "runs", "tag", "last", "--remove", "draft", "--add", "fig-2").stdout
    assert said == f"{second.id}: fig-2, paper\n"
    assert bn_in(tmp_path, "runs", "note", first.id, "loss", "spike  at 200").stdout == f"{first.id}: loss spike at 200\n"
    assert labels_of(first) == Labels(("draft", "paper"), "loss spike at 200")
    assert labels_of(second) == Labels(("fig-2", "paper"))
    assert {path: path.read_bytes() for path in before} == before  # nothing but labels.json is written

    text = bn_in(tmp_path, "runs").stdout
    assert "draft,paper" in text
    assert "loss spike at 200" in text
    assert first.id not in bn_in(tmp_path, "runs", "tag=fig-2").stdout
    ids = [row["id"] for row in json.loads(bn_in(tmp_path, "runs", "tag=fig-2,draft", "seed=0", "--json").stdout)["runs"]]
    assert ids == [first.id]
    assert "The runs there have tag=draft, fig-2, paper." in bn_in(tmp_path, "runs", "tag=other").stderr
    shown = bn_in(tmp_path, "runs", "show", first.id).stdout
    assert "draft, paper" in shown
    assert "loss spike at 200" in shown
    rows = {row["id"]: row for row in bnexp.runs(tmp_path)}
    assert rows[first.id]["note"] == "loss spike at 200"
    assert "note" not in rows[second.id]
    assert json.loads(bn_in(tmp_path, "runs", "show", first.id, "--json").stdout)["tags"] == ["draft", "paper"]

    bn_in(tmp_path, "runs", "note", first.id, "")
    bn_in(tmp_path, "runs", "tag", first.id, "--remove", "draft", "--remove", "paper", "--remove", "never-there")
    assert not first.labels_json.exists()
    assert "loss spike" not in bn_in(tmp_path, "runs", "show", first.id).stdout


def test_fresh_keeps_them_and_rm_deletes_them(tmp_path: Path) -> None:
    run = train(tmp_path)
    bn_in(tmp_path, "runs", "tag", "last", "--add", "paper")
    bn_in(tmp_path, "runs", "note", "last", "keep this")
    written = run.summary_json.stat().st_mtime_ns
    bn_in(tmp_path, "train", *TINY, "--fresh")
    assert run.summary_json.stat().st_mtime_ns > written
    assert labels_of(run) == Labels(("paper",), "keep this")
    bn_in(tmp_path, "runs", "rm", "last")
    assert not run.folder.exists()
    assert labels_of(train(tmp_path)) == Labels()


def test_resume_keeps_them_and_they_change_no_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    interrupt([CONFIG], tmp_path / "labelled", monkeypatch)
    interrupt([CONFIG], tmp_path / "plain", monkeypatch)
    bn_in(tmp_path / "labelled", "runs", "tag", "last", "--add", "stopped")
    bn_in(tmp_path / "labelled", "resume", "last")
    bn_in(tmp_path / "plain", "resume", "last")
    (run,), (other,) = list_runs(tmp_path / "labelled"), list_runs(tmp_path / "plain")
    assert labels_of(run) == Labels(("stopped",))
    assert run.id == other.id
    assert run.model_pt.read_bytes() == other.model_pt.read_bytes()
    assert run.result().test == other.result().test


def test_an_interrupted_fresh_run_keeps_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run(tmp_path, CONFIG.run_id())
    bn_in(tmp_path, "train", *TINY)  # another run, which last is not to mean
    from bnexp.execution.launch import launch

    launch([CONFIG], tmp_path, quiet=True)
    interrupt([CONFIG], tmp_path, monkeypatch, fresh=True)
    bn_in(tmp_path, "runs", "tag", run.id, "--add", "meanwhile")
    bn_in(tmp_path, "resume", run.id)
    assert not run.successor.folder.exists()
    assert labels_of(run) == Labels(("meanwhile",))


def test_what_cannot_be_read_keeps_no_run_from_being_shown(tmp_path: Path) -> None:
    run = train(tmp_path)
    run.labels_json.write_text('{"tags": "x"}')
    assert run.id in bn_in(tmp_path, "runs").stdout
    shown = bn_in(tmp_path, "runs", "show", "last")
    assert run.id in shown.stdout
    assert "labels.json cannot be read" in shown.stderr
    assert "Delete it" in bn_in(tmp_path, "runs", "tag", "last", "--add", "x", code=1).stderr  # it is not written over
    run.labels_json.write_text('{"tags": ["by-hand"], "note": "\\u001b[31mred"}')
    assert "by-hand" in bn_in(tmp_path, "runs").stdout
    assert "\x1b[31m" not in bn_in(tmp_path, "runs", "show", "last").stdout
    run.labels_json.unlink()
    (target := tmp_path / "elsewhere").write_text('{"tags": ["linked"]}')
    run.labels_json.symlink_to(target)
    assert "linked" not in bn_in(tmp_path, "runs").stdout


def test_wrong_tags_and_notes(tmp_path: Path) -> None:
    run = train(tmp_path)
    for args, said in (
        (["tag", "last"], "Write: bnexp runs tag last --add NAME"),
        (["tag", "last", "paper"], "Write: bnexp runs tag last --add paper"),
        (["tag", "last", "--add", "a b"], "is not usable as a tag"),
        (["tag", "last", "nothing", "--add", "x"], "There is no run 'nothing'"),
        (["tag", "last", *(f"--add=t{index}" for index in range(21))], "at most 20 tags"),
        (["note", "last"], "Missing argument 'TEXT'"),
        (["note", "last", "x" * 1001], "at most 1,000 characters"),
        (["note", "last", "\x1b[31m"], "which a terminal can print"),
        (["note", "last", "\udcff"], "which a terminal can print"),
    ):
        assert said in " ".join(bn_in(tmp_path, "runs", *args, code=2).stderr.split())
    assert not run.labels_json.exists()  # all names are looked up before the first tag is written
