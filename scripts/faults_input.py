"""Wrong input by the hundred: generated overrides and command lines, each through the real console entry, in this process.

What must come of each: a valid result, or exit code 2 with one message of fewer than 10 printable lines, no traceback, nothing on stdout,
and no file or folder that was not there before. What is accepted is really run then, with the smallest training put behind it; only what
would serve, or ask another machine, is stopped where that would begin.
"""

from __future__ import annotations

import contextlib
import io
import os
import shlex
import shutil
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from unittest import mock

from faults_tried import Tried
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from bnexp.cli import main
from bnexp.config import DATASETS, KEYS
from bnexp.config.fields import Key

MAX_LINES = 9
"""A message has fewer than 10 lines."""
SLOW_S = 20.0
"""What takes longer than this hangs, as far as a user can tell."""
WEIRD = (
    "", " ", "0", "-1", "-0", "1e400", "1e-400", "nan", "-inf", "1_000", "0x10", "007", "1.", ".5", "9" * 400, "9" * 5000,
    "x" * 300, "x" * 70_000, "null", "~", "true", "yes", "auto", "none", "[]", "{}", "[[]]", "[1,[2]]", "{a:1}", "{lr:{}}",
    "[" * 200, "]" * 3, "'", '"', "'a", "a'b", "\\", "\\,", "a=b", "=", "==", "a b", "a\nb", "a\tb", "a\rb", "\x1b[31mred", "\x7f",
    "\u202eabc", "a\u200fb", "\u2028", "\ufeff", "é", "ß", "日本", "🙂", "\ud800", "\udcff", "$", "${", "${}", "${seed}",
    "${oc.env:HOME}", "${oc.env:HOME,x}", "${hydra:run.dir}", "${${seed}}", "\\${seed}", "%s", "{0}", "range(3)", "range(0,1,0)",
    "range(0,inf)", "range(1e9)", "choice(1,2)", "choice()", "interval(0,1)", "glob(*)", "sort(3,1)", "shuffle(1,2)",
    "tag(a,choice(1,2))", "extend_list(1)", "int(3)", "int('x')", "float(nan)", "str(1)", "bool(maybe)", "json_str('{')", "1,2",
    ",", "1,", ",1", "1,,2", "../x", "/etc/passwd", "~root", "file:///etc", "pkg://os", "a@b", "a:b", "#",
    "!!python/object/apply:os.system [ls]", "&a [*a]", "*a", "- x", "? x",
)  # fmt: skip
KEY_LIKE = (
    "", " ", ".", "..", "a", "optim", "optim.", ".lr", "optim.lrr", "optim..lr", "optim.lr.x", "lr", "OPTIM.LR", "optim/lr",
    "data.name", "model.name", "_target_", "model._target_", "hydra", "hydra.run.dir", "hydra/launcher", "hydra.searchpath",
    "data@x", "data@_global_", "/data", "data/mnist", "defaults", "train", "metrics", "experiment", "データ", "a\u202eb", "seed ",
    " seed", "se ed", "seed\n", "__class__", "optim.__class__", "data.__init__", "x" * 3000,
)  # fmt: skip
GROUP_VALUES = (
    "digits", "mnist", "waveforms", "volumes", "npz", "folder", "mlp", "blocknet", "adam", "sgd", "off", "full", "light",
    "ioffe_fig1",
)  # fmt: skip
COMMANDS = ("train", "sweep", "compare", "evaluate", "resume", "runs", "stats", "report", "reports", "config", "tensorboard")
OPTIONS: dict[str, tuple[str, ...]] = {
    "train": ("--seeds", "--fresh"),
    "sweep": ("--values", "--lrs", "--batch-sizes", "--seeds", "--workers", "--scheduler", "--fresh", "--dry-run", "--out"),
    "compare": ("--no-bn", "--norm", "--lrs", "--values", "--seeds", "--workers", "--scheduler", "--fresh", "--out"),
    "evaluate": ("--stats", "--folded"),
    "stats": ("--batch-sizes", "--out"),
    "report": ("--out",),
    "runs": ("--sort", "--limit", "--add"),
    "tensorboard": ("--port",),
}
"""The options of each command, beside those that all have. `tensorboard` and the like must not be served or trained in earnest."""
FLAGS = ("--fresh", "--dry-run", "--no-bn", "--folded", "--json", "--quiet", "-q")
STRANGE_OPTIONS = (
    "--bogus", "--seed", "-x", "--seeds=", "--=", "---", "--help=3", "--json=1", "--no-json", "-qq", "-", "--", "--\u202ex",
    "--" + "x" * 400,
)  # fmt: skip
IDS = (
    "last", "lost", "", " ", ".", "..", "../..", "/", "/etc", "a/b", "x" * 300, "x" * 70_000, "\u202eid", "a\nb", "\x1b[2J", "-",
    "*", "batch-*", "deadbeef", "\udcff", "seed=1", "~x", "日本", "0" * 8,
)  # fmt: skip
OPTION_VALUES = (
    "", " ", ",", "1", "2", "1,2", "1,,2", "0", "-1", "1.5", "1e9", "9" * 400, "nan", "inf", "abc", "4,16,x", "range(3)",
    "range(1e9)", "1;2", "${seed}", "batch", "none,batch", "batch,batch", "bach", "auto", "all", "\u202e", "a\nb", "0.1,0.1",
    "[1,2]", "{}", "'", "x" * 3000, "tcp://", "tcp://x", "tcp://x:y", "http://127.0.0.1:1", "/nowhere/scheduler.json",
)  # fmt: skip
TINY = (
    *("data=digits", "data.subset=60", "data.augment=none", "data.root=null", "train.epochs=null", "train.steps=1"),
    *("metrics=off", "threads=1", "device=cpu", "compile=false"),
)
"""Comes last in a line that is really trained: whatever was asked for before, it takes a moment."""


