"""The mark of the best cells: a sign in the text, which a pipe and NO_COLOR keep, and bold green on a terminal."""

from __future__ import annotations

from rich.text import Text

MARK = "*"
STYLE = "bold green"
LOWEST = "lowest mean validation loss: a choice, no test"
BETTER = "a difference from {} is shown: p <= 0.05, for all but the primary question after Holm's correction"


def mark(text: str, best: bool) -> str:
    """`*98.61 ± 0.32` where it is the best, else as it is."""
    return f"{MARK}{text}" if best else text


def marked(text: str) -> Text:
    """A cell for a terminal: the best one in its style."""
    return Text(text, style=STYLE if text.startswith(MARK) else "")
