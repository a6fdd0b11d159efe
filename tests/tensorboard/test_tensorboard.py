"""TensorBoard for real: event files of real runs read with its own reader, its server over HTTP, its page in a browser."""

import io
import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import fmean, stdev
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest
from PIL import Image
from support import SLOW, bn_in, finish, logged, no_pages, served, some, start, wait_for
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.compat.proto.graph_pb2 import GraphDef
from tensorboard.plugins.custom_scalar import layout_pb2

from bnexp.config import Config
from bnexp.storage.checkpoint import load_model
from bnexp.storage.folder import list_runs
from bnexp.storage.group import find_group
from bnexp.storage.run import Run
from bnexp.tensorboard import hparams
from bnexp.tensorboard.names import run_name
from bnexp.tensorboard.server import _linked, _names

SWEEP = ["lr", "--values", "0.1,1e20", "--seeds", "2", "model.widths=[4,4]", "train.steps=24", "train.eval_every=8", "train.batch_size=128"]
HPARAMS = {"hparams/diverged", "hparams/steps_to_target"}
"""The only scalars that metrics.jsonl does not have."""


def sweep(runs_dir: Path) -> None:
    bn_in(runs_dir, "sweep", *SWEEP, "--workers", "0", "--quiet")


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both arms at a learning rate that learns and at one that diverges, two seeds each."""
    runs_dir = tmp_path_factory.mktemp("swept")
    sweep(runs_dir)
    return runs_dir


def read(folder: Path) -> EventAccumulator:
    board = EventAccumulator(str(folder), size_guidance={"scalars": 0, "histograms": 0, "images": 0, "tensors": 0})
    board.Reload()
    return board


def records(run: Run) -> dict[str, list[tuple[int, float]]]:
    """The numbers of metrics.jsonl, key by key, read here by hand; what was not finite is NaN."""
    found: dict[str, list[tuple[int, float]]] = {}
    for line in run.metrics_jsonl.read_text().splitlines():
        record = json.loads(line)
        for key, value in record.items():
            if "/" in key and not isinstance(value, list):
                found.setdefault(key, []).append((record["step"], math.nan if value is None else value))
    return found


def agree(run: Run) -> EventAccumulator:
    """The run's event files, which have every number of metrics.jsonl, at the same steps and in float32, and nothing else."""
    board, logged = read(run.folder), records(run)
    assert set(board.Tags()["scalars"]) - HPARAMS == set(logged)
    for key, curve in logged.items():
        events = board.Scalars(key)
        assert [event.step for event in events] == [step for step, _ in curve], key
        points = np.float32([event.value for event in events])
        points[~np.isfinite(points)] = np.nan  # what was infinite is null in metrics.jsonl too
        np.testing.assert_array_equal(points, np.float32([value for _, value in curve]), key)
    return board


def has_what_comes_once(board: EventAccumulator, last: int, first_layer: str = "block1.conv1") -> None:
    assert {tag: [image.step for image in board.Images(tag)] for tag in board.Tags()["images"]} == {
        "examples/train": [0],
        f"filters/{first_layer}": [0, last],
        "confusion/test": [last],
    }
    tensors = {tag: len(board.Tensors(tag)) for tag in board.Tags()["tensors"]}
    run_events = ("experiment", "session_start_info", "session_end_info")
    assert tensors == {"config/text_summary": 1, "custom_scalars__config__": 1, **{f"_hparams_/{name}": 1 for name in run_events}}
    assert [event.value for event in board.Scalars("hparams/diverged")] in ([0.0], [1.0])


def test_event_files_and_metrics_jsonl_agree(swept: Path) -> None:
    runs = list_runs(swept)
    assert len(runs) == 8
    nans = 0
    for run in runs:
        board = agree(run)
        has_diverged = run.status == "diverged"
        assert [event.value for event in board.Scalars("hparams/diverged")] == [float(has_diverged)]
        nans += any(math.isnan(value) for curve in records(run).values() for _, value in curve)
        if not has_diverged:
            has_what_comes_once(board, 24)
    assert nans > 0


