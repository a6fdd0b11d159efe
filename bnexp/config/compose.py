"""Overrides and YAML group files -> `Config`, by Hydra's Compose API. `DictConfig` does not leave this module, nothing is instantiated.

Our own checks come before Hydra's, whose error texts recommend `+key` and name Hydra's internals. What could run code or carry a secret
(`hydra.*` overrides, `_target_`, search paths, `${...}` interpolations) is refused, whether it comes from the command line or from a file.
"""

from __future__ import annotations

import contextlib
import copy
import itertools
import math
import os
import re
import shlex
import sys
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from yaml import MappingNode, Node, SequenceNode, YAMLError

from bnexp.base.errors import UsageError, did_you_mean, one_of, short
from bnexp.base.quoting import quoted, typed
from bnexp.config import KEYS, READERS, Config, check_key, from_mapping, plain_yaml
from bnexp.config.fields import show
from bnexp.config.other_names import OPTIONS

if TYPE_CHECKING:
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.core.override_parser.types import Override

GROUPS = ("data", "model", "optim", "metrics", "experiment")
BY_GROUP = {"data.name": "data", "model.name": "model"}
"""Keys that are set by choosing a group: `data=mnist`, never `data.name=mnist`, which would leave out what else data/mnist.yaml says."""
TEXTS = ("data.root", "name")
"""Keys whose values are any text. What Hydra's grammar does not read as text (`~/photos`, `2024`) is taken as it was typed."""
PLACE = ("data.root", "data.follow_links")
"""Keys that say where data are, and nothing of what they are: those of a saved run may have moved."""
MAX_CELLS = 100_000
MAX_LETTERS = 10_000
"""Of one override: Hydra's parser takes a second for so many, and a hundred times as long for ten times as many."""


FILE_NAME = re.compile(r"\w[\w.-]*")
MERGE = "tag:yaml.org,2002:merge"
DEFAULT_GROUP = re.compile(rf"((override|optional)\s+)*/({'|'.join(GROUPS)})(@[\w.]+)?")


def builtin_configs() -> Path:
    """The folder of our own YAML files: inside the package in a wheel, beside it in a source tree."""
    package = Path(__file__).parent.parent
    inside = package / "configs"
    return inside if inside.is_dir() else package.parent / "configs"


def group_choices(group: str, config_dir: Path | None = None) -> list[str]:
    """The names that `group=NAME` takes: our YAML files and those of the user's folder."""
    folders = [builtin_configs(), *([config_dir] if config_dir else [])]
    return sorted({file.stem for folder in folders for file in _group_files(folder / group) if _is_file_name(file.stem)})


def compose(overrides: Sequence[str] = (), config_dir: str | Path | None = None) -> Config:
    """The config that `overrides` make of the defaults; a file in `config_dir` wins over ours of the same name.

    Raises:
        UsageError: an override that cannot be parsed, an unknown key or choice, a bad value, or something that is refused.
    """
    config = _composed(overrides, config_dir)
    _check_place(given(overrides), [config])
    return config


def _composed(overrides: Sequence[str], config_dir: str | Path | None = None) -> Config:
    """As `compose`, whether or not the data set reads the keys of `PLACE`."""
    folder = _checked_folder(config_dir)
    parsed = _parse(overrides)
    for override in parsed:
        _check(override, folder)
        if override.is_sweep_override():
            hint = _one_value(override) if override.key_or_group in TEXTS else ""
            raise UsageError(f"'{_echo(override)}' names several values; this command takes one, and `bnexp sweep grid` takes grids.{hint}")
    return _build(parsed, folder, {})