WORK = (
    "bnexp.report.write_report",
    "bnexp.execution.grid.run_stacks",
    "bnexp.execution.grid.read_once",
    "bnexp.execution.step_times.Measurer.__call__",
    "bnexp.studies.noise_law.law",
    "bnexp.execution.launch.work",
)
"""Where a command begins to work."""


class _Accepted(BaseException):
    """The command would now begin to work: all its input was taken. No Exception, so that nothing on the way takes it for an error."""


class TooLong(BaseException):
    """A command was still at it after the time that it may take."""


def try_inputs(count: int, seed_: int) -> Tried:
    """Tries about `count` generated inputs, the same for the same seed. Counts how many were refused, accepted and really run."""
    found = Tried()

    @seed(seed_)
    @settings(max_examples=count, deadline=None, database=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
    @given(lines())
    def each(args: list[str]) -> None:
        found.counts["tried"] += 1
        if not list(runs.glob("runs/*/summary.json")):  # a line has removed it
            shutil.copytree(runs / "kept", runs / "runs", dirs_exist_ok=True)
        _try(args, found, runs)

    with _sandbox() as runs:
        each()
    return found


def lines() -> st.SearchStrategy[list[str]]:
    """The arguments of `bnexp`."""
    trained = st.lists(st.one_of(good_overrides(), good_overrides(), overrides()), max_size=3).map(
        lambda asked: ["train", *asked, *TINY, "--quiet"]
    )
    config = st.lists(overrides(), min_size=1, max_size=3).map(lambda asked: ["config", *asked])
    return st.one_of(trained, config, commands(), commands())


def commands() -> st.SearchStrategy[list[str]]:
    """Command lines: a command with items and options that it has or has not, complete or not, in any order."""
    return st.sampled_from(COMMANDS).flatmap(_command)


def _command(name: str) -> st.SearchStrategy[list[str]]:
    own = [*OPTIONS.get(name, ()), "--json", "--quiet", "--config-dir"]
    flags = [option for option in own if option in FLAGS]
    taking = [option for option in own if option not in FLAGS]
    option = st.one_of(
        st.sampled_from(flags).map(lambda flag: [flag]),
        st.tuples(st.sampled_from(taking), st.sampled_from(OPTION_VALUES)).map(list),
        st.sampled_from(taking).map(lambda name: [name]),  # its value is missing, or is what comes next
        st.tuples(st.sampled_from(taking), st.sampled_from(OPTION_VALUES)).map(lambda pair: ["=".join(pair)]),
        st.sampled_from(STRANGE_OPTIONS).map(lambda option: [option]),
    )
    ids = st.one_of(st.sampled_from(IDS), st.text(max_size=12).filter(_can_be_argument))
    item = (
        overrides()
        if name in ("train", "config", "sweep")
        else st.one_of(overrides(), ids)
        if name in ("compare", "stats", "runs")
        else ids
    )
    parts = st.lists(st.one_of(item.map(lambda text: [text]), item.map(lambda text: [text]), option), max_size=4)
    first = {
        "sweep": st.sampled_from(("grid", "lr", "norm", "batch-size", "batch_size", "", "grid,lr")).map(lambda kind: [kind]),
        "runs": st.sampled_from(([], [], ["ls"], ["show"], ["rm"], ["diff"], ["tag"], ["note"], ["shwo"])),
    }.get(name, st.just([]))
    start = st.one_of(
        st.just([name]), st.just([name]), st.just([name]), st.sampled_from(([name, name], [name[:-1]], [name.upper()], ["--json", name]))
    )
    return st.tuples(start, first, parts).map(lambda found: [*found[0], *found[1], *(text for part in found[2] for text in part)])


def overrides() -> st.SearchStrategy[str]:
    """One override: a known key with a value that may be good, a made-up key, a group, or anything at all."""
    known = st.sampled_from(sorted(KEYS))
    anything = st.one_of(st.sampled_from(WEIRD), st.text(max_size=20), st.integers().map(str), st.floats().map(str))
    wrong = st.tuples(st.sampled_from(("", "", "", "+", "++", "~", "@")), known, anything).map(lambda part: f"{part[0]}{part[1]}={part[2]}")
    other = st.tuples(st.one_of(st.sampled_from(KEY_LIKE), st.text(max_size=10)), anything).map(lambda part: f"{part[0]}={part[1]}")
    group = st.tuples(
        st.sampled_from(("data", "model", "optim", "metrics", "experiment", "+experiment", "data@x")),
        st.sampled_from((*GROUP_VALUES, *WEIRD)),
    ).map("=".join)
    return st.one_of(good_overrides(), good_overrides(), wrong, wrong, other, group, anything).filter(_can_be_argument)


def good_overrides() -> st.SearchStrategy[str]:
    """One override of a known key, with a value that is mostly valid."""
    return (
        st.sampled_from(sorted(KEYS))
        .flatmap(lambda name: _good(name, KEYS[name]).map(lambda value: f"{name}={value}"))
        .filter(_can_be_argument)
    )


def _good(name: str, known: Key) -> st.SearchStrategy[str]:
    """Mostly valid values of a key, small ones: they may be trained. Now and then the far ends of its range."""
    if name == "model.widths":
        return st.lists(st.integers(1, 6), min_size=1, max_size=4).map(lambda widths: str(widths).replace(" ", ""))
    if name == "data.root":
        return st.just("nowhere/at/all")
    if name == "data.name":
        return st.sampled_from(tuple(DATASETS))
    if name == "name":
        return st.text("abcXYZ0189._-", min_size=1, max_size=90)
    options = [st.sampled_from(known.values)] if known.values else []
    low, high = known.low, known.high
    if int in known.types:
        options += [
            st.integers(max(0, int(max(low, 0))), int(max(low, 0)) + 40).map(str),
            st.sampled_from((f"{low:.0f}", f"{min(high, 2**31):.0f}")),
        ]
    if float in known.types:
        options += [st.floats(max(low, 0), min(high, 10), allow_nan=False).map(repr), st.sampled_from((repr(low), repr(high)))]
    return st.one_of(options) if options else st.sampled_from(WEIRD)


def _can_be_argument(text: str) -> bool:
    """Whether an operating system can hand it over: no NUL, and nothing but UTF-8 and the stand-ins for other bytes."""
    try:
        os.fsencode(text)
    except UnicodeEncodeError:
        return False
    return "\0" not in text and text not in ("--install-completion", "--show-completion")


@contextlib.contextmanager
def _sandbox() -> Iterator[Path]:
    """A working directory with one small finished run in `runs/`; HOME and the cache are in it, and what would take long is stopped."""
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        before = Path.cwd()
        stack.callback(os.chdir, before)
        os.chdir(folder)
        cache, home = Path(folder, "cache"), Path(folder, "home")
        (cache / "bnexp" / "data").mkdir(parents=True)
        home.mkdir()
        stack.enter_context(mock.patch.dict(os.environ, {"HOME": str(home), "XDG_CACHE_HOME": str(cache), "COLUMNS": "80"}))
        code, _, err, _ = call(["train", *TINY, "model.widths=[2]", "--quiet"])
        assert code == 0, err
        shutil.copytree("runs", "kept")
        stack.enter_context(mock.patch("bnexp.tensorboard.server.serve", _accepted))
        yield Path(folder)


def _accepted(*args: object, **kwargs: object) -> None:
    raise _Accepted


@contextlib.contextmanager
def _before_it_works() -> Iterator[None]:
    """What takes long is stopped where it would begin: all input was taken."""
    with contextlib.ExitStack() as stack:
        for place in WORK:
            stack.enter_context(mock.patch(place, _accepted))
        yield


def in_earnest(args: list[str]) -> list[str] | None:
    """An accepted line, so that it takes a moment; None where it would ask another machine."""
    command = next((arg for arg in args if arg in COMMANDS), "")
    if any(arg.startswith("--scheduler") for arg in args):
        return None
    if command in ("sweep", "compare") and "--dry-run" not in args:
        return [*args, *TINY, "--workers", "0", "--seeds", "1"]
    return [*args, *TINY] if command == "train" else args


def call(args: Sequence[str]) -> tuple[int | None, str, str, str]:
    """`bnexp ARGS` in this process: its exit code (None: an exception came through), stdout, stderr, and the exception."""
    streams = [io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True) for _ in range(2)]
    code, error = None, ""
    with (
        contextlib.ExitStack() as process,
        contextlib.redirect_stdout(streams[0]),
        contextlib.redirect_stderr(streams[1]),
        mock.patch.object(sys, "argv", ["bnexp", *args]),
    ):
        for own in ("outlive_readers", "interrupt", "leave"):  # what main does to its process, which here is another's
            process.enter_context(mock.patch(f"bnexp.cli.app.{own}"))
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                main(list(args))
            code = 0
        except SystemExit as exit_:
            code = exit_.code if isinstance(exit_.code, int) else 1
        except _Accepted:
            code = 0
        except BaseException as caught:  # whatever it is, the user would see a traceback
            error = f"{type(caught).__name__}: {str(caught)[:200]}"
            if isinstance(caught, KeyboardInterrupt):
                raise
    texts = [stream.buffer.getvalue().decode("utf-8", "replace") for stream in streams]  # type: ignore[attr-defined]
    return code, texts[0], texts[1], error


