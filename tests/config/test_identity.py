"""The identity of a run: what its id hashes, its default name, and the way of a config to YAML and back."""

import re
import subprocess
import sys
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from bnexp import config as c
from bnexp.config import DATASETS, METRICS, Config, MetricsConfig, choices, from_mapping, to_mapping
from bnexp.norms import NORMS
from bnexp.storage.run import to_yaml

OTHER: dict[str, Any] = {
    "data.name": "mnist", "data.root": "x", "data.val_fraction": 0.2, "data.split_seed": 1, "data.subset": 500,
    "data.augment": "crop_flip", "data.follow_links": True, "data.image_size": 64,
    "model.name": "mlp", "model.widths": [16, 32], "model.norm": "none", "model.placement": "conv-relu-norm",
    "model.activation": "sigmoid", "model.bn_momentum": 0.2, "model.bn_eps": 1e-3, "model.bn_affine": False, "model.bn_freeze_at": 7,
    "optim.name": "adam", "optim.lr": 0.10000001, "optim.momentum": 0.8, "optim.nesterov": True, "optim.beta2": 0.9, "optim.eps": 1e-6,
    "optim.weight_decay": 1e-4, "optim.schedule": "constant", "optim.warmup_steps": 5, "optim.step_size": 100, "optim.gamma": 0.5,
    "train.batch_size": 16, "train.epochs": 11, "train.steps": 400, "train.target": 0.9, "train.until_target": True,
    "train.eval_every": 10, "train.checkpoint_every": 7,
    **{f"metrics.{name}": name not in MetricsConfig().on for name in METRICS},
    "metrics.every": 5, "metrics.log_spaced": 9, "metrics.probe": 16,
    "name": "other", "device": "cpu", "precision": "bf16", "compile": True, "threads": 2, "seed": 1,
}  # fmt: skip
NEEDS: dict[str, dict[str, Any]] = {
    "data.image_size": {"data.name": "folder", "data.root": "x"},
    "model.activation": {"model.name": "mlp"},
    "model.bn_freeze_at": {"model.norm": "frozen"},
    "metrics.log_spaced": {"metrics.ics": True},
    "optim.beta2": {"optim.name": "adam"},
    "optim.eps": {"optim.name": "adamw"},
    "optim.step_size": {"optim.schedule": "step"},
    "optim.gamma": {"optim.schedule": "step"},
}
"""Keys that have an effect only beside others."""
NOT_HASHED = {"name", "device", "threads", "data.root", "data.follow_links", "train.checkpoint_every"}


@pytest.mark.parametrize("key", c.KEYS)
def test_the_id_changes_with_what_can_change_results(key: str) -> None:
    base = Config().replace(**NEEDS.get(key, {}))
    changes = {"train.epochs": None} if key == "train.steps" else {}
    changed = base.replace(**changes, **{key: OTHER[key]})
    assert changed != base
    assert (changed.run_id()[-8:] == base.run_id()[-8:]) == (key in NOT_HASHED)


@pytest.mark.parametrize("beside", [{}, {"data.name": "npz", "data.root": "x", "model.norm": "none", "optim.schedule": "cosine"}])
def test_keys_without_effect_are_not_hashed(beside: dict[str, Any]) -> None:
    """They gave the same run a second id, so that it was trained twice."""
    base = Config().replace(**beside)
    inert = [key for key in NEEDS if key != "model.activation"]
    inert += ["model.bn_momentum", "model.bn_eps", "model.bn_affine"] if base.model.norm == "none" else []
    for key in inert:
        assert base.replace(**{key: OTHER[key]}).run_id() == base.run_id(), key
    assert base.replace(**{key: OTHER[key] for key in inert}).recipe() == base.recipe()


def test_what_a_norm_reads_is_known_of_every_norm() -> None:
    assert {f"model.{key}" for norm in NORMS.values() for key in norm.keys} == {key for key in c.USED_WHEN if key.startswith("model.")}
    assert set(c.USED_WHEN) | c.NOT_HASHED <= set(c.KEYS)


DEFAULTS: dict[int, dict[str, Any]] = {
    1: {
        "data": {
            "name": "digits", "root": None, "val_fraction": 0.1, "split_seed": 0, "subset": None, "augment": "none",
            "follow_links": False, "image_size": 32,
        },
        "model": {
            "name": "blocknet", "widths": [16, 32, 64], "norm": "batch", "placement": "conv-norm-relu", "activation": "relu",
            "bn_momentum": 0.1, "bn_eps": 1e-5, "bn_affine": True,
        },
        "optim": {
            "name": "sgd", "lr": 0.1, "momentum": 0.9, "nesterov": False, "beta2": 0.999, "eps": 1e-8, "weight_decay": 0.0,
            "schedule": "cosine", "warmup_steps": 0, "step_size": None, "gamma": 0.1,
        },
        "train": {
            "batch_size": 32, "epochs": 10, "steps": None, "target": 0.95, "eval_every": "auto", "checkpoint_every": "auto",
        },
        "name": None, "device": "auto", "precision": "fp32", "threads": "auto", "seed": 0,
    },
}  # fmt: skip
DEFAULTS[2] = {**DEFAULTS[1], "train": {**DEFAULTS[1]["train"], "until_target": False}}
DEFAULTS[3] = {
    **DEFAULTS[2],
    "model": {**DEFAULTS[2]["model"], "bn_freeze_at": None},
    "metrics": {
        "percentiles": True, "drift": True, "batch_stats": True, "relu_balance": True, "gradients": True,
        "ics": False, "landscape": False, "sharpness": False, "noise_scale": False, "test_curve": False,
        "every": "auto", "log_spaced": "auto", "probe": 64,
    },
    "compile": False,
}  # fmt: skip
DEFAULTS[4] = DEFAULTS[3]