def expand(overrides: Sequence[str] = (), config_dir: str | Path | None = None) -> list[Config]:
    """Every config of the grid that comma lists, `choice()` and `range()` in `overrides` span, in the order of Hydra's own sweeper: the
    last override varies fastest. Every cell is checked.

    Raises:
        UsageError: as `compose`; a bad cell is named; or the grid is empty or beyond all measure.
    """
    folder = _checked_folder(config_dir)
    axes: dict[str, list[Override]] = {}  # of a key that is given twice the last counts, as in Hydra
    for override in _parse(overrides):
        _check(override, folder)
        axes[override.key_or_group] = _values(override)
        for value in axes[override.key_or_group]:
            _check(value, folder)
    check_cells(math.prod(len(values) for values in axes.values()))
    composed: dict[tuple[str, ...], dict[str, Any]] = {}
    configs = [_build(cell, folder, composed) for cell in itertools.product(*axes.values())]
    _check_place(axes, configs)
    return configs


def _check_place(keys: Collection[str], configs: Sequence[Config]) -> None:
    """Raises UsageError where an override gives one of `PLACE` and no data set of the configs reads it: `data=folder` may be missing."""
    for key in PLACE:
        names = [config.data.name for config in configs if getattr(config.data, key.removeprefix("data."))]
        if key in keys and names and not set(names) & set(READERS[key]):
            raise UsageError(f"data={names[0]} does not read {key}; give data={one_of(READERS[key])} with it, or leave it out.")


def check_cells(cells: int) -> None:
    """Raises UsageError for a grid of more cells than could ever be trained; its seeds count."""
    if cells > MAX_CELLS:
        raise UsageError(f"The grid has {cells:,} cells; {MAX_CELLS:,} is the most.")


def given(overrides: Sequence[str]) -> dict[str, bool]:
    """The keys and groups that `overrides` name, each with whether it is given several values.

    Raises:
        UsageError: an override that cannot be parsed, or one that lists paths where its whole text is the path of something.
    """
    parsed = _parse(overrides)
    for override in parsed:
        listed = override.key_or_group == "data.root" and override.is_sweep_override()
        if listed and os.path.exists(os.path.expanduser(_said(override))):  # noqa: PTH110, PTH111 (Path's own raise errors)
            raise UsageError(f"'{_echo(override)}' names several paths.{_one_value(override)}")
    return {override.key_or_group: override.is_sweep_override() for override in parsed}


def placement(overrides: Sequence[str]) -> dict[str, Any]:
    """The keys of `PLACE` that overrides beside a saved run give it.

    Raises:
        UsageError: an override that cannot be parsed, or that names another key: the run has its own config.
    """
    for override in _parse(overrides):
        if override.key_or_group not in PLACE:
            raise UsageError(f"'{_echo(override)}' is too much: a run has its own config, of which only {one_of(PLACE)} can be given anew.")
    config = _composed(overrides)
    return {key: getattr(config.data, key.removeprefix("data.")) for key in given(overrides)}


def _values(override: Override) -> list[Override]:
    """The single values of a sweep, each as an override of its own."""
    if not override.is_sweep_override():
        return [override]
    if not override.is_discrete_sweep() or (override.value_type is not None and override.value_type.name == "GLOB_CHOICE_SWEEP"):
        raise UsageError(f"'{_echo(override)}' is no list of values; write key=a,b,c or key=range(start,stop).")
    try:
        texts = list(itertools.islice(override.sweep_string_iterator(), MAX_CELLS + 1))
    except (ValueError, ArithmeticError):  # range() with a step of 0, or NaN
        raise UsageError(f"'{_echo(override)}' is no range; write key=range(start,stop) or key=range(start,stop,step).") from None
    if not texts:
        raise UsageError(f"'{_echo(override)}' is empty: the grid has no cell.")
    if len(texts) > MAX_CELLS:
        raise UsageError(f"'{_echo(override)}' has more than {MAX_CELLS:,} values, the most that a grid may have.")
    return _parse([f"{override.key_or_group}={text}" for text in texts])


def _echo(override: Override) -> str:
    return short(override.input_line or "")


def _said(override: Override) -> str:
    """The text of its value, as it was typed."""
    return (override.input_line or "").partition("=")[2]


def _one_value(override: Override) -> str:
    return f" If it is one, with a comma in it, type {typed(override.key_or_group, _said(override))}."


