"""Generated sets in one and three dimensions: seeded by a constant, quick to make, and hard enough to mean something.

A random phase (or position) and a random polarity make every class's mean zero everywhere, so that a linear model has next to nothing to
go by; a convolutional network that looks at shapes and averages over places has all it needs. The noise keeps it below 100 %.
"""

from __future__ import annotations

import math

import numpy as np

from bnexp.data.arrays import Array, Arrays, Source

N_TRAIN, N_TEST = 2_000, 500
SEED = 20_150_211
"""One stream for all: the same data on every machine and in every run. (The day batch normalization was published.)"""

WAVES = ("sine", "triangle", "square", "sawtooth", "pulse", "octave")
WAVE_LENGTH, WAVE_NOISE = 64, 0.25
SOLIDS = ("rod along depth", "rod along height", "rod along width", "plate across depth", "plate across height", "plate across width")
VOLUME_SIDE, VOLUME_NOISE = 8, 0.3


def read(source: Source) -> Arrays:
    """The set that the config names."""
    return {"waveforms": waveforms, "volumes": volumes}[source.config.name]()


def waveforms() -> Arrays:
    """x_[N, 1, 64] float32: periodic waves of six shapes, of random frequency, phase, strength and polarity, in white noise."""
    rng = np.random.default_rng([SEED, 1])
    label_N = _labels(rng)
    count = len(label_N)
    cycles = rng.uniform(3, 6, (count, 1))
    phase = rng.uniform(0, 1, (count, 1))
    turn_NT = (cycles * np.arange(WAVE_LENGTH) / WAVE_LENGTH + phase) % 1.0
    shapes = np.stack([_wave(name, turn_NT) for name in WAVES])
    strength = rng.uniform(0.7, 1.3, (count, 1)) * rng.choice([-1.0, 1.0], (count, 1))
    x_NT = strength * shapes[label_N, np.arange(count)] + WAVE_NOISE * rng.standard_normal((count, WAVE_LENGTH))
    return _arrays(x_NT[:, None], label_N, WAVES)


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


def _wave(name: str, turn: Array) -> Array:
    """The wave at `turn` (0 to 1 is one period), with mean 0 and unit variance."""
    waves: dict[str, Array] = {
        "sine": math.sqrt(2) * np.sin(2 * np.pi * turn),
        "triangle": math.sqrt(3) * (4 * np.abs(turn - 0.5) - 1),
        "square": np.where(turn < 0.5, 1.0, -1.0),
        "sawtooth": math.sqrt(3) * (2 * turn - 1),
        "pulse": np.where(turn < 0.2, 2.0, -0.5),
        "octave": np.sin(2 * np.pi * turn) + np.sin(4 * np.pi * turn),
    }
    return waves[name]


def _arrays(x: Array, y: Array, classes: tuple[str, ...]) -> Arrays:
    x = x.astype(np.float32)
    y = y.astype(np.int64)
    return Arrays(x[:N_TRAIN], y[:N_TRAIN], classes, x[N_TRAIN:], y[N_TRAIN:])