def test_the_last_histograms_are_those_of_the_saved_model(swept: Path) -> None:
    for run in list_runs(swept):
        if run.status == "diverged":
            continue
        board, state = read(run.folder), load_model(run.model_pt)
        named = {"weights/block1.0.weight": "block1.0.weight", "weights/head.bias": "head.bias"}
        if run.config().model.norm == "batch":
            for name, part in {"gamma": "weight", "beta": "bias", "running_mean": "running_mean", "running_var": "running_var"}.items():
                named |= {f"{name}/block1.conv2": f"block1.4.{part}", f"{name}/block2.conv1": f"block2.1.{part}"}
        else:
            assert not [tag for tag in board.Tags()["histograms"] if tag.startswith(("gamma", "running"))]
        for tag, parameter in named.items():
            events, values = board.Histograms(tag), state[parameter].double()
            assert [event.step for event in events] == [8, 16, 24]
            last = events[-1].histogram_value
            assert (last.num, sum(last.bucket)) == (values.numel(), values.numel())
            assert last.sum == pytest.approx(float(values.sum()), abs=1e-6)
            assert (last.min, last.max) == (float(values.min()), float(values.max()))


def test_the_graph_is_the_networks(swept: Path) -> None:
    run = next(run for run in list_runs(swept) if run.config().model.norm == "batch")
    graph = GraphDef.FromString(read(run.folder).Graph().SerializeToString())
    nodes = {node.name: node for node in graph.node}
    assert nodes["block1/conv2/norm"].op == "BatchNorm2d"
    assert list(nodes["block1/conv2/norm"].input) == ["block1/conv2/conv2d"]
    sizes = nodes["block2/conv1/conv2d"].attr["_output_shapes"].list.shape[0].dim
    assert [dim.size for dim in sizes] == [-1, 4, 4, 4]  # stride 2 makes 4x4 of 8x8
    assert list(nodes["logits"].input) == ["head"]
    assert len(nodes) == 1 + 4 * 3 + 3


@pytest.mark.parametrize(
    ("overrides", "layer"),
    [
        (["data=waveforms", "model.widths=[4]"], "block1.conv1"),
        (["data=volumes", "model.widths=[2]"], "block1.conv1"),
        (["model=mlp", "model.widths=[6]"], "layer1"),
        (["data=waveforms", "model=mlp", "model.widths=[6]"], "layer1"),
        (["data=volumes", "model=mlp", "model.widths=[6]"], "layer1"),
        (["model.widths=[2]", "model.placement=norm-conv-relu"], "block1.conv1"),
    ],
)
def test_every_kind_of_data_and_network_has_its_pictures(tmp_path: Path, overrides: list[str], layer: str) -> None:
    bn_in(tmp_path, "train", *overrides, "train.steps=6", "--quiet")
    (run,) = list_runs(tmp_path)
    board = agree(run)
    has_what_comes_once(board, 6, layer)
    for tag in board.Tags()["images"]:
        for event in board.Images(tag):
            picture = np.asarray(Image.open(io.BytesIO(event.encoded_image_string)).convert("RGB"))
            assert picture.shape[:2] == (event.height, event.width)
            assert min(picture.shape[:2]) > 40
            assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 2, tag


def test_a_killed_run_that_goes_on_has_nothing_twice(tmp_path: Path) -> None:
    process = start("train", *SLOW, "model.widths=[8]", runs_dir=tmp_path)
    wait_for(lambda: logged(tmp_path, 100), process)
    process.kill()
    process.communicate()
    (run,) = list_runs(tmp_path)
    assert run.status == "running"
    # In a process of its own, as people do: a second event file of the same second might sort before the first.
    finish(start("resume", "last", runs_dir=tmp_path))
    assert run.status == "finished"
    board = agree(run)
    has_what_comes_once(board, 300)
    assert [event.step for event in board.Histograms("gamma/block1.conv1")] == [50, 100, 150, 300]


def means_of(runs_dir: Path) -> dict[str, Path]:
    return {path.name: path for path in runs_dir.glob(".groups/*/*-mean*")}


