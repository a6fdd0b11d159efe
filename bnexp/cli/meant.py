"""The line to type instead, for a command or an option that does not exist: imported once something is wrong."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from bnexp.base.errors import one_of
from bnexp.config import KEYS
from bnexp.config.group_files import GROUPS
from bnexp.config.overrides import meant_by, meant_by_word

COMMANDS = {
    **dict.fromkeys(("ls", "list", "history", "results", "status"), "bnexp runs"),
    **dict.fromkeys(("show", "info", "summary", "print"), "bnexp runs show RUN"),
    **dict.fromkeys(("rm", "delete", "remove", "clean"), "bnexp runs rm RUN"),
    **dict.fromkeys(("demo", "example", "quickstart", "no-bn", "diff"), "bnexp compare --no-bn"),
    **dict.fromkeys(("run", "fit", "start"), "bnexp train"),
    **dict.fromkeys(("eval", "test", "validate", "score"), "bnexp evaluate RUN"),
    **dict.fromkeys(("plot", "plots", "figures", "html", "open", "view"), "bnexp report RUN"),
    **dict.fromkeys(("tb", "board", "dashboard", "logs"), "bnexp tensorboard"),
    **dict.fromkeys(("continue", "restart"), "bnexp resume"),
    **dict.fromkeys(("grid", "tune", "search"), "bnexp sweep grid"),
    **{kind: f"bnexp sweep {kind}" for kind in ("lr", "norm", "batch-size")},
    **dict.fromkeys(("cfg", "options", "keys", "settings"), "bnexp config"),
    "help": "bnexp --help",
    "version": "bnexp --version",
}
"""What commands are called elsewhere."""
TRAINING = ("train", "sweep", "compare", "config")
"""Commands that take overrides of every key."""


def command(name: str) -> str | None:
    """The command that was meant by an unknown one; a word that stands for an override is one to train with."""
    override = name if "=" in name and not name.startswith("-") else meant_by_word(name)
    return COMMANDS.get(name.lower()) or (f"bnexp train {override}" if override else None)


def option(name: str, ctx: Any) -> str:
    """The sentence on what was meant by an option that the command of this context does not have; empty where that is unknown.

    Args:
        name: as the parser has it: `--lr`, or `-l` of `-lr`.
    """
    args: Sequence[str] = ctx.meta.get("args", ())
    at = next((index for index, arg in enumerate(args) if arg.startswith(name)), len(args) - 1)
    written, equals, value = args[at].partition("=")
    if not equals and at + 1 < len(args) and not args[at + 1].startswith("-"):
        value = args[at + 1]
    commands = ctx.find_root().command.commands
    if line := _instead(ctx.command.name, commands, written.lstrip("-").lower().replace("-", "_"), value):
        return f"Write: {line}"
    having = [f"`bnexp {other}`" for other, one in commands.items() if any(written in param.opts for param in one.params)]
    if having and ctx.command.name not in commands:
        return f"Options follow the command, as in {having[0][:-1]} {written}`."
    return f"It is an option of {one_of(having)}." if having else ""


def _instead(own: str, commands: Collection[str], name: str, value: str) -> str | None:
    """The option or override to type in the command `own`; where that takes no overrides, None; without a command, one that does."""
    if name in ("no_bn", "nobn", "without_bn", "no_norm", "no_batch_norm"):
        return "--no-bn" if own == "compare" else "model.norm=none, or bnexp compare --no-bn" if own in TRAINING else None
    if name in ("lrs", "values", "batch_sizes") and own in ("sweep", "compare"):
        return f"{'--values' if own == 'sweep' else '--lrs'} {value or 'A,B,C'}"
    if name in ("gpu", "cpu", "cuda"):
        meant: str | None = f"device={'cpu' if name == 'cpu' else 'cuda'}"
    elif name in ("bn", "batch_norm") and value not in KEYS["model.norm"].meant:
        meant = "model.norm=batch"
    else:
        meant = f"{name}={value or 'VALUE'}" if name in (*GROUPS, *KEYS) else meant_by(name, value)
    if meant is None or own in TRAINING:
        return meant
    return None if own in commands else f"bnexp train {meant}"
