"""Numbers that break: each has a defined outcome, shown by the real command on tiny data. A diverged run is a result, not a failure."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import faults_input
import numpy as np
import pytest
from PIL import Image

RNG = np.random.default_rng(0)
Y = np.arange(80) % 2
X = (RNG.normal(size=(80, 2, 6, 6)) + 2 * Y[:, None, None, None]).astype(np.float32)
TINY = ("model.widths=[4,4]", "train.batch_size=8", "train.steps=6", "train.eval_every=3", "optim.lr=0.05", "device=cpu", "threads=1")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path


def train(arrays: Mapping[str, Any], *overrides: str, code: int = 0) -> Any:
    """The summary of a run on the arrays, with every metric; or the message of a refusal. Never a traceback."""
    np.savez("data.npz", **arrays)
    return trained("data=npz", "data.root=data.npz", *TINY, "metrics=full", *overrides, code=code)


def trained(*overrides: str, code: int = 0) -> Any:
    before = len(list(Path().glob("runs/[a-z]*")))
    status, out, err, error = faults_input.call(["train", *overrides, "--json", "--quiet", "--fresh"])
    assert (status, error) == (code, ""), err
    if code:
        assert len(list(Path().glob("runs/[a-z]*"))) == before
        assert len(err.splitlines()) == 1
        return err
    return json.loads(out)


def metrics(summary: Mapping[str, Any]) -> dict[str, Any]:
    """The last value of every key in metrics.jsonl, which is strict JSON."""

    def never(name: str) -> None:
        raise AssertionError(f"{name} is no JSON")

    lines = Path("runs", summary["id"], "metrics.jsonl").read_text().splitlines()
    found: dict[str, Any] = {}
    for line in lines:
        found |= json.loads(line, parse_constant=never)
    return found


def defined(tree: Any) -> bool:
    """Whether every number of a summary is one. A JSON null is none."""
    if isinstance(tree, Mapping):
        return all(defined(part) for part in tree.values())
    return tree is not None and (not isinstance(tree, float) or math.isfinite(tree))


def finished(summary: Mapping[str, Any]) -> None:
    assert summary["status"] == "finished"
    assert "nonfinite" not in summary
    assert defined({key: summary["test"][key] for key in ("running", "precise", "batch")})
    assert defined(summary["val"])
    assert defined(summary["train"])


def diverged(summary: Mapping[str, Any], by: int = 6) -> None:
    """Said so, with nulls and the list of what they stand for."""
    assert summary["status"] == "diverged"
    assert 1 <= summary["diverged_at_step"] <= by
    assert summary["test"]["running"] == {"loss": None, "accuracy": None}
    assert {"test/running/loss", "test/running/accuracy"} <= set(summary["nonfinite"])
    assert metrics(summary)["nonfinite"]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e39])
@pytest.mark.parametrize("where", ["x", "x_test"])
def test_data_that_are_not_finite_are_refused_and_named(place: Path, bad: float, where: str) -> None:
    x = X.astype(np.float64)
    x[17, 1, 2, 3] = bad
    arrays = {"x": x, "y": Y} if where == "x" else {"x_train": X.astype(np.float64), "y_train": Y, "x_test": x, "y_test": Y}
    assert f"NaN or infinite values in {where} (as float32), first in example 17" in train(arrays, code=2)


@pytest.mark.parametrize("norm", ["batch", "none", "noisy", "frozen"])
def test_constant_channels(place: Path, norm: str) -> None:
    """They are 0 after normalization: divided by 1, not by 0."""
    x = X.copy()
    x[:, 1] = 1e6
    summary = train({"x": x, "y": Y}, f"model.norm={norm}")
    finished(summary)
    assert summary["data"]["std"][1] == 1


@pytest.mark.parametrize("norm", ["batch", "none"])
def test_data_without_any_variance(place: Path, norm: str) -> None:
    """Every example is the same: nothing to learn, and no number breaks. Norms see variance 0, in every layer."""
    summary = train({"x": np.full((80, 2, 6, 6), 7, dtype=np.uint8), "y": Y}, f"model.norm={norm}")
    finished(summary)
    assert summary["test"]["running"]["accuracy"] == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize("norm", ["batch", "none"])
@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_data_of_extreme_scale_are_normalized(place: Path, norm: str, scale: float) -> None:
    finished(train({"x": X * np.float32(scale), "y": Y}, f"model.norm={norm}"))


def test_variance_beyond_float32(place: Path) -> None:
    """Values fit, their spread about the mean does not: normalization in float32 would make them infinite."""
    x = np.where(Y[:, None, None, None] == 0, -3e38, 3e38) * np.ones((80, 2, 6, 6))
    assert "values beyond 1e+37 in x, first in example 0" in train({"x": x.astype(np.float32), "y": Y}, code=2)
    finished(train({"x": (x / 100).astype(np.float32), "y": Y}))


def test_a_class_that_is_missing_from_training(place: Path) -> None:
    """It has its place in the network and in the confusion matrix; no image of it is recognized."""
    y_train, y_test = Y.copy(), np.arange(80) % 3
    summary = train({"x_train": X, "y_train": y_train, "x_test": X, "y_test": y_test})
    finished(summary)
    assert summary["data"]["classes"] == ["0", "1", "2"]
    assert sum(summary["test"]["confusion"][2]) == 26
    assert len(summary["test"]["per_class_accuracy"]) == 3


def test_a_class_that_is_missing_from_the_test(place: Path) -> None:
    """Its accuracy is 0 of 0, which is written as 0: its row in the confusion matrix says of how many."""
    summary = train({"x_train": X, "y_train": np.arange(80) % 3, "x_test": X, "y_test": Y})
    finished(summary)
    assert sum(summary["test"]["confusion"][2]) == 0
    assert summary["test"]["per_class_accuracy"][2] == 0


def test_classes_of_one_member_and_labels_far_apart(place: Path) -> None:
    """Labels are names: 0 and 10^9 are two classes, and a class of one member is trained on."""
    y = np.where(Y == 0, 0, 10**9)
    y[0] = -(2**40)
    summary = train({"x": X, "y": y})
    assert summary["status"] == "finished"
    assert summary["data"]["classes"] == [str(-(2**40)), "0", str(10**9)]


def test_a_batch_larger_than_the_data(place: Path) -> None:
    assert "train.batch_size=100 is larger than the 58 training images" in train({"x": X, "y": Y}, "train.batch_size=100", code=2)
    assert train({"x": X, "y": Y}, "train.batch_size=58")["status"] == "finished"  # all of them in one


@pytest.mark.parametrize("model", ["blocknet", "mlp"])
def test_a_last_batch_of_one(place: Path, model: str) -> None:
    """57 training images and 7 of test in batches of 8 leave one: training drops it, evaluation with batch statistics fills it up, and
    precise statistics leave it out. On one-pixel maps its channels would have one value each."""
    x = X[:, :, :2, :2]
    arrays = {"x_train": x[:63], "y_train": Y[:63], "x_test": x[:9], "y_test": Y[:9]}
    summary = train(arrays, f"model={model}", "model.widths=[4,4,4]", "train.steps=null", "train.epochs=2", "train.eval_every=auto")
    finished(summary)
    assert (summary["data"]["train"], summary["data"]["test"], summary["steps"]) == (57, 9, 14)


def test_one_pixel_maps(place: Path) -> None:
    x = X[:, :, :1, :1]
    finished(train({"x": x, "y": Y}, "model.widths=[4,4,4]"))
    assert "gives batch norm one value a channel on maps of 1x1" in train({"x": x, "y": Y}, "train.batch_size=1", code=2)
    finished(train({"x": x, "y": Y}, "train.batch_size=1", "model.norm=none"))


@pytest.mark.parametrize("stats", ["running", "precise", "batch"])
def test_a_batch_of_one_on_larger_maps(place: Path, stats: str) -> None:
    """Batch norm normalizes each image by its own pixels."""
    summary = train({"x": X, "y": Y}, "train.batch_size=1", "model.widths=[4]")
    finished(summary)
    assert defined(summary["test"][stats])


def test_dead_relus(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every channel's beta far below zero: nothing passes, the network is a constant, and each metric is a number or null."""
    import torch

    from bnexp.training import stack as training

    original = training.init

    def dead(network: torch.nn.Sequential, *args: Any) -> None:
        original(network, *args)
        for module in network.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                torch.nn.init.constant_(module.bias, -100.0)

    monkeypatch.setattr(training, "init", dead)
    summary = train({"x": X, "y": Y})
    finished(summary)
    found = metrics(summary)
    dead_shares = [value for key, value in found.items() if key.endswith("/dead")]
    assert len(dead_shares) == 4
    assert dead_shares == [1.0] * 4
    assert summary["test"]["running"]["accuracy"] == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize("norm", ["batch", "none", "noisy", "frozen"])
