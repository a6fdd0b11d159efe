"""`bnexp config`: the composed config, before anything runs."""

from __future__ import annotations

from bnexp.cli.app import app
from bnexp.cli.options import RUNS, ConfigDir, Json, NoQuiet, NoRunsDir, Overrides, print_json


@app.command()
def config(
    overrides: Overrides = None, runs_dir: NoRunsDir = RUNS, config_dir: ConfigDir = None, json: Json = False, quiet: NoQuiet = False
) -> None:
    """Prints the composed config as YAML, before anything runs.

    \b
    Examples:
      bnexp config
      bnexp config data=cifar10 optim=adam train.epochs=20
    """
    from bnexp.config import to_mapping
    from bnexp.config.compose import compose
    from bnexp.storage.run import to_yaml

    composed = compose(overrides or [], config_dir)
    if json:
        print_json(to_mapping(composed))
    else:
        print(to_yaml(composed), end="")
