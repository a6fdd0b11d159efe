"""The app that the commands are added to, what becomes of errors, and the console script."""

from __future__ import annotations

import contextlib
import gc
import os
import re
import shutil
import sys
from collections.abc import Iterator, Sequence
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from bnexp import __version__
from bnexp.base.errors import BnexpError, failure, more_files, one_line, short, shortage
from bnexp.base.signals import INTERRUPTED, interrupt, leave
from bnexp.cli.streams import outlive_readers, say, show_waiting, take_away_waiting

WRONG_USAGE: type[Any] = typer.BadParameter.__mro__[1]
"""Click's UsageError. Typer brings a Click of its own or uses the installed one, depending on its version."""
ECHOED = 180
"""Characters of a message of Click's, which repeats what was typed: with the usage above it stays below 10 lines, wide letters too."""
GARBAGE = 100_000
"""New objects between two searches for garbage. What PyTorch's import makes stays: with Python's own 700 between two, `bnexp
train` came to its first step after 1.44 s instead of 1.39 (medians of 7). What a training leaves in cycles does not grow with its steps."""
WIDEST_HELP = 100
"""Columns of help. Click would take no more than 80, and no fewer than 50, whatever the terminal has."""


WAITING = {
    **dict.fromkeys(("train", "sweep", "compare", "evaluate", "resume", "stats"), "Loading PyTorch ..."),
    **dict.fromkeys(("runs", "report", "reports", "tensorboard", "export"), "Reading the runs ..."),
}
"""What is shown at once by the commands that take longer than 0.3 s to write anything."""


class Commands(TyperGroup):
    """Turns our errors into one sentence on stderr and an exit code, and makes those of Click's parser safe to print."""

    def make_context(self, *args: Any, **kwargs: Any) -> Any:
        kwargs.setdefault("terminal_width", max(30, min(shutil.get_terminal_size().columns, WIDEST_HELP) - 2))
        with _usage_in_one_line():
            return super().make_context(*args, **kwargs)

    def parse_args(self, ctx: Any, args: list[str]) -> Any:
        args = ctx.meta["args"] = [_as_meant(arg) for arg in args]  # for `meant.option`
        return super().parse_args(ctx, list(args))

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args[0] not in self.commands and ctx.parent is None:
            from bnexp.cli.meant import command

            if line := command(args[0]):
                raise WRONG_USAGE(f"No such command '{short(args[0])}'. Write: {line}", ctx=ctx)
        return super().resolve_command(ctx, args)

    def list_commands(self, ctx: Any) -> list[str]:
        from bnexp.cli import COMMANDS  # which imports this module

        return [name for name in COMMANDS if name in self.commands] or super().list_commands(ctx)  # runs has commands of its own

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Each with the whole first paragraph of its help, which Click would cut to a line."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, (self.commands[name].help or "").partition("\n\n")[0]) for name in self.list_commands(ctx)])

    def invoke(self, ctx: Any) -> Any:
        if ctx.parent is None:
            words = ctx.meta["args"]
            name = next((word for word in words if not word.startswith("-")), "")
            if name in WAITING and not {"--quiet", "--help", "-h"} & set(words):
                show_waiting(WAITING[name])
        try:
            with _usage_in_one_line():
                result = super().invoke(ctx)
            if sys.stdout is not None:
                sys.stdout.flush()  # a full disk behind it is an error like any other
        except BnexpError as error:
            say(("Error: " if error.exit_code != INTERRUPTED else "") + str(error))
            raise typer.Exit(error.exit_code) from None
        except OSError as error:
            more = more_files(error)
            say(f"Error: {failure(error)}{'.' if more else ''}{more}")
            raise typer.Exit(BnexpError.exit_code) from None
        except (MemoryError, ImportError, RuntimeError) as error:
            if (missing := shortage(error)) is None:
                raise
            say(f"Error: {missing[0].upper()}{missing[1:]}.")
            raise typer.Exit(BnexpError.exit_code) from None
        except KeyboardInterrupt as error:
            say(f"Interrupted by {error}." if str(error) else "Interrupted.")
            raise typer.Exit(INTERRUPTED) from None
        return result


def _as_meant(arg: str) -> str:
    """The argument with its ~ replaced, which shells leave as it is in `--runs-dir=~/runs` and inside quotes.

    Raises:
        click.UsageError: it holds a carriage return, which only the line ends of a Windows editor bring there.
    """
    if "\r" in arg:
        raise WRONG_USAGE(
            "An argument ends in a carriage return: the script that it is from has the line ends of Windows. "
            "Mend it: sed -i 's/\\r$//' SCRIPT"
        )
    if arg.startswith("~/"):
        return os.path.expanduser(arg)  # noqa: PTH111 (Path's own raises an error where there is no home)
    option, equals, value = arg.partition("=")
    return f"{option}={os.path.expanduser(value)}" if equals and arg.startswith("--") else arg  # noqa: PTH111 (as above)


@contextlib.contextmanager
def _usage_in_one_line() -> Iterator[None]:
    try:
        yield
    except WRONG_USAGE as error:
        if type(error).__name__ == "NoArgsIsHelpError":  # its message is the help
            raise
        said = re.sub(r"\s*\n\s*", " ", error.format_message())  # it lists choices one a line
        if type(error).__name__ == "NoSuchOption":
            from bnexp.cli.meant import option

            sentence = option(error.option_name, error.ctx)
            said = f"{error.message}. {sentence}" if sentence else said
        raise WRONG_USAGE(one_line(said, ECHOED), ctx=error.ctx) from None


app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    rich_markup_mode=None,  # Click's plain help: Rich and its Markdown take longer to import than all else that help needs
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="A laboratory for batch normalization: trains the two-conv BN-ReLU network with and without it, and measures what it did.",
    epilog="`bnexp COMMAND --help` has examples. OVERRIDES are key=value, as in `data=mnist optim.lr=0.3`; `bnexp config` prints them all.",
)


def _version(value: bool) -> None:
    if value:
        print(f"bnexp {__version__}")
        raise typer.Exit


@app.callback()
def root(version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")] = False) -> None:
    pass


def main(args: Sequence[str] | None = None) -> None:
    """The console script."""
    # GNU OpenMP's threads spin at barriers, by default so long that beside any competitor a two-thread step took 12 times as long (25 to
    # 297 ms, MNIST-sized, batch 64, 2 cores). With 2000 turns it takes 21.6 ms alone and 68 beside a busy process; with
    # 1000 it took 22.4 and 64 (digits, batch 256: 9.7 and 44 with 2000, 10.8 and 37 with 1000). Read when torch loads.
    os.environ.setdefault("GOMP_SPINCOUNT", "2000")
    os.environ["PYTHONSAFEPATH"] = (
        "1"  # for what is started from here: Python would import from the working folder, which may be another user's
    )
    gc.set_threshold(GARBAGE)
    outlive_readers()
    interrupt()
    try:
        app(args=args, prog_name="bnexp")
    finally:
        take_away_waiting()
        leave()
