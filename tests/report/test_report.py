"""Reports of real runs: what is in them, what is left out, and what a browser makes of them."""

import csv
import json
import math
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from support import with_values, write_summary
from typer.testing import CliRunner

from bnexp.analysis import NORM
from bnexp.analysis.parts import split
from bnexp.cli import app
from bnexp.storage.curves import curves
from bnexp.storage.folder import list_runs, results_of
from bnexp.storage.group import find_group, group_of
from bnexp.storage.run import Run
from bnexp.tables.study import title

SHORT = ["train.epochs=null", "train.steps=24", "model.widths=[8]", "train.eval_every=4", "device=cpu", "--workers", "0", "--quiet"]
SIZE = "sweep batch-size --values 16,32 --seeds 2 optim.lr=0.01,0.1,1e6 metrics=full metrics.log_spaced=4"
EVERYTHING = (
    *("training_loss", "validation_accuracy", "curves_by_learning_rate", "accuracy_by_batch_size", "accuracy_by_lr", "steps_to_target"),
    *("reached_target", "percentiles_", "percentiles_unit", "drift", "ics_size", "ics_direction", "landscape_loss", "landscape_gradient"),
    *("smoothness", "sharpness", "three_statistics", "running_var_ratio", "running_mean_offset", "relu_balance", "positive_share"),
    *("activations", "confusion"),
)


def bnexp(line: str, runs_dir: Path, *more: str) -> Any:
    result = CliRunner().invoke(app, [*line.split(), *more, "--runs-dir", str(runs_dir)], prog_name="bnexp")
    assert result.exit_code == 0, (result.stdout, result.stderr, result.exception)
    return result


class Page(HTMLParser):
    """What a report has in it: headings, texts, pictures with their alternative, ids, addresses."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.source = path.read_text()
        self.images: list[str | None] = []
        self.figures, self.ids, self.addresses, self.headings, self.text = 0, [], [], [], ""  # type: ignore[var-annotated]
        self._heading = False
        self.feed(self.source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        if tag == "figure":
            self.figures += 1
        if found.get("role") == "img" or tag == "img":
            self.images.append(found.get("aria-label") or found.get("alt"))
        if "id" in found:
            self.ids.append(found["id"])
        self.addresses += [value for name, value in attrs if name in ("src", "href", "xlink:href", "action", "srcset", "data")]
        self._heading = tag in ("h2", "h3", "summary")
        if self._heading:
            self.headings.append("")

    def handle_endtag(self, tag: str) -> None:
        self._heading = False

    def handle_data(self, data: str) -> None:
        self.text += data
        if self._heading:
            self.headings[-1] = (self.headings[-1] + data).strip()


@pytest.fixture(scope="module")
def runs_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report") / "runs"
    bnexp(SIZE, folder, *SHORT)
    return folder


@pytest.fixture(scope="module")
def sweep(runs_dir: Path) -> Path:
    """The folder of the sweep's report."""
    (found,) = runs_dir.glob("reports/sweep-batch-size-digits-*")
    return found


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of four runs without metrics, whose report is drawn soon."""
    folder = tmp_path_factory.mktemp("plain") / "runs"
    for norm in ("batch", "none"):
        overrides = f"model.norm={norm} metrics=off model.widths=[4] train.epochs=null train.steps=8 train.eval_every=4 device=cpu"
        bnexp(f"train --seeds 2 {overrides} --quiet", folder)
    return folder


def pictures(folder: Path) -> list[str]:
    return sorted(path.stem for path in (folder / "figures").glob("*.svg"))


STEP_TIME = (
    '"median_ms": 2, "low_ms": 1, "high_ms": 2, "forward_ms": 1, "backward_ms": 1, "optimizer_ms": 0, '
    '"steps": 9, "threads": 1, "device": "cpu"'
)
STEP_COST = "A step with BN takes|No difference in the time of a step"


@pytest.fixture(scope="module")
def whole(sweep: Path, runs_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of its report with every figure."""
    out = tmp_path_factory.mktemp("whole")
    bnexp(f"report {sweep.name[-8:]} --all-figures --out {out}", runs_dir)
    return out


