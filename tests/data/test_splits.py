"""bnexp.data.dataset.split_off: exact sizes, class shares, determinism; and bnexp.data.augment against a slow twin."""

import numpy as np
import pytest
import torch

from bnexp.config import val_size
from bnexp.data import crop_flip, draw_crop_flip
from bnexp.data.dataset import SUBSET, TEST, VAL, split_off

Y = {
    "even": np.arange(1000) % 10,
    "skewed": np.random.default_rng(0).choice(5, 777, p=[0.6, 0.3, 0.05, 0.04, 0.01]),
    "lonely": np.array([0] * 40 + [1] * 30 + [2]),
    "few": np.array([0, 0, 1, 1]),
}


@pytest.mark.parametrize("fraction", [0.01, 0.1, 0.25, 0.5])
@pytest.mark.parametrize("name", list(Y))
def test_exact_disjoint_and_proportional(name: str, fraction: float) -> None:
    y, count = Y[name], val_size(len(Y[name]), fraction)
    rest, held = split_off(y, count, 0, VAL)
    assert len(held) == count
    assert np.array_equal(np.sort(np.concatenate([rest, held])), np.arange(len(y)))
    for label in np.unique(y):
        quota = count * (y == label).sum() / len(y)
        assert abs((y[held] == label).sum() - quota) < 1 + 1e-9
        assert (y[rest] == label).any()


def test_a_class_of_one_stays_in_training_unless_nothing_else_is_left() -> None:
    for seed in range(20):
        rest, _ = split_off(Y["lonely"], 35, seed, VAL)
        assert 70 in rest
    rest, held = split_off(np.arange(4), 2, 0, VAL)  # only classes of one: the size is kept
    assert (len(rest), len(held)) == (2, 2)
    assert len(split_off(Y["few"], 4, 0, VAL)[1]) == 4
    with pytest.raises(ValueError, match="cannot hold out 5 of 4"):
        split_off(Y["few"], 5, 0, VAL)


def test_seeds_and_purposes_have_streams_of_their_own() -> None:
    draws = [tuple(split_off(Y["even"], 100, seed, purpose)[1]) for seed in (0, 1) for purpose in (TEST, SUBSET, VAL)]
    assert len(set(draws)) == 6
    assert draws[0] == tuple(split_off(Y["even"], 100, 0, TEST)[1])


def test_ties_are_broken_by_lot() -> None:
    """With 10 equal classes and 5 images to hold out, the first 5 classes would always give them if ties went by number."""
    first = [set(Y["even"][split_off(Y["even"], 5, seed, VAL)[1]]) for seed in range(20)]
    assert set().union(*first) == set(range(10))


def crop_flip_naive(x: np.ndarray, offsets: np.ndarray, flips: np.ndarray) -> np.ndarray:
    n, _, height, width = x.shape
    pad_h, pad_w = height // 8, width // 8
    out = np.zeros_like(x)
    for i in range(n):
        for row in range(height):
            for col in range(width):
                source_row, source_col = row + offsets[i, 0] - pad_h, col + offsets[i, 1] - pad_w
                if 0 <= source_row < height and 0 <= source_col < width:
                    out[i, :, row, width - 1 - col if flips[i] else col] = x[i, :, source_row, source_col]
    return out


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 17, 24), (2, 5, 9)])
def test_crop_flip_against_its_naive_twin(shape: tuple[int, int, int]) -> None:
    x = torch.randn(12, *shape, generator=torch.Generator().manual_seed(0))
    offsets, flips = draw_crop_flip(torch.Generator().manual_seed(1), 12, shape)
    assert flips.any()
    assert not flips.all()
    expected = crop_flip_naive(x.numpy(), offsets.numpy(), flips.numpy())
    np.testing.assert_array_equal(crop_flip(x, offsets, flips), expected)
    centre = torch.tensor([[shape[1] // 8, shape[2] // 8]] * 12)
    assert torch.equal(crop_flip(x, centre, torch.zeros(12, dtype=torch.bool)), x)


def test_draws_cover_their_range_evenly() -> None:
    offsets, flips = draw_crop_flip(torch.Generator().manual_seed(0), 5000, (3, 32, 16))
    assert offsets[:, 0].bincount().tolist() == pytest.approx([5000 / 9] * 9, rel=0.2)
    assert offsets[:, 1].bincount().tolist() == pytest.approx([5000 / 5] * 5, rel=0.2)
    assert float(flips.float().mean()) == pytest.approx(0.5, abs=0.03)
    again = draw_crop_flip(torch.Generator().manual_seed(0), 5000, (3, 32, 16))
    cropped, none = draw_crop_flip(torch.Generator().manual_seed(0), 5000, (3, 32, 16), flip=False)
    assert torch.equal(cropped, offsets)  # `crop` and `crop_flip` differ in the flips alone
    assert not none.any()
    assert torch.equal(again[0], offsets)
    assert torch.equal(again[1], flips)
