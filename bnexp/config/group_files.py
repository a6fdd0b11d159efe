"""The YAML files of config groups, built-in ones and those of --config-dir: how they are found, and what is refused in them.

What could run code or carry a secret (Hydra's own settings, paths and links that lead out of the folder) is refused before Hydra reads it.
"""

from __future__ import annotations

import codecs
import errno
import os
import re
import shlex
from pathlib import Path

from yaml import MappingNode, Node, SequenceNode

from bnexp.base.errors import UsageError, one_of, short
from bnexp.base.files import read_plain
from bnexp.config.plain_yaml import MAX_BYTES, nodes

GROUPS = ("data", "model", "optim", "metrics", "experiment")
FILE_NAME = re.compile(r"\w[\w.-]*")
MERGE = "tag:yaml.org,2002:merge"
DEFAULT_GROUP = re.compile(rf"((override|optional)\s+)*/({'|'.join(GROUPS)})(@[\w.]+)?")


def builtin_configs() -> Path:
    """The folder of the built-in YAML files: inside the package in a wheel, beside it in a source tree."""
    package = Path(__file__).parent.parent
    inside = package / "configs"
    return inside if inside.is_dir() else package.parent / "configs"


def group_choices(group: str, config_dir: Path | None = None) -> list[str]:
    """The names that `group=NAME` takes: the built-in YAML files and those of the user's folder."""
    folders = [builtin_configs(), *([config_dir] if config_dir else [])]
    return sorted({file.stem for folder in folders for file in _group_files(folder / group) if _is_file_name(file.stem)})


def checked_folder(config_dir: str | Path | None) -> Path | None:
    """The real path of --config-dir, for Hydra. Raises UsageError where it is no folder of group files, or one of them is refused."""
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
    text, where = _read_small(file, folder), short(str(file), 200)
    if re.match(r"\ufeff\s*#\s*@package\b", text):
        mend = f"sed -i '1s/^\\xEF\\xBB\\xBF//' {shlex.quote(str(file))}"
        raise UsageError(f"{where} begins with a byte order mark, behind which its `# @package` is not seen; take it away: {mend}")
    node = nodes(text, where)
    top = [(key.value, value) for key, value in node.value] if isinstance(node, MappingNode) else []
    if isinstance(node, MappingNode) and any(key.tag == MERGE for key, _ in node.value):
        raise UsageError(f"{where} is refused: a merge (<<) at its top could bring in a defaults list; write the keys themselves.")
    names = [name for name, _ in top if isinstance(name, str)]
    if re.search(r"^\s*#\s*@package\s+hydra", text, re.MULTILINE) or any(re.match(r"hydra\b", name) for name in names):
        raise UsageError(f"{where} is refused: Hydra's own settings are not for bnexp's commands.")  # Hydra would drop them in silence
    for entry in [entry for name, value in top if name == "defaults" and isinstance(value, SequenceNode) for entry in value.value]:
        _check_default(entry, where)


def _read_small(file: Path, inside: Path) -> str:
    """The text of a file in the folder `inside` (a real path) or below it. Raises UsageError where a link leads out of it, or the file has
    more than `MAX_BYTES`, is not UTF-8, or cannot be read."""
    where = short(str(file), 200)
    real = Path(os.path.realpath(file))
    if not real.is_relative_to(inside):
        raise UsageError(f"{where} is a link that leads out of {short(str(inside), 200)}; put the file itself there.")
    try:
        data = read_plain(real, MAX_BYTES)
        return data.decode()
    except UnicodeDecodeError:
        encoding = "UTF-16" if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "ISO-8859-1"
        raise UsageError(f"{where} is not UTF-8; mend it: iconv -f {encoding} -t UTF-8 {shlex.quote(str(file))} > NEW.yaml") from None
    except OSError as error:
        if error.errno == errno.EFBIG:
            many = f"{where} has more than {MAX_BYTES // 1024} KiB"
            raise UsageError(f"{many}; a config holds differences from the defaults, and is small.") from None
        raise UsageError(f"{where} cannot be read ({error.strerror}).") from None


def _check_default(entry: Node, where: str) -> None:
    """An entry of a file's defaults list names a file of its own group, or one of another's with its group. Hydra would also follow it out
    of the folder, into files that were not checked, and resolve interpolations in it."""
    if isinstance(entry, MappingNode):
        pairs = [(key.value, part) for key, value in entry.value for part in (value.value if isinstance(value, SequenceNode) else [value])]
        fits = all(isinstance(name, str) and DEFAULT_GROUP.fullmatch(name) and _is_file_name(part.value) for name, part in pairs)
        text = "; ".join(f"{name}: {part.value}" for name, part in pairs)
    else:
        text = str(entry.value)
        group, _, name = text.rpartition("/")
        fits = _is_file_name(name) and group in ("", *(f"/{known}" for known in GROUPS))
    if re.search(r"(^|[\s/@])hydra\b", text):
        raise UsageError(f"{where} is refused: Hydra's own settings are not for bnexp's commands.")
    if not fits:
        raise UsageError(
            f"{where} is refused: '{short(text)}' in its defaults names no file of {one_of(GROUPS)}; write `- NAME`, or "
            "`- override /data: NAME` and the like."
        )


def _is_file_name(text: object) -> bool:
    """Whether it can be the name of a group file, without its suffix: letters, digits, dots, underscores and hyphens."""
    return isinstance(text, str) and FILE_NAME.fullmatch(text) is not None and not text.endswith((".yaml", ".yml"))


def _group_files(folder: Path) -> list[Path]:
    return [file for file in folder.glob("*.yaml") if file.is_file()]