def _build(cell: Sequence[Override], folder: Path | None, composed: dict[tuple[str, ...], dict[str, Any]]) -> Config:
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


def _parse(overrides: Sequence[str]) -> list[Override]:
    from hydra.core.override_parser.overrides_parser import OverridesParser

    parser = OverridesParser.create()
    parsed: list[Override] = []
    for text in overrides:
        if len(text) > MAX_LETTERS:
            raise UsageError(f"'{short(text)}' has {len(text):,} characters; {MAX_LETTERS:,} are the most (range() writes long lists).")
        if "=" not in text and not text.startswith("~"):
            before = parsed[-1] if parsed and parsed[-1].key_or_group == "data.root" else None
            hint = f" If it belongs to the path before it, type {typed('data.root', f'{_said(before)} {text}')}." if before else ""
            raise UsageError(f"'{short(text)}' is not an override; write key=value, for example optim.lr=0.3.{hint}")
        parsed.append(_parse_one(parser, text))
    return parsed


def _parse_one(parser: OverridesParser, text: str) -> Override:
    from hydra.errors import HydraException

    key, _, value = text.partition("=")
    as_it_is = f"{key}={quoted(value)}"
    try:
        found = parser.parse_override(text)
        if key not in TEXTS or found.is_sweep_override() or isinstance(found.value(), str | None):
            return found
    except (HydraException, ValueError) as error:  # ValueError: a number of more digits than Python reads
        if key not in TEXTS:
            reason = short((str(error).splitlines() or ["syntax error"])[0])
            spaces = " No space stands around the =." if key != key.strip() else ""
            raise UsageError(f"'{short(text)}' cannot be read as key=value: {reason}.{spaces}") from None
    except RecursionError:
        raise UsageError(f"'{short(text)}' cannot be read: its brackets are nested too deeply.") from None
    except AttributeError:  # Hydra reads functions and dictionaries with what stands in its asserts
        if not sys.flags.optimize:
            raise
        raise UsageError(
            f"'{short(text)}' cannot be read by an optimized Python: unset PYTHONOPTIMIZE (or leave out -O), or write all values out."
        ) from None
    return parser.parse_override(as_it_is)


def _check(override: Override, config_dir: Path | None) -> None:
    """Our own checks, before Hydra's: the key is one of ours, a group's choice is there, nothing is asked of Hydra itself.

    Raises:
        UsageError: saying which.
    """
    key, text = override.key_or_group, _echo(override)
    if override.is_delete():
        raise UsageError(f"'{text}': keys cannot be deleted; set the key to another value instead.")
    if key.split(".")[0] == "hydra" or key.split("/")[0] == "hydra":
        raise UsageError(f"'{text}' is refused: Hydra's own settings are not for bnexp's commands.")
    if override.package is not None:
        raise UsageError(f"'{text}': packages (@) are not supported; write group=NAME or key=value.")
    if key in BY_GROUP:
        said = short((override.input_line or "").partition("=")[2])
        raise UsageError(f"'{text}' is refused: write {BY_GROUP[key]}={said or 'NAME'}.")
    if key not in GROUPS:
        if key in OPTIONS:
            raise UsageError(f"There is no config key '{key}'. Did you mean the option {OPTIONS[key]} {_said(override) or 'VALUE'}?")
        check_key(key)
    if key in GROUPS and not override.is_sweep_override():
        value, choices = override.value(), group_choices(key, config_dir)
        if not isinstance(value, str) or value not in choices:
            known = f"; choose {one_of(choices)}" if choices else f": --config-dir names no folder with {key}/*.yaml"
            raise UsageError(f"{text} names no {key} config{known}.{did_you_mean(str(value), choices)}")


