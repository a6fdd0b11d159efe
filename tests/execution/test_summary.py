"""What a run's summary says of its training, and what the display is told meanwhile."""

import base64
from pathlib import Path

import numpy as np
import pytest
import torch
from support import StopAt
from torch.nn import functional as F

from bnexp.analysis import to_table
from bnexp.base.errors import Interrupted
from bnexp.base.signals import Stop
from bnexp.config import Config
from bnexp.data import load
from bnexp.evaluate import evaluate
from bnexp.execution.job import train_stack
from bnexp.execution.launch import launch
from bnexp.execution.terminal import Terminal
from bnexp.planning.plan import plan
from bnexp.storage.checkpoint import load_network
from bnexp.storage.folder import results_of
from bnexp.storage.result import RunResult
from bnexp.storage.run import Run

CPU = torch.device("cpu")
CONFIG = Config().replace(**{"model.widths": [4, 4], "train.epochs": None, "train.steps": 24, "train.eval_every": 8})
ARMS = {"batch": CONFIG, "none": CONFIG.replace(**{"model.norm": "none"}), "augmented": CONFIG.replace(**{"data.augment": "crop_flip"})}


class Recording(Terminal):
    """Keeps what it is told."""

    def __init__(self) -> None:
        super().__init__(quiet=True)
        self.told: list[tuple[int, str, float | None, float | None]] = []

    def due(self) -> bool:
        return True

    def advance(self, done: int, info: str, best_accuracy: float | None = None, images_per_s: float | None = None) -> None:
        self.told.append((done, info, best_accuracy, images_per_s))


@pytest.mark.parametrize("arm", ARMS)
def test_training_accuracy_is_that_of_the_saved_network_in_eval_mode(tmp_path: Path, arm: str) -> None:
    runs = launch([ARMS[arm].replace(seed=seed) for seed in (0, 1)], tmp_path, quiet=True).runs
    data = load(CONFIG.data, CPU)
    for run in runs:
        network = load_network(run)
        with torch.no_grad():
            logits = torch.cat([network(data.normalize(x[None])) for x in data.train.x])
        train = run.result().tree()["train"]
        assert train["images"] == len(data.train) == 1293
        assert train["loss"] == pytest.approx(float(F.cross_entropy(logits, data.train.y)), rel=1e-4)
        assert train["accuracy"] == pytest.approx(float((logits.argmax(1) == data.train.y).double().mean()), abs=2 / 1293)


def test_every_summary_has_the_keys_and_the_arms_agree_where_they_must(tmp_path: Path) -> None:
    batch, none = (launch([ARMS[arm].replace(seed=3)], tmp_path, quiet=True).summaries[0] for arm in ("batch", "none"))
    for summary in (batch, none):
        assert summary.keys() == {*RunResult.__struct_fields__, "format", "checksum"} - {"error", "nonfinite", "more"}
        assert summary["budget"] == {"steps": 24, "until_target": False}
        assert set(summary["audit"]) == {"initial_weights", "batch_order", "batch_order_epochs", "parameters"}
        assert sum(summary["audit"]["parameters"].values()) == summary["parameters"]
    assert {key for key in batch["audit"] if batch["audit"][key] != none["audit"][key]} == {"parameters"}
    assert batch["audit"]["parameters"]["weights"] == none["audit"]["parameters"]["weights"]


def test_an_interrupted_run_has_no_training_accuracy_yet_and_a_resumed_one_the_same_audit(tmp_path: Path) -> None:
    own = [CONFIG.replace(seed=seed, **{"train.checkpoint_every": 4}) for seed in (0, 1)]
    whole = launch(own, tmp_path / "whole", quiet=True).summaries
    runs = [Run(tmp_path / "cut", config.run_id()) for config in own]
    (planned,) = plan(own, runs, one_stack=True)
    with pytest.raises(Interrupted):
        train_stack(planned, Terminal(quiet=True), StopAt(10))
    cut = [run.result().tree() for run in runs]
    assert [summary["train"] for summary in cut] == [{"loss": None, "accuracy": None, "images": None}] * 2
    train_stack(planned, Terminal(quiet=True), Stop())
    for before, run, expected in zip(cut, runs, whole, strict=True):
        summary = run.result().tree()
        assert before["audit"] == summary["audit"] == expected["audit"]
        assert summary["train"] == expected["train"]
        assert summary["budget"] == expected["budget"]


