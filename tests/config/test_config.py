"""The configuration: what is refused, and how it is said."""

import dataclasses
import math
import re
import subprocess
import sys
from typing import Any

import pytest

from bnexp import config as c
from bnexp.base.errors import UsageError, one_of, short
from bnexp.config import KEYS, Config, ModelConfig, TrainConfig, check_fits, from_mapping, map_sizes
from bnexp.config.fields import leaves
from bnexp.norms import NORMS

NAN, INF = math.nan, math.inf


def nested(key: str, value: Any) -> dict[str, Any]:
    for part in reversed(key.split(".")):
        value = {part: value}
    return value  # type: ignore[no-any-return]


def refused(tree: Any, *parts: str) -> None:
    """`tree` is refused with a message in which all `parts` stand."""
    with pytest.raises(UsageError) as caught:
        from_mapping(tree)
    for part in parts:
        assert part in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("optim.lr", NAN, "optim.lr=nan is out of range: it must be at least 1e-30 and at most 1e+30"),
        ("optim.lr", 0, "optim.lr=0.0 is out of range: it must be at least 1e-30"),
        ("optim.lr", 1e-300, "optim.lr=1e-300 is out of range"),  # 0 in float32: nothing was learnt, and nothing said
        ("optim.lr", "0.1a", "optim.lr=0.1a is not a number"),
        ("optim.lr", True, "optim.lr=true is not a number"),
        ("optim.lr", None, "optim.lr=null is not a number"),
        ("optim.momentum", 1, "optim.momentum=1.0 is out of range: it must be at least 0 and at most 0.999999"),
        ("optim.weight_decay", -1e-9, "optim.weight_decay=-1e-09 is out of range"),
        ("optim.gamma", 1.5, "optim.gamma=1.5 is out of range"),
        ("optim.warmup_steps", -1, "optim.warmup_steps=-1 is out of range"),
        ("optim.warmup_steps", 2.0, "optim.warmup_steps=2.0 is not a whole number"),
        ("optim.name", "sdg", "optim.name=sdg is not one of sgd, adam or adamw. Did you mean 'sgd'?"),
        ("optim.schedule", "cosin", "optim.schedule=cosin is not one of constant, cosine or step. Did you mean 'cosine'?"),
        ("optim.nesterov", "yes", "optim.nesterov=yes is not true or false"),
        ("model.widths", [], "model.widths=[] is empty"),
        ("model.widths", [16, 0], "model.widths=[16,0] is out of range: it must be at least 1 and at most 4096"),
        ("model.widths", [16.5], "model.widths=16.5 is not"),
        ("model.widths", 16, "model.widths=16 is not a list of whole numbers, for example [16,32,64]"),
        ("model.norm", "bach", f"model.norm=bach is not one of {one_of(NORMS)}. Did you mean 'batch'?"),
        ("model.placement", "relu-conv", "model.placement=relu-conv is not one of conv-norm-relu, norm-conv-relu or conv-relu-norm"),
        ("model.bn_momentum", 1.01, "model.bn_momentum=1.01 is out of range: it must be at least 0 and at most 1"),
        ("model.bn_eps", 0, "model.bn_eps=0.0 is out of range: it must be at least 1e-30"),
        ("model.bn_affine", 0, "model.bn_affine=0 is not true or false"),
        ("train.batch_size", 0, "train.batch_size=0 is out of range: it must be at least 1"),
        ("train.batch_size", "32", "train.batch_size=32 is not a whole number"),
        ("train.epochs", 0, "train.epochs=0 is out of range"),
        ("train.epochs", 1.5, "train.epochs=1.5 is not a whole number or null"),
        ("train.steps", 0, "train.steps=0 is out of range"),
        ("train.target", 0, "train.target=0.0 is out of range: it must be above 0 and at most 1"),
        ("train.target", 95, "train.target=95.0 is out of range"),
        ("train.eval_every", "sometimes", "train.eval_every=sometimes is not a whole number or auto"),
        ("train.eval_every", 0, "train.eval_every=0 is out of range"),
        ("train.checkpoint_every", 1e3, "train.checkpoint_every=1000.0 is not a whole number or auto"),
        ("data.val_fraction", 0.6, "data.val_fraction=0.6 is out of range: it must be at least 0.01 and at most 0.5"),
        ("data.subset", 1, "data.subset=1 is out of range"),
        ("data.subset", 5000, "data.subset=5000 is more than the 1437 training images of data=digits"),
        ("data.name", "mnits", "data.name=mnits is not one of digits, mnist, fashion_mnist"),
        ("data.name", "mnits", "Did you mean 'mnist'?"),
        ("data.augment", "flip", "data.augment=flip is not one of none, crop or crop_flip"),
        ("data.root", 7, "data.root=7 is not text or null"),
        ("seed", -1, "seed=-1 is out of range"),
        ("seed", 2**31, "seed=2147483648 is out of range"),
        ("threads", 0, "threads=0 is out of range"),
        ("device", "gpu", "device=gpu is not one of auto, cpu or cuda"),
        ("precision", "fp16", "precision=fp16 is not one of fp32 or bf16. Did you mean 'bf16'?"),
        ("name", "a b", "name='a b' is not usable"),
        ("name", "", "name='' is not usable"),
        ("name", "x" * 81, "a name has 1 to 80 letters"),
        ("name", ".hidden", "does not begin with a dot or a hyphen"),
        ("name", "a\n", "is not usable"),
        (
            "name",
            "-x",
            "name='-x' is not usable: a name has 1 to 80 letters",
        ),  # commands would take it for an option
        ("data.root", "", "data.root is empty text"),  # it meant the current folder
        ("data.root", "  ", "data.root is empty text"),
        ("data.root", "a\udcff", "data.root=a\\udcff is not UTF-8"),
        ("optim.lrr", 1, "There is no config key 'optim.lrr'. Did you mean 'optim.lr'?"),
        ("lr", 1, "There is no config key 'lr'. Did you mean 'optim.lr'?"),
        ("batchsize", 1, "There is no config key 'batchsize'. Did you mean 'train.batch_size'?"),
        ("model.zzzz", 1, "There is no config key 'model.zzzz'"),
        ("model", 3, "model should be a group of keys, and is 3"),
        ("train", None, "train should be a group of keys, and is null"),
    ],
)
def test_a_bad_value_is_named_with_its_key(key: str, value: Any, message: str) -> None:
    refused(nested(key, value), message)