def test_a_sweep_has_every_section_that_its_data_allow(whole: Path) -> None:
    names = pictures(whole)
    for name in EVERYTHING:
        assert any(name in found for found in names), name
    page = Page(whole / "index.html")
    assert page.figures == len(names) == len(page.images)
    assert all(alt and len(alt) > 30 for alt in page.images)
    assert "Drift since initialization at batch 32" in page.source
    for heading in ("In numbers", "Training", "Is the comparison fair?", "How to repeat this study", "Versions and machine", "Glossary"):
        assert heading in page.headings
    assert "What do small batches cost on digits? Batch sizes 16, 32." in page.text
    assert "95 % interval" in page.text
    assert "diverged" in page.text
    assert "model.widths" in page.text  # a config difference
    assert len(page.ids) == len(set(page.ids))


def test_a_report_asks_nobody_for_anything(sweep: Path) -> None:
    page = Page(sweep / "index.html")
    assert [address for address in page.addresses if not str(address).startswith(("#", "data:,"))] == []
    assert not re.search(r"@import|url\((?!#)", page.source)
    assert "<script" not in page.source


def test_every_figure_is_there_as_svg_and_png(sweep: Path) -> None:
    for name in pictures(sweep):
        with Image.open(sweep / "figures" / f"{name}.png") as image:
            assert image.width >= 700
        svg = (sweep / "figures" / f"{name}.svg").read_text()
        assert "aria-label=" in svg
        assert "var(--" not in svg  # a viewer has no variables
    assert {path.suffix for path in (sweep / "figures").iterdir()} == {".svg", ".png", ".txt"}


def test_what_was_measured_is_what_is_drawn(runs_dir: Path, whole: Path) -> None:
    """The alternative text of a curve says its last mean: recomputed from metrics.jsonl."""
    rows = [row for row in results_of(list_runs(runs_dir)).values() if row.batch_size == 32 and row.norm == "batch"]
    by_lr: dict[float, list[float]] = {}
    for row in rows:
        loss = row.val.loss if row.status == "finished" and row.val.loss is not None else math.inf
        by_lr.setdefault(row.lr, []).append(loss)
    best = min(by_lr, key=lambda lr: sum(by_lr[lr]))
    last = [curves(runs_dir / row.id / "metrics.jsonl")["val/accuracy"][-1] for row in rows if row.lr == best]
    assert {step for step, _ in last} == {24}
    svg = (whole / "figures" / "validation_accuracy_bs32.svg").read_text()
    assert f"with BN, lr {best:g}: {100 * sum(value for _, value in last) / len(last):.4g} %" in svg


def test_a_section_appears_only_where_its_data_exist(tmp_path: Path) -> None:
    bnexp("train metrics=off model.widths=[4] train.epochs=null train.steps=6 train.eval_every=2 device=cpu --quiet", tmp_path)
    out = tmp_path / "out"
    result = bnexp(f"report last --out {out}", tmp_path)
    assert result.stdout.strip() == str(out / "index.html")
    assert pictures(out) == ["network", "training_loss", "validation_accuracy"]  # one run, and six steps: without an accuracy
    page = Page(out / "index.html")
    assert "n = 1 seed" in page.text
    assert not any("Inside" in heading or "gamma" in heading or "fair" in heading for heading in page.headings)
    bnexp("train metrics=light model.widths=[4] train.epochs=null train.steps=6 train.eval_every=2 device=cpu --quiet", tmp_path)
    bnexp(f"report last --out {out}", tmp_path)
    assert any(name.startswith("percentiles") for name in pictures(out))
    (first, _) = [run.id for run in list_runs(tmp_path)]
    (out / "figures" / "mine.png").write_bytes(b"not the report's")
    bnexp(f"report {first} --out {out}", tmp_path)  # an earlier report's pictures go, others' stay
    assert pictures(out) == ["network", "training_loss", "validation_accuracy"]
    assert (out / "figures" / "mine.png").exists()


