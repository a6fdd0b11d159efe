"""What metrics.jsonl holds: numbers and lists of them, apart from each other."""

from pathlib import Path

from bnexp.storage.curves import curves, lists


def test_lists_and_numbers_of_a_file_are_read_apart(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text(
        '{"step": 0, "epoch": 0.0, "a/b": 1.5}\n'
        '{"step": 0, "epoch": 0.0, "h/x": [-1.5, 2, 3, 4], "h/y": [0, 1]}\n'
        '{"step": 8, "a/b": null, "nonfinite": ["a/b"]}\n'
        '{"step": 8, "h/x": [1, 2.5]}\n'
        '{"step": 9, "h/x": [1, 2'  # torn
    )
    assert lists(path) == {"h/x": [(0, [-1.5, 2.0, 3.0, 4.0]), (8, [1.0, 2.5])], "h/y": [(0, [0.0, 1.0])]}
    found = curves(path)
    assert list(found) == ["a/b"]
    assert [step for step, _ in found["a/b"]] == [0, 8]
    assert lists(tmp_path / "missing.jsonl") == {}
