"""Runs as Rich tables. Their summaries and curves are passed in; this module reads no files."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from bnexp.analysis.rows import Row, is_result, val_loss
from bnexp.base.sparkline import LOST, sparkline
from bnexp.data.contents import contents_of
from bnexp.norms import has_batch_statistics
from bnexp.storage.folder import flatten
from bnexp.tables.listing import Column, Listing
from bnexp.tables.marks import MARK, STYLE, lowest
from bnexp.tables.text import Whole, count, number, percent, spread

Curve = Sequence[tuple[int, float]]
"""(step, value)."""

SAME_DATA = frozenset(
    (
        *("config.data.name", "config.data.val_fraction", "config.data.subset", "config.data.split_seed"),
        *("data.fingerprint", "data.train", "data.val"),
    )
)
"""Runs that agree in these are validated on the same images."""
LISTED = SAME_DATA | {"steps", "val.loss", "target.reached_step", "test.running.accuracy", "written_at"}
"""The keys that `list_table` reads of its rows, beside `id` and `status`."""
CURVE_WIDTH = 12
CURVES = {"train/loss": ("train loss", True), "val/loss": ("val loss", True), "val/accuracy": ("val accuracy", False)}
"""Which curves of a run are shown, and whether one is logarithmic, that is, a loss."""
STATUS_STYLE = {"finished": "green", "diverged": "yellow", "failed": "red", "interrupted": "magenta", "running": "cyan"}
MEANING = {
    "running": "running statistics (eval mode)",
    "precise": "precise statistics (pooled over training data)",
    "batch": "batch statistics",
}


def run_table(summary: dict[str, Any], folder: str, curves: Mapping[str, Curve]) -> RenderableType:
    """One run: what it scored, how its curves went, when it reached the target, how fast it was. What its summary lacks, or has as null, is
    said to be so."""
    row = flatten(summary).get
    title = Text(summary["id"], style="bold")  # not the table's: Rich cuts that to the table's width
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    table.add_row("status", _status(summary))
    if summary.get("data") is None:  # it failed before its data were read
        table.add_row("folder", folder)
        return Group(title, table, *[Text(f"Note: {note}", style="yellow") for note in notes(summary)])
    network = f"{_said(row('config.model.name'))} {_said(row('config.model.widths'))}, norm {_said(row('config.model.norm'))}"
    table.add_row("network", f"{network}, {count(row('parameters'))} parameters")
    table.add_row("data", contents_of(flatten(summary)) or _said(row("data.name")))
    table.add_row(
        "training",
        f"{count(row('steps'))} steps ({_short(row('epochs'))} epochs), batch {_said(row('config.train.batch_size'))}, "
        f"{_said(row('config.optim.name'))}, lr {_short(row('config.optim.lr'))}",
    )
    for stats, meaning in MEANING.items():
        if stats != "running" and not has_batch_statistics(str(row("config.model.norm"))):
            continue  # there is one accuracy
        name = "test accuracy" if stats == "running" else ""
        share = percent(row(f"test.{stats}.accuracy")) + _shuffled(row(f"test.{stats}.accuracy_std"), row(f"test.{stats}.shuffles"))
        table.add_row(name, f"{share}, loss {number(row(f'test.{stats}.loss'))}  {meaning}")
    best_step = row("val.best_step")
    best = "" if best_step is None else f"; best {percent(row('val.best_accuracy'))} at step {best_step:,}"
    table.add_row("validation", f"{percent(row('val.accuracy'))}, loss {number(row('val.loss'))}{best}")
    for key, (name, log) in CURVES.items():
        if curves.get(key):
            table.add_row(name, _course(curves[key], log, summary["status"] == "diverged"))
    table.add_row("target", _target(row("target.accuracy"), row("target.reached_step"), row("target.reached_train_s")))
    table.add_row(
        "speed",
        f"{count(row('speed.images_per_s'))} images/s, {number(row('speed.step_ms_median'))} ms a step (median); "
        f"training {number(row('speed.train_s'))} s, evaluation {number(row('speed.eval_s'))} s"
        + (f", compiling {number(row('speed.compile_s'))} s before" if row("speed.compile_s") else ""),
    )
    table.add_row("folder", folder)
    return Group(title, table, *[Text(f"Note: {note}", style="yellow") for note in notes(summary)])


def _course(curve: Curve, log: bool, diverged: bool) -> str:
    """`█▆▄▃▂▁▁▁  2.31 to 0.0421; best 0.0401 at step 384`: the first and the last value, and the best one's step."""
    drawn = sparkline(curve, CURVE_WIDTH, log=log, diverged=diverged)
    ends = " to ".join(number(value if math.isfinite(value) else None) for _, value in (curve[0], curve[-1]))
    known = [(value if log else -value, step) for step, value in curve if math.isfinite(value)]
    if not known:
        return f"{drawn}  {ends}"
    value, step = min(known)
    return f"{drawn}  {ends}; best {number(abs(value))} at step {step:,}"