def _try(args: list[str], found: Tried, folder: Path) -> None:
    """One input, and what is wrong with what came of it."""
    before, start = _listing(folder), time.perf_counter()
    with _before_it_works():
        code, out, err, error = call(args)
    seconds = time.perf_counter() - start
    broken = []
    if error:
        broken.append(f"a traceback: {error}")
    elif code == 2:
        found.counts["refused"] += 1
        broken += _wrong_refusal(out, err)
        broken += [f"left behind: {name}" for name in sorted(_listing(folder) - before)]
    elif code == 0:
        found.counts["accepted"] += 1
        if (line := in_earnest(args)) is not None:
            found.counts["run"] += 1
            broken += _wrong_end(*call(line))
    else:
        broken.append(f"exit code {code}: {err[:200]}")
    if seconds > SLOW_S:
        broken.append(f"it took {seconds:.0f} s")
    if broken:
        found.problems.append(f"{shlex.join(['bnexp', *(arg[:120] for arg in args)])!r}: {'; '.join(broken)}")


def _wrong_end(code: int | None, out: str, err: str, error: str) -> list[str]:
    """What is wrong with how a line ended that was really run. What was put behind it may make it wrong: then it is refused."""
    broken = [f"run in earnest, a traceback: {error}"] if error else []
    if code not in (0, 2, 3) and not error:
        broken.append(f"run in earnest, exit code {code}: {err[:300]}")
    return broken + (_wrong_refusal(out, err) if code == 2 else [])


def _wrong_refusal(out: str, err: str) -> list[str]:
    lines = err.splitlines()
    broken = []
    if out:
        broken.append(f"on stdout: {out[:100]!r}")
    if not err.strip():
        broken.append("no message")
    if len(lines) > MAX_LINES:
        broken.append(f"a message of {len(lines)} lines")
    if "Traceback" in err:
        broken.append("a traceback is printed")
    if bad := next((line for line in err.split("\n") if not line.isprintable()), None):
        broken.append(f"cannot be printed: {bad[:100]!r}")
    if len(err) > 1600:
        broken.append(f"a message of {len(err)} characters")
    return broken


def _listing(folder: Path) -> set[str]:
    """Every path below `folder`."""
    return {f"{parent}/{name}" for parent, folders, files in os.walk(folder) for name in (*folders, *files)}


if __name__ == "__main__":
    result = try_inputs(int(sys.argv[1]) if len(sys.argv) > 1 else 150, int(sys.argv[2]) if len(sys.argv) > 2 else 0)
    print(dict(result.counts), *result.problems, sep="\n")
