"""`bnexp config`: the composed config, before anything runs, and what its keys mean."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from bnexp.base.errors import UsageError, short
from bnexp.cli.app import WIDEST_HELP, app
from bnexp.cli.options import RUNS, ConfigDir, Json, NoQuiet, NoRunsDir, complete_overrides, print_json

if TYPE_CHECKING:
    from bnexp.config.explain import Explanation
    from bnexp.metrics.declaration import Keys


@app.command()
def config(
    overrides: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="OVERRIDE|KEY", help="Config values, as in optim.lr=0.3; with --explain, keys.", autocompletion=complete_overrides
        ),
    ] = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="Explain keys, groups of keys (optim) or all: meaning, type, default, range, an example.")
    ] = False,
    runs_dir: NoRunsDir = RUNS,
    config_dir: ConfigDir = None,
    json: Json = False,
    quiet: NoQuiet = False,
) -> None:
    """Prints the composed config as YAML, before anything runs, or explains its keys.

    \b
    Examples:
      bnexp config
      bnexp config data=cifar10 optim=adam train.epochs=20
      bnexp config --explain optim.lr
      bnexp config --explain model
    """
    if explain:
        _explain(overrides or [], json)
        return
    from bnexp.config import to_mapping
    from bnexp.config.compose import compose
    from bnexp.storage.run import to_yaml

    composed = compose(overrides or [], config_dir)
    if json:
        print_json(to_mapping(composed))
    else:
        print(to_yaml(composed), end="")


def _explain(names: list[str], json: bool) -> None:
    """Prints what the keys of these names are; of a single metric also what it logs, with formulas.

    Raises:
        UsageError: one of them is no key.
    """
    from dataclasses import asdict

    from bnexp.config.explain import explain

    if with_values := [name for name in names if "=" in name]:
        keys = " ".join(name.partition("=")[0] for name in names)
        raise UsageError(
            f"--explain takes keys without values, and got {short(with_values[0])}. Write: bnexp config --explain {short(keys)}"
        )
    found = list({one.key: one for name in names or [""] for one in explain(name)}.values())
    logged = _logged(found[0].key) if len(found) == 1 else ()
    if json:
        print_json({"keys": [asdict(one) for one in found], **({"logs": [asdict(keys) for keys in logged]} if logged else {})})
    else:
        print("\n\n".join(_text(one, logged) for one in found))


def _logged(key: str) -> tuple[Keys, ...]:
    """What the metric that this key switches writes to metrics.jsonl; empty for other keys."""
    from importlib import import_module

    from bnexp.config import METRICS

    group, _, name = key.partition(".")
    if group != "metrics" or name not in METRICS:
        return ()
    metric: Any = import_module(f"bnexp.metrics.{name}")  # torch
    return tuple(metric.METRIC.keys)


def _text(one: Explanation, logged: tuple[Keys, ...]) -> str:
    import shutil
    import textwrap

    from bnexp.config.fields import show

    def lines(indent: int, *texts: str, hanging: int = 0) -> list[str]:
        width, first, rest = max(30, min(shutil.get_terminal_size().columns, WIDEST_HELP)), " " * indent, " " * (indent + hanging)
        return [line for text in texts for line in textwrap.wrap(text, width, initial_indent=first, subsequent_indent=rest)]

    shown = [one.key, *lines(2, one.meaning)]
    if any(one.choices.values()):
        shown += lines(2, *(f"{choice}: {meaning}" for choice, meaning in one.choices.items()), hanging=4)
    else:
        shown += lines(2, f"Takes {one.takes}.")
    shown += lines(2, f"Default: {show(one.default)}", f"Example: {one.example}")
    for keys in logged:
        shown += ["", *lines(2, f"{one.key.partition('.')[2]}/{keys.pattern}"), *lines(4, keys.meaning)]
        shown += lines(4, *(f"{what}: {text}" for what, text in (("Unit", keys.unit), ("Source", keys.source)) if text))
    return "\n".join(shown)
