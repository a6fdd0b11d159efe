"""`bnexp config --explain`: each key with its meaning, and an example that can be typed."""

from __future__ import annotations

import json
import shlex

import pytest
from support import bn

from bnexp.config import DATASETS, KEYS, Config
from bnexp.config.compose import compose
from bnexp.config.explain import explain
from bnexp.config.fields import leaves
from bnexp.metrics.drift import METRIC as DRIFT
from bnexp.norms import NORMS


def test_one_key_has_its_meaning_type_default_range_and_an_example() -> None:
    said = bn("config", "--explain", "optim.momentum").stdout
    for part in (
        KEYS["optim.momentum"].doc,
        "a number, at least 0 and at most 0.999999",
        "Default: 0.9",
        "Example: optim.momentum=0.5",
    ):
        assert part in said
    (one,) = json.loads(bn("config", "--explain", "optim.momentum", "--json").stdout)["keys"]
    assert one["default"] == 0.9
    assert one["range"] == "at least 0 and at most 0.999999"


def test_choices_are_explained_where_they_are_declared() -> None:
    choices = {one.key: one.choices for one in explain()}
    assert choices["model.norm"] == {name: norm.summary for name, norm in NORMS.items()}
    assert choices["data.name"]["waveforms"] == DATASETS["waveforms"].summary
    assert choices["optim.schedule"] == dict.fromkeys(("constant", "cosine", "step"), "")


@pytest.mark.parametrize("key", KEYS)
def test_each_example_sets_its_key(key: str) -> None:
    (one,) = explain(key)
    composed = dict(leaves(compose(shlex.split(one.example))))
    assert composed[key] != dict(leaves(Config()))[key], one.example


def test_a_group_is_its_keys_and_without_a_name_all_are_explained() -> None:
    assert [one.key for one in explain("optim")] == [key for key in KEYS if key.startswith("optim.")]
    assert [one.key for one in explain()] == list(KEYS)
    said = bn("config", "--explain").stdout
    assert all(f"{key}\n" in said for key in KEYS)


def test_a_metric_says_what_it_logs_with_formula_and_source() -> None:
    logs = json.loads(bn("config", "--explain", "metrics.drift", "--json").stdout)["logs"]
    assert [keys["pattern"] for keys in logs] == [keys.pattern for keys in DRIFT.keys]
    said = " ".join(bn("config", "--explain", "metrics.drift").stdout.split())
    assert all(keys.meaning in said and f"Source: {keys.source}" in said for keys in DRIFT.keys)


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("lr", "Did you mean 'optim.lr'?"),
        ("optim.lrr", "Did you mean 'optim.lr'?"),
        ("optm", "Did you mean 'optim'?"),
        ("bn", "Did you mean 'model.norm'?"),
        ("nothing_like_it", "`bnexp config --explain` explains them all."),
        ("experiment", "experiment=NAME takes the values of a file, which is ioffe_fig1."),
        ("optim.lr=0.3", "Write: bnexp config --explain optim.lr"),
    ],
)
def test_what_is_no_key_is_refused_with_the_one_that_was_meant(typed: str, said: str) -> None:
    result = bn("config", "--explain", typed, code=2)
    assert said in result.stderr
    assert not result.stdout


def test_explain_is_an_option_of_config() -> None:
    assert "Write: bnexp config --explain" in bn("explain", "optim.lr", code=2).stderr


def test_it_fits_a_narrow_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    assert max(map(len, bn("config", "--explain", "train").stdout.splitlines())) <= 40
