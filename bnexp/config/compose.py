"""Overrides and YAML group files -> `Config`, by Hydra's Compose API. `DictConfig` does not leave this module, nothing is instantiated.

What could run code or carry a secret (`hydra.*` overrides, `_target_`, search paths, `${...}` interpolations) is refused, whether it comes
from the command line or from a file.
"""

from __future__ import annotations

import contextlib
import copy
import itertools
import math
import os
import re
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from yaml import YAMLError

from bnexp.base.errors import UsageError, one_of, short
from bnexp.base.files import JsonObject
from bnexp.config import KEYS, READERS, Config, from_mapping
from bnexp.config.fields import show
from bnexp.config.group_files import GROUPS, builtin_configs, checked_folder, group_choices
from bnexp.config.overrides import BY_GROUP, MAX_CELLS, TEXTS, as_one_value, check, echo, parse, single_values, typed_value

if TYPE_CHECKING:
    from hydra.core.override_parser.types import Override

PLACE = ("data.root", "data.follow_links")
"""Keys that say where data are, which may have moved since a run was saved, and not what they are."""


def compose(overrides: Sequence[str] = (), config_dir: str | Path | None = None) -> Config:
    """The config that `overrides` make of the defaults; a file in `config_dir` wins over a built-in one of the same name. Raises
    UsageError for an override that cannot be parsed, an unknown key or choice, a bad value, or something that is refused."""
    config = _composed(overrides, config_dir)
    _check_place(given(overrides), [config])
    return config


def _composed(overrides: Sequence[str], config_dir: str | Path | None = None) -> Config:
    """As `compose`, whether or not the data set reads the keys of `PLACE`."""
    folder = checked_folder(config_dir)
    parsed = parse(overrides)
    for override in parsed:
        check(override, folder)
        if override.is_sweep_override():
            hint = as_one_value(override) if override.key_or_group in TEXTS else ""
            raise UsageError(f"'{echo(override)}' names several values; this command takes one, and `bnexp sweep grid` takes grids.{hint}")
    return _build(parsed, folder, {})


def expand(overrides: Sequence[str] = (), config_dir: str | Path | None = None) -> list[Config]:
    """Every config of the grid that comma lists, `choice()` and `range()` in `overrides` span, in the order of Hydra's own sweeper: the
    last override varies fastest. Every cell is checked. Raises UsageError as `compose`, and where the grid is empty or too large."""
    folder = checked_folder(config_dir)
    axes: dict[str, list[Override]] = {}  # of a key that is given twice the last counts, as in Hydra
    for override in parse(overrides):
        check(override, folder)
        axes[override.key_or_group] = single_values(override)
        for value in axes[override.key_or_group]:
            check(value, folder)
    check_cells(math.prod(len(values) for values in axes.values()))
    composed: dict[tuple[str, ...], JsonObject] = {}
    configs = [_build(cell, folder, composed) for cell in itertools.product(*axes.values())]
    _check_place(axes, configs)
    return configs


def _check_place(keys: Collection[str], configs: Sequence[Config]) -> None:
    """Raises UsageError where a key of `PLACE` is given that no config's data set reads: `data=folder` may be missing."""
    for key in PLACE:
        names = [config.data.name for config in configs if getattr(config.data, key.removeprefix("data."))]
        if key in keys and names and not set(names) & set(READERS[key]):
            raise UsageError(f"data={names[0]} does not read {key}; give data={one_of(READERS[key])} with it, or leave it out.")


def check_cells(cells: int) -> None:
    """Raises UsageError for a grid of more cells than could ever be trained; its seeds count."""
    if cells > MAX_CELLS:
        raise UsageError(f"The grid has {cells:,} cells; {MAX_CELLS:,} is the most.")


def given(overrides: Sequence[str]) -> dict[str, bool]:
    """The keys and groups in `overrides`, each with whether it has several values. Raises UsageError for one that is no override."""
    parsed = parse(overrides)
    for override in parsed:
        listed = override.key_or_group == "data.root" and override.is_sweep_override()
        if listed and os.path.exists(os.path.expanduser(typed_value(override))):  # noqa: PTH110, PTH111 (Path's own raise errors)
            raise UsageError(f"'{echo(override)}' names several paths.{as_one_value(override)}")
    return {override.key_or_group: override.is_sweep_override() for override in parsed}


def placement(overrides: Sequence[str]) -> dict[str, str | bool | None]:
    """The keys of `PLACE` in overrides beside a saved run, whose config has all others: raises UsageError for these."""
    for override in parse(overrides):
        if override.key_or_group not in PLACE:
            raise UsageError(f"'{echo(override)}' is too much: a run has its own config, of which only {one_of(PLACE)} can be given anew.")
    config = _composed(overrides)
    return {key: getattr(config.data, key.removeprefix("data.")) for key in given(overrides)}


