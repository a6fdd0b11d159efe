"""Data that moved after a run, or lie behind links: found again where they are said to be, and refused where they are others."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from support import bn_in, cut_short

from bnexp.base.errors import DataError, UsageError
from bnexp.config import DataConfig, from_mapping
from bnexp.config.compose import compose, expand
from bnexp.data import fingerprint, load
from bnexp.data.folder import list_images
from bnexp.execution.identity import identify_saved
from bnexp.storage.folder import list_runs
from bnexp.storage.run import Run

TINY = ["data=folder", "data.image_size=8", "train.batch_size=8", "train.steps=6", "model.widths=[4]", "metrics=off", "threads=1"]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with the images `a` and the runs folder `runs`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    fill(tmp_path / "a")
    return tmp_path


def fill(folder: Path, shade: int = 0) -> Path:
    for label, name in enumerate(("cat", "dog")):
        (folder / name).mkdir(parents=True)
        for number in range(15):
            Image.new("RGB", (8, 8), (200 * label, shade, 5 * number)).save(folder / name / f"{number}.png")
    return folder


def ok(*args: str) -> Any:
    return json.loads(bn_in(Path("runs"), *args, "--json", "--quiet").stdout)


def refused(*args: str, code: int = 2) -> str:
    return str(bn_in(Path("runs"), *args, code=code).stderr)


def test_a_finished_run_is_evaluated_and_measured_where_its_data_are_now(place: Path) -> None:
    run_id = ok("train", *TINY, "data.root=a")["id"]
    before = {command: ok(*command.split()) for command in ("evaluate last", "stats last --batch-sizes 2,4")}
    Path("a").rename("b c, d")
    moved = "data.root='b c, d'"
    for command, found in before.items():
        said = refused(*command.split())
        assert said == f"Error: The data of {run_id} are not at {place}/a any more; add data.root=PATH, where they are now.\n"
        again = ok(*command.split(), moved)
        assert again.pop("config", {}).get("data", {}).get("root") in (None, f"{place}/b c, d")
        for key in ("config", "environment"):
            found.pop(key, None)
            again.pop(key, None)
        assert again == found
    fill(place / "other", shade=9)
    shutil.copy("other/cat/0.png", "b c, d/cat/0.png")
    for command in before:
        assert "holds other data than those that it was trained on" in refused(*command.split(), moved)
        assert "other holds other data" in refused(*command.split(), "data.root=other")
        assert "data.root" in refused(*command.split(), "data.root=nowhere")
        assert "'optim.lr=1' is too much" in refused(*command.split(), "optim.lr=1")


def test_an_interrupted_stack_is_resumed_where_its_data_are_now(place: Path) -> None:
    twins = [Path(row["id"]) for row in ok("train", *TINY, "data.root=a", "--seeds", "2")["runs"]]
    whole = {run.name: (place / "runs" / run / "model.pt").read_bytes() for run in twins}
    shutil.rmtree("runs")
    cut_short(Path("runs"), "train", *TINY, "data.root=a", "--seeds", "2", steps=3)
    Path("a").rename("b")
    fill(place / "other", shade=9)
    before = {path: path.read_bytes() for path in Path("runs").glob("*/*.json*")}
    assert "are not at" in refused("resume", "last")
    assert "holds other data" in refused("resume", "last", "data.root=other")
    assert {path: path.read_bytes() for path in Path("runs").glob("*/*.json*")} == before
    ok("resume", "last", "data.root=b")
    assert {run.id: run.model_pt.read_bytes() for run in list_runs(Path("runs"))} == whole
    assert {run.trained_config().data.root for run in list_runs(Path("runs"))} == {f"{place}/b"}


def test_what_a_data_set_does_not_read_is_refused(place: Path) -> None:
    """A place beside a run on digits was accepted without a word, and `data.root=photos` without data=folder trained on digits."""
    digits = [*TINY[2:], "train.batch_size=16"]
    run_id = ok("train", *digits)["id"]
    for command in ("evaluate last", "stats last"):
        for key in ("data.root", "data.follow_links"):
            said = refused(*command.split(), f"{key}=true")
            assert said == f"Error: {run_id} was trained on data=digits, which does not read {key}; leave it out.\n"
    ok("evaluate", "last")
    for command in (["train"], ["sweep", "lr", "--values", "0.1"], ["config"], ["stats"]):
        said = refused(*command, "data.root=a")
        assert "data=digits does not read data.root; give data=mnist, " in said
    assert "data=npz does not read data.follow_links; give data=folder with it" in refused(
        "train", "data=npz", "data.root=a", "data.follow_links=true"
    )
    assert [config.data.name for config in expand(["data=digits,mnist", "data.root=a"])] == ["digits", "mnist"]
    assert compose(["data.root=null"]).data.root is None


def test_only_files_of_ones_own_must_be_where_they_were(place: Path) -> None:
    """A torchvision set is in the cache folder, or in any that is given: the loader says what is missing."""
    config = from_mapping({"data": {"name": "mnist", "root": f"{place}/gone"}})
    run = Run(Path("runs"), config.run_id())
    assert identify_saved([(run, config)], {}) == [config]
    (again,) = identify_saved([(run, config)], {"data.root": None})
    assert again.data.root is None
    with pytest.raises(UsageError, match=r"gone is not there; give data\.root=PATH, .* or data\.root=null for the cache folder"):
        load(config.data, torch.device("cpu"), download=False)
    own = from_mapping({"data": {"name": "npz", "root": f"{place}/gone.npz"}})
    with pytest.raises(UsageError, match=r"are not at .*gone\.npz any more; add data\.root=PATH"):
        identify_saved([(Run(Path("runs"), "x"), own)], {})


def linked(place: Path) -> Path:
    """A tree like `a` of links: a class that is one, a class with a folder of images that is one, and an image that is one."""
    (place / "links" / "dog").mkdir(parents=True)
    (place / "store").mkdir()
    for number in range(10):
        shutil.move(place / "a" / "dog" / f"{number}.png", place / "store")
    (place / "links" / "cat").symlink_to(place / "a" / "cat")
    (place / "links" / "dog" / "more").symlink_to(place / "store")
    for number in range(10, 15):
        (place / "links" / "dog" / f"{number}.png").symlink_to(place / "a" / "dog" / f"{number}.png")
    return place / "links"


def test_links_that_lead_out_are_followed_when_that_is_said(place: Path) -> None:
    root = linked(place)
    assert "leads out of data.root; give data.follow_links=true" in refused("train", *TINY, f"data.root={root}")
    by_links = ok("train", *TINY, f"data.root={root}", "data.follow_links=true")
    shutil.copytree(root, place / "copies")  # it copies what links lead to
    as_files = ok("train", *TINY, "data.root=copies")
    assert as_files["id"] == by_links["id"]  # the same content is the same run, which is recorded as it was trained
    assert as_files["config"]["data"]["follow_links"]
    assert as_files["data"]["train"] + as_files["data"]["val"] + as_files["data"]["test"] == 30
    assert ok("evaluate", "last", "data.root=copies", "data.follow_links=false") == ok("evaluate", "last")


def test_links_in_a_circle_are_refused(place: Path) -> None:
    (place / "a" / "cat" / "in").mkdir()
    own = DataConfig(name="folder", root="a", follow_links=True)
    for target in ("..", "../..", "../../dog"):
        (place / "a" / "cat" / "in" / "out").symlink_to(target)
        (place / "a" / "dog" / "back").symlink_to("../cat/in")
        with pytest.raises(DataError, match="is a link to a folder that it is in"):
            list_images(own)
        (place / "a" / "cat" / "in" / "out").unlink()
        (place / "a" / "dog" / "back").unlink()
    assert fingerprint(own) == fingerprint(DataConfig(name="folder", root="a"))


def test_data_that_are_refused_before_anything_is_started_are_wrong_usage(place: Path) -> None:
    """A damaged file stays a failure: another one may be put in its place."""
    (place / "a" / "empty").mkdir()
    for command in (["train"], ["stats"], ["sweep", "lr", "--values", "0.1", "--workers", "0"]):
        assert "has no images" in refused(*command, *TINY, "data.root=a")
    (place / "a" / "empty" / "x.png").write_bytes(b"no image")
    assert "cannot be read" in refused("train", *TINY, "data.root=a", code=1)
    assert list_runs(Path("runs")) == []


def test_a_config_from_before_the_key_is_read(place: Path) -> None:
    tree = {"data": {"name": "folder", "root": "a"}}
    assert not from_mapping(tree).data.follow_links
    assert Run(place, from_mapping(tree).run_id("x")) == Run(place, from_mapping(tree).replace(**{"data.follow_links": True}).run_id("x"))
