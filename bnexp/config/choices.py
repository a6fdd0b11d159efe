"""What keys choose between: data sets and models, with what is known of each before it is read or built, and shorter lists.

Norms are in `bnexp.norms`, metrics are the switches of `MetricsConfig`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bnexp.base.errors import short

PLACEMENTS = ("conv-norm-relu", "norm-conv-relu", "conv-relu-norm")
ACTIVATIONS = ("relu", "sigmoid")
OPTIMIZERS = ("sgd", "adam", "adamw")
SCHEDULES = ("constant", "cosine", "step")
AUGMENTATIONS = ("none", "crop", "crop_flip")
DEVICES = ("auto", "cpu", "cuda")
PRECISIONS = ("fp32", "bf16")


@dataclass(frozen=True)
class DataSpec:
    """A data set. Where the user's own files say the shape, that and the numbers are empty."""

    summary: str
    module: str
    """The module of `bnexp.data` whose function `read` gives its arrays."""
    shape: tuple[int, ...] = ()
    """Of an example, [C, *map]."""
    classes: int = 0
    train: int = 0
    """Training images, validation included."""
    test: int = 0
    embedded: bool = False
    """Whether it needs neither files nor a network, and does not read data.root."""
    images: bool = True
    """Two-dimensional: its examples are called images."""
    characters: bool = False
    """Digits or letters, which are others, or none, when they are mirrored."""


DATASETS: Mapping[str, DataSpec] = {
    "digits": DataSpec(
        "scikit-learn's handwritten digits; needs no network", "embedded", (1, 8, 8), 10, 1437, 360, embedded=True, characters=True
    ),
    "mnist": DataSpec("handwritten digits", "vision", (1, 28, 28), 10, 60_000, 10_000, characters=True),
    "fashion_mnist": DataSpec("pictures of clothes", "vision", (1, 28, 28), 10, 60_000, 10_000),
    "kmnist": DataSpec("cursive Japanese characters", "vision", (1, 28, 28), 10, 60_000, 10_000, characters=True),
    "cifar10": DataSpec("photographs, 10 classes", "vision", (3, 32, 32), 10, 50_000, 10_000),
    "cifar100": DataSpec("photographs, 100 classes", "vision", (3, 32, 32), 100, 50_000, 10_000),
    "svhn": DataSpec("house numbers", "vision", (3, 32, 32), 10, 73_257, 26_032, characters=True),
    "folder": DataSpec(
        "images of your own, 3 x `data.image_size` squared: `data.root` has a folder a class, or `train/`, `val/`, `test/` with them",
        "folder",
    ),
    "npz": DataSpec(
        "arrays `x`, `y` (or `x_train`, `y_train`, `x_val`, ..., or MedMNIST's `train_images`, ...) of your own in the file `data.root`; "
        "x is [N, C, ...]",
        "npz",
        images=False,
    ),
    "waveforms": DataSpec("generated 1d signals, 6 classes", "embedded", (1, 64), 6, 2_000, 500, embedded=True, images=False),
    "volumes": DataSpec("generated 3d shapes, 6 classes", "embedded", (1, 8, 8, 8), 6, 2_000, 500, embedded=True, images=False),
}
OWN_FILES = tuple(name for name, spec in DATASETS.items() if not spec.shape)
"""The data sets that are a user's own files."""
EMBEDDED = tuple(name for name, spec in DATASETS.items() if spec.embedded)
READERS = {"data.root": tuple(name for name in DATASETS if name not in EMBEDDED), "data.follow_links": ("folder",)}
"""The data sets that read these keys. They are ignored beside others, as a config that serves several sets may have them."""


NAMED_CLASSES = 10


def contents(name: str, classes: Sequence[str], train: int, val: int, test: int) -> str:
    """What the data set `name` holds: `2 classes: cat, dog; 64 training, 16 validation, 20 test images`."""
    labels = ", ".join(short(label, 40) for label in classes[:NAMED_CLASSES])
    more = f" and {len(classes) - NAMED_CLASSES:,} more" if len(classes) > NAMED_CLASSES else ""
    kind = "examples" if name in DATASETS and not DATASETS[name].images else "images"
    return f"{len(classes):,} classes: {labels}{more}; {train:,} training, {val:,} validation, {test:,} test {kind}"


@dataclass(frozen=True)
class ModelSpec:
    """A network; `bnexp.models.network` builds it."""

    summary: str
    convolutional: bool
    """Of two-conv blocks over maps of one to three dimensions, the second and later ones at half the size; else fully connected."""
    activations: tuple[str, ...] = ACTIVATIONS


MODELS: Mapping[str, ModelSpec] = {
    "blocknet": ModelSpec("two-conv blocks, global average pooling, a linear head", convolutional=True, activations=("relu",)),
    "mlp": ModelSpec("fully connected layers", convolutional=False),
}