def listed(runs_dir: Path) -> dict[str, Path]:
    """The names in TensorBoard of the runs and means of one sweep over learning rates with two seeds, and their folders."""
    arms = {"batch": "with BN", "none": "without BN"}
    means = {}
    for name, folder in means_of(runs_dir).items():
        norm, _, lr, _ = name.split("-")
        means[f"means/{arms[norm]}, lr {lr.removeprefix('lr')} (2 seeds)"] = folder
    return {**means, **{f"runs/{arms[run.config().model.norm]}/{run.id}": run.folder for run in list_runs(runs_dir)}}


def test_means_are_those_of_metrics_jsonl(swept: Path) -> None:
    assert set(means_of(swept)) == {f"{norm}-bs128-lr{lr}-mean2" for norm in ("batch", "none") for lr in ("0.1", "1e20")}
    for name, folder in means_of(swept).items():
        runs = [run for run in list_runs(swept) if run.id.startswith(name.removesuffix("mean2") + "s")]
        assert len(runs) == 2
        board = read(folder)
        for curve in ("train/loss", "train/accuracy", "val/loss", "val/accuracy"):
            for event in board.Scalars(curve) if curve in board.Tags()["scalars"] else []:
                alive = [run for run in runs if event.step < (run.result().diverged_at_step or math.inf)]
                values = [dict(records(run)[curve])[event.step] for run in alive]
                assert event.value == pytest.approx(fmean(values), rel=1e-6)
                if len(values) > 1:
                    margin = {which: dict(steps(board, f"seeds/{curve}/{which}"))[event.step] for which in ("mean", "lower", "upper")}
                    assert margin["mean"] == event.value
                    assert margin["upper"] - margin["lower"] == pytest.approx(2 * stdev(values), rel=1e-4, abs=1e-6)
        diverged = [run for run in runs if run.status == "diverged"]
        assert steps(board, "seeds/diverged")[-1][1] == len(diverged)
        trained = [run for run in runs if not run.result().is_failure]
        scores = [records(run)["test/running/accuracy"][0][1] for run in trained]
        assert not scores or board.Scalars("test/running/accuracy")[0].value == pytest.approx(fmean(scores), rel=1e-6)
        if not diverged:
            assert [step for step, _ in steps(board, "val/loss")] == [8, 16, 24]


def steps(board: EventAccumulator, tag: str) -> list[tuple[int, float]]:
    return [(event.step, event.value) for event in board.Scalars(tag)]


def test_the_same_sweep_again_replaces_its_means(swept: Path) -> None:
    def files() -> dict[Path, bytes]:
        return {path: path.read_bytes() for folder in means_of(swept).values() for path in folder.iterdir()}

    before = files()
    (group,) = (swept / ".groups").iterdir()
    (group / "batch-bs128-lr0.1-mean1").mkdir()  # of an earlier time, when a seed had failed
    first = next(iter(before))
    first.with_name("events.out.tfevents.0000000001.means").write_bytes(before[first])
    with no_pages():
        sweep(swept)
    assert files() == before
    assert len(before) == 4


@contextmanager
def displayed(runs_dir: Path, scratch: Path, *args: str) -> Iterator[str]:
    """The URL of a TensorBoard that `bnexp tensorboard` serves; afterwards it is stopped, and has left nothing in `scratch`."""
    with served(runs_dir, scratch, *args) as (process, url):
        assert len(list(scratch.glob("bnexp-tensorboard-*"))) == 1
        yield url
        process.send_signal(signal.SIGINT)
        assert finish(process)[1] == ""
    assert not list(scratch.glob("bnexp-tensorboard-*"))


def ask(url: str, path: str, body: dict[str, Any] | None = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url + "data/" + path, data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=20) as answer:
        return json.load(answer)


def runs_of(url: str, count: int) -> set[str]:
    """The runs, once TensorBoard has found `count` of them, or after a while: it reads in the background."""
    end = time.monotonic() + 60
    while len(found := set(ask(url, "runs"))) < count and time.monotonic() < end:
        time.sleep(0.1)
    return found