@pytest.mark.parametrize("key", ["optim.lr", "seed", "data.subset", "model.widths"])
def test_a_number_beyond_any_float_is_out_of_range(key: str) -> None:
    """It ended in an OverflowError."""
    refused(nested(key, [10**400] if key == "model.widths" else 10**400), f"{key}=", "1000000000")


def test_a_config_that_is_no_mapping_is_refused() -> None:
    refused([1], "The config should be a group of keys")
    refused(None, "The config should be a group of keys")


def test_a_long_value_is_cut_short() -> None:
    refused({"model": {"norm": "x" * 5000}}, "model.norm=" + "x" * 77 + f"... is not one of {one_of(NORMS)}")


LONG: dict[str, Any] = {
    "text": "x" * 5000,
    "lines": "a\nb" * 999,
    "list": ["x" * 50] * 5000,
    "mapping": {"x" * 5000: "x" * 5000},
    "number": int("F" * 6000, 16),
    "numbers": [[9**999] * 999],
}


@pytest.mark.parametrize("kind", LONG)
@pytest.mark.parametrize("key", ["seed", "name", "data.root", "optim.lr", "model.widths", "model", "x"])
def test_every_echo_is_one_line_of_bounded_length(key: str, kind: str) -> None:
    """A number beyond 4300 digits was a ValueError, a long value or key a long message."""
    trees = [nested(key, LONG[kind])] if (key, kind[:4]) not in (("data.root", "text"), ("data.root", "line")) else []
    for tree in [*trees, {"y" * 5000: LONG[kind]}, {"optim": {"a\nb" * 5000: LONG[kind]}}]:
        with pytest.raises(UsageError) as caught:
            from_mapping(tree)
        assert len(str(caught.value)) < 300
        assert str(caught.value).isprintable()


def test_a_value_that_has_no_end_is_shown() -> None:
    deep: list[Any] = []
    deep.append(deep)
    refused({"model": {"widths": deep}}, "model.widths=[[[...]]] is not a whole number")
    refused({"model": deep}, "model should be a group of keys, and is [[[...]]]")
    assert short("x" * 80) == "x" * 80
    assert short("x" * 81) == "x" * 77 + "..."


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ({"optim.lr": 0.3}, "'optim.lr' is written with a dot; in a file it is nested, as in `optim: {lr: 0.3}`"),
        ({"optim.lrr": 0.3}, "There is no config key 'optim.lrr'. Did you mean 'optim.lr'?"),
        ({"data": {"root.x": 1}}, "There is no config key 'data.root.x'"),
        ({1: 2}, "The config has the key 1, which is not text"),
        ({"optim": {None: 2}}, "optim has the key null, which is not text"),
        ({"data": {("a", 1): 2}}, "data has the key [a,1], which is not text"),
    ],
)
def test_keys_that_are_none(tree: dict[Any, Any], message: str) -> None:
    """A key with a dot was a KeyError."""
    refused(tree, message)


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ({"train": {"epochs": 1, "steps": 1}}, "train.epochs and train.steps are both set"),
        ({"model": {"activation": "sigmoid"}}, "model.activation=sigmoid needs model=mlp"),
        ({"optim": {"name": "adam", "nesterov": True}}, "optim.nesterov=true needs optim.name=sgd"),
        ({"optim": {"momentum": 0, "nesterov": True}}, "optim.nesterov=true needs optim.name=sgd and optim.momentum above 0"),
        ({"data": {"name": "folder"}}, "data=folder needs data.root: the path of the folder of your images"),
        ({"data": {"name": "npz"}}, "data=npz needs data.root: the path of your .npz file"),
        ({"data": {"name": "waveforms", "augment": "crop_flip"}}, "data.augment=crop_flip is for images"),
        ({"train": {"batch_size": 1294}}, "train.batch_size=1294 is larger than the 1293 training images (after validation)"),
        ({"data": {"subset": 20}}, "train.batch_size=32 is larger than the 18 training images"),
        ({"train": {"steps": 30}, "optim": {"warmup_steps": 30}}, "optim.warmup_steps=30 leaves nothing of the 30 steps"),
        (
            {"train": {"batch_size": 1}, "model": {"widths": [4, 4, 4, 4]}},
            "train.batch_size=1 gives batch norm one value a channel on maps of 1x1",
        ),
        ({"train": {"batch_size": 1}, "model": {"name": "mlp"}}, "one value a channel on fully connected layers"),
    ],
)
def test_values_that_do_not_go_together(tree: dict[str, Any], message: str) -> None:
    refused(tree, message)


