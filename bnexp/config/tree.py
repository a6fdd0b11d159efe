"""The configuration: one tree of frozen dataclasses, each field with its type, range and meaning.

YAML files and overrides hold only differences; the defaults live here. Everything in this module is plain Python, so that a config
is checked without importing torch. What turns plain values into these classes is in `fields.py`; composition by Hydra is in `compose.py`.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from bnexp.base.errors import UsageError, one_of
from bnexp.base.files import JsonObject
from bnexp.config import choices
from bnexp.config.choices import DATASETS, MODELS, OWN_FILES
from bnexp.config.fields import Key, Value, build, check_name, check_range, key, keys_of, leaves, show
from bnexp.config.fits import check_fits, check_root, check_subset, val_size
from bnexp.config.metrics import PROBED, SAMPLED, MetricsConfig
from bnexp.norms import NO_NORM, NORMS

RESULTS_VERSION = 4
"""Part of every run's id. Bump it when a change of code alters numbers (the golden-loss test says when) or what is recorded."""

TINY = 1e-30
"""The least divisor or factor: far enough above float32's least normal number, 1.2e-38, not to become 0."""
MAX_WIDTHS = 100
"""Blocks, or hidden layers of the mlp. Each takes memory and time of its own, however narrow it is, and maps are one pixel long before."""
MAX_THREADS = 1024


@dataclass(frozen=True)
class DataConfig:
    """The data: which set, from where, and how it is split."""

    name: str = key("data set; chosen with data=NAME", "digits", choices=tuple(DATASETS))
    root: str | None = key(
        "folder (npz: file) that holds the data; null: a folder under the user's cache directory",
        None,
        example="data=folder data.root=photos",
    )
    val_fraction: float = key(
        "share of the training images held out for validation, stratified; data with a validation part of their own use that",
        0.1,
        low=0.01,
        high=0.5,
    )
    split_seed: int = key("seed of the splits and of subset; never the run's seed", 0, low=0, high=2**31 - 1)
    subset: int | None = key(
        "use only so many training images (validation is split off these), stratified; null: all", None, low=2, high=10**9, example="500"
    )
    augment: str = key(
        "augmentation of training batches: crop pads by 1/8 and crops, crop_flip mirrors too", "none", choices=choices.AUGMENTATIONS
    )
    follow_links: bool = key(
        "data=folder: follow links that lead out of data.root", False, example="data=folder data.root=photos data.follow_links=true"
    )
    image_size: int = key(
        "data=folder: images are brought to this many pixels a side",
        32,
        low=4,
        high=1024,
        example="data=folder data.root=photos data.image_size=64",
    )


@dataclass(frozen=True)
class ModelConfig:
    """The network: two-conv blocks (blocknet) or fully connected layers (mlp), and their normalization."""

    name: str = key("network; chosen with model=NAME", "blocknet", choices=tuple(MODELS))
    widths: tuple[int, ...] = key(
        "channels of each two-conv block; mlp: units of each hidden layer", (16, 32, 64), low=1, high=4096, example="[32,64]"
    )
    norm: str = key(
        "normalization layer",
        "batch",
        choices=tuple(NORMS),
        meant={"bn": "batch", "batchnorm": "batch", **dict.fromkeys(("off", "no", "false", "null"), NO_NORM)},
    )
    placement: str = key("order of convolution (mlp: linear layer), norm and ReLU", "conv-norm-relu", choices=choices.PLACEMENTS)
    activation: str = key(
        "nonlinearity of the mlp; blocknet is always relu",
        "relu",
        choices=choices.ACTIVATIONS,
        example="model=mlp model.activation=sigmoid",
    )
    bn_momentum: float = key("weight of the newest batch in the running statistics", 0.1, low=0, high=1)
    bn_eps: float = key("added to the variance before the square root", 1e-5, low=TINY, high=1)
    bn_affine: bool = key("learn gamma and beta", True)
    bn_freeze_at: int | None = key(
        "norm=frozen: steps with batch statistics, before the running ones are frozen and used; null: half of the budget",
        None,
        low=1,
        high=10**9,
        example="model.norm=frozen model.bn_freeze_at=100",
    )