def seeds_table(summaries: Sequence[dict[str, Any]], curves: Sequence[Curve]) -> RenderableType:
    """Runs that differ in their seed, one row each, with the validation losses of each; then mean and standard deviation with n."""
    rows = [flatten(summary) for summary in summaries]
    first = rows[0].get
    data, norm, size = (_said(first(f"config.{key}")) for key in ("data.name", "model.norm", "train.batch_size"))
    title = f"{data}, norm {norm}, batch {size}, lr {_short(first('config.optim.lr'))}"
    table = Table(title=Text(title, style="bold"), title_justify="left")
    for name in ("seed", "status", "val loss", "test acc %", "precise %", "batch %", "val acc %", "to target"):
        table.add_column(name, justify="left" if name in ("status", "val loss") else "right")
    scored = [*(f"test.{stats}.accuracy" for stats in MEANING), "val.accuracy"]
    for summary, row, curve in zip(summaries, rows, curves, strict=True):
        step = row.get("target.reached_step")
        drawn = sparkline(curve, diverged=summary["status"] == "diverged")
        shares = [percent(row.get(key)).removesuffix(" %") for key in scored]
        table.add_row(_said(row.get("seed")), _status(summary), drawn, *shares, "inf" if step is None else f"{step:,}")
    table.add_section()
    means = [spread([row.get(key) for row in rows]) for key in scored]
    table.add_row("mean", f"± std, n={len(summaries)}", "", *means, "")
    return Group(Whole(table), *[Text(f"Note: {note}", style="yellow") for note in dict.fromkeys(n for s in summaries for n in notes(s))])


def list_table(rows: Sequence[Row], curves: Mapping[str, Curve]) -> RenderableType:
    """All runs of a folder, one line each; `curves` has the validation losses of those whose sparkline is shown."""
    some = f" of the newest {len(curves)} runs" if len(curves) < len(rows) else ""
    drawn = f"curve: validation loss over steps{some}, both logarithmic, each on its own scale, {LOST} diverged"
    columns = {
        "run": Column("run"),
        "status": Column("status"),
        "steps": Column("steps", right=True, spare=3),
        "val loss": Column("val loss", right=True),
        "curve": Column("curve", spare=2, meaning=drawn),
        "test acc": Column("test acc", right=True),
        "target": Column("target", right=True, spare=1, meaning="target: steps to the target accuracy"),
        "written": Column("written", spare=4),
    }
    best = best_runs(rows)
    for row in rows:
        step, loss, status = row.get("target.reached_step"), row.get("val.loss"), row["status"]
        is_best = row["id"] in best
        cells = {
            "run": row["id"],
            "steps": "" if row.get("steps") is None else f"{row['steps']:,}",
            "curve": sparkline(curves.get(row["id"], ()), diverged=status == "diverged"),
            "test acc": percent(row.get("test.running.accuracy")),
            "target": f"{step:,}" if step is not None else "inf" if is_result(row) else "",
            "written": str(row.get("written_at") or "")[5:16].replace("T", " "),
        }
        for name, text in cells.items():
            columns[name].cells.append((text, ""))
        columns["status"].cells.append((status, STATUS_STYLE.get(status, "")))
        columns["val loss"].cells.append((MARK * is_best + number(loss), STYLE if is_best else ""))
    said = f"{MARK} lowest validation loss of the finished runs on the same data, whatever else they differ in" if best else ""
    if not any(text for text, _ in columns["curve"].cells):
        del columns["curve"]
    return Listing(list(columns.values()), said)


