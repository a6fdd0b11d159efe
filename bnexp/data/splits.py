"""Seeded stratified splits. The seed is data.split_seed, never the run's: all runs of an experiment see the same test and validation data.

Each split has a random stream of its own, so that changing one (say, `subset`) leaves the draws of the others as they are.
"""

from __future__ import annotations

import numpy as np

from bnexp.data.arrays import Array

TEST, SUBSET, VAL = 0, 1, 2
"""The purposes of a split: the second word of its random stream's seed."""


def split_off(y: Array, count: int, seed: int, purpose: int) -> tuple[Array, Array]:
    """Indices (rest, held) of a stratified split of y_[N] that holds out exactly `count`, each ascending.

    Every class gives its share `count * n_k / N`, rounded down or up so that the counts add up (largest remainders first, ties by lot).
    A class never gives its last member while another class can give one instead: a class with one member stays in the rest.
    """
    if not 0 <= count <= len(y):
        raise ValueError(f"cannot hold out {count} of {len(y)}")
    rng = np.random.default_rng([seed, purpose])
    _, member, sizes = np.unique(y, return_inverse=True, return_counts=True)
    counts = _shares(sizes, count, rng)
    order = rng.permutation(len(y))
    order = order[np.argsort(member[order], kind="stable")]  # grouped by class, shuffled within each
    rank = np.arange(len(y)) - np.repeat(np.cumsum(sizes) - sizes, sizes)  # place within its class
    held = order[rank < np.repeat(counts, sizes)]
    mask = np.zeros(len(y), dtype=bool)
    mask[held] = True
    return np.flatnonzero(~mask), np.flatnonzero(mask)


def _shares(sizes: Array, count: int, rng: np.random.Generator) -> Array:
    """How many of each class are held out; they add up to `count`."""
    quota = count * sizes / sizes.sum()
    counts: Array = np.floor(quota).astype(np.int64)
    by_remainder = np.lexsort((rng.random(len(sizes)), counts - quota))
    for spared in (1, 0):  # first leave every class a member; only when that cannot be, do not
        counts = np.minimum(counts, np.maximum(sizes - spared, 0)) if spared else counts
        while counts.sum() < count and (counts < sizes - spared).any():
            for k in by_remainder:
                if counts.sum() < count and counts[k] < sizes[k] - spared:
                    counts[k] += 1
    return counts