def test_hparams_are_marked_as_the_plugin_marks_them() -> None:
    """Its module of constants is not imported where runs are logged."""
    from tensorboard.plugins.hparams import metadata, plugin_data_pb2

    own = [*hparams.opening(Config()), *hparams.closing(None, diverged=False)]
    for value, tag in zip(own, (metadata.EXPERIMENT_TAG, metadata.SESSION_START_INFO_TAG, metadata.SESSION_END_INFO_TAG), strict=False):
        assert value.tag == tag
        assert value.tensor == metadata.NULL_TENSOR
        data = plugin_data_pb2.HParamsPluginData.FromString(value.metadata.plugin_data.content)
        theirs = metadata.create_summary_metadata(data).plugin_data  # its bytes may have a map's entries in another order
        assert value.metadata.plugin_data.plugin_name == theirs.plugin_name
        assert data == plugin_data_pb2.HParamsPluginData.FromString(theirs.content)
        assert data.WhichOneof("data") is not None


def test_the_server_lists_runs_tags_hparams_and_one_layout(swept: Path, tmp_path: Path) -> None:
    runs = {run_name(run): run for run in list_runs(swept)}
    means = {name for name in listed(swept) if name.startswith("means/")}
    assert set(runs) | means == set(listed(swept))
    with displayed(swept, tmp_path) as url:
        assert runs_of(url, len(runs) + len(means)) == set(runs) | means
        statuses = [f"STATUS_{name}" for name in ("UNKNOWN", "SUCCESS", "FAILURE", "RUNNING")]
        end = time.monotonic() + 60
        groups: list[dict[str, Any]] = []
        while time.monotonic() < end:  # a run is listed before all of it is read
            groups = ask(url, "plugin/hparams/session_groups", {"allowedStatuses": statuses, "startIndex": 0, "sliceSize": 100})[
                "sessionGroups"
            ]
            if len(groups) == len(runs) and all(group["sessions"][0]["status"] != "STATUS_UNKNOWN" for group in groups):
                break
            time.sleep(0.1)
        tags = ask(url, "plugin/scalars/tags")
        for name, run in runs.items():
            assert set(tags[name]) - HPARAMS == set(records(run))
        for name in means:
            assert {"seeds/diverged"} | ({"val/accuracy"} if "lr 0.1" in name else set()) <= set(tags[name])
        experiment = ask(url, "plugin/hparams/experiment", {})
        assert {info["name"]["tag"] for info in experiment["metricInfos"]} == {"test/running/accuracy", "val/accuracy", *HPARAMS}
        assert {group["name"] for group in groups} == set(runs)
        for group in groups:
            summary = runs[group["name"]].result().tree()
            config = summary["config"]
            assert group["hparams"]["model.norm"] == config["model"]["norm"]
            assert group["hparams"]["optim.lr"] == config["optim"]["lr"]
            assert group["hparams"]["seed"] == config["seed"]
            assert group["hparams"]["model.widths"] == "[4, 4]"
            assert "train.epochs" not in group["hparams"]
            diverged = summary["status"] == "diverged"
            assert group["sessions"][0]["status"] == ("STATUS_FAILURE" if diverged else "STATUS_SUCCESS")
            metrics = {value["name"]["tag"]: value["value"] for value in group["metricValues"]}
            assert metrics["hparams/diverged"] == diverged
            assert "hparams/steps_to_target" not in metrics  # 24 steps reach nothing
            if not diverged:
                assert metrics["test/running/accuracy"] == pytest.approx(summary["test"]["running"]["accuracy"])
        layout = ask(url, "plugin/custom_scalars/layout")["category"]
        assert [category["title"] for category in layout][:2] == ["Mean over seeds, ± standard deviation", "BN and no BN"]
        written = layout_pb2.Layout.FromString(
            read(next(iter(runs.values())).folder).Tensors("custom_scalars__config__")[0].tensor_proto.string_val[0]
        )
        assert [len(category["chart"]) for category in layout] == [len(category.chart) for category in written.category]
        shown = next(chart for chart in layout[1]["chart"] if chart["title"] == "validation accuracy")["multiline"]["tag"]
        for name in (
            *runs,
            *(name for name in means if "lr 0.1" in name),
        ):  # one chart for both arms; of runs that diverged at once no mean
            assert set(ask(url, f"plugin/custom_scalars/scalars?run={quote(name)}&tag={shown[0]}")["tag_to_events"]) == {"val/accuracy"}


