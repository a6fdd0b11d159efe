"""The configuration: one tree of frozen dataclasses, each field with its type, range and meaning.

YAML files and overrides hold only differences; the defaults live here. Everything in this module is plain Python, so that a config
is checked without importing torch. Composition by Hydra is in `compose.py`; what leaves it is a `Config`.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import re
import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any, Literal, Union

from bnexp.errors import UsageError, did_you_mean, one_of

RESULTS_VERSION = 1
"""Part of every run's id. Bump it when a change of code alters numbers (the golden-loss test says when)."""

NORMS = ("batch", "none")
PLACEMENTS = ("conv-norm-relu", "norm-conv-relu", "conv-relu-norm")
MODELS = ("blocknet", "mlp")
ACTIVATIONS = ("relu", "sigmoid")
OPTIMIZERS = ("sgd", "adam", "adamw")
SCHEDULES = ("constant", "cosine", "step")
AUGMENTATIONS = ("none", "crop_flip")
DEVICES = ("auto", "cpu", "cuda")
PRECISIONS = ("fp32", "bf16")

NAME_PATTERN = re.compile(r"[A-Za-z0-9._-]{1,80}")


@dataclass(frozen=True)
class DataSpec:
    """What is known of a data set before it is read: shape [C, *map], number of classes, training images (validation included)."""

    shape: tuple[int, ...]
    classes: int
    train: int


DATASETS: Mapping[str, DataSpec | None] = {
    "digits": DataSpec((1, 8, 8), 10, 1437),
    "mnist": DataSpec((1, 28, 28), 10, 60_000),
    "fashion_mnist": DataSpec((1, 28, 28), 10, 60_000),
    "kmnist": DataSpec((1, 28, 28), 10, 60_000),
    "cifar10": DataSpec((3, 32, 32), 10, 50_000),
    "cifar100": DataSpec((3, 32, 32), 100, 50_000),
    "svhn": DataSpec((3, 32, 32), 10, 73_257),
    "folder": None,
    "npz": None,
    "waveforms": DataSpec((1, 64), 6, 2_000),
    "volumes": DataSpec((1, 8, 8, 8), 6, 2_000),
}
"""Every data set by name; None where the user's own files say the shape."""


def _key(
    doc: str, default: Any, *, choices: tuple[str, ...] = (), low: float = -math.inf, high: float = math.inf, above: bool = False
) -> Any:
    """A config key. `low` and `high` are inclusive; with `above`, `low` itself is excluded. They bind each item of a list."""
    return field(default=default, metadata={"doc": doc, "choices": choices, "low": low, "high": high, "above": above})


@dataclass(frozen=True)
class DataConfig:
    """The data: which set, from where, and how it is split."""

    name: str = _key("data set; chosen with data=NAME", "digits", choices=tuple(DATASETS))
    root: str | None = _key("folder (npz: file) that holds the data; null: a folder under the user's cache directory", None)
    val_fraction: float = _key("share of the training images held out for validation, stratified", 0.1, low=0.01, high=0.5)
    split_seed: int = _key("seed of the splits and of subset; never the run's seed", 0, low=0, high=2**31 - 1)
    subset: int | None = _key("use only so many training images (validation included), stratified; null: all", None, low=2)
    augment: str = _key("augmentation of training batches: crop_flip pads by 1/8, crops and mirrors", "none", choices=AUGMENTATIONS)
    image_size: int = _key("data=folder: images are brought to this many pixels a side", 32, low=4, high=1024)


@dataclass(frozen=True)
class ModelConfig:
    """The network: two-conv blocks (blocknet) or fully connected layers (mlp), and their normalization."""

    name: str = _key("network; chosen with model=NAME", "blocknet", choices=MODELS)
    widths: tuple[int, ...] = _key("channels of each two-conv block; mlp: units of each hidden layer", (16, 32, 64), low=1, high=4096)
    norm: str = _key("normalization layer", "batch", choices=NORMS)
    placement: str = _key("order of convolution (mlp: linear layer), norm and ReLU", "conv-norm-relu", choices=PLACEMENTS)
    activation: str = _key("nonlinearity of the mlp; blocknet is always relu", "relu", choices=ACTIVATIONS)
    bn_momentum: float = _key("weight of the newest batch in the running statistics", 0.1, low=0, high=1)
    bn_eps: float = _key("added to the variance before the square root", 1e-5, low=0, above=True, high=1)
    bn_affine: bool = _key("learn gamma and beta", True)


