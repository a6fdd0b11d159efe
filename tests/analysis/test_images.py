"""The test images' sampling error: the interval over seeds and images crossed, against a crossed bootstrap and by its coverage."""

from __future__ import annotations

import base64
import math
from typing import Any

import numpy as np
import pytest
from support import make_result, with_values

from bnexp.analysis import Paired, crossed, paired
from bnexp.analysis.images import correct_bits
from bnexp.storage.result import RunResult

Bits = np.ndarray[Any, np.dtype[np.bool_]]


def runs_of(right_SI: Bits) -> dict[int, RunResult]:
    """A run a seed, with which images it had right."""
    return {
        seed: make_result(
            seed=seed, acc=float(right.mean()), data__test=len(right), test__correct=base64.b64encode(np.packbits(right).tobytes()).decode()
        )
        for seed, right in enumerate(right_SI)
    }


def both(a: Bits, b: Bits, **options: Any) -> tuple[Paired, Paired | None]:
    """The interval over seeds alone, and that over seeds and images."""
    sides = [dict(enumerate(map(float, side.mean(1)))) for side in (a, b)]
    found = paired(*sides, resolution=1 / a.shape[1], primary=True, **options)
    return found, crossed(found, runs_of(a), runs_of(b), **options)


def simulated(rng: np.random.Generator, seeds: int, images: int, gain: float = 0.02) -> tuple[Bits, Bits]:
    """Arm a has `gain` more of an image right in the mean; how much more differs by seed and by image. Mostly the arms agree."""
    u_SI = rng.random((seeds, images))
    return u_SI < 0.6 + gain + rng.normal(0, 0.02, (seeds, 1)) + rng.normal(0, 0.15, (1, images)), u_SI < 0.6


def test_the_interval_is_that_of_a_crossed_bootstrap_of_many_seeds_and_images() -> None:
    a, b = simulated(np.random.default_rng(0), 80, 300)
    alone, over = both(a, b)
    rng, d_SI = np.random.default_rng(1), a.astype(float) - b
    means = [d_SI[rng.integers(0, 80, 80)][:, rng.integers(0, 300, 300)].mean() for _ in range(2000)]
    assert over is not None
    assert over.se is not None
    assert alone.se is not None
    assert over.se == pytest.approx(float(np.std(means)), rel=0.1)
    assert over.low == pytest.approx(float(np.quantile(means, 0.025)), abs=0.2 * over.se)
    assert over.high == pytest.approx(float(np.quantile(means, 0.975)), abs=0.2 * over.se)
    assert over.difference == alone.difference == pytest.approx(d_SI.mean())
    assert alone.se < over.se / 1.5
    assert (over.n_images, alone.n_images, over.primary) == (300, None, True)


@pytest.mark.parametrize("seeds", [5, 10])
def test_the_interval_covers_what_other_seeds_and_images_would_give(seeds: int) -> None:
    rng, repetitions = np.random.default_rng(seeds), 400
    alone, over = 0, 0
    for _ in range(repetitions):
        for index, found in enumerate(both(*simulated(rng, seeds, 100))):
            assert found is not None
            assert found.low is not None
            assert found.high is not None
            hit = found.low <= 0.02 <= found.high
            alone, over = alone + hit * (index == 0), over + hit * (index == 1)
    assert over / repetitions > 0.95 - 3 * math.sqrt(0.95 * 0.05 / repetitions)
    assert alone / repetitions < 0.9  # over seeds alone it speaks of these images only


def test_images_that_all_tell_the_same_add_nothing() -> None:
    """Runs whose difference does not depend on the image: the variance of the images is estimated as 0, never below."""
    rng = np.random.default_rng(0)
    for _ in range(20):
        a, b = rng.random((6, 64)) < 0.9, rng.random((6, 64)) < 0.9
        alone, over = both(a, b)
        assert over is not None
        assert over.se is not None
        assert alone.se is not None
        assert over.se >= alone.se - 1e-12


def test_several_arms_have_simultaneous_intervals_over_images_too() -> None:
    a, b = simulated(np.random.default_rng(0), 10, 100)
    (_, one), (_, three) = both(a, b), both(a, b, tests=3)
    assert one is not None
    assert three is not None
    assert one.p is not None
    assert three.p == pytest.approx(min(1, 3 * one.p))
    assert three.low is not None
    assert one.low is not None
    assert three.low < one.low


@pytest.mark.parametrize("images", [8, 13, 360])
def test_the_last_bits_of_the_last_byte_are_no_images(images: int) -> None:
    a, b = np.ones((5, images), bool), np.zeros((5, images), bool)
    b[:, 0] = True
    alone, over = both(a, b)
    assert over is not None
    assert over.difference == pytest.approx(1 - 1 / images)
    assert over.n_images == images
    assert alone.difference == over.difference


def test_without_recorded_images_there_is_no_such_interval() -> None:
    a, b = simulated(np.random.default_rng(0), 5, 100)
    found, _ = both(a, b)
    whole, other = runs_of(a), runs_of(b)

    def changed(**values: Any) -> dict[int, RunResult]:
        return {**whole, 3: with_values(whole[3], **values)}

    assert crossed(found, whole, other) is not None
    for value in (None, "no base64 !", base64.b64encode(b"short").decode()):
        assert crossed(found, changed(test__correct=value), other) is None
    assert crossed(found, changed(data__test=99), other) is None  # other images
    assert crossed(found, changed(data__test=None), other) is None
    assert crossed(paired({0: 0.5}, {0: 0.4}), whole, other) is None
    assert correct_bits(make_result()) is None
