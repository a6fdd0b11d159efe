"""What goes wrong on the user's side, with the exit code that says so."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import resource
from collections.abc import Iterable, Iterator


class BnexpError(Exception):
    """A failure that is explained in one sentence, without a traceback. Exit code 1: it failed at run time."""

    exit_code = 1


class UsageError(BnexpError):
    """The command, the config or a path is wrong; nothing was started. Exit code 2."""

    exit_code = 2


class DataError(BnexpError):
    """An existing file cannot be used, or a download failed. Exit code 1."""


class UnreadableError(DataError):
    """A file exists, and the disk or the operating system did not give its content; a second try may succeed."""


@contextlib.contextmanager
def refused_as_usage() -> Iterator[None]:
    """To be put around the reading of the user's own data before anything is started: data that were read and refused are wrong usage; an
    error that another one caused, such as a file that could not be read, stays a DataError."""
    try:
        yield
    except DataError as error:
        if error.__cause__ is None:
            raise UsageError(str(error)) from None
        raise


def more_files(error: OSError, runs: int = 1) -> str:
    """The sentence on how to allow more open files, where these were too few; `runs` are those that were trained at once."""
    if error.errno != errno.EMFILE:
        return ""
    return f" `ulimit -n {4 * runs + 200}` before the command allows more{', or lower --seeds' if runs > 1 else ''}."


class Interrupted(BnexpError):
    """Ctrl-C or another signal (`signals.SIGNALS`): the state is saved. Exit code 130."""

    exit_code = 130


def did_you_mean(word: str, choices: Iterable[str]) -> str:
    """` Did you mean 'x'?`; empty where no choice is close to `word`, in any case."""
    from difflib import get_close_matches

    by_lower = {choice.lower(): choice for choice in choices}
    close = get_close_matches(word[:80].lower(), list(by_lower), n=1, cutoff=0.6)
    return f" Did you mean '{by_lower[close[0]]}'?" if close else ""


def one_of(choices: Iterable[str]) -> str:
    """The choices as a person would list them: `a, b or c`."""
    *head, last = choices
    return f"{', '.join(head)} or {last}" if head else last


def short(text: str, limit: int = 80) -> str:
    """`text` as an echo in an error message: one line of at most `limit` characters, what cannot be printed escaped."""
    text = text[: limit + 1]
    line = text if text.isprintable() else repr(text)[1:-1]
    return line if len(line) <= limit else line[: limit - 3] + "..."


def one_line(text: str, limit: int = 2000) -> str:
    """A whole message as a terminal may show it: what cannot be printed (escape sequences, marks of direction, surrogates) is escaped, and
    a long one is cut in the middle, so that both ends of the sentence stay."""
    line = text if text.isprintable() else "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)
    return line if len(line) <= limit else f"{line[: limit * 3 // 4 - 5]} ... {line[-limit // 4 :]}"


def reason(error: BaseException) -> str:
    """The text of an error without Python's number and the path, which the sentence around it names; never empty."""
    if isinstance(error, MemoryError):
        return "there is not enough memory"
    text = (error.strerror if isinstance(error, OSError) else None) or str(error)
    return re.sub(r"\[Errno -?\d+\] ", "", text) or type(error).__name__


def failure(error: BaseException) -> str:
    """Why something failed: `reason`, with the file that an OSError names, or with the kind of an error that was not expected."""
    if isinstance(error, OSError) and error.strerror:
        name = error.filename
        return reason(error) + (f": {os.fsdecode(name)}" if isinstance(name, (str, bytes, os.PathLike)) else "")
    first = reason(error).splitlines()[0][:300]
    expected = isinstance(error, (BnexpError, OSError, MemoryError)) or first == type(error).__name__
    return first if expected else f"{type(error).__name__}: {first}"


def lacks_memory(error: BaseException) -> bool:
    """Whether there was not enough memory, for which libraries, PyTorch's import among them, have their own texts."""
    shown = re.search("allocate memory|failed to map segment|could not create a primitive", str(error))
    return isinstance(error, MemoryError) or shown is not None


def shortage(error: BaseException) -> str | None:
    """Which resource a process lacked, memory or threads, with its shell's limits if it has any; None for other errors."""
    if "start new thread" in str(error):
        return f"no more threads can be started{_limit(resource.RLIMIT_NPROC, '-u', 1)}{_limit(resource.RLIMIT_AS, '-v', 1024)}"
    if lacks_memory(error):
        return f"there is not enough memory{_limit(resource.RLIMIT_AS, '-v', 1024)}"
    return None


def _limit(what: int, option: str, unit: int) -> str:
    soft, _ = resource.getrlimit(what)
    return "" if soft == resource.RLIM_INFINITY else f"; ulimit {option} is {soft // unit}"
