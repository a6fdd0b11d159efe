"""Whole-file writes, and JSON that any reader takes."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bnexp.base.files import atomic_write, dump_json, null_nonfinite, write_json


def test_a_file_appears_whole(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    with atomic_write(path) as file:
        file.write(b"new")
        file.flush()
        assert not path.exists()  # not before it is complete
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, OSError])
def test_an_exception_leaves_the_old_file_and_nothing_else(tmp_path: Path, error: type[BaseException]) -> None:
    path = tmp_path / "file.txt"
    path.write_bytes(b"old")

    def write() -> None:
        with atomic_write(path) as file:
            file.write(b"half of the new")
            raise error

    with pytest.raises(error):
        write()
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_killed_process_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    path.write_bytes(b"old")
    code = (
        "import os, pathlib, signal, sys\nfrom bnexp.base.files import atomic_write\n"
        "with atomic_write(pathlib.Path(sys.argv[1])) as file:\n"
        "    file.write(b'half')\n    file.flush()\n    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    assert subprocess.run([sys.executable, "-c", code, str(path)], check=False).returncode == -9
    assert path.read_bytes() == b"old"
    (left,) = [other for other in tmp_path.iterdir() if other != path]
    with atomic_write(path) as file:
        file.write(b"new")
    assert path.read_bytes() == b"new"
    assert not left.exists()  # what it left is removed


def test_what_others_are_writing_stays(tmp_path: Path) -> None:
    """A living process of this machine, and one of another machine or container, whose number means nothing here."""
    path = tmp_path / "file.txt"
    with atomic_write(path):
        (own,) = tmp_path.iterdir()
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    living = tmp_path / own.name.replace(str(os.getpid()), str(process.pid))
    elsewhere = tmp_path / own.name.replace("file.txt.", "file.txt.other-")
    other_file = tmp_path / own.name.replace("file.txt", "another.txt")
    for name in (living, elsewhere, other_file):
        name.write_bytes(b"half")
    with atomic_write(path):
        pass
    assert all(name.exists() for name in (living, elsewhere, other_file))
    process.communicate(b"\n")
    with atomic_write(path):
        pass
    assert not living.exists()
    assert elsewhere.exists()


def test_a_folder_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), atomic_write(tmp_path / "nothing" / "file.txt"):
        pass


def test_json_has_rows_of_numbers_on_one_line(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"a": {"b": [[1, 2], [3, 4]], "empty": {}, "none": []}, "c": "é"})
    assert path.read_text() == (
        '{\n  "a": {\n    "b": [\n      [1, 2],\n      [3, 4]\n    ],\n    "empty": {},\n    "none": []\n  },\n  "c": "é"\n}\n'
    )


def test_json_refuses_what_is_not_json(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text("old")
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(path, {"a": math.nan})
    assert path.read_text() == "old"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@settings(deadline=None, max_examples=60)
@given(JSON)
def test_our_json_is_json(value: Any) -> None:
    assert json.loads(dump_json(value)) == value


def test_finite_says_what_it_took_out() -> None:
    tree = {
        "loss": math.nan,
        "test": {"running": {"loss": math.inf, "accuracy": 0.5}, "rows": [1.0, -math.inf, [math.nan]]},
        "count": 3,
        "text": "nan",
    }
    assert null_nonfinite(tree) == {
        "loss": None,
        "test": {"running": {"loss": None, "accuracy": 0.5}, "rows": [1.0, None, [None]]},
        "count": 3,
        "text": "nan",
        "nonfinite": ["loss", "test/running/loss", "test/rows/1", "test/rows/2/0"],
    }
    assert math.isnan(tree["loss"])  # type: ignore[arg-type]  # a copy: the tree itself is as it was


def test_finite_adds_nothing_where_all_is_well() -> None:
    assert null_nonfinite({"a": 1.5, "b": [1, (2, 3)]}) == {"a": 1.5, "b": [1, [2, 3]]}
