"""Report: how long a page on 200 runs takes, and how large it is.

The runs are real and short: batch sizes 16 to 256, four learning rates, both arms, five seeds, 60 steps, the default metrics. `bnexp
report` is timed as a whole command, start-up included.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from benchmarks.children import bnexp, scratch
from benchmarks.group import Request, budget
from benchmarks.rows import Row, at_most, figure, measured, not_measured
from benchmarks.sides import Sides
from benchmarks.turns import NotMeasured

NAME, REPETITIONS = "report", 3
SECONDS, SIZE = at_most(20, "s"), at_most(10, "MB")
SWEEP = ("sweep", "batch-size", "--values", "16,32,64,128,256", "--seeds", 5, *budget(60), "device=cpu", "--quiet", "--json")


def rows(request: Request) -> Iterator[Row]:
    with scratch() as folder:
        try:
            runs = len(bnexp(folder, *SWEEP).json["runs"])
        except NotMeasured as error:
            yield not_measured(NAME, "seconds", str(error), SECONDS)
            yield not_measured(NAME, "size of the page", str(error), SIZE)
            return
        (group,) = [path.parent.name for path in Path(folder, "runs").glob(".groups/*/members.json")]
        taken = Sides.measure(NAME, {"report": lambda: bnexp(folder, "report", group).seconds}, request.repetitions, warmup=0)
        name = f"bnexp report over {runs} runs"
        if taken.failed:
            yield not_measured(NAME, f"{name}: seconds", taken.failed["report"], SECONDS)
            return
        yield measured(NAME, f"{name}: seconds", [], figure("whole command", "s", taken.found["report"]), SECONDS, load=taken.load)
        (page,) = Path(folder, "runs").glob(f"reports/*-{group}/index.html")
        figures = len(list(page.parent.glob("figures/*.svg")))
        size = figure("page", "MB", [page.stat().st_size / 1e6])
        yield measured(NAME, f"{name}: size of the page", [], size, SIZE, remark=f"{figures} figures")