def _build(cell: Sequence[Override], folder: Path | None, composed: dict[tuple[str, ...], JsonObject]) -> Config:
    """One config: Hydra composes the groups (once for each choice of them, kept in `composed`), the values go on top."""
    choices = tuple(f"{override.key_or_group}={override.value()}" for override in cell if override.key_or_group in GROUPS)
    if choices not in composed:
        composed[choices] = _compose(list(choices), folder)
    tree = copy.deepcopy(composed[choices])
    for override in cell:
        if override.key_or_group not in GROUPS:
            *path, last = override.key_or_group.split(".")
            node = tree
            for part in path:
                node = node.setdefault(part, {})
                if not isinstance(node, dict):
                    raise UsageError(f"{part} should be a group of keys, and is {show(node)}.")
            node[last] = override.value()
    _refuse_code(tree)
    return from_mapping(tree)


def _compose(lines: list[str], config_dir: Path | None) -> JsonObject:
    """Composed by Hydra, as plain values. Hydra and OmegaConf stay in this function."""
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        with _user_folder_first(config_dir), initialize_config_dir(str(builtin_configs()), version_base="1.3"):
            tree = OmegaConf.to_container(hydra_compose("train", overrides=lines), resolve=False)
    except (HydraException, OmegaConfBaseException, YAMLError, ValueError, OSError) as error:  # the last two: a file that cannot be read
        raise UsageError(f"The config cannot be composed: {_reason(error, lines)}") from None
    except RecursionError:
        raise UsageError(
            f"The config cannot be composed: {short(' '.join(lines))} nests too deeply; "
            "either a file's defaults list leads back to the file, or its brackets have no end."
        ) from None
    assert isinstance(tree, dict)
    if "experiment" in tree:
        name = next((line for line in reversed(lines) if line.startswith("experiment=")), "experiment").replace("=", "/")
        raise UsageError(
            f"{short(name)}.yaml must begin with the line `# @package _global_`; without it, all in it is taken for keys of a group "
            "'experiment', which does not exist."
        )
    return tree  # type: ignore[return-value]


def _reason(error: BaseException | None, lines: list[str]) -> str:
    """The first sentence that the error or what led to it says, without Hydra's search path and OmegaConf's internals."""
    while error is not None:
        text = re.sub(r"\s+", " ", re.split(r"Config search path:|\n\s*(?:full_key|object_type)\b", str(error))[0]).strip()
        if text:
            return short(text, 300)
        error = error.__cause__ or error.__context__
    return f"a key or value in {short(' '.join(lines))} cannot be used; keys are names, and values text, numbers and lists."


@contextlib.contextmanager
def _user_folder_first(config_dir: Path | None) -> Iterator[None]:
    """Has Hydra search the user's folder before the built-in one, which an entry of hydra.searchpath could not shadow."""
    if config_dir is None:
        yield
        return
    from hydra.core.config_search_path import ConfigSearchPath
    from hydra.core.plugins import Plugins
    from hydra.plugins.search_path_plugin import SearchPathPlugin

    class UserFolder(SearchPathPlugin):
        folder: Path | None = config_dir

        def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
            if UserFolder.folder is not None:
                search_path.prepend(provider="bnexp --config-dir", path=f"file://{UserFolder.folder}")

    Plugins.instance().register(UserFolder)
    try:
        yield
    finally:
        UserFolder.folder = None  # Hydra keeps plugins for the life of the process


def _refuse_code(tree: Any, path: str = "") -> None:
    """Refuses interpolations and Hydra's directives in any value or key of any file."""
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for name, value in items:
        key = f"{path}.{name}" if path else str(name)
        if isinstance(name, str) and re.fullmatch(r"_\w+_", name):
            raise UsageError(f"'{short(key)}' is refused: bnexp's configs hold values, and nothing in them is instantiated.")
        _refuse_code(value, key)
    if isinstance(tree, str) and "${" in tree:
        raise UsageError(f"{short(path)}={show(tree)} is refused: interpolations (${{...}}) are not resolved; write the value itself.")


def completions(incomplete: str) -> list[str]:
    """What an override that begins like this may become, for the shell's completion."""
    key, equals, _ = incomplete.partition("=")
    options = [f"{name}=" for name in KEYS if name not in BY_GROUP]
    if equals and key in KEYS and key not in BY_GROUP:
        options += [f"{key}={value}" for value in KEYS[key].values]
    options += [f"{group}={name}" for group in GROUPS for name in group_choices(group)]
    return [option for option in options if option.startswith(incomplete)]
