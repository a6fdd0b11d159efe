"""The short sweep in joblib's worker processes."""

from __future__ import annotations

import itertools
import json

from joblib import Parallel, delayed

from benchmarks.apps.grid import LRS, NORMS, SEEDS, asked, one

if __name__ == "__main__":
    told = asked()
    grid = itertools.product(NORMS, LRS, SEEDS)
    found = Parallel(n_jobs=told["workers"], batch_size=1)(delayed(one)(*run, told["batch"], told["epochs"]) for run in grid)
    print(json.dumps({"runs": len(found)}))
