"""Start-up: what a command takes before it has done anything.

Wall seconds of whole processes, in turns, from start to exit: `python -c "import torch"` is `import torch` alone. `bnexp train` is ended
right after its first training step, which spares it the exit; so the same time stands beside that of a process which is ended right after
its import.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Container, Iterator
from pathlib import Path

from benchmarks.children import BNEXP, app, bnexp, bnexp_worker, run, scratch
from benchmarks.group import Request, budget
from benchmarks.rows import Row, Target, at_most
from benchmarks.sides import Sides

NAME, REPETITIONS = "startup", 5
IMPORTED, ENDED = "import torch, ended right after", "bnexp train to its first step, beside an import without its exit"
LISTED = 100
PASS, TORCH = "python -c pass", "import torch"
TARGETS: dict[str, tuple[str, Target]] = {
    "bnexp --help": (PASS, at_most(12)),
    f"bnexp runs, {LISTED} runs": (PASS, at_most(35)),
    "bnexp train to its first step": (TORCH, at_most(1.4)),
}
SHORT = ("device=cpu", "threads=1", *budget(40))


def rows(request: Request) -> Iterator[Row]:
    with scratch() as folder:
        listed, own = folder / "listed", folder / "runs"
        for norm in ("batch", "none"):
            bnexp(folder, "train", *SHORT, f"model.norm={norm}", "optim.lr=0.01", "--quiet")
        one, two = sorted(path.parent.name for path in own.glob("*/summary.json"))
        sweep = ("sweep", "lr", "--values", "0.03,0.1", "--seeds", 1, "--quiet", "metrics=off", *SHORT)
        bnexp(folder, *sweep)
        with bnexp_worker(folder, threads=1) as worker:
            worker.ask("benchmarks.library:copies", origin=str(own / one), runs_dir=str(listed), count=LISTED)

        def command(*args: object) -> Callable[[], float]:
            return lambda: bnexp(folder, *args).seconds

        def python(code: str) -> Callable[[], float]:
            return lambda: run([sys.executable, "-c", code], folder).seconds

        judged: dict[str, Callable[[], float]] = {
            PASS: python("pass"),
            TORCH: python("import torch"),
            "bnexp --help": lambda: run([*BNEXP, "--help"], folder).seconds,
            f"bnexp runs, {LISTED} runs": lambda: run([*BNEXP, "runs", "--runs-dir", listed], folder).seconds,
            "bnexp train to its first step": lambda: app(folder, "first_step", Path("first")).seconds,
        }
        yield from _rows(judged, request.repetitions, judged)
        ended = {IMPORTED: python("import os, torch; os._exit(0)"), ENDED: judged["bnexp train to its first step"]}
        yield from _rows(ended, request.repetitions, {ENDED})
        others = {
            PASS: judged[PASS],
            TORCH: judged[TORCH],
            "bnexp config": lambda: run([*BNEXP, "config"], folder).seconds,
            "bnexp evaluate RUN": command("evaluate", one),
            "bnexp sweep, all of it reused": command(*sweep),
            "bnexp compare RUN RUN": command("compare", one, two),
            "bnexp resume, a finished run": command("resume", one),
            "bnexp stats RUN": command("stats", one),
            "bnexp report, 2 runs": command("report", one, two, "--out", folder / "page"),
        }
        yield from _rows(others, max(1, request.repetitions // 2), others.keys() - judged.keys(), warmup=0)


def _rows(sides: dict[str, Callable[[], float]], repetitions: int, wanted: Container[str], warmup: int = 1) -> Iterator[Row]:
    taken = Sides.measure(NAME, sides, repetitions, warmup)
    for name in sides:
        if name in (PASS, IMPORTED) or name not in wanted:
            continue
        base, target = TARGETS.get(name, (PASS if name == TORCH else IMPORTED if name == ENDED else TORCH, None))
        yield taken.row(name, "s", {"reference": base, "command": name}, (f"/ {base}", name, base), target)
