"""The short sweep with Ray Tune, one run a core."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path
from typing import Any

os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1", "RAY_TRAIN_V2_ENABLED": "0"}

import ray
from ray import tune

from benchmarks.apps.grid import LRS, NORMS, SEEDS, arguments, one


def main() -> None:
    options = arguments()

    def trial(config: dict[str, Any]) -> None:
        found = one(config["norm"], config["lr"], config["seed"], options["batch"], options["epochs"])
        tune.report({"test_accuracy": found["test_accuracy"]})

    quiet = {"include_dashboard": False, "log_to_driver": False, "logging_level": logging.ERROR}
    ray.init(num_cpus=options["workers"], _temp_dir=str(Path("r").absolute()), **quiet)
    space = {name: tune.grid_search(list(values)) for name, values in (("norm", NORMS), ("lr", LRS), ("seed", SEEDS))}
    run = tune.RunConfig(storage_path=str(Path("ray").absolute()), verbose=0)
    reusing = tune.TuneConfig(reuse_actors=True)  # a process that is there already imports nothing again
    found = tune.Tuner(tune.with_resources(trial, {"cpu": 1}), param_space=space, run_config=run, tune_config=reusing).fit()
    ended = sum(one.error is None and "test_accuracy" in (one.metrics or {}) for one in found)
    ray.shutdown()
    print(json.dumps({"runs": ended}))


if __name__ == "__main__":
    main()
