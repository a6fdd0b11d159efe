"""Declarations and what follows from them agree."""

import reference


def test_what_follows_from_declarations_is_written_down() -> None:
    for path, text in reference.files():
        assert path.exists(), f"{path} is missing: run scripts/reference"
        assert path.read_text() == text, f"{path} is out of date: run scripts/reference"