@dataclass(frozen=True)
class OptimConfig:
    """The optimizer and its learning-rate schedule."""

    name: str = _key("optimizer", "sgd", choices=OPTIMIZERS)
    lr: float = _key("learning rate", 0.1, low=0, above=True, high=1e30)
    momentum: float = _key("momentum (sgd) or beta1 (adam, adamw)", 0.9, low=0, high=0.999999)
    nesterov: bool = _key("Nesterov momentum (sgd)", False)
    beta2: float = _key("decay of the squared gradient's average (adam, adamw)", 0.999, low=0, high=0.999999)
    eps: float = _key("added to the root of the squared gradient's average (adam, adamw)", 1e-8, low=0, above=True, high=1)
    weight_decay: float = _key("weight decay; never on norm parameters and biases", 0.0, low=0, high=1e3)
    schedule: str = _key("learning-rate schedule, over the budget after warm-up", "cosine", choices=SCHEDULES)
    warmup_steps: int = _key("steps of linear warm-up before the schedule", 0, low=0, high=10**9)
    step_size: int | None = _key("schedule=step: steps between drops; null: a third of the budget", None, low=1, high=10**9)
    gamma: float = _key("schedule=step: factor of each drop", 0.1, low=0, above=True, high=1)


@dataclass(frozen=True)
class TrainConfig:
    """The budget, the target and when to look."""

    batch_size: int = _key("images a step; a last partial batch is dropped", 32, low=1, high=10**6)
    epochs: int | None = _key("budget in epochs; null with steps=null: 10", None, low=1, high=10**6)
    steps: int | None = _key("budget in steps; excludes epochs", None, low=1, high=10**9)
    target: float = _key("validation accuracy that 'steps to target' refers to", 0.95, low=0, above=True, high=1)
    eval_every: int | Literal["auto"] = _key("steps between evaluations; auto: dense early on, then every epoch", "auto", low=1, high=10**9)
    checkpoint_every: int | Literal["auto"] = _key("steps between checkpoints; auto: about every 20 s", "auto", low=1, high=10**9)


@dataclass(frozen=True)
class Config:
    """One run: everything that decides its numbers, and where and how it is computed.

    Raises:
        UsageError: a value is out of range, or two values do not go together. The message names the key, the value and the choices.
    """

    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    optim: OptimConfig = OptimConfig()
    train: TrainConfig = TrainConfig()
    name: str | None = _key("name of the run; null: made from norm, batch size, lr and seed", None)
    device: str = _key("where to compute; auto: cuda where there is a GPU, else cpu", "auto", choices=DEVICES)
    precision: str = _key("arithmetic; bf16: autocast, with BN statistics and the loss in fp32", "fp32", choices=PRECISIONS)
    threads: int | Literal["auto"] = _key("CPU threads; auto: 1 for small steps, else the cores", "auto", low=1, high=1024)
    seed: int = _key("seed of initialization, data order and augmentation, each with a generator of its own", 0, low=0, high=2**31 - 1)

    def __post_init__(self) -> None:
        if self.train.epochs is not None and self.train.steps is not None:
            raise UsageError("train.epochs and train.steps are both set; the budget is one of them, so set the other to null.")
        if self.train.epochs is None and self.train.steps is None:  # one spelling of the default, so that it has one hash
            object.__setattr__(self, "train", dataclasses.replace(self.train, epochs=10))
        if self.name is not None and not NAME_PATTERN.fullmatch(self.name):
            raise UsageError(f"name={self.name!r} is not usable: a name has 1 to 80 letters, digits, dots, underscores and hyphens.")
        if self.name is not None and self.name.startswith("."):
            raise UsageError(f"name={self.name!r} is not usable: a name does not begin with a dot.")
        for key, value in leaves(self):
            _check_range(key, value, _field_of(key))
        if not self.model.widths:
            raise UsageError("model.widths=[] is empty; give at least one width, for example model.widths=[16,32,64].")
        if self.model.name == "blocknet" and self.model.activation != "relu":
            raise UsageError(f"model.activation={self.model.activation} needs model=mlp; blocknet is always relu.")
        if self.optim.nesterov and (self.optim.name != "sgd" or self.optim.momentum == 0):
            raise UsageError("optim.nesterov=true needs optim.name=sgd and optim.momentum above 0.")
        if self.data.name in ("folder", "npz") and self.data.root is None:
            what = "the folder of your images" if self.data.name == "folder" else "your .npz file"
            raise UsageError(f"data={self.data.name} needs data.root: the path of {what}.")
        spec = DATASETS[self.data.name]
        if spec is not None:
            subset = self.data.subset
            if subset is not None and subset > spec.train:
                raise UsageError(f"data.subset={subset} is more than the {spec.train} training images of {self.data.name}.")
            check_fits(self, spec.shape, subset or spec.train, spec.classes)

    @property
    def run_name(self) -> str:
        """`name`, or the default: `batch-bs32-lr0.1-s0`, led by the data set and the network where they are not the default."""
        if self.name is not None:
            return self.name
        parts = [self.data.name] * (self.data.name != "digits") + [self.model.name] * (self.model.name != "blocknet")
        parts += [self.model.norm, f"bs{self.train.batch_size}", f"lr{self.optim.lr:g}".replace("+", ""), f"s{self.seed}"]
        return "-".join(parts)

    def recipe(self, fingerprint: str | None = None) -> dict[str, Any]:
        """What can change results or what is recorded: every value that is not the default, by dotted key.

        `fingerprint` is the content of the user's own data (folder, npz); None for the named sets.
        """
        default = dict(leaves(Config()))
        apart = {"name", "device", "threads", "data.root", "train.checkpoint_every"}
        recipe = {key: value for key, value in leaves(self) if key not in apart and value != default[key]}
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
        for key, value in changes.items():
            *path, last = key.split(".")
            node = tree
            for part in path:
                node = node[part]
            node[last] = value
        return from_mapping(tree)


