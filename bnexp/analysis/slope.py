"""The log-log slope of a variance against the batch size, with a standard error from the draws themselves.

The residuals of a fit to ten points say how straight the line is. How far the slope would move with other draws is what resampling them
says (Efron and Tibshirani 1993, An Introduction to the Bootstrap, section 6.4).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 1_000
Z95 = 1.96
"""slope +- Z95 standard errors is the 95 % interval: with 200 draws a size the slope is as good as normal."""

Array = NDArray[Any]


def log_log_slope(x: Sequence[float], y: Sequence[float]) -> float | None:
    """The least-squares slope of log y against log x, over the points that have one; None with fewer than two sizes."""
    points = [(math.log(a), math.log(b)) for a, b in zip(x, y, strict=True) if a > 0 and b > 0 and math.isfinite(b)]
    if len({a for a, _ in points}) < 2:
        return None
    log_x, log_y = np.array(points).T
    return float(_weights(log_x) @ log_y)


def slope_error(sizes: Sequence[float], draws: Sequence[Array]) -> float | None:
    """The standard error of the slope of the mean over channels of the variance over draws, by resampling the draws of each size.

    Args:
        sizes: the batch sizes.
        draws: of each size the batch means in units of the channel's standard deviation, [D, C]. A draw keeps its channels together, since
            these correlate.
    """
    generator = np.random.default_rng(0)
    found = [(math.log(size), _resampled_variances(means_DC, generator)) for size, means_DC in zip(sizes, draws, strict=True)]
    found = [(log_size, variances) for log_size, variances in found if (variances > 0).all()]
    if len({log_size for log_size, _ in found}) < 2:
        return None
    log_x = np.array([log_size for log_size, _ in found])
    slopes = _weights(log_x) @ np.log([variances for _, variances in found])
    return float(slopes.std(ddof=1))


def _resampled_variances(means_DC: Array, generator: np.random.Generator) -> Array:
    """The mean over channels of the variance over draws, for each of `RESAMPLES` samples of as many draws with replacement."""
    draws = len(means_DC)
    centred = means_DC - means_DC.mean(0)
    picked = generator.integers(draws, size=(RESAMPLES, draws)) + draws * np.arange(RESAMPLES)[:, None]
    share_SD = np.bincount(picked.ravel(), minlength=RESAMPLES * draws).reshape(RESAMPLES, draws) / draws
    variances: Array = (share_SD @ np.square(centred) - np.square(share_SD @ centred)).mean(1)
    return variances


def _weights(log_x: Array) -> Array:
    """The least-squares slope is this, times log y."""
    centred = log_x - log_x.mean()
    weights: Array = centred / np.square(centred).sum()
    return weights
