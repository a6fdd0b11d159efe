"""The short sweep as a Hydra multirun with its joblib launcher."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path

import hydra
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig

from benchmarks.apps.grid import LRS, NORMS, SEEDS, arguments, one

OUT = Path("multirun")


@dataclass
class Run:
    norm: str = "batch"
    lr: float = 0.1
    seed: int = 0
    batch: int = 32
    epochs: int = 10


ConfigStore.instance().store("run", Run)


@hydra.main(version_base=None, config_name="run")
def job(config: Run) -> None:
    found = one(config.norm, config.lr, config.seed, config.batch, config.epochs)
    Path(HydraConfig.get().runtime.output_dir, "found.json").write_text(json.dumps(found))


def main() -> None:
    options, before = arguments(), set(OUT.glob("**/found.json"))
    axes = {"norm": NORMS, "lr": LRS, "seed": SEEDS}
    sys.argv[1:] = [
        *("--multirun", "hydra/launcher=joblib", f"hydra.launcher.n_jobs={options['workers']}"),
        *(f"{name}={','.join(map(str, values))}" for name, values in axes.items()),
        *(f"batch={options['batch']}", f"epochs={options['epochs']}"),
    ]
    job()
    print(json.dumps({"runs": len(set(OUT.glob("**/found.json")) - before)}))


if __name__ == "__main__":
    main()
