"""What runs and means are called in TensorBoard, the link that it opens on, and how its page is adapted."""

import json
import zipfile
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import tensorboard

from bnexp.config import Config
from bnexp.storage.run import Run
from bnexp.tensorboard.names import in_order, mean_names, run_name
from bnexp.tensorboard.opening import _adapted, link

BOTH = ["means/with BN, lr 0.1 (2 seeds)", "means/without BN, lr 0.1 (2 seeds)", "runs/with BN/batch-bs32-lr0.1-s0-12345678"]


def folders(group: str, *names: str) -> list[Path]:
    return [Path("runs", ".groups", group, name) for name in names]


def test_a_mean_is_named_by_its_arm_and_by_what_differs() -> None:
    found = folders("0123abcd", "batch-bs32-lr0.1-mean5", "batch-bs32-lr1e-05-mean5", "none-bs32-lr0.1-steps400-mean4")
    names = ["means/with BN, lr 0.1 (5 seeds)", "means/with BN, lr 1e-05 (5 seeds)", "means/without BN, lr 0.1, steps 400 (4 seeds)"]
    assert mean_names(found) == dict(zip(names, found, strict=True))
    sizes = folders("0123abcd", "batch-bs4-lr0.1-mean2", "batch-bs16-lr0.1-mean2")
    assert list(mean_names(sizes)) == ["means/with BN, batch size 4 (2 seeds)", "means/with BN, batch size 16 (2 seeds)"]


def test_means_of_runs_with_names_of_their_own_have_their_arm() -> None:
    named = folders("0123abcd", "mine-normbatch-mean2", "mine-normnone-mean2")
    assert list(mean_names(named)) == ["means/with BN (2 seeds)", "means/without BN (2 seeds)"]


def test_means_of_one_name_say_their_group() -> None:
    found = [*folders("0123abcd", "batch-bs32-lr0.1-mean2"), *folders("4567cdef", "batch-bs32-lr0.1-mean2")]
    assert mean_names(found) == {f"means/with BN (2 seeds) of {folder.parent.name}": folder for folder in found}


def test_a_run_stands_with_its_arm(tmp_path: Path) -> None:
    assert run_name(Run(tmp_path, "none-bs32-lr0.1-s0-12345678")) == "runs/without BN/none-bs32-lr0.1-s0-12345678"
    named = Run(tmp_path, "batch-of-mine-12345678")
    named.start(Config().replace(**{"model.norm": "none"}))
    assert run_name(named) == "runs/without BN/batch-of-mine-12345678"
    assert run_name(Run(tmp_path, "lost-12345678")) == "runs/unknown arm/lost-12345678"


def test_the_arms_come_in_the_order_of_their_declarations() -> None:
    assert in_order(["runs/without BN/a", "runs/other/b", "runs/with BN/c", BOTH[1], BOTH[0]]) == [
        *BOTH[:2],
        *("runs/with BN/c", "runs/without BN/a", "runs/other/b"),
    ]


def test_the_link_filters_means_where_there_are_any_and_colours_arms_where_there_are_two() -> None:
    both = parse_qs(urlsplit(link("http://127.0.0.1:6006/", BOTH)).query)
    assert [card["tag"] for card in json.loads(both["pinnedCards"][0])] == ["val/accuracy", "val/loss"]
    assert both["runFilter"] == ["^means/"]
    assert both["runColorGroup"][0].startswith("regex:")
    assert "runFilter" not in parse_qs(urlsplit(link("http://127.0.0.1:6006/", BOTH[2:])).query)
    assert "runColorGroup" not in parse_qs(urlsplit(link("http://127.0.0.1:6006/", BOTH[:1])).query)


def test_the_installed_page_takes_our_colours_and_filters() -> None:
    """A TensorBoard whose script is built otherwise would be served as it is, with colours of its own."""
    with zipfile.ZipFile(Path(tensorboard.__file__).with_name("webfiles.zip")) as files:
        script = files.read("index.js")
    without = _adapted(script, ["runs/without BN/a"])
    assert b'colors:[{name:"#d55e00",lightHex:"#d55e00"' in without
    assert without.count(b'regexInput",{defaultValue:""') == script.count(b'regexInput",{defaultValue:""') > 0
    both = _adapted(script, BOTH)
    assert b'colors:[{name:"#0072b2",lightHex:"#0072b2",darkHex:"#0072b2"},{name:"#d55e00"' in both
    assert both.count(b'{"with BN": "#0072b2", "without BN": "#d55e00"}[') == 1
    assert b'regexInput",{defaultValue:"^means/|-s0-"' in both
    assert b'tagFilter",{defaultValue:"^(val|train)/(accuracy|loss)|^confusion/|^gamma/"' in both
