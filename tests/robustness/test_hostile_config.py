"""Config folders from strangers (scripts/faults_hostile_config.py): nothing is executed, read outside, or takes unbounded memory."""

from pathlib import Path

import faults_hostile
import faults_hostile_config
import faults_hostile_texts
import pytest
from faults_hostile import SECRET, Payload, Place

from bnexp.base.errors import DataError
from bnexp.config import Config, plain_yaml
from bnexp.config.compose import compose
from bnexp.config.group_files import group_choices
from bnexp.storage.run import Run

PAYLOADS = faults_hostile_config.payloads()


@pytest.mark.parametrize("payload", PAYLOADS, ids=[payload.name for payload in PAYLOADS])
def test_hostile_configs_are_refused(tmp_path: Path, payload: Payload) -> None:
    """One sentence, exit code 2, no marker, nothing of what lies outside in the message, at most 1 GiB and 30 s."""
    broken, executed = faults_hostile.try_one(payload, Place(tmp_path))
    assert broken == []
    assert not executed


def test_the_check_sees_what_it_should() -> None:
    """Payloads that succeed, so that the counts of the others mean something."""

    def execute(place: Place) -> list[str]:
        place.marker.touch()
        return ["config", "seed=-1"]

    def give_away(place: Place) -> list[str]:
        return ["config", "data=folder", f"data.root={SECRET}"]

    def give_away_refusing(place: Place) -> list[str]:
        return ["config", f"seed={SECRET}"]

    found = faults_hostile.try_payloads(
        [Payload("a", execute, (2,)), Payload("b", give_away, (0,)), Payload("c", give_away_refusing, (2,))]
    )
    assert found.counts == {faults_hostile.FILES: 3, "executed": 3}
    found = faults_hostile.try_payloads(
        [Payload("d", lambda place: ["config"], (2,)), Payload("e", lambda place: ["config"], (0,), "words")]
    )
    assert found.counts == {faults_hostile.FILES: 2, "executed": 0}
    assert len(found.problems) == 2


def test_links_and_anchors_that_harm_nobody_are_taken(tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    (mine / "experiment").mkdir(parents=True)
    (mine / "shared").mkdir()
    (mine / "shared" / "base.yaml").write_text("# @package _global_\nmodel: {widths: &w [4, 4]}\ndata: {subset: 99}\n")
    (mine / "experiment" / "mine.yaml").symlink_to("../shared/base.yaml")
    (tmp_path / "link").symlink_to(mine)
    text = "# @package _global_\ndefaults:\n  - mine\n  - override /data: waveforms\n  - _self_\nseed: 3\n"
    (mine / "experiment" / "more.yaml").write_text(text)
    for folder in (mine, tmp_path / "link"):
        assert compose(["experiment=mine"], folder).model.widths == (4, 4)
        found = compose(["experiment=more"], folder)
        assert (found.seed, found.data.name, found.data.subset) == (3, "waveforms", 99)


def test_a_name_that_hydra_would_resolve_is_no_choice(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    for name in ("${oc.env:HOME}", "a b", "mine.yaml", ".hidden", "fine-1.5"):
        (tmp_path / "data" / f"{name}.yaml").write_text("name: digits\n")
    assert set(group_choices("data", tmp_path)) - set(group_choices("data")) == {"fine-1.5"}
    assert compose(["data=fine-1.5"], tmp_path).data.name == "digits"


def test_a_runs_config_that_unfolds_without_end(tmp_path: Path) -> None:
    """YAML's merge keys are multiplied while the loader builds, so that the text is looked at before: it took minutes and gigabytes."""
    run = Run(tmp_path, "batch-00000000")
    run.start(Config())
    assert run.config() == Config()
    for bad, why in (
        (faults_hostile_texts.BOMB.encode(), "it has the alias"),
        (b"name: \xff", "utf-8"),
        (b"a: " + b"x" * plain_yaml.MAX_BYTES, "it has more than 65,536 bytes"),
    ):
        run.config_yaml.write_bytes(bad)
        with pytest.raises(DataError, match=why):
            run.config()
