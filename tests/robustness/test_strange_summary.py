"""A stranger's summary.json with a wrong value under each of its keys, in turn: one sentence or a result, never a traceback, and the other
runs of the folder are shown all the same."""

import copy
import itertools
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support import bn_in, is_told

from bnexp.base.errors import DataError
from bnexp.plots.style import Picture
from bnexp.storage.folder import list_runs
from bnexp.storage.result import MAX_DEPTH, RunResult
from bnexp.storage.run import Run

TINY = ("data.subset=100", "train.batch_size=16", "train.steps=4", "model.widths=[4]", "metrics=off")
DEEP = "DEEP"
"""Stands for 600 brackets, which JSON's reader takes and most others do not."""
NUMBERS = (True, 0, -1, 1e308, 10**400, float("nan"), float("inf"))
WRONG: tuple[Any, ...] = (None, "x", "\ud800\x1b[2J", {}, {"0": {}}, [], [[1]], *NUMBERS, DEEP)
COMMANDS = (("runs",), ("runs", "--json"), ("runs", "show", "{}"), ("runs", "show", "{}", "--json"))


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A runs folder with two finished runs."""
    runs_dir = tmp_path_factory.mktemp("two")
    bn_in(runs_dir, "train", *TINY, "--seeds", "2")
    return runs_dir


def keys_of(tree: dict[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Every key of a tree, groups among them."""
    for name, value in tree.items():
        yield (*path, name)
        if isinstance(value, dict):
            yield from keys_of(value, (*path, name))


def put(run: Run, summary: dict[str, Any], path: tuple[str, ...], value: Any) -> None:
    """Writes the summary with another value, as whoever has no checksum: from before there were any."""
    tree = copy.deepcopy(summary)
    node = tree
    for name in path[:-1]:
        node = node[name]
    node[path[-1]] = value
    for name in ("format", "checksum"):
        tree.pop(name, None)
    run.summary_json.write_text(json.dumps(tree).replace(f'"{DEEP}"', '{"a":' * 600 + "1" + "}" * 600))


def strange_ones(run: Run) -> Iterator[tuple[str, bool]]:
    """Puts one wrong value after the other under each key: what was put where, and whether the summary is taken nevertheless."""
    summary = run.result().tree()
    for path in keys_of(summary):
        if path[0] not in ("format", "checksum"):
            for value in WRONG:
                put(run, summary, path, value)
                try:
                    run.result().tree()
                    yield f"{'.'.join(path)}={str(value)[:10]}", True
                except DataError:
                    yield f"{'.'.join(path)}={str(value)[:10]}", False


@pytest.mark.slow
def test_a_wrong_value_under_any_key_is_no_traceback(two: Path, tmp_path: Path) -> None:
    shutil.copytree(two, tmp_path, dirs_exist_ok=True)
    strange, good = list_runs(tmp_path)
    broken, refused = [], 0
    for name, taken in strange_ones(strange):
        refused += not taken
        if not taken and refused % 50 != 1:  # all are refused in one place; what is taken is shown
            continue
        for command in COMMANDS:
            result = bn_in(tmp_path, *(word.format(strange.id) for word in command), code=None)
            if not is_told(result, lines=1) or ("show" not in command and good.id not in result.stdout):
                broken.append((name, command, repr(result.exception)[:100], result.stderr[-200:]))
    assert broken == []
    assert refused > 600


@pytest.mark.parametrize("every", [40, pytest.param(1, marks=pytest.mark.slow)])
def test_a_report_is_made_whatever_a_summary_holds(every: int, two: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of several hundred reports, whose figures are all laid out, a tenth of these are drawn."""
    save, numbers = Picture.save, itertools.count()

    def rarely(picture: Picture, folder: Path) -> str:
        if every > 1 or next(numbers) % 10 == 0:
            return save(picture, folder)
        picture.figure.draw_without_rendering()
        return "<svg></svg>"

    monkeypatch.setattr(Picture, "save", rarely)
    shutil.copytree(two, tmp_path, dirs_exist_ok=True)
    strange, good = list_runs(tmp_path)
    broken, counts = [], {True: 0, False: 0}
    for name, taken in strange_ones(strange):
        counts[taken] += 1
        if counts[taken] % (every if taken else 10 * every):  # all are refused in one place
            continue
        result = bn_in(tmp_path, "report", code=None)
        if result.exit_code or good.id not in Path(result.stdout.strip()).read_text():
            broken.append((name, repr(result.exception)[:100], result.stderr[-200:]))
    assert broken == []
    assert counts[True] > 100


def test_every_key_may_be_missing_but_those_of_old(two: Path) -> None:
    """Summaries from before a key existed are read as before, and so are those of a version that knows more."""
    summary = list_runs(two)[0].result().tree()
    for path in keys_of(summary):
        tree = copy.deepcopy(summary)
        node = tree
        for name in path[:-1]:
            node = node[name]
        del node[path[-1]]
        if path[0] not in ("id", "status", "seed", "config") or len(path) > 1:
            RunResult.from_tree(tree)
    more = {"more": {"a": [1, None, "x", {"b": 0.5}]}, "config": {**summary["config"], "optim": {"newer": 1e9}}}
    newer = RunResult.from_tree({**summary, **more}).tree()
    assert (newer["more"], newer["config"]["optim"]["newer"]) == (more["more"], 1e9)


def test_what_is_refused_is_named(two: Path) -> None:
    summary = list_runs(two)[0].result().tree()
    nested: Any = 1
    for _ in range(MAX_DEPTH + 1):
        nested = [nested]
    for change, said in (
        ({"status": "done"}, r"its status is .*'done'"),
        ({"config": None}, "its config is wrong"),
        ({"steps": "x"}, "its steps is wrong: .*got `str`"),
        ({"steps": 10**5000}, "its steps is wrong"),
        ({"val": {"loss": [1]}}, r"its val\.loss is wrong: .*got `array`"),
        ({"test": {"confusion": [[1, 2.5]]}}, r"its test\.confusion\[0\]\[1\] is wrong: .*got `float`"),
        ({"test": {"confusion": [[1, -2]]}}, r"its test\.confusion\[0\]\[1\] is wrong: .* >= 0"),
        ({"more": nested}, "its more is nested too deeply"),
    ):
        with pytest.raises(ValueError, match=said):
            RunResult.from_tree({**summary, **change})