@pytest.mark.parametrize("optim", ["sgd", "adam", "adamw"])
def test_a_learning_rate_of_1e30(place: Path, norm: str, optim: str) -> None:
    summary = train({"x": X, "y": Y}, f"optim={optim}", "optim.lr=1e30", f"model.norm={norm}", "train.steps=12")
    diverged(summary, 12)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("norm", ["batch", "none"])
def test_weights_that_overflow(place: Path, precision: str, norm: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without norm, activations beyond the largest number: diverged. Batch norm divides them again, as long as their squares fit."""
    import torch

    from bnexp.training import stack as training

    original = training.init

    def large(network: torch.nn.Sequential, *args: Any) -> None:
        original(network, *args)
        with torch.no_grad():
            for module in network.modules():
                if isinstance(module, torch.nn.Conv2d):
                    module.weight.mul_(1e12)

    monkeypatch.setattr(training, "init", large)
    summary = train({"x": X, "y": Y}, f"precision={precision}", f"model.norm={norm}")
    finished(summary) if norm == "batch" else diverged(summary)


@pytest.mark.parametrize("norm", ["batch", "noisy", "frozen"])
def test_features_without_variance_in_bf16(place: Path, norm: str) -> None:
    """Batch norm keeps its statistics in float32, so that 1e-5 is added to a variance of 0 and not lost."""
    x = X.copy()
    x[:, 0] = 3
    x[:, 1] = 0
    finished(train({"x": x, "y": Y}, "precision=bf16", f"model.norm={norm}"))
    finished(train({"x": X, "y": Y}, "precision=bf16", f"model.norm={norm}", "model.bn_eps=1e-30"))


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_least_eps_on_data_without_variance(place: Path, precision: str) -> None:
    """1 / sqrt(1e-30) is 1e15: gradients through a norm without variance, whatever they are, end in a defined status."""
    summary = train({"x": np.full((80, 2, 6, 6), 7, dtype=np.uint8), "y": Y}, "model.bn_eps=1e-30", f"precision={precision}")
    assert summary["status"] in ("finished", "diverged")
    assert (summary["status"] == "diverged") == ("nonfinite" in summary)


def test_a_diverged_run_is_shown_evaluated_and_reported(place: Path) -> None:
    summary = train({"x": X, "y": Y}, "optim.lr=1e30", "model.norm=none")
    diverged(summary)
    shown = (["runs", "show", "last"], ["runs"], ["report", "last", "--quiet"])
    for args in (*shown, ["evaluate", "last", "--stats", "all"], ["evaluate", "last", "--json"]):
        status, out, err, error = faults_input.call(args)
        assert (status, error) == (0, ""), (args, err)
        assert out
    status, _, err, error = faults_input.call(["stats", "last"])
    assert (status, error) == (1, "")
    assert "its weights are not finite" in err


def test_images_of_one_colour(place: Path) -> None:
    for label in ("cat", "dog"):
        Path("images", label).mkdir(parents=True)
        for number in range(20):
            Image.new("RGB", (8, 8), (9, 9, 9)).save(Path("images", label, f"{number}.png"))
    summary = trained("data=folder", "data.root=images", "data.image_size=8", *TINY)
    finished(summary)
    assert summary["data"]["std"] == [1, 1, 1]
