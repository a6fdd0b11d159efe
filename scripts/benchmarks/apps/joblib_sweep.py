"""The short sweep in joblib's worker processes."""

from __future__ import annotations

import itertools
import json

from joblib import Parallel, delayed

from benchmarks.apps.grid import LRS, NORMS, SEEDS, arguments, one

if __name__ == "__main__":
    options = arguments()
    grid = itertools.product(NORMS, LRS, SEEDS)
    found = Parallel(n_jobs=options["workers"], batch_size=1)(delayed(one)(*run, options["batch"], options["epochs"]) for run in grid)
    print(json.dumps({"runs": len(found)}))