@pytest.mark.slow
def test_a_comparison_tells_its_seconds_and_its_report_can_be_written_again(runs_dir: Path, tmp_path: Path) -> None:
    line = "compare --no-bn --seeds 2 --lrs 0.01,0.1 --margin 5 metrics=full train.batch_size=32"
    result = bnexp(line, runs_dir, *SHORT, "--out", str(tmp_path / "out"))
    assert "with BN" in result.stdout
    page = Page(tmp_path / "out" / "index.html")
    assert re.search(STEP_COST, page.text)
    assert "with BN against without BN on digits, batch size 32: which is better, and by how much?" in page.text
    (group,) = runs_dir.glob("reports/compare-digits-bn-vs-none-*")
    again = Page(Path(bnexp(f"report {group.name[-8:]}", runs_dir).stdout.strip()))
    assert re.search(STEP_COST, again.text)
    assert again.headings == page.headings
    sentences = json.loads((tmp_path / "out" / "compare.json").read_text())["comparison"]["verdict"]
    assert len(sentences) >= 3
    for sentence in sentences:  # the margin and the turns of the step times are those of the comparison
        assert sentence in page.text
        assert sentence in again.text


def test_the_law_has_a_report_with_theory(tmp_path: Path) -> None:
    result = bnexp("stats model.widths=[4] --batch-sizes 1,4,16", tmp_path, "--out", str(tmp_path / "out"))
    (group,) = tmp_path.glob("reports/stats-digits-*")
    assert str(tmp_path / "out" / "index.html") in result.stderr
    assert pictures(tmp_path / "out") == ["noise_law_mean", "noise_law_outlier", "noise_law_sample_size", "noise_law_variance"]
    page = Page(tmp_path / "out" / "index.html")
    law = json.loads((group / "stats.json").read_text())
    slopes = [layer["slope"] for layer in law["layers"]]
    assert all(f"{slope:.3f}" in page.text for slope in slopes)
    assert "model.widths" in page.text
    with (group / "stats.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == 3 * len(law["layers"])
    assert float(lines[0]["mean_variance"]) == law["layers"][0]["lines"][0]["mean_variance"]
    bnexp("stats model.widths=[4] --batch-sizes 1,4,16", tmp_path)
    assert len(list(tmp_path.glob("reports/stats-*"))) == 1  # the same result, the same folder


def test_json_names_the_report_and_the_runs(runs_dir: Path, tmp_path: Path) -> None:
    ids = [run.id for run in list_runs(runs_dir)][:3]
    found = json.loads(bnexp(f"report {' '.join(ids)} --json --out {tmp_path}", runs_dir).stdout)
    assert found == {"report": str(tmp_path / "index.html"), "runs": ids}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("report nothing", "There is no run 'nothing'"),
        ("report GROUP last", "give one sweep, or runs"),
        ("report last --out FILE", "cannot be a folder"),
    ],
)
def test_a_wrong_call_is_refused_in_a_sentence(line: str, message: str, runs_dir: Path, sweep: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    line = line.replace("GROUP", sweep.name[-8:]).replace("FILE", str(tmp_path / "file"))
    result = CliRunner().invoke(app, [*line.split(), "--runs-dir", str(runs_dir)], prog_name="bnexp")
    assert result.exit_code == 2
    assert message in result.stderr
    assert len(result.stderr.splitlines()) < 10


def test_an_empty_folder_has_nothing_to_report(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["report", "--runs-dir", str(tmp_path)], prog_name="bnexp")
    assert result.exit_code == 2
    assert "no runs" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_runs_that_failed_or_cannot_be_read_do_not_stop_a_report(runs_dir: Path, tmp_path: Path) -> None:
    for run in list_runs(runs_dir)[:6]:
        shutil.copytree(run.folder, tmp_path / run.id)
    broken, failed, torn, older, *_ = list_runs(tmp_path)
    summary = older.result().tree()
    del summary["seed"]
    write_summary(older, summary)
    broken.summary_json.write_text("{")
    summary = failed.result().tree()
    write_summary(failed, {**summary, "status": "failed", "error": "it broke", "test": dict.fromkeys(summary["test"])})
    torn.metrics_jsonl.write_text(torn.metrics_jsonl.read_text()[:-40])
    page = Page(Path(bnexp("report", tmp_path).stdout.strip()))
    assert f"2 runs cannot be read and are left out: {', '.join(sorted([broken.id, older.id]))}." in page.text
    assert page.text.count(broken.id) == page.text.count(older.id) == 1
    assert failed.id in page.text
    assert torn.id in page.text


def test_settings_that_cannot_be_compared_are_chapters(runs_dir: Path) -> None:
    rows = [row for row in results_of(list_runs(runs_dir)).values() if row.status == "finished"]
    other = [with_values(row, id=f"x{row.id}", config__data__split_seed=1) for row in rows]
    found = split("report", {"": [*rows, *other]})
    assert [title(part) for part in found] == ["data.split_seed=0", "data.split_seed=1"]
    assert {len(part.runs) for part in found} == {len(rows)}
    tuned = [with_values(row, id=f"m{row.id}", config__optim__momentum=0.5) for row in rows]
    (one,) = split("report", {"": [*rows, *tuned]})
    assert one.arms.labels == ("batch, momentum=0.5", "batch, momentum=0.9", "none, momentum=0.9", "none, momentum=0.5")
    widths = [with_values(row, id=f"{w}{row.id}", config__model__widths=[w]) for w in range(1, 6) for row in rows]
    assert len(split("report", {"": widths})) == 5  # ten arms are too many for one drawing


def test_the_baseline_is_none_then_batch_then_whoever_has_results(runs_dir: Path) -> None:
    rows = [row for row in results_of(list_runs(runs_dir)).values() if row.status == "finished" and row.norm == "batch"]

    def arms(*norms: str, failed: str = "") -> tuple[str, ...]:
        found = [with_values(row, id=f"{norm}{row.id}", config__model__norm=norm) for norm in norms for row in rows]
        (one,) = split("report", {"": [with_values(row, status="failed") if row.norm == failed else row for row in found]})
        return one.arms.labels

    assert arms("none", "batch", "noisy") == ("batch", "noisy", "none")
    assert arms("noisy", "frozen", "batch") == ("frozen", "noisy", "batch")
    assert arms("noisy", "batch", failed="batch") == ("batch", "noisy")
    assert arms("noisy", "frozen") == ("noisy", "frozen")


def test_a_comparison_is_reported_again_with_its_own_arms(tmp_path: Path) -> None:
    line = "compare --norm noisy --lrs 0.1 --seeds 2 metrics=off"
    bnexp(line, tmp_path, *SHORT)
    (group,) = tmp_path.glob("reports/compare-digits-noisy-vs-bn-*")
    page = Page(group / "index.html")
    assert "with noisy against with BN" in page.text
    again = Page(Path(bnexp(f"report {group}", tmp_path).stdout.strip()))
    everything = Page(Path(bnexp("report", tmp_path).stdout.strip()))  # the same runs, without their name

    def without_time(one: Page) -> str:
        return re.sub(r"on \d{4}-\d\d-\d\d \d\d:\d\d|Comparison on.*|\d runs on.*|This study is that of the command\n.*", "", one.text)

    assert without_time(again) == without_time(page) == without_time(everything)


def test_a_sweep_is_reported_again_as_it_was_asked_for(tmp_path: Path) -> None:
    """Each setting of a key that the sweep does not vary stands for itself, on the page as in the terminal."""
    bnexp("sweep lr --values 0.01,0.1 --seeds 2 optim.momentum=0,0.9 metrics=off", tmp_path, *SHORT)
    (group,) = tmp_path.glob("reports/sweep-lr-digits-*")
    page = (group / "index.html").read_text()
    assert "optim.momentum=0.9</h2>" in page
    again = Path(bnexp(f"report {group.name[-8:]} --out {tmp_path / 'again'}", tmp_path).stdout.strip()).read_text()
    written = re.compile(r"on \d{4}-\d\d-\d\d \d\d:\d\d")
    assert written.sub("", again) == written.sub("", page)


def test_curves_are_of_the_runs_that_the_tables_count(plain: Path, tmp_path: Path) -> None:
    shutil.copytree(plain, tmp_path, dirs_exist_ok=True)
    failed = next(run for run in list_runs(tmp_path) if run.id.startswith("batch") and "-s0-" in run.id)
    write_summary(failed, {**failed.result().tree(), "status": "failed"})
    lost = next(run for run in list_runs(tmp_path) if run.id.startswith("none") and "-s1-" in run.id)
    lost.metrics_jsonl.unlink()
    path = Path(bnexp("report", tmp_path).stdout.strip())
    svg = (path.parent / "figures" / "validation_accuracy.svg").read_text()
    assert "with BN (n = 1)" in svg
    assert "without BN (n = 1)" in svg
    assert "1 run recorded no curves, or lost them" in Page(path).text


def test_runs_that_stop_at_their_target_keep_their_last_values(tmp_path: Path) -> None:
    line = "train --seeds 3 train.until_target=true train.target=0.6 train.eval_every=4 metrics=off device=cpu --quiet"
    bnexp(line, tmp_path)
    steps = {row.target.reached_step for row in results_of(list_runs(tmp_path)).values()}
    assert len(steps) > 1  # else nothing is kept
    path = Path(bnexp("report", tmp_path).stdout.strip())
    svg = (path.parent / "figures" / "validation_accuracy.svg").read_text()
    last = [curves(run.metrics_jsonl)["val/accuracy"][-1][1] for run in list_runs(tmp_path)]
    assert f"{100 * sum(last) / 3:.4g} %" in svg
    assert f"n = 3) at step {max(steps)}" in svg
    assert "Runs that stopped at their target keep their last values" in Page(path).text
    assert "Dotted" not in Page(path).text


def test_more_settings_than_drawings_can_hold_have_a_table(tmp_path: Path) -> None:
    grid = "sweep grid model.widths=[3],[4] optim.momentum=0.5,0.9 model.placement=conv-norm-relu,norm-conv-relu optim.weight_decay=0,0.1"
    short = ["train.epochs=null", "train.steps=4", "metrics=off", "device=cpu", "--workers", "0", "--quiet", "--seeds", "1"]
    bnexp(grid, tmp_path, *short)
    (group,) = tmp_path.glob("reports/sweep-grid-digits-*")
    page = Page(group / "index.html")
    assert "In numbers" in page.headings
    assert "have tables and no drawings" in page.text
    assert "What does each of 16 settings score?" in page.text
    best = min((row.val.loss, row.id) for row in results_of(list_runs(tmp_path)).values() if row.val.loss is not None)
    assert f"{best[0]:.4g}, test accuracy" in page.text
    assert pictures(group) == []


def test_arms_with_long_names_are_told_apart(runs_dir: Path, tmp_path: Path) -> None:
    overrides = "train.epochs=null train.steps=6 train.eval_every=2 model.widths=[4] device=cpu --quiet"
    for placement in ("conv-norm-relu", "norm-conv-relu"):
        for momentum in (0.1, 0.3):
            more = f"model.placement={placement} model.bn_momentum={momentum} optim.weight_decay={momentum} model.bn_eps={momentum}"
            bnexp(f"train {overrides} {more}", tmp_path)
    path = Path(bnexp("report", tmp_path).stdout.strip())  # a warning of matplotlib's would be an error
    svg = (path.parent / "figures" / "validation_accuracy.svg").read_text()
    texts = re.findall(r"<text[^>]*>([^<]+)</text>", svg)
    assert sum(text.startswith("with batch, ") for text in texts) == 4
    assert max(map(len, texts)) < 76


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("config.optim.lr", 10**400),
        ("config.train.batch_size", 10**400),
        ("target.reached_step", 10**400),
        ("target.reached_step", -3),
        ("test.running.accuracy", 1e308),
        ("config.model.norm", {"a": 1}),
        ("config.model.widths", {"a": [1]}),
        ("seed", "zero"),
    ],
)
def test_absurd_numbers_of_a_stranger_are_no_traceback(key: str, value: object, plain: Path, tmp_path: Path) -> None:
    shutil.copytree(plain, tmp_path, dirs_exist_ok=True)
    strange = list_runs(tmp_path)[0]
    summary = strange.result().tree()
    *path, last = key.split(".")
    inner = summary
    for part in path:
        inner = inner[part]
    inner[last] = value
    del summary["format"], summary["checksum"]  # as older runs, and whoever writes one by hand
    strange.summary_json.write_text(json.dumps(summary))
    with strange.metrics_jsonl.open("a") as file:
        file.write('{"step": 12, "train/loss": 1' + "0" * 400 + '}\n{"step": 1' + "0" * 400 + ', "train/loss": 1}\n' + "[" * 200_000 + "\n")
    assert "digits" in Page(Path(bnexp("report", tmp_path).stdout.strip())).text