def _checked_folder(config_dir: str | Path | None) -> Path | None:
    if config_dir is None:
        return None
    folder = Path(os.path.realpath(config_dir))  # Path.resolve raises on a loop of links
    if not os.path.isdir(folder):  # noqa: PTH112 (Path's own raises OSError for a name that is too long)
        raise UsageError(f"--config-dir {short(str(config_dir), 300)} is not a folder.")
    if not any((folder / group).is_dir() for group in GROUPS):
        raise UsageError(f"--config-dir {config_dir} has no folder {one_of(f'{group}/' for group in GROUPS)} with group files.")
    if (folder / "train.yaml").exists() or (folder / "hydra").exists():
        raise UsageError(
            f"--config-dir {config_dir} holds train.yaml or hydra/; it may hold group files, for example experiment/mine.yaml."
        )
    for file in (file for group in GROUPS for file in _group_files(folder / group)):
        _check_file(file, folder)
    return folder


def _check_file(file: Path, folder: Path) -> None:
    """Refuses what a group file may not do, before Hydra reads it: be large, lead out of the folder, change Hydra's own settings."""
    text, where = plain_yaml.read_small(file, folder), short(str(file), 200)
    if re.match(r"\ufeff\s*#\s*@package\b", text):
        mend = f"sed -i '1s/^\\xEF\\xBB\\xBF//' {shlex.quote(str(file))}"
        raise UsageError(f"{where} begins with a byte order mark, behind which its `# @package` is not seen; take it away: {mend}")
    node = plain_yaml.compose(text, where)
    top = [(key.value, value) for key, value in node.value] if isinstance(node, MappingNode) else []
    if isinstance(node, MappingNode) and any(key.tag == MERGE for key, _ in node.value):
        raise UsageError(f"{where} is refused: a merge (<<) at its top could bring in a defaults list; write the keys themselves.")
    names = [name for name, _ in top if isinstance(name, str)]
    if re.search(r"^\s*#\s*@package\s+hydra", text, re.MULTILINE) or any(re.match(r"hydra\b", name) for name in names):
        raise UsageError(f"{where} is refused: Hydra's own settings are not for bnexp's commands.")  # Hydra would drop them in silence
    for entry in [entry for name, value in top if name == "defaults" and isinstance(value, SequenceNode) for entry in value.value]:
        _check_default(entry, where)


def _check_default(entry: Node, where: str) -> None:
    """An entry of a file's defaults list names a file of its own group, or one of another's with its group. Hydra would also follow it out
    of the folder, into files that nobody looked at, and resolve interpolations in it."""
    if isinstance(entry, MappingNode):
        pairs = [(key.value, part) for key, value in entry.value for part in (value.value if isinstance(value, SequenceNode) else [value])]
        fits = all(isinstance(name, str) and DEFAULT_GROUP.fullmatch(name) and _is_file_name(part.value) for name, part in pairs)
        said = "; ".join(f"{name}: {part.value}" for name, part in pairs)
    else:
        said = str(entry.value)
        group, _, name = said.rpartition("/")
        fits = _is_file_name(name) and group in ("", *(f"/{known}" for known in GROUPS))
    if re.search(r"(^|[\s/@])hydra\b", said):
        raise UsageError(f"{where} is refused: Hydra's own settings are not for bnexp's commands.")
    if not fits:
        raise UsageError(
            f"{where} is refused: '{short(said)}' in its defaults names no file of {one_of(GROUPS)}; write `- NAME`, or "
            "`- override /data: NAME` and the like."
        )


def _is_file_name(text: object) -> bool:
    """Whether it can be the name of a group file, without its suffix: letters, digits, dots, underscores and hyphens."""
    return isinstance(text, str) and FILE_NAME.fullmatch(text) is not None and not text.endswith((".yaml", ".yml"))


def _group_files(folder: Path) -> list[Path]:
    return [file for file in folder.glob("*.yaml") if file.is_file()]


def _compose(lines: list[str], config_dir: Path | None) -> dict[str, Any]:
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
            "'experiment', which is not there."
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
    """Lets Hydra look into the user's folder before ours. An entry of hydra.searchpath would come after ours and could not shadow it."""
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
    """No interpolation and no Hydra directive in any value or key, whatever file it came from."""
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
