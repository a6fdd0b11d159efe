"""The sampling error of the test images: an interval over seeds and images crossed.

All runs are tested on the same N images. An interval over seeds alone speaks of these N images; another test set of the same kind would
give another difference even with infinitely many seeds. Which images a run had right is recorded (`test.correct`), so that this error is
known.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import replace

from bnexp.analysis.pairs import Paired, from_t
from bnexp.storage.result import RunResult


def correct_bits(run: RunResult) -> bytes | None:
    """The packed bits of which test images a run had right, in the order of the test set; None where that is not recorded."""
    try:
        return None if run.test.correct is None else base64.b64decode(run.test.correct, validate=True)
    except (binascii.Error, ValueError):
        return None


def crossed(found: Paired, a: Mapping[int, RunResult], b: Mapping[int, RunResult], *, tests: int = 1) -> Paired | None:
    """The paired difference of accuracies with the interval over seeds and test images crossed; None where the images are not recorded.

    With d_si in {-1, 0, 1}, right under a minus right under b for seed s and image i, S seeds and I images, the grand mean has the variance
    sigma_s^2/S + sigma_i^2/I + sigma_si^2/(S I), estimated from the mean squares of a two-way layout: MS_s/(S I) over the seeds alone, and
    (MS_i - MS_si)/(S I) more for the images, with Satterthwaite's degrees of freedom (1946, Biometrics Bulletin 2). It is what resampling
    seeds and images crossed converges to (Owen 2007, Annals of Applied Statistics 1); the bootstrap itself undercovers at 5 to 20 seeds.

    Args:
        found: `paired` over the seeds that both have.
        a, b: the run of each seed.
    """
    import numpy as np

    seeds = sorted(a.keys() & b.keys())
    bits = [(correct_bits(a[seed]), correct_bits(b[seed])) for seed in seeds]
    n_images = {run.data and run.data.test for side in (a, b) for run in side.values()}
    if len(seeds) < 2 or found.se is None or found.difference is None or len(n_images) != 1:
        return None
    (images,) = n_images
    if (
        not isinstance(images, int)
        or images < 2
        or any(one is None or other is None or {len(one), len(other)} != {-(-images // 8)} for one, other in bits)
    ):
        return None
    right = [
        [np.unpackbits(np.frombuffer(side, np.uint8), count=images).astype(np.float64) for side in pair if side is not None]
        for pair in bits
    ]
    d_SI = np.stack([one - other for one, other in right])
    rows_S, columns_I, mean = d_SI.mean(1), d_SI.mean(0), d_SI.mean()
    s, i = d_SI.shape
    residual = float(((d_SI - rows_S[:, None] - columns_I + mean) ** 2).sum()) / ((s - 1) * (i - 1))
    of_images = s * float(((columns_I - mean) ** 2).sum()) / (i - 1)
    by_seeds, by_images = found.se**2, max(0.0, of_images - residual) / (s * i)
    variance = by_seeds + by_images
    df = variance**2 / (by_seeds**2 / (s - 1) + by_images**2 / (i - 1))
    over_both = from_t(found.n, found.difference, variance**0.5, df, tests)
    if _width(over_both) < _width(found):  # more degrees of freedom, and hardly any more variance: what is added cannot make it narrower
        over_both = from_t(found.n, found.difference, variance**0.5, s - 1, tests)
    return replace(over_both, n_images=images, dropped=found.dropped, primary=found.primary)


def _width(found: Paired) -> float:
    return 0.0 if found.low is None or found.high is None else found.high - found.low
