"""`bnexp reports`: comparisons and sweeps with their answers, their pages, and the browser that is started."""

import json
import os
import re
from pathlib import Path

import pytest
from support import bn_in, finish, no_pages, start

from bnexp.storage.folder import list_runs

TINY = ["model.widths=[4,4]", "train.steps=12", "train.eval_every=6", "--workers", "0", "--quiet"]


@pytest.fixture(scope="module")
def runs_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep and a comparison whose pages were not drawn."""
    folder = tmp_path_factory.mktemp("reports") / "runs"
    with no_pages():
        bn_in(folder, "sweep", "lr", *TINY, "--lrs", "0.1,0.3", "--seeds", "2")
        bn_in(folder, "compare", "--no-bn", *TINY, "--lrs", "0.1", "--seeds", "2")
    return folder


def groups(runs_dir: Path) -> dict[str, str]:
    """The id of each group by its kind."""
    return {one["kind"]: one["id"] for one in json.loads(bn_in(runs_dir, "reports", "--json").stdout)["reports"]}


def test_a_report_has_its_answer_and_the_line_for_its_page(runs_dir: Path) -> None:
    sweep, compare = json.loads(bn_in(runs_dir, "reports", "--json").stdout)["reports"]
    assert [(one["kind"], one["runs"], one["page"]) for one in (sweep, compare)] == [("sweep lr", 8, None), ("compare", 4, None)]
    (path,) = runs_dir.glob(f"reports/compare-*-{compare['id']}/compare.json")
    stored = json.loads(path.read_text())
    assert compare["answer"] == stored["answer"] != []
    assert sweep["answer"]
    text = bn_in(runs_dir, "reports").stdout
    assert f"{sweep['id']}  sweep lr, 8 runs, " in text
    assert re.search(r", 20\d\d-\d\d-\d\d \d\d:\d\d\n", text)
    assert f"  {compare['answer'][0]}\n" in text
    assert f"It has no page yet. Write: bnexp report {compare['id']} --runs-dir {runs_dir}\n" in text
    assert f"Write: bnexp report {compare['id']}" in bn_in(runs_dir, "reports", "--open", code=2).stderr  # the newest


def test_the_line_makes_the_page_and_open_opens_it(runs_dir: Path, tmp_path: Path) -> None:
    kinds = groups(runs_dir)
    page = Path(bn_in(runs_dir, "report", kinds["sweep lr"]).stdout.strip())
    one = json.loads(bn_in(runs_dir, "reports", kinds["sweep lr"][:5], "--json").stdout)["reports"][0]
    assert Path(one["page"]).samefile(page)
    assert str(page) in bn_in(runs_dir, "reports").stdout
    (browser := tmp_path / "browser").write_text(f'#!/bin/sh\necho "$1" >> {tmp_path}/opened\n')
    browser.chmod(0o755)
    env = {**os.environ, "BROWSER": f"{browser} %s"}
    finish(start("reports", "--open", kinds["sweep lr"], runs_dir=runs_dir, env=env))
    assert (tmp_path / "opened").read_text() == f"{page.absolute().as_uri()}\n"
    browser.write_text("#!/bin/sh\nexit 1\n")
    _, err = finish(start("reports", "--open", kinds["sweep lr"], runs_dir=runs_dir, env={**env, "PATH": str(tmp_path)}), code=1)
    assert "No browser could be started; open" in err


def test_reports_of_empty_folders_and_wrong_names(runs_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    empty = bn_in(tmp_path / "runs", "reports")
    assert empty.stdout == ""
    assert "There are no comparisons and no sweeps" in empty.stderr
    assert "There are no comparisons" in bn_in(tmp_path / "runs", "reports", "--open", code=2).stderr
    assert json.loads(bn_in(tmp_path / "runs", "reports", "--json").stdout) == {"reports": []}
    assert "is not there" in bn_in(tmp_path / "nowhere", "reports", code=2).stderr
    assert "There is no comparison and no sweep 'zz'" in bn_in(runs_dir, "reports", "zz", code=2).stderr
    assert "There is no comparison and no sweep" in bn_in(runs_dir, "reports", str(runs_dir), code=2).stderr


def test_damaged_groups_and_groups_without_runs(runs_dir: Path) -> None:
    kinds = groups(runs_dir)
    (damaged := runs_dir / ".groups" / "0123abcd").mkdir()
    (damaged / "members.json").write_text("{")
    (path,) = runs_dir.glob("reports/compare-*/compare.json")
    path.write_text('{"answer": 3}')
    assert groups(runs_dir) == kinds  # the damaged one keeps no other from being listed
    assert "does not say which runs" in bn_in(runs_dir, "reports", "0123abcd", code=1).stderr
    assert "No answer is stored yet. The same command again adds it: " in bn_in(runs_dir, "reports", kinds["compare"]).stdout
    bn_in(runs_dir, "runs", "rm", *(run.id for run in list_runs(runs_dir)))
    text = bn_in(runs_dir, "reports", kinds["compare"]).stdout
    assert "compare, 0 runs" in text
    assert "All its runs have been removed." in text