@pytest.mark.parametrize(
    ("turns", "shown"),
    [
        ("[2, 2.1, 1.9]", True),
        *((f"[{time}, 2, 3]", False) for time in ("NaN", "Infinity", "0", "-1", "1e308", "1" + "0" * 400, '"x"')),
        *((turns, False) for turns in ("[2, 2.1]", "[]", "2", "null")),
    ],
)
def test_absurd_step_times_are_no_seconds(turns: str, shown: bool, tmp_path: Path, plain: Path) -> None:
    shutil.copytree(plain, tmp_path, dirs_exist_ok=True)
    runs = list_runs(tmp_path)
    group_of(runs).store_members("compare", {"": runs}, {"treatment": NORM, "labels": ["batch", "none"], "baseline": "none"})
    (group,) = tmp_path.glob(".groups/*")
    one, other = (f'{{{STEP_TIME}, "turns_ms": {found}}}' for found in (turns, "[2, 2, 2]"))
    stored = f'{{"step_times": {{"batch": {one}, "none": {other}}}, "comparison": {{"headline": {{"versus": {{}}}}}}}}'
    (group / "compare.json").write_text(stored)
    assert bool(re.search(STEP_COST, Page(Path(bnexp("report", tmp_path).stdout.strip())).text)) is shown


def test_step_times_of_older_comparisons_have_no_turns_and_give_no_seconds(tmp_path: Path, plain: Path) -> None:
    shutil.copytree(plain, tmp_path, dirs_exist_ok=True)
    bnexp("report", tmp_path)
    (group,) = tmp_path.glob("reports/*")
    one = {"median_ms": 2, "low_ms": 1, "high_ms": 3}
    (group / "compare.json").write_text(json.dumps({"step_times": {"batch": one, "none": one}}))
    assert not re.search(STEP_COST, Page(Path(bnexp("report", tmp_path).stdout.strip())).text)