def map_sizes(spatial: tuple[int, ...], blocks: int) -> list[tuple[int, ...]]:
    """The map after each of the network's blocks: the first keeps its size, each later one halves it (rounding up)."""
    sizes = [spatial]
    for _ in range(blocks - 1):
        sizes.append(tuple(-(-side // 2) for side in sizes[-1]))
    return sizes


def val_size(train: int, val_fraction: float) -> int:
    """How many of `train` images are held out for validation."""
    return max(1, round(train * val_fraction))


def check_fits(config: Config, shape: tuple[int, ...], train: int, classes: int) -> None:
    """Checks that need the data's shape [C, *map] and its number of training images, validation included.

    Raises:
        UsageError: the network does not take such data, the batch is larger than the training set, or BN would see one value a channel.
    """
    spatial, batch = shape[1:], config.train.batch_size
    left = train - val_size(train, config.data.val_fraction)
    if config.model.name == "blocknet" and not 1 <= len(spatial) <= 3:
        raise UsageError(f"model=blocknet takes maps of 1, 2 or 3 dimensions, and an example here has shape {list(shape)}; use model=mlp.")
    if classes < 2:
        raise UsageError(f"The data have {classes} class; at least 2 are needed.")
    if batch > left:
        raise UsageError(f"train.batch_size={batch} is larger than the {left} training images (after validation); use at most {left}.")
    if config.model.norm == "batch" and batch == 1:
        last = () if config.model.name == "mlp" else map_sizes(spatial, len(config.model.widths))[-1]
        if math.prod(last) == 1:
            where = "fully connected layers" if config.model.name == "mlp" else f"maps of {'x'.join(map(str, last))}"
            raise UsageError(
                f"train.batch_size=1 gives batch norm one value a channel on {where}, which has no variance; "
                "use train.batch_size of 2 or more, fewer model.widths, or model.norm=none."
            )
    if config.data.augment == "crop_flip" and len(spatial) != 2:
        raise UsageError(f"data.augment=crop_flip is for images, and an example here has shape {list(shape)}; use data.augment=none.")


def leaves(config: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every value of a config tree with its dotted key, in the order of the fields."""
    for item in dataclasses.fields(config):
        value = getattr(config, item.name)
        if dataclasses.is_dataclass(value):
            yield from leaves(value, f"{prefix}{item.name}.")
        else:
            yield prefix + item.name, value


def keys() -> list[str]:
    """Every key that an override may name."""
    return [key for key, _ in leaves(Config())]


def groups() -> list[str]:
    """The keys that are groups of keys: data, model, optim, train."""
    return [item.name for item in dataclasses.fields(Config) if dataclasses.is_dataclass(item.default)]


def key_doc(key: str) -> dict[str, Any]:
    """A key's `doc`, `choices`, `low`, `high`, `above`."""
    return dict(_field_of(key).metadata)


def from_mapping(tree: Mapping[str, Any]) -> Config:
    """The config that a nested mapping describes; missing keys take their defaults.

    Raises:
        UsageError: an unknown key, a value of the wrong type, or one out of range.
    """
    return typing.cast(Config, _build(Config, tree, ""))


def to_mapping(config: Config) -> dict[str, Any]:
    """The nested mapping of plain values that YAML and JSON take; `from_mapping` reads it back."""
    return typing.cast(dict[str, Any], json.loads(json.dumps(dataclasses.asdict(config))))


def check_key(key: str) -> None:
    """Raises UsageError with the nearest key when `key` is none of ours."""
    if key not in keys():
        if key in groups():
            raise UsageError(f"'{key}' is a group of keys; set one of them, for example {next(k for k in keys() if k.startswith(key))}=...")
        hint = did_you_mean(key, keys())
        if not hint:  # the last part alone: lr for optim.lr
            short = {full.rpartition(".")[2]: full for full in keys()}
            near = get_close_matches(key.rpartition(".")[2], short, n=1)
            hint = f" Did you mean '{short[near[0]]}'?" if near else ""
        raise UsageError(f"There is no config key '{key}'.{hint} `bnexp config` prints them all.")


def _field_of(key: str) -> dataclasses.Field[Any]:
    cls: Any = Config
    *path, last = key.split(".")
    for part in path:
        cls = _types(cls)[part]
    return next(item for item in dataclasses.fields(cls) if item.name == last)


def _types(cls: Any) -> dict[str, Any]:
    return typing.get_type_hints(cls)


def _build(cls: Any, tree: Any, prefix: str) -> Any:
    if not isinstance(tree, Mapping):
        raise UsageError(f"{prefix.rstrip('.') or 'The config'} should be a group of keys, and is {tree!r}.")
    hints, values = _types(cls), {}
    for name, value in tree.items():
        key = f"{prefix}{name}"
        if name not in hints:
            check_key(key)
        hint = hints[name]
        values[name] = _build(hint, value, f"{key}.") if dataclasses.is_dataclass(hint) else _convert(key, value, hint)
    return cls(**values)


def _convert(key: str, value: Any, hint: Any) -> Any:
    """`value` as the field's type, or a UsageError that names the types it takes. An int passes for a float, a bool for neither."""
    options = typing.get_args(hint) if typing.get_origin(hint) in (Union, types.UnionType) else (hint,)
    for option in options:
        if option is type(None) and value is None:
            return None
        if typing.get_origin(option) is Literal and value in typing.get_args(option):
            return value
        if option is float and isinstance(value, (int, float)) and not isinstance(value, bool):
            return value if abs(value) > 1e300 else float(value)  # a whole number beyond floats: its range refuses it
        if option is int and isinstance(value, int) and not isinstance(value, bool):
            return value
        if option in (str, bool) and isinstance(value, option):
            return value
        if typing.get_origin(option) is tuple and isinstance(value, (list, tuple)):
            return tuple(_convert(key, item, typing.get_args(option)[0]) for item in value)
        if option is str and key == "name" and isinstance(value, (int, float)) and not isinstance(value, bool):
            return str(value)  # name=1 reads as a number
    choices = _field_of(key).metadata["choices"]
    wanted = f"one of {one_of(choices)}" if choices else one_of([_type_name(option) for option in options])
    raise UsageError(f"{key}={_show(value)} is not {wanted}.")


def _type_name(option: Any) -> str:
    if typing.get_origin(option) is Literal:
        return one_of([str(arg) for arg in typing.get_args(option)])
    if typing.get_origin(option) is tuple:
        return "a list of whole numbers, for example [16,32,64]"
    return {int: "a whole number", float: "a number", bool: "true or false", str: "text", type(None): "null"}[option]


def _check_range(key: str, value: Any, item: dataclasses.Field[Any]) -> None:
    meta = item.metadata
    if meta["choices"] and value not in meta["choices"]:
        raise UsageError(f"{key}={_show(value)} is not one of {one_of(meta['choices'])}.{did_you_mean(str(value), meta['choices'])}")
    for number in value if isinstance(value, tuple) else (value,):
        if not isinstance(number, (int, float)) or isinstance(number, bool):
            continue
        low, high = meta["low"], meta["high"]
        if not low <= number <= high or abs(number) == math.inf or (meta["above"] and number == low):  # NaN is in no range
            bound = f"{'above' if meta['above'] else 'at least'} {low:g} and at most {high:g}" if high < math.inf else f"at least {low:g}"
            raise UsageError(f"{key}={_show(value)} is out of range: it must be {bound}.")


def _show(value: Any) -> str:
    text = {True: "true", False: "false", None: "null"}.get(value) if isinstance(value, (bool, type(None))) else None
    text = text or ("[" + ",".join(map(str, value)) + "]" if isinstance(value, (list, tuple)) else str(value))
    return text if len(text) <= 60 else text[:57] + "..."
