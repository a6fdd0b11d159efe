"""The embedded default: scikit-learn's 1,797 real 8x8 digits, read out of its folder without importing it (21 ms instead of seconds).

Source: E. Alpaydin, C. Kaynak, Optical Recognition of Handwritten Digits, UCI (1998); https://doi.org/10.24432/C50P49, its test part.
"""

from __future__ import annotations

import gzip
import importlib.util
from pathlib import Path

import numpy as np

from bnexp.base.errors import DataError, reason
from bnexp.data.arrays import Arrays, Source

N_TEST = 360


def read(source: Source) -> Arrays:
    """x_[1797, 1, 8, 8] uint8 from 0 to 16; 360 are split off for the test.

    Raises:
        DataError: scikit-learn is not installed, or its file is not there or not readable.
    """
    spec = importlib.util.find_spec("sklearn")
    if spec is None or spec.origin is None:
        raise DataError("data=digits is a file of scikit-learn, which is not installed here; run `pip install scikit-learn`.")
    path = Path(spec.origin).parent / "datasets" / "data" / "digits.csv.gz"
    try:
        with gzip.open(path, "rt") as file:
            table = np.loadtxt(file, delimiter=",", dtype=np.uint8)
    except (OSError, EOFError, ValueError) as error:
        raise DataError(f"The digits cannot be read from {path} ({reason(error)}); reinstall scikit-learn.") from error
    return Arrays(x=table[:, :-1].reshape(-1, 1, 8, 8), y=table[:, -1].astype(np.int64), classes=tuple("0123456789"), n_test=N_TEST)
