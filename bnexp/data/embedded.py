"""The sets that need neither files nor a network: the digits that scikit-learn brings, and generated ones in one and three dimensions.

The generated sets are seeded by a constant. A random phase (or position) and a random polarity make every class's mean zero everywhere, so
that a linear model has next to nothing to go by; a convolutional network that finds shapes and averages over places has all it needs. The
noise keeps it below 100 %.
"""

from __future__ import annotations

import gzip
import importlib.util
import math
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from bnexp.base.errors import DataError, reason
from bnexp.data.arrays import Array, Arrays, Source

N_TEST_DIGITS = 360
N_TRAIN, N_TEST = 2_000, 500
SEED = 20_150_211
"""One for all: the same data on every machine and in every run. (The day batch normalization was published.)"""

WAVES: Mapping[str, Callable[[Array], Array]] = {
    "sine": lambda turn: math.sqrt(2) * np.sin(2 * np.pi * turn),
    "triangle": lambda turn: math.sqrt(3) * (4 * np.abs(turn - 0.5) - 1),
    "square": lambda turn: np.where(turn < 0.5, 1.0, -1.0),
    "sawtooth": lambda turn: math.sqrt(3) * (2 * turn - 1),
    "pulse": lambda turn: np.where(turn < 0.2, 2.0, -0.5),
    "octave": lambda turn: np.sin(2 * np.pi * turn) + np.sin(4 * np.pi * turn),
}
"""By class, with mean 0 and unit variance over one period, 0 to 1."""
WAVE_LENGTH, WAVE_NOISE = 64, 0.25
SOLIDS = ("rod along depth", "rod along height", "rod along width", "plate across depth", "plate across height", "plate across width")
VOLUME_SIDE, VOLUME_NOISE = 8, 0.3


def read(source: Source) -> Arrays:
    return {"digits": digits, "waveforms": waveforms, "volumes": volumes}[source.config.name]()


def digits() -> Arrays:
    """x_[1797, 1, 8, 8] uint8 from 0 to 16; 360 are split off for the test. Read without importing scikit-learn (21 ms instead of seconds).
    Raises DataError where scikit-learn is not installed, or its file cannot be read.

    Source: E. Alpaydin, C. Kaynak, Optical Recognition of Handwritten Digits, UCI (1998); https://doi.org/10.24432/C50P49, its test
    part."""
    spec = importlib.util.find_spec("sklearn")
    if spec is None or spec.origin is None:
        raise DataError("data=digits is a file of scikit-learn, which is not installed here; run `pip install scikit-learn`.")
    path = Path(spec.origin).parent / "datasets" / "data" / "digits.csv.gz"
    try:
        with gzip.open(path, "rt") as file:
            table = np.loadtxt(file, delimiter=",", dtype=np.uint8)
    except (OSError, EOFError, ValueError) as error:
        raise DataError(f"The digits cannot be read from {path} ({reason(error)}); reinstall scikit-learn.") from error
    return Arrays((table[:, :-1].reshape(-1, 1, 8, 8), table[:, -1].astype(np.int64)), tuple("0123456789"), n_test=N_TEST_DIGITS)


def waveforms() -> Arrays:
    """x_[N, 1, 64] float32: periodic waves of six shapes, of random frequency, phase, strength and polarity, in white noise."""
    rng = np.random.default_rng([SEED, 1])
    label_N = _labels(rng)
    count = len(label_N)
    cycles = rng.uniform(3, 6, (count, 1))
    phase = rng.uniform(0, 1, (count, 1))
    turn_NT = (cycles * np.arange(WAVE_LENGTH) / WAVE_LENGTH + phase) % 1.0
    shapes = np.stack([wave(turn_NT) for wave in WAVES.values()])
    strength = rng.uniform(0.7, 1.3, (count, 1)) * rng.choice([-1.0, 1.0], (count, 1))
    x_NT = strength * shapes[label_N, np.arange(count)] + WAVE_NOISE * rng.standard_normal((count, WAVE_LENGTH))
    return _arrays(x_NT[:, None], label_N, tuple(WAVES))


def volumes() -> Arrays:
    """x_[N, 1, 8, 8, 8] float32: a rod (5x1x1) or a plate (4x4x1), along or across one of three axes, anywhere (the sides wrap around), of
    random strength and polarity, in white noise. Rod and plate have about the same energy, so that brightness does not tell them apart."""
    rng = np.random.default_rng([SEED, 3])
    label_N = _labels(rng)
    x = VOLUME_NOISE * rng.standard_normal((len(label_N), VOLUME_SIDE, VOLUME_SIDE, VOLUME_SIDE))
    place = rng.integers(0, VOLUME_SIDE, (len(label_N), 3))
    strength = rng.uniform(0.8, 1.2, len(label_N)) * rng.choice([-1.0, 1.0], len(label_N))
    for i, label in enumerate(label_N):
        axis, plate = label % 3, label >= 3
        size = [4, 4, 4] if plate else [1, 1, 1]
        size[axis] = 1 if plate else 5
        solid = np.zeros((VOLUME_SIDE,) * 3)
        solid[tuple(slice(0, s) for s in size)] = strength[i] * (1.0 if plate else 1.8)
        x[i] += np.roll(solid, place[i], axis=(0, 1, 2))
    return _arrays(x[:, None], label_N, SOLIDS)


def _labels(rng: np.random.Generator) -> Array:
    """Equal numbers of each class in training and in test, as far as they go, in random order."""
    return np.concatenate([rng.permutation(np.arange(count) % len(WAVES)) for count in (N_TRAIN, N_TEST)])


def _arrays(x: Array, y: Array, classes: tuple[str, ...]) -> Arrays:
    x, y = x.astype(np.float32), y.astype(np.int64)
    return Arrays((x[:N_TRAIN], y[:N_TRAIN]), classes, (x[N_TRAIN:], y[N_TRAIN:]))