@pytest.mark.parametrize(
    "tree",
    [
        {"train": {"batch_size": 1293}},
        {"train": {"batch_size": 1}},  # 2x2 maps: four values a channel
        {"train": {"batch_size": 1}, "model": {"widths": [4, 4, 4, 4], "norm": "none"}},
        {"train": {"batch_size": 1}, "model": {"name": "mlp", "norm": "none"}},
        {"train": {"batch_size": 2}, "model": {"name": "mlp"}},
        {"data": {"subset": 1437}},
        {"optim": {"lr": 1e30, "momentum": 0, "weight_decay": 1000}, "model": {"bn_momentum": 0}},
        {"seed": 2**31 - 1, "threads": "auto", "name": "x" * 80},
        {"name": 1},
        {"train": {"steps": 30}, "optim": {"warmup_steps": 29, "lr": 1e-30, "eps": 1e-30}},
    ],
)
def test_values_at_the_edge_are_taken(tree: dict[str, Any]) -> None:
    from_mapping(tree)


@pytest.mark.parametrize(
    ("model", "shape", "classes", "message"),
    [
        ({}, (7,), 3, "model=blocknet takes maps of 1, 2 or 3 dimensions, and an example here has shape [7]; use model=mlp"),
        ({}, (1, 2, 2, 2, 2), 3, "use model=mlp"),
        ({"name": "mlp"}, (7,), 1, "The data have 1 class; at least 2 are needed"),
    ],
)
def test_checks_that_need_the_shape_of_the_data(model: dict[str, str], shape: tuple[int, ...], classes: int, message: str) -> None:
    with pytest.raises(UsageError, match=re.escape(message)):
        check_fits(Config(model=ModelConfig(**model)), shape, 1000, classes)  # type: ignore[arg-type]
    check_fits(Config(model=ModelConfig(**model)), (1, 7) if not model else (7,), 1000, 2)  # type: ignore[arg-type]


def test_too_few_examples_are_counted() -> None:
    """It said: larger than the 0 training images; use at most 0."""
    with pytest.raises(UsageError, match="The data have too few training examples to train and to validate on"):
        check_fits(Config(), (1, 8, 8), 0, 2)


def test_neither_epochs_nor_steps_means_ten_epochs_under_the_same_id() -> None:
    assert Config().train.epochs == 10
    assert Config() == Config(train=TrainConfig(epochs=10))
    assert Config().run_id() == from_mapping({"train": {"epochs": 10}}).run_id() == from_mapping({}).run_id()
    assert from_mapping({"train": {"steps": 5}}).train.epochs is None


def test_everything_is_frozen() -> None:
    config = Config()
    for part in (config, config.data, config.model, config.optim, config.train):
        for item in dataclasses.fields(part):
            with pytest.raises(dataclasses.FrozenInstanceError):
                setattr(part, item.name, None)
    hash(config)


def test_every_key_is_documented() -> None:
    assert [key for key, _ in leaves(Config())] == list(KEYS)
    for key, value in leaves(Config()):
        assert KEYS[key].doc, key
        assert not KEYS[key].choices or value in KEYS[key].choices, key


def test_a_config_is_checked_without_torch() -> None:
    code = "import sys, bnexp.config, bnexp.config.compose; bnexp.config.Config(); print('torch' in sys.modules, 'hydra' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


def test_map_sizes_and_validation() -> None:
    assert map_sizes((9, 2), 4) == [(9, 2), (5, 1), (3, 1), (2, 1)]
    assert map_sizes((8,), 1) == [(8,)]
    assert [c.val_size(n, 0.1) for n in (2, 15, 1437)] == [1, 2, 144]