@dataclass(frozen=True)
class OptimConfig:
    """The optimizer and its learning-rate schedule."""

    name: str = key("optimizer", "sgd", choices=choices.OPTIMIZERS)
    lr: float = key("learning rate", 0.1, low=TINY, high=1e30)
    momentum: float = key("momentum (sgd) or beta1 (adam, adamw)", 0.9, low=0, high=0.999999, example="0.5")
    nesterov: bool = key("Nesterov momentum (sgd)", False)
    beta2: float = key(
        "decay of the squared gradient's average (adam, adamw)", 0.999, low=0, high=0.999999, example="optim=adam optim.beta2=0.99"
    )
    eps: float = key(
        "added to the root of the squared gradient's average (adam, adamw)", 1e-8, low=TINY, high=1, example="optim=adam optim.eps=0.0001"
    )
    weight_decay: float = key("weight decay; never on norm parameters and biases", 0.0, low=0, high=1e3, example="0.0005")
    schedule: str = key("learning-rate schedule, over the budget after warm-up", "cosine", choices=choices.SCHEDULES)
    warmup_steps: int = key("steps of linear warm-up before the schedule", 0, low=0, high=10**9, example="40")
    step_size: int | None = key(
        "schedule=step: steps between drops; null: a third of the budget",
        None,
        low=1,
        high=10**9,
        example="optim.schedule=step optim.step_size=200",
    )
    gamma: float = key("schedule=step: factor of each drop", 0.1, low=0, above=True, high=1, example="optim.schedule=step optim.gamma=0.2")


@dataclass(frozen=True)
class TrainConfig:
    """The budget, the target and when to evaluate."""

    batch_size: int = key("images a step; a last partial batch is dropped", 32, low=1, high=10**6)
    epochs: int | None = key("budget in epochs; null with steps=null: 10", None, low=1, high=10**6, example="20")
    steps: int | None = key("budget in steps; excludes epochs", None, low=1, high=10**9, example="1000")
    target: float = key("validation accuracy that 'steps to target' refers to", 0.95, low=0, above=True, high=1, example="0.98")
    until_target: bool = key("stop a run when it reaches train.target; epochs or steps is the limit", False)
    eval_every: int | Literal["auto"] = key(
        "steps between evaluations; auto: dense early on and near the target, else every epoch", "auto", low=1, high=10**9, example="50"
    )
    checkpoint_every: int | Literal["auto"] = key(
        "steps between checkpoints; auto: about every 20 s", "auto", low=1, high=10**9, example="200"
    )


@dataclass(frozen=True)
class Config:
    """One run: everything that decides its numbers, and where and how it is computed. Raises UsageError where a value is out of range, or
    two values do not go together; the message names the key, the value and the choices."""

    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    optim: OptimConfig = OptimConfig()
    train: TrainConfig = TrainConfig()
    metrics: MetricsConfig = MetricsConfig()  # noqa: RUF009 (frozen)
    name: str | None = key("name of the run; null: made from norm, batch size, lr and seed", None, example="first_try")
    device: str = key(
        "where to compute; auto: cuda where there is a GPU, else cpu",
        "auto",
        choices=choices.DEVICES,
        meant={"gpu": "cuda", "nvidia": "cuda"},
    )
    precision: str = key(
        "arithmetic; bf16: autocast, with BN statistics and the loss in fp32",
        "fp32",
        choices=choices.PRECISIONS,
        meant={**dict.fromkeys(("32", "float32", "full"), "fp32"), **dict.fromkeys(("16", "fp16", "half", "bfloat16", "amp"), "bf16")},
    )
    compile: bool = key("compile the step (torch.compile): some seconds before training for faster steps, and other rounding", False)
    threads: int | Literal["auto"] = key(
        "CPU threads; auto: 1 for small steps, else the cores", "auto", low=1, high=MAX_THREADS, example="2"
    )
    seed: int = key("seed of initialization, data order and augmentation, each with a generator of its own", 0, low=0, high=2**31 - 1)

    def __post_init__(self) -> None:
        if self.train.epochs is not None and self.train.steps is not None:
            raise UsageError("train.epochs and train.steps are both set; the budget is one of them, so set the other to null.")
        if self.train.epochs is None and self.train.steps is None:  # one spelling of the default, so that it has one hash
            object.__setattr__(self, "train", dataclasses.replace(self.train, epochs=10))
        if self.name is not None and not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,79}", self.name):
            rule = "1 to 80 letters, digits, dots, underscores and hyphens, and does not begin with a dot or a hyphen"
            raise UsageError(f"name='{show(self.name)}' is not usable: a name has {rule}.")
        for name, value in leaves(self):
            check_range(name, value, KEYS[name])
        if not self.model.widths:
            raise UsageError("model.widths=[] is empty; give at least one width, for example model.widths=[16,32,64].")
        if len(self.model.widths) > MAX_WIDTHS:
            raise UsageError(f"model.widths has {len(self.model.widths):,} entries; {MAX_WIDTHS} are the most.")
        if self.model.activation not in (own := MODELS[self.model.name].activations):
            others = one_of(name for name, model in MODELS.items() if self.model.activation in model.activations)
            raise UsageError(f"model.activation={self.model.activation} needs model={others}; {self.model.name} is always {one_of(own)}.")
        if self.compile and not NORMS[self.model.norm].steady:
            steady = one_of(name for name, norm in NORMS.items() if norm.steady)
            raise UsageError(f"compile=true needs model.norm={steady}: a step of {self.model.norm} differs from the one before.")
        if self.optim.nesterov and (self.optim.name != "sgd" or self.optim.momentum == 0):
            raise UsageError("optim.nesterov=true needs optim.name=sgd and optim.momentum above 0.")
        if self.data.root is not None:
            check_root(self.data.root)
        if self.data.name in OWN_FILES and self.data.root is None:
            what = "the folder of your images" if self.data.name == "folder" else "your .npz file"
            raise UsageError(f"data={self.data.name} needs data.root: the path of {what}.")
        spec = DATASETS[self.data.name]
        if spec.shape:
            check_subset(self.data, spec.train)
            images = self.data.subset or spec.train
            check_fits(self, spec.shape, images - val_size(images, self.data.val_fraction), spec.classes)

    @property
    def run_name(self) -> str:
        """`name`, or the default: `batch-bs32-lr0.1-s0`, led by the data set and the network where they are not the default."""
        if self.name is not None:
            return self.name
        parts = [self.data.name] * (self.data.name != "digits") + [self.model.name] * (self.model.name != "blocknet")
        parts += [self.model.norm, f"bs{self.train.batch_size}", f"lr{self.optim.lr:g}".replace("+", ""), f"s{self.seed}"]
        return "-".join(parts)

    def recipe(self, fingerprint: str | None = None) -> dict[str, Value]:
        """What can change results or what is recorded: every value that is not the default and has an effect, by dotted key.
        `fingerprint` is the content of the user's own data (folder, npz); None for the named sets."""
        default = _defaults()
        recipe = {
            name: value
            for name, value in leaves(self)
            if name not in NOT_HASHED and value != default[name] and (name not in USED_WHEN or USED_WHEN[name](self))
        }
        if fingerprint is not None:
            recipe["data.fingerprint"] = fingerprint
        return recipe

    def run_id(self, fingerprint: str | None = None) -> str:
        """`<name>-<8 hex>`; the digits hash the recipe and the results version."""
        text = json.dumps({"results": RESULTS_VERSION, **self.recipe(fingerprint)}, sort_keys=True)
        return f"{self.run_name}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"

    def replace(self, **changes: Any) -> Config:
        """A copy with dotted keys changed: `config.replace(**{"optim.lr": 0.3, "seed": 1})`. Checked like any config."""
        tree = dataclasses.asdict(self)
        for name, value in changes.items():
            *path, last = name.split(".")
            functools.reduce(operator.getitem, path, tree)[last] = value
        return from_mapping(tree)


