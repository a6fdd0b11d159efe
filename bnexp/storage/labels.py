"""Tags and a note of a run: what people write down about it, in a file of its own, so that its results and its id stay as they are."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import msgspec
from msgspec import Struct

from bnexp.base.errors import DataError, UsageError, reason, short
from bnexp.base.files import JsonObject, read_checked_json, write_checked_json
from bnexp.storage.run import Run

FORMAT = 1
"""Version of labels.json."""
MAX_BYTES = 2**16
MAX_TAGS = 20
MAX_NOTE = 1000
"""Characters."""


class Labels(Struct, frozen=True, omit_defaults=True):
    """What labels.json holds."""

    tags: tuple[str, ...] = ()
    """Sorted, each once."""
    note: str = ""

    def plain(self) -> JsonObject:
        """Only what there is, as JSON takes it."""
        found: JsonObject = msgspec.to_builtins(self)
        return found


NONE = Labels()


def labels_of(run: Run) -> Labels:
    """The run's tags and note; raises DataError where they cannot be read."""
    try:
        return msgspec.convert(read_checked_json(run.labels_json, FORMAT, MAX_BYTES), Labels)
    except (FileNotFoundError, NotADirectoryError):
        return NONE
    except (OSError, ValueError, msgspec.ValidationError) as error:
        raise DataError(f"{run.labels_json} cannot be read: {reason(error)}. Delete it to write tags and a note anew.") from None


def labels_in(runs_dir: Path, ids: Iterable[str]) -> dict[str, Labels]:
    """The labels of those runs that have any, by id. What cannot be read is left out: one run must not keep others from being listed."""
    found = {}
    for name in ids:
        if os.path.lexists(
            f"{runs_dir}/{name}/labels.json"
        ):  # paths as text: with ten thousand runs, pathlib would take as long as the disk
            with suppress(DataError):
                found[name] = labels_of(Run(runs_dir, name))
    return found


def store_labels(run: Run, labels: Labels) -> None:
    if labels == NONE:
        run.labels_json.unlink(missing_ok=True)
    else:
        write_checked_json(run.labels_json, msgspec.to_builtins(labels), FORMAT)


def retagged(labels: Labels, add: Iterable[str], remove: Iterable[str]) -> Labels:
    """The labels with some tags more and some less; raises UsageError where there are too many."""
    tags = tuple(sorted({*labels.tags, *add} - set(remove)))
    if len(tags) > MAX_TAGS:
        raise UsageError(f"A run has at most {MAX_TAGS} tags; `bnexp runs tag RUN --remove NAME` takes one away.")
    return msgspec.structs.replace(labels, tags=tags)


def checked_tag(text: str) -> str:
    """The tag; raises UsageError where it is none."""
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,39}", text):
        raise UsageError(f"'{short(text)}' is not usable as a tag: it has 1 to 40 letters, digits, dots, underscores and hyphens.")
    return text


def checked_note(text: str) -> str:
    """The note on one line; raises UsageError where it is too long, or is no text."""
    line = " ".join(text.split())
    if len(line) > MAX_NOTE or not line.isprintable():
        raise UsageError(f"A note is text of at most {MAX_NOTE:,} characters, which a terminal can print.")
    return line