def test_a_target_that_is_reached_is_a_metric(tmp_path: Path) -> None:
    bn_in(tmp_path, "train", "model.widths=[4]", "train.steps=12", "train.eval_every=4", "train.target=0.05", "--quiet")
    (run,) = list_runs(tmp_path)
    reached = some(run.result().tree()["target"]["reached_step"])
    assert steps(read(run.folder), "hparams/steps_to_target") == [(12, reached)]


def test_names_narrow_what_is_shown(swept: Path, tmp_path: Path) -> None:
    with displayed(swept, tmp_path, "batch-bs128-lr0.1-s0", "none-bs128-lr0.1-s1") as url:
        assert {name[:-9] for name in runs_of(url, 2)} == {"runs/with BN/batch-bs128-lr0.1-s0", "runs/without BN/none-bs128-lr0.1-s1"}


def test_a_sweep_narrows_to_its_runs_and_means(swept: Path, tmp_path: Path) -> None:
    runs_dir = tmp_path / "runs"
    shutil.copytree(swept, runs_dir)
    bn_in(runs_dir, "train", "model.widths=[2]", "train.steps=2", "--quiet")
    (group,) = (runs_dir / ".groups").iterdir()
    assert find_group(group.name, runs_dir) is not None
    expected = set(listed(swept))
    with displayed(runs_dir, tmp_path / "scratch", group.name) as url:
        assert runs_of(url, len(expected)) == expected


def test_what_is_shown_keeps_up_with_the_runs_folder(swept: Path, tmp_path: Path) -> None:
    runs_dir = shutil.copytree(swept, tmp_path / "runs")
    removed, late, replaced, *_ = list_runs(runs_dir)
    late.folder.rename(tmp_path / "late")

    def seen(folder: Path) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for path in folder.rglob("*"):
            if path.is_file():
                found.setdefault(str(path.parent.relative_to(folder)), []).append(path.name)
        return found

    def there() -> dict[str, list[str]]:
        return {name: [path.name for path in folder.glob("events*")] for name, folder in listed(runs_dir).items()}

    with _linked(runs_dir, []) as (folder, refresh):
        assert seen(folder) == there()
        shutil.rmtree(removed.folder)
        (tmp_path / "late").rename(late.folder)
        (events,) = replaced.folder.glob("events*")
        events.rename(events.with_name("events.out.tfevents.9999999999.successor"))
        refresh()
        assert seen(folder) == there()
        assert run_name(late) in there()
        assert not (folder / run_name(removed)).exists()
        assert _names(folder) == sorted(there())


@pytest.mark.slow
def test_a_run_that_begins_while_its_sweep_is_shown_appears(swept: Path, tmp_path: Path) -> None:
    runs_dir = tmp_path / "runs"
    shutil.copytree(swept, runs_dir)
    late = list_runs(runs_dir)[0].folder
    late.rename(tmp_path / late.name)
    (group,) = (runs_dir / ".groups").iterdir()
    with displayed(runs_dir, tmp_path / "scratch", str(group)) as url:
        assert late.name not in {name.rpartition("/")[2] for name in runs_of(url, 11)}
        (tmp_path / late.name).rename(late)
        assert late.name in {name.rpartition("/")[2] for name in runs_of(url, 12)}


@pytest.mark.parametrize("name", ["nothing-like-it", "deadbeef"])
def test_a_name_of_nothing_is_refused(swept: Path, name: str) -> None:
    err = bn_in(swept, "tensorboard", name, code=2).stderr
    assert f"There is no run '{name}'" in err
    assert "A SWEEP is the 8 hex digits" in err


