"""Run folders, groups, checkpoints and calibrations that an earlier version wrote stay readable, and mean the same.

`data/version4.tar.xz` has what results version 4 left: a comparison of four tiny runs, an interrupted stack of two, one entry of a
calibration, and the rows that `bnexp.runs` gave of all of it. (Event files and the older checkpoints were left out for their size.)
"""

import json
import shutil
import tarfile
from pathlib import Path
from typing import Any

import pytest
from support import STORED, bn_in, some

import bnexp
from bnexp.planning import calibration
from bnexp.storage.folder import list_runs

BATCH = ["batch-bs16-lr0.1-s0-80d50b61", "batch-bs16-lr0.1-s1-dd87dbbd"]
NONE = ["none-bs16-lr0.1-s0-19bde749", "none-bs16-lr0.1-s1-ea7f23e3"]
INTERRUPTED = ["batch-bs16-lr0.1-s5-9efbaa1c", "batch-bs16-lr0.1-s6-9dc2fa2f"]
GROUP = "54e9ed8f"


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("version4")
    with tarfile.open(STORED / "version4.tar.xz") as archive:
        archive.extractall(folder, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))  # Python 3.11.3 has none
    return folder


@pytest.fixture
def runs_dir(stored: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(stored / "runs", tmp_path / "runs"))


def rounded(text: str) -> Any:
    """A JSON document, with floats to ten digits."""
    return json.loads(text, parse_float=lambda number: float(f"{float(number):.10g}"))


def test_rows_are_as_they_were(stored: Path, runs_dir: Path) -> None:
    assert bnexp.runs(runs_dir) == json.loads((stored / "rows.json").read_text())


def test_every_run_is_shown_and_evaluates_to_the_figures_it_recorded(runs_dir: Path) -> None:
    for run in list_runs(runs_dir):
        bn_in(runs_dir, "runs", "show", run.id)
    for name in (*BATCH, *NONE):
        recorded = json.loads((runs_dir / name / "summary.json").read_text())["test"]["running"]
        again = json.loads(bn_in(runs_dir, "evaluate", name, "--json").stdout)["test"]["running"]
        assert again["accuracy"] == pytest.approx(recorded["accuracy"], abs=0.003)  # on another machine one image may change sides
        assert again["loss"] == pytest.approx(recorded["loss"], rel=1e-4)


def test_an_interrupted_stack_resumes_from_its_checkpoint(runs_dir: Path) -> None:
    result = bn_in(runs_dir, "resume", INTERRUPTED[1])
    assert "step 28 " in result.stderr
    assert {run.id: run.status for run in list_runs(runs_dir)} == dict.fromkeys([*BATCH, *NONE, *INTERRUPTED], "finished")


def test_a_group_is_reported_with_the_estimates_it_stored(runs_dir: Path, tmp_path: Path) -> None:
    stored = rounded((runs_dir / ".groups" / GROUP / "compare.json").read_text())
    bn_in(runs_dir, "report", GROUP, "--out", str(tmp_path / "page"))
    assert "without BN" in (tmp_path / "page" / "index.html").read_text()
    again = rounded(bn_in(runs_dir, "compare", *BATCH, *NONE, "--json", "--out", str(tmp_path / "page2")).stdout)
    # The verdict has the cost of a step, which is timed anew; `values` is a later key.
    for arm in (arm for matchup in (again["comparison"]["headline"], *again["comparison"]["same_lr"]) for arm in matchup["arms"].values()):
        assert arm.pop("values") == []
    assert {**again["comparison"], "verdict": ""} == {**stored["comparison"], "verdict": ""}
    assert again["audit"] == stored["audit"]


def test_a_calibration_is_read(stored: Path) -> None:
    (entry,) = calibration.read(stored / "calibration.json").values()
    times = some(calibration.times_in(entry))
    assert times.ms == {1: 3.725, 2: 5.8302, 4: 9.727, 8: 18.1087}