def test_the_display_is_told_the_best_accuracy_and_the_speed(tmp_path: Path) -> None:
    own, display = [CONFIG.replace(seed=seed) for seed in (0, 1)], Recording()
    runs = launch(own, tmp_path, display).runs
    best = [run.result().tree()["val"]["best_accuracy"] for run in runs]
    told = [line for line in display.told if line[1].startswith("loss")]  # the data are read before
    assert [done for done, *_ in told] == list(range(1, 25))
    accuracies = [accuracy for _, _, accuracy, _ in told]
    assert accuracies[:8] == [None] * 8  # the first evaluation comes after step 8
    assert all(accuracy is not None for accuracy in accuracies[8:])
    assert accuracies[8:] == sorted(accuracies[8:])  # type: ignore[type-var]
    assert accuracies[-1] is not None
    assert accuracies[-1] <= max(best)
    assert all(rate is not None and rate > 0 for *_, rate in told)


def test_which_test_images_are_right_and_what_chance_is(tmp_path: Path) -> None:
    """In the order of the test set, as packed bits; tables of many runs leave them out."""
    runs = launch([CONFIG.replace(seed=seed) for seed in (0, 1)], tmp_path, quiet=True).runs
    data = load(CONFIG.data, CPU)
    for run in runs:
        test, network = run.result().tree()["test"], load_network(run)
        with torch.no_grad():
            right = network.eval()(data.normalize(data.test.x)).argmax(1) == data.test.y
        bits = np.unpackbits(np.frombuffer(base64.b64decode(test["correct"]), np.uint8), count=len(data.test))
        assert (bits != right.numpy()).mean() <= 1 / len(data.test)  # rounding may move one that lies between two classes
        assert bits.mean() == pytest.approx(test["running"]["accuracy"])
        assert test["chance"] == max(np.bincount(data.test.y.numpy())) / 360
        again = evaluate(network, data, data.test, CONFIG, "batch")
        assert test["batch"]["accuracy"] == pytest.approx(float(again.accuracy[0]), abs=1 / 360)
        assert test["batch"]["accuracy_std"] == pytest.approx(float(again.accuracy_std[0]), abs=1e-3)
        assert test["batch"]["shuffles"] == 20
    results = results_of(runs).values()
    assert all(isinstance(result.row()["test.correct"], str) for result in results)
    assert "test.correct" not in to_table(results)[0]
    assert {"test.chance", "test.batch.accuracy_std"} <= to_table(results)[0].keys()


def test_a_diverged_run_predicts_nothing(tmp_path: Path) -> None:
    """The argmax of outputs that are not numbers is class 0: its confusion matrix once said that all zeros were recognized."""
    lost, fine = launch([CONFIG.replace(**{"model.norm": "none", "optim.lr": lr}) for lr in (1e30, 0.1)], tmp_path, quiet=True).runs
    summary = lost.result().tree()
    assert (summary["status"], summary["train"]) == ("diverged", {"loss": None, "accuracy": None, "images": 1293})
    assert {"train/loss", "train/accuracy"} <= set(summary["nonfinite"])
    test = summary["test"]
    assert all(test[key] is None for key in ("per_class_accuracy", "confusion", "correct"))
    assert test["batch"] == {"loss": None, "accuracy": None, "accuracy_std": None, "shuffles": 1}
    assert test["chance"] == fine.result().tree()["test"]["chance"] > 0.1
    assert len(fine.result().tree()["test"]["confusion"]) == 10
    assert fine.result().tree()["test"]["batch"]["accuracy_std"] == 0  # without batch norm no image depends on the others