def test_a_report_needs_no_torch(sweep: Path, runs_dir: Path) -> None:
    code = (
        "import sys; from bnexp.cli import main\n"
        f"try: main(['report', '{sweep.name[-8:]}', '--runs-dir', '{runs_dir}'])\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        "assert 'matplotlib' in sys.modules and 'torch' not in sys.modules and 'matplotlib.pyplot' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_a_browser_shows_a_report_without_a_word_to_anybody(sweep: Path, chromium: Any, width: int, scheme: str) -> None:
    page = chromium.new_page(viewport={"width": width, "height": 844}, color_scheme=scheme)
    said, asked = [], []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(f"file://{sweep / 'index.html'}")
    assert said == []
    assert asked == [f"file://{sweep / 'index.html'}"]
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    pictures_ = page.locator("[role=img]")
    assert pictures_.count() == len(pictures(sweep))
    assert all(alt.strip() for alt in pictures_.evaluate_all("all => all.map(one => one.getAttribute('aria-label') || '')"))
    drawn = page.locator("figure svg").evaluate_all(
        "all => all.map(one => one.getBoundingClientRect()).map(box => [box.width, box.height])"
    )
    assert all(250 < w < width and h > 100 for w, h in drawn)
    ink = page.locator("figure svg text").first.evaluate("text => getComputedStyle(text).fill")
    paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert _light(paper) is (scheme == "light")
    assert _light(ink) is (scheme == "dark")
    page.emulate_media(media="print", color_scheme=scheme)
    assert _light(page.evaluate("getComputedStyle(document.body).backgroundColor"))  # paper is white
    page.close()


def test_the_first_screen_has_the_answer_a_figure_and_numbers(runs_dir: Path, chromium: Any, tmp_path: Path) -> None:
    """Before anything is unfolded or scrolled to, at the size of a small laptop."""
    ids = [run.id for run in list_runs(runs_dir) if "bs32-lr0.1-" in run.id or "bs32-lr0.01-" in run.id]
    path = Path(bnexp(f"report {' '.join(ids)} --out {tmp_path}", runs_dir).stdout.strip())
    page = chromium.new_page(viewport={"width": 1280, "height": 720})
    page.goto(f"file://{path}")
    for what in (".answer", ".first figure svg", ".numbers dd.value"):
        box = page.locator(what).first.bounding_box()
        assert box["y"] >= 0
        assert box["y"] + box["height"] <= 720, what
    assert page.locator("figure:visible").count() == 1  # the others are folded
    assert page.evaluate("document.documentElement.scrollHeight") <= 4 * 720
    page.close()


def test_a_figure_is_enlarged_and_closed_again(sweep: Path, chromium: Any) -> None:
    page = chromium.new_page(viewport={"width": 1280, "height": 720})
    page.goto(f"file://{sweep / 'index.html'}")
    page.locator("details summary", has_text="Training").first.click()
    figure = page.locator("figure:visible").nth(1)
    before = figure.bounding_box()
    figure.locator("a.enlarge").click()
    after = page.locator("figure:target").bounding_box()
    assert after["width"] > 1.8 * before["width"]
    assert page.locator("figure:target strong").is_visible()
    page.locator("figure:target a.close").click()
    assert page.locator("figure:target").count() == 0
    assert figure.bounding_box()["width"] == before["width"]
    page.close()


def test_what_is_folded_is_printed(sweep: Path, chromium: Any) -> None:
    page = chromium.new_page(viewport={"width": 1280, "height": 720})
    page.goto(f"file://{sweep / 'index.html'}")
    page.emulate_media(media="print")
    heights = page.locator(".figures figure").evaluate_all("all => all.map(one => one.getBoundingClientRect().height)")
    assert len(heights) > 4
    assert min(heights) > 100
    page.close()


def test_slides_turn_by_keys_and_have_large_letters(sweep: Path, runs_dir: Path, chromium: Any, tmp_path: Path) -> None:
    out = json.loads(bnexp(f"report {sweep.name[-8:]} --slides --out {tmp_path} --json", runs_dir).stdout)
    assert out["report"] == str(tmp_path / "slides.html")
    page = chromium.new_page(viewport={"width": 1280, "height": 720})
    page.goto(f"file://{tmp_path / 'slides.html'}")
    assert page.locator("section").count() == len(pictures(sweep)) + 1  # and one of words

    def turned(key: str, to: int) -> None:
        page.keyboard.press(key)
        page.wait_for_function(f"Math.abs(scrollY - {720 * to}) < 1")

    for key, to in (("ArrowDown", 1), ("PageDown", 2), ("ArrowUp", 1), ("ArrowDown", 2)):
        turned(key, to)
    page.get_by_role("link", name="Next").nth(2).click()
    page.wait_for_function("Math.abs(scrollY - 3 * 720) < 1")
    words = page.locator("section h1, section h2, section p, section nav").evaluate_all(
        "all => all.map(one => getComputedStyle(one).fontSize)"
    )
    assert min(float(size.removesuffix("px")) for size in words) >= 24
    ticks = page.locator("section svg text").evaluate_all("all => all.map(one => one.getBoundingClientRect().height)")
    assert sorted(ticks)[len(ticks) // 20] >= 20  # as high as the line of letters
    fits = page.locator("section").evaluate_all("all => all.every(one => one.scrollHeight <= one.clientHeight + 1)")
    assert fits
    page.close()


def test_at_most_twenty_figures_unless_all_are_asked_for(sweep: Path, whole: Path) -> None:
    assert len(pictures(sweep)) <= 20 < len(pictures(whole))
    assert f"{len(pictures(whole)) - len(pictures(sweep))} more figures" in Page(sweep / "index.html").text
    assert "more figures" not in Page(whole / "index.html").text


def test_every_figure_says_what_it_shows(whole: Path) -> None:
    findings = re.findall(r"<strong>(.*?)</strong>", (whole / "index.html").read_text())
    assert len(findings) == len(pictures(whole))
    assert all(re.search(r"\d|No median run|never", finding) and finding.endswith(".") for finding in findings)


def _light(colour: str) -> bool:
    return sum(map(int, re.findall(r"\d+", colour)[:3])) > 3 * 128


def test_names_with_markup_arrive_as_text(runs_dir: Path, chromium: Any, tmp_path: Path) -> None:
    """A run folder from a stranger: what it says of itself is shown, and not obeyed."""
    evil = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'&"
    for run in [run for run in list_runs(runs_dir) if "bs32-lr0.1-" in run.id]:
        shutil.copytree(run.folder, tmp_path / run.id)
        summary = run.result().tree()
        summary["data"]["name"] = f"data{evil}"
        summary["data"]["classes"][0] = evil
        summary["environment"].update(command=f"bnexp {evil}", device=evil)
        lines = (tmp_path / run.id / "metrics.jsonl").read_text().replace("block1.conv1", "block1</text><script>alert(3)</script>")
        (tmp_path / run.id / "metrics.jsonl").write_text(lines)
        write_summary(Run(tmp_path, run.id), summary)
    path = Path(bnexp("report", tmp_path).stdout.strip())
    page = chromium.new_page()
    said: list[str] = []
    page.on("dialog", lambda dialog: (said.append(dialog.message), dialog.dismiss()))
    page.on("console", lambda message: said.append(message.text))
    page.on("request", lambda request: said.append(request.url) if request.url != f"file://{path}" else None)
    page.goto(f"file://{path}")
    assert said == []
    assert page.locator("script").count() == page.locator("img").count() == 0
    assert evil in page.locator("body").inner_text()
    assert any("alert(3)" in text for text in page.locator("svg text").all_text_contents())  # in a layer's name
    page.close()


def test_a_group_is_reported_part_by_part(tmp_path: Path) -> None:
    line = "sweep batch-size --values 16,32 --seeds 1 optim.lr=0.1 metrics=off train.epochs=1 model.widths=[4] data.subset=128"
    bnexp(line, tmp_path, "device=cpu", "--workers", "0", "--quiet")
    (group,) = tmp_path.glob("reports/sweep-batch-size-digits-*")
    page = Page(group / "index.html")
    found = find_group(str(group), tmp_path)
    assert found is not None
    assert [part in page.headings for part in found.parts()] == [True, True]
    assert all(name.startswith(("part1_", "part2_")) for name in pictures(group))
    again = Page(Path(bnexp(f"report {group.name[-8:]}", tmp_path).stdout.strip()))
    assert again.headings == page.headings