KEYS: Mapping[str, Key] = keys_of(Config)
"""Every key that an override may name."""

NOT_HASHED = frozenset(("name", "device", "threads", "data.root", "data.follow_links", "train.checkpoint_every"))
"""Keys that change no result; the content of the user's own data is part of the recipe, and not its path."""


def _norm_reads(name: str, config: Config) -> bool:
    return name in NORMS[config.model.norm].keys


USED_WHEN: Mapping[str, Callable[[Config], bool]] = {
    "data.image_size": lambda config: config.data.name == "folder",
    **{f"model.{name}": functools.partial(_norm_reads, name) for name in sorted({name for norm in NORMS.values() for name in norm.keys})},
    "metrics.every": lambda config: not set(config.metrics.on).isdisjoint(PROBED),
    "metrics.log_spaced": lambda config: not set(config.metrics.on).isdisjoint(SAMPLED),
    "metrics.probe": lambda config: not set(config.metrics.on) <= {"ics", "landscape", "test_curve"},
    "optim.beta2": lambda config: config.optim.name in ("adam", "adamw"),
    "optim.eps": lambda config: config.optim.name in ("adam", "adamw"),
    "optim.step_size": lambda config: config.optim.schedule == "step",
    "optim.gamma": lambda config: config.optim.schedule == "step",
}
"""Keys that are read beside certain others only. Where they are not, they are no part of the recipe: the run would be the same."""


@functools.cache
def _defaults() -> Mapping[str, Value]:
    return dict(leaves(Config()))


def check_key(name: str) -> None:
    """Raises UsageError, with the nearest key, where `name` is no key."""
    check_name(name, KEYS)


def from_mapping(tree: Mapping[str, Any]) -> Config:
    """The config of a nested mapping and the defaults. Raises UsageError for an unknown key, a value of the wrong type, or out of range."""
    config: Config = build(Config, tree, KEYS)
    return config


def to_mapping(config: Config) -> JsonObject:
    """The nested mapping of plain values that YAML and JSON take; `from_mapping` reads it back."""
    tree: JsonObject = json.loads(json.dumps(dataclasses.asdict(config)))
    return tree
