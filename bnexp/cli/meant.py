"""The line to type instead, for a command or an option that does not exist: imported once something is wrong."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from bnexp.base.errors import one_of
from bnexp.config import KEYS
from bnexp.config.overrides import meant_by, meant_by_word

COMMANDS = {
    **dict.fromkeys(("ls", "list", "history", "results", "status"), "bnexp runs"),
    **dict.fromkeys(("show", "info", "summary", "print"), "bnexp runs show RUN"),
    **dict.fromkeys(("rm", "delete", "remove", "clean"), "bnexp runs rm RUN"),
    **dict.fromkeys(("demo", "example", "quickstart", "no-bn"), "bnexp compare --no-bn"),
    **dict.fromkeys(("run", "fit", "start"), "bnexp train"),
    **dict.fromkeys(("eval", "test", "validate", "score"), "bnexp evaluate RUN"),
    **dict.fromkeys(("plot", "plots", "figures", "html", "view"), "bnexp report RUN"),
    **dict.fromkeys(("tb", "board", "dashboard", "logs"), "bnexp tensorboard"),
    **dict.fromkeys(("continue", "restart"), "bnexp resume"),
    **dict.fromkeys(("grid", "tune", "search"), "bnexp sweep grid"),
    **{kind: f"bnexp sweep {kind}" for kind in ("lr", "norm", "batch-size")},
    **dict.fromkeys(("cfg", "options", "keys", "settings"), "bnexp config"),
    "explain": "bnexp config --explain",
    "diff": "bnexp runs diff A B",
    "tag": "bnexp runs tag RUN --add NAME",
    "note": "bnexp runs note RUN TEXT",
    "open": "bnexp reports --open",
    **{name: f"bnexp export RUN --to {name}" for name in ("csv", "latex", "markdown", "mlflow", "wandb")},
    "help": "bnexp --help",
    "version": "bnexp --version",
}
"""What commands are called elsewhere."""
RUNS_COMMANDS = {
    **dict.fromkeys(("info", "cat", "print", "summary"), "show RUN"),
    **dict.fromkeys(("delete", "remove", "del"), "rm RUN"),
    **dict.fromkeys(("compare", "difference"), "diff A B"),
    **dict.fromkeys(("label", "untag", "tags"), "tag RUN --add NAME"),
    **dict.fromkeys(("comment", "notes", "annotate"), "note RUN TEXT"),
}
"""The same of the commands of `bnexp runs`."""
NO_BN = ("no_bn", "nobn", "without_bn", "no_norm", "no_batch_norm")
TRAINING = ("train", "sweep", "compare", "config")
"""Commands that take overrides of every key."""


def command(name: str) -> str | None:
    """The command that was meant by an unknown one; a word that stands for an override is one to train with."""
    key, equals, value = name.partition("=")
    override = meant_by(key, value) if equals else meant_by_word(name)
    return COMMANDS.get(name.lower()) or (f"bnexp train {override}" if override else None)


def runs_line(words: Sequence[str]) -> str | None:
    """The command that was meant by words after `bnexp runs`, of which the first is none of its commands: `show` before a run, or the
    override that a word stands for."""
    if words[0].lower() in RUNS_COMMANDS:
        return f"bnexp runs {RUNS_COMMANDS[words[0].lower()]}"
    if override := meant_by_word(words[0]):
        return f"bnexp runs {override}"
    return f"bnexp runs show {words[0]}" if words[0] == "last" or re.search(r"-[0-9a-f]{8}$|-s\d+$|/", words[0]) else None


def option(name: str, ctx: Any) -> str:
    """The sentence on what was meant by an option that the command of this context does not have; empty where that is unknown.

    Args:
        name: as the parser has it: `--lr`, or `-l` of `-lr`.
    """
    root, commands = ctx.find_root(), ctx.find_root().command.commands
    args: Sequence[str] = ctx.meta.get("args", ())
    names = [arg.partition("=")[0] for arg in args]
    at = names.index(name) if name in names else next((index for index, arg in enumerate(args) if arg.startswith(name)), len(args) - 1)
    written, equals, value = args[at].partition("=")
    following = args[at + 1] if at + 1 < len(args) else "-"
    if not equals and not following.startswith("-") and following not in commands:
        value = following
    inside = ctx
    while inside.parent not in (None, root):  # of `bnexp runs show`, runs
        inside = inside.parent
    bare = written.lstrip("-").lower().replace("-", "_")
    usual = "compare" if bare in NO_BN else "train"
    own = inside.command.name if ctx is not root else next((arg for arg in args if arg in TRAINING), usual)
    if line := _instead(own, bare, value):
        return f"Write: {line}" if ctx is not root else f"Write: bnexp {own} {line}"
    having = [f"`bnexp {other}`" for other, one in commands.items() if any(written in param.opts for param in one.params)]
    if not having:
        return ""
    return f"It is an option of {one_of(having)}." if ctx is not root else f"Options follow the command, as in {having[0][:-1]} {written}`."


def _instead(own: str, name: str, value: str) -> str | None:
    """The option or override to type in a command; None where it takes none."""
    if own not in TRAINING:
        return None
    if name in NO_BN:
        return "--no-bn" if own == "compare" else "model.norm=none, or bnexp compare --no-bn" if own == "train" else "model.norm=none"
    if name == "norms" and own in ("sweep", "compare"):
        words = value.split(",") if value else ["NAME"]
        return f"--values {value or 'A,B,C'}" if own == "sweep" else " ".join(f"--norm {word}" for word in words)
    if name == "batch_sizes" and own == "compare":
        return f"bnexp sweep batch-size --batch-sizes {value or 'A,B,C'}, which compares the arms at each"
    if name in ("gpu", "cpu", "cuda"):
        return f"device={'cpu' if name == 'cpu' else 'cuda'}"
    if name in ("bn", "batch_norm") and value not in KEYS["model.norm"].meant:
        return "model.norm=batch"
    return meant_by(name, value)