def test_the_scalars_page_shows_both_arms(swept: Path, tmp_path: Path, chromium: Any) -> None:
    runs = {run_name(run): run.id for run in list_runs(swept) if "-lr0.1-s0" in run.id}
    names = set(runs)
    assert len(names) == 2
    with displayed(swept, tmp_path, *runs.values()) as url:
        runs_of(url, 2)
        page = chromium.new_page(viewport={"width": 1300, "height": 800})
        page.goto(url + "#scalars&tagFilter=%5Eval%2Faccuracy%24")
        chart = page.locator("tf-scalar-card").first
        chart.locator("path.line[stroke]").nth(3).wait_for(state="attached", timeout=60_000)  # of each run a smoothed line and a faint one
        page.wait_for_timeout(1000)  # the lines grow
        assert set(page.locator("tf-multi-checkbox .item-label-container").all_inner_texts()) == names
        boxes = page.locator("tf-multi-checkbox paper-checkbox").evaluate_all("all => all.map(box => [box.id, box.getAttribute('style')])")
        colors = {box.removeprefix("checkbox-"): re.findall(r"checked-color: (#\w{6})", style)[0] for box, style in boxes}
        assert set(colors) == names
        assert {name.split("/")[1]: color for name, color in colors.items()} == {
            "with BN": "#0072b2",
            "without BN": "#d55e00",
        }  # the figures'
        drawn = chart.locator("path.line[stroke]").evaluate_all("all => all.map(line => line.getAttribute('stroke'))")
        assert set(drawn) == set(colors.values())
        picture = np.asarray(Image.open(io.BytesIO(chart.screenshot())).convert("RGB")).reshape(-1, 3).astype(int)
        page.screenshot(path=tmp_path / "scalars.png")
        page.close()
        for color in colors.values():
            wanted = [int(color[at : at + 2], 16) for at in (1, 3, 5)]
            assert (np.abs(picture - wanted).max(1) < 24).sum() > 30, color


@pytest.mark.slow
def test_the_link_opens_on_means_with_accuracy_and_loss_pinned_and_a_colour_an_arm(
    swept: Path, tmp_path: Path, chromium: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    means = {name for name in listed(swept) if name.startswith("means/")}
    opened, browser = tmp_path / "opened", tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\nprintf %s "$1" > {opened}.part && mv {opened}.part {opened}\n')
    browser.chmod(0o700)
    monkeypatch.setenv("BROWSER", f"{browser} %s")
    with served(swept, tmp_path, "--open") as (process, url):
        wait_for(opened.exists, process)
        runs_of(url, len(listed(swept)))
        page = chromium.new_page(viewport={"width": 1280, "height": 900})
        page.goto(opened.read_text())
        pinned = page.locator("metrics-pinned-view card-view")
        pinned.nth(1).wait_for(timeout=60_000)
        rows = page.locator("runs-data-table tb-data-table-content-row")
        rows.nth(len(means) - 1).wait_for(timeout=60_000)
        found = {" ".join(text.split()) for text in rows.all_inner_texts()}
        ticked = rows.locator("input[type=checkbox]").evaluate_all("all => all.map(box => box.checked)")
        swatches = rows.locator(".run-color-swatch")
        colours = swatches.evaluate_all("all => all.map(swatch => getComputedStyle(swatch).backgroundColor)")
        titles = [re.match(r"val/(?:accuracy|loss)", "".join(text.split())) for text in pinned.all_inner_texts()]
        page.screenshot(path=tmp_path / "opened.png")
        page.close()
    assert found == means
    assert ticked == [True] * len(means)
    assert [some(title)[0] for title in titles] == ["val/accuracy", "val/loss"]
    assert sorted(colours) == sorted(["rgb(0, 114, 178)", "rgb(213, 94, 0)"] * 2)


def test_completion_offers_runs_and_sweeps(swept: Path) -> None:
    (group,) = (swept / ".groups").iterdir()

    def complete(words: str) -> set[str]:
        env = {**os.environ, "_BNEXP_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(len(words.split(" ")) - 1)}
        script = [sys.executable, "-c", "from bnexp.cli import main; main()"]
        return set(subprocess.run(script, capture_output=True, text=True, env=env, check=False).stdout.split())

    command = f"bnexp tensorboard --runs-dir {swept} "
    assert complete(command) == {*(run.id for run in list_runs(swept)), "last", group.name}
    assert complete(command + group.name[:4]) == {group.name}