def best_runs(rows: Sequence[Row]) -> set[str]:
    """The ids of the runs with the lowest validation loss at their end, among all that finished on the same validation images. Test
    results are never looked at; a run alone on its data is no best one."""
    groups: dict[str, dict[str, float | None]] = {}
    for row in rows:
        if is_result(row):
            data = {key: value for key, value in row.items() if key in SAME_DATA}
            groups.setdefault(repr(sorted(data.items())), {})[row["id"]] = val_loss(row)
    return {run for losses in groups.values() for run in lowest(losses)}


def evaluation_table(result: dict[str, Any]) -> RenderableType:
    """What `bnexp evaluate` found."""
    table = Table(title=Text(f"{result['id']} on {result['images']:,} test images", style="bold"), title_justify="left")
    for name in ("statistics", "accuracy", "loss"):
        table.add_column(name, justify="left" if name == "statistics" else "right")
    for stats, score in result["test"].items():
        spread_ = _shuffled(score.get("accuracy_std"), score.get("shuffles"))
        table.add_row(MEANING[stats], percent(score["accuracy"]) + spread_, number(score["loss"]))
    folded = result.get("folded")
    if folded is None:
        return table
    table.add_row("batch norm folded into the layers before it", percent(folded["accuracy"]), number(folded["loss"]))
    ratio = folded["images_per_s"] / folded["images_per_s_unfolded"]
    speed = (
        f"Folded: largest difference of a logit {folded['max_abs_difference']:.1e} (bound 1e-4). "
        f"Inference {folded['images_per_s']:,.0f} images/s folded, {folded['images_per_s_unfolded']:,.0f} as trained "
        f"(ratio {ratio:.2f}, median of {folded['repetitions']} interleaved repetitions, batch {folded['batch']})."
    )
    return Group(table, Text(speed))


def notes(summary: dict[str, Any]) -> list[str]:
    """What should make a reader careful with this run's numbers."""
    found = []
    if summary["status"] == "diverged":
        found.append(f"the loss was not finite at step {summary['diverged_at_step']}; a diverged run is a result and scores infinity.")
    statistics_ = summary.get("running_statistics") or {}
    if summary["status"] == "finished" and statistics_.get("warm") is False:
        weight = percent(statistics_.get("initial_weight"), digits=0)
        found.append(f"the running statistics are cold: their initial (0, 1) still weighs {weight}; see the precise statistics.")
    if summary.get("error"):
        found.append(str(summary["error"]))
    return found


def _status(summary: dict[str, Any]) -> Text:
    at = f" at step {summary['diverged_at_step']}" if summary["status"] == "diverged" else ""
    return Text(summary["status"] + at, style=STATUS_STYLE.get(summary["status"], ""))


def _target(accuracy: float | None, step: int | None, train_s: float | None) -> str:
    goal = f"validation accuracy {percent(accuracy)}"
    if step is None:
        return f"{goal} not reached"
    return f"{goal} reached after {step:,} steps" + ("" if train_s is None else f" ({train_s:.2f} s of training)")


def _shuffled(std: float | None, shuffles: int | None) -> str:
    """` ± 0.31 over 20 shuffles`: the standard deviation in points, where images were shuffled."""
    return "" if std is None or not shuffles or shuffles < 2 else f" ± {100 * std:.2f} over {shuffles} shuffles"


def _said(value: Any) -> str:
    return "n/a" if value is None else str(value)


def _short(value: float | None) -> str:
    return "n/a" if value is None else f"{value:g}"
