"""Metrics from the command line to the logs: metrics.jsonl, TensorBoard, `runs show`, the declared keys, the presets."""

import itertools
import json
import re
from pathlib import Path
from typing import Any

import pytest
from support import bn, bn_in
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from bnexp.config.compose import compose
from bnexp.metrics import METRICS
from bnexp.storage.curves import curves
from bnexp.storage.folder import list_runs

SHORT = ["model.widths=[4,4]", "train.epochs=null", "train.steps=24", "train.eval_every=8", "--quiet"]


def records(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A runs folder with one run of each arm, all metrics on."""
    runs_dir = tmp_path_factory.mktemp("full") / "runs"
    for norm in ("batch", "none"):
        overrides = ["metrics=full", "metrics.test_curve=true", f"model.norm={norm}", "optim.lr=0.05"]
        bn("train", *SHORT, *overrides, "--runs-dir", str(runs_dir))
    return runs_dir


def documented() -> set[str]:
    """The keys that the metrics declare, braces expanded."""
    found = set()
    for pattern in [f"{name}/{keys.pattern}" for name, metric in METRICS.items() for keys in metric.keys]:
        parts = [part.split(",") for part in re.findall(r"\{([^}]+)\}|([^{}]+)", pattern) for part in [part[0] or part[1]]]
        found |= {"".join(choice) for choice in itertools.product(*parts)}
    return found


def test_the_metrics_declare_every_key_and_no_other(full: Path) -> None:
    logged: dict[str, set[str]] = {}
    for run in list_runs(full):
        keys = {key for record in records(run.folder) for key in record if key.split("/")[0] in METRICS}
        logged[run.config().model.norm] = {re.sub(r"/(block\d\.conv\d|head)/", "/<layer>/", key) for key in keys}
    assert logged["batch"] == documented()
    both = ("batch_mean_variance", "effective_sample_size", "running_var_bias", "xhat_var")
    normed = {f"{name}{end}" for name in both for end in ("", "_theory")}
    normed |= {"after", "gamma", "beta", "running_mean_to_batch", "running_var_to_batch"}
    normed |= {"xhat_mean", "ema_initial_weight", "running_mean_offset", "running_var_ratio", "predicted", "error"}
    assert {key.split("/")[-1] for key in logged["batch"] - logged["none"]} == normed
    assert logged["none"] < logged["batch"]


def test_tensorboard_has_what_metrics_jsonl_has(full: Path) -> None:
    for run in list_runs(full):
        board = EventAccumulator(str(run.folder), size_guidance={"scalars": 0, "histograms": 0})
        board.Reload()
        curves: dict[str, list[tuple[int, float]]] = {}
        for record in records(run.folder):
            assert "nonfinite" not in record
            for key, value in record.items():
                if "/" in key and not isinstance(value, list):
                    curves.setdefault(key, []).append((record["step"], value))
        assert {tag for tag in board.Tags()["scalars"] if not tag.startswith("hparams/")} == set(curves)
        for key, curve in curves.items():
            assert [event.step for event in board.Scalars(key)] == [step for step, _ in curve], key
            assert [event.value for event in board.Scalars(key)] == pytest.approx([value for _, value in curve], rel=1e-6), key
        assert [event.step for event in board.Histograms("percentiles/block1.conv1")] == [0, 8, 16, 24]
        assert [event.step for event in board.Histograms("drift/block1.conv1/init/w1")] == [24]
        last = board.Histograms("percentiles/block1.conv1")[-1].histogram_value
        assert last.num == 4 * 64
        assert sum(last.bucket) == last.num
        assert last.min < curves["percentiles/block1.conv1/mean/p15"][-1][1] < curves["percentiles/block1.conv1/mean/p85"][-1][1] < last.max
        assert curves["test_curve/accuracy"][-1][1] == pytest.approx(run.result().tree()["test"]["running"]["accuracy"], rel=1e-6)
        assert run.result().tree()["speed"]["metrics_s"] > 0


def test_runs_show_prints_them_by_layer(full: Path) -> None:
    for run in list_runs(full):
        text = bn("runs", "show", run.id, "--runs-dir", str(full)).stdout
        found = curves(run.metrics_jsonl)
        assert "Inside the network" in text
        assert f"{found['gradients/block2.conv1/weight_norm'][-1][1]:.3g}" in text
        assert f"{found['sharpness/eval/lambda_max'][-1][1]:.4g} (step 11)" in text
        assert "over 8 sampled steps" in text
        if run.config().model.norm == "batch":
            assert f"({found['relu_balance/block2.conv2/predicted'][-1][1]:.3g})" in text
        assert ("x-hat var" in text) == (run.config().model.norm == "batch")


def test_without_metrics_nothing_is_logged_or_shown(tmp_path: Path) -> None:
    bn("train", *SHORT, "metrics=off", "--runs-dir", str(tmp_path))
    (run,) = list_runs(tmp_path)
    assert all(key.split("/")[0] not in METRICS for record in records(run.folder) for key in record)
    assert run.result().tree()["speed"]["metrics_s"] == 0
    assert "Inside the network" not in bn("runs", "show", "last", "--runs-dir", str(tmp_path)).stdout


def test_a_diverged_runs_metrics_are_null(tmp_path: Path) -> None:
    bn("train", *SHORT, "metrics=full", "model.norm=none", "optim.lr=1e20", "--runs-dir", str(tmp_path))
    (run,) = list_runs(tmp_path)
    assert run.result().tree()["status"] == "diverged"
    lost = [record for record in records(run.folder) if "nonfinite" in record and "percentiles/block1.conv1/mean/p50" in record]
    assert lost
    assert all(record[key] is None for record in lost for key in record["nonfinite"])
    text = bn("runs", "show", "last", "--runs-dir", str(tmp_path)).stdout
    assert re.search(r"block1.conv1[ │]+n/a", text)  # and not the healthy numbers of the last record that had some
    assert "Error: " in bn("stats", "last", "--runs-dir", str(tmp_path), code=1).stderr


@pytest.mark.parametrize("metric", ["drift", "batch_stats", "relu_balance"])
def test_a_metric_alone_is_shown(metric: str, tmp_path: Path) -> None:
    bn("train", *SHORT, "metrics=off", f"metrics.{metric}=true", "--runs-dir", str(tmp_path))
    assert "block2.conv2" in bn("runs", "show", "last", "--runs-dir", str(tmp_path)).stdout


def test_presets() -> None:
    assert compose(["metrics=light"]) == compose()
    assert compose(["metrics=off"]).metrics.on == ()
    assert compose(["metrics=full"]).metrics.on == tuple(METRICS)[:-1]
    assert compose(["metrics=off", "metrics.sharpness=true"]).metrics.on == ("sharpness",)
    assert compose(["metrics=full", "model.norm=none"]).run_id() != compose(["model.norm=none"]).run_id()


def test_the_papers_figure_is_a_preset() -> None:
    """Ioffe and Szegedy 2015, section 4.1: three layers of 100 sigmoids, batches of 60, on MNIST."""
    config = compose(["experiment=ioffe_fig1"])
    model = config.model
    assert (config.data.name, model.name, model.widths, model.activation) == ("mnist", "mlp", (100, 100, 100), "sigmoid")
    assert config.train.batch_size == 60
    assert config.metrics.percentiles
    assert config.metrics.test_curve
    assert compose(["experiment=ioffe_fig1", "train.steps=50000", "model.norm=none"]).train.steps == 50_000


def test_batch_norm_is_ahead_in_the_papers_figure(tmp_path: Path) -> None:
    """On digits instead of MNIST, which tests do not have; the percentiles of the last hidden layer are there for both arms."""
    arms = {}
    for norm in ("batch", "none"):
        line = ["experiment=ioffe_fig1", "data=digits", "train.steps=300", f"model.norm={norm}", "--quiet", "--runs-dir", str(tmp_path)]
        bn("train", *line)
        run = next(run for run in list_runs(tmp_path) if run.config().model.norm == norm)
        found = [record for record in records(run.folder) if "test_curve/accuracy" in record]
        assert all({f"percentiles/layer3/unit/p{percent}" for percent in (15, 50, 85)} <= set(record) for record in found)
        arms[norm] = {record["step"]: record["test_curve/accuracy"] for record in found}
    assert arms["batch"].keys() == arms["none"].keys()
    ahead = [arms["batch"][step] > arms["none"][step] for step in arms["batch"] if step >= 60]
    assert len(ahead) > 5
    assert all(ahead)


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("metrics=fulll", "Did you mean 'full'?"),
        ("metrics.every=0", "metrics.every=0 is out of range"),
        ("metrics.probe=1", "at least 2"),
        ("metrics.icss=true", "Did you mean 'metrics.ics'?"),
        ("metrics.ics=maybe", "true or false"),
        ("metrics.log_spaced=auto,5", "names several values"),
        ("model.norm=frozen model.bn_freeze_at=400", "not below the budget of 400 steps"),
        ("model.norm=frozen train.steps=1", "not below the budget of 1 step,"),
    ],
)
def test_bad_values(override: str, says: str, tmp_path: Path) -> None:
    result = bn("train", *override.split(), "--runs-dir", str(tmp_path / "runs"), code=2)
    assert says in " ".join(result.stderr.split())
    assert not (tmp_path / "runs").exists()


def test_a_frozen_runs_statistics_are_as_warm_as_when_it_froze(tmp_path: Path) -> None:
    bn("train", *SHORT, "model.norm=frozen", "model.bn_freeze_at=10", "--runs-dir", str(tmp_path))
    (run,) = list_runs(tmp_path)
    assert run.result().tree()["running_statistics"]["initial_weight"] == pytest.approx(0.9**10)
    assert curves(run.metrics_jsonl)["batch_stats/ema_initial_weight"][-1] == (24, pytest.approx(0.9**10, rel=1e-6))


def test_frozen_statistics_of_a_run_that_stopped_before_its_neighbours(tmp_path: Path) -> None:
    """In a stack, as alone: a run that reached its target at step 12 has seen 12 batches, however many its channels saw afterwards."""
    line = ["model.widths=[8]", "train.epochs=null", "train.steps=64", "train.eval_every=4", "train.batch_size=64", "optim.lr=0.3"]
    line += ["train.until_target=true", "train.target=0.3", "model.norm=frozen", "model.bn_freeze_at=60", "--quiet"]
    bn_in(tmp_path, "train", *line, "--seeds", "4")
    steps = {run.result().tree()["steps"] for run in list_runs(tmp_path)}
    assert len(steps) > 1
    assert min(steps) < 60
    for run in list_runs(tmp_path):
        summary = run.result().tree()
        assert summary["running_statistics"]["initial_weight"] == pytest.approx(0.9 ** min(summary["steps"], 60))