def test_the_defaults_belong_to_the_results_version() -> None:
    """An id hashes only what is not the default: under a changed default, the old runs would be taken for the new ones.

    So bump RESULTS_VERSION and write the new defaults under its number. A new key needs neither a bump nor a number of its own when its
    default is what the code did before: add it here. The switch of a metric that is off by default is such a key.
    """
    expected = DEFAULTS[c.RESULTS_VERSION]
    off = dict.fromkeys(set(METRICS) - expected["metrics"].keys(), False)
    assert to_mapping(Config()) == {**expected, "metrics": {**expected["metrics"], **off}}


def test_ids() -> None:
    assert re.fullmatch(r"batch-bs32-lr0\.1-s0-[0-9a-f]{8}", Config().run_id())
    assert Config().run_id() == Config().run_id(None) != Config().run_id("content")
    assert Config().run_id("content") != Config().run_id("other content")
    assert len({Config().replace(seed=seed).run_id()[-8:] for seed in range(100)}) == 100
    assert from_mapping({"optim": {"lr": 1}}).run_id() == from_mapping({"optim": {"lr": 1.0}}).run_id()
    assert from_mapping({"name": "mine"}).run_id() == "mine-" + Config().run_id()[-8:]


def test_ids_are_the_same_in_another_process() -> None:
    """Python's own hash is salted; two processes must find each other's runs."""
    code = "from bnexp.config import Config; print(Config().replace(seed=3).run_id('x'))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == Config().replace(seed=3).run_id("x")


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({}, "batch-bs32-lr0.1-s0"),
        ({"model.norm": "none", "seed": 4}, "none-bs32-lr0.1-s4"),
        ({"data.name": "fashion_mnist"}, "fashion_mnist-batch-bs32-lr0.1-s0"),
        ({"data.name": "mnist", "model.name": "mlp", "optim.lr": 0.0003}, "mnist-mlp-batch-bs32-lr0.0003-s0"),
        ({"optim.lr": 1e30, "train.batch_size": 7}, "batch-bs7-lr1e30-s0"),
        ({"name": "mine"}, "mine"),
    ],
)
def test_names(changes: dict[str, Any], name: str) -> None:
    assert Config().replace(**changes).run_name == name


def test_every_default_name_is_a_folder_name() -> None:
    for lr in (1e-30, 1e30, 0.1234567890123, 123456789.0):
        name = Config().replace(**{"data.name": "fashion_mnist", "model.name": "mlp", "optim.lr": lr, "seed": 2**31 - 1}).run_name
        assert from_mapping({"name": name}).name == name  # 1e+30 had a plus in it, which no name may have


@st.composite
def configs(draw: st.DrawFn) -> Config:
    name = draw(st.sampled_from(["digits", "mnist", "cifar100", "svhn"]))
    mlp = draw(st.booleans())
    tree = {
        "data": {
            "name": name,
            "subset": draw(st.none() | st.integers(600, DATASETS[name].train)),
            "root": draw(st.none() | st.text(min_size=1).filter(lambda text: text.strip() and "\0" not in text)),
        },  # type: ignore[union-attr]
        "model": {
            "name": "mlp" if mlp else "blocknet",
            "widths": draw(st.lists(st.integers(1, 4096), min_size=1, max_size=5)),
            "norm": draw(st.sampled_from(tuple(NORMS))),
            "placement": draw(st.sampled_from(choices.PLACEMENTS)),
            "activation": draw(st.sampled_from(choices.ACTIVATIONS)) if mlp else "relu",
            "bn_momentum": draw(st.floats(0, 1)),
        },
        "optim": {"lr": draw(st.floats(1e-30, 1e30)), "schedule": draw(st.sampled_from(choices.SCHEDULES))},
        "train": {
            "batch_size": draw(st.integers(2, 500)),
            **draw(st.sampled_from([{}, {"steps": 7}, {"epochs": 3}])),
            "eval_every": draw(st.just("auto") | st.integers(1, 10**9)),
        },
        "name": draw(st.none() | st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,79}", fullmatch=True)),
        "seed": draw(st.integers(0, 2**31 - 1)),
    }
    return from_mapping(tree)


@settings(deadline=None, max_examples=50)
@given(configs())
def test_round_trips(config: Config) -> None:
    """Through plain values, and through the YAML of a run's folder; names such as `1e5`, `null` and `0x10` must stay names."""
    assert from_mapping(to_mapping(config)) == config
    back = from_mapping(yaml.safe_load(to_yaml(config)))
    assert back == config
    assert back.run_id() == config.run_id()
