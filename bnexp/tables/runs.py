"""Runs as Rich tables. Their results and curves are passed in; this module reads no files."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from bnexp.analysis.best import lowest
from bnexp.base.errors import short
from bnexp.base.sparkline import LOST, sparkline
from bnexp.norms import has_batch_statistics
from bnexp.storage.facts import ListedRun, Target
from bnexp.storage.labels import NONE, Labels
from bnexp.storage.result import DONE, RunResult
from bnexp.tables.listing import Column, Listing
from bnexp.tables.marks import MARK, STYLE
from bnexp.tables.text import Whole, count, number, percent, spread

Curve = Sequence[tuple[int, float]]
"""(step, value)."""

CURVE_WIDTH = 12
NOTE_WIDTH = 24
CURVES = {"train/loss": ("train loss", True), "val/loss": ("val loss", True), "val/accuracy": ("val accuracy", False)}
"""Which curves of a run are shown, and whether one is logarithmic, that is, a loss."""
STATUS_STYLE = {"finished": "green", "diverged": "yellow", "failed": "red", "interrupted": "magenta", "running": "cyan"}
MEANING = {
    "running": "running statistics (eval mode)",
    "precise": "precise statistics (pooled over training data)",
    "batch": "batch statistics",
}


def run_table(result: RunResult, folder: str, curves: Mapping[str, Curve], labels: Labels = NONE) -> RenderableType:
    """One run: what it scored, how its curves went, when it reached the target, how fast it was. What was not recorded is `n/a`."""
    config, val, target, speed = result.config, result.val, result.target, result.speed
    title = Text(result.id, style="bold")  # not the table's: Rich cuts that to the table's width
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    table.add_row("status", _status(result))
    for name, text in (("tags", ", ".join(labels.tags)), ("note", labels.note)):
        if text:
            table.add_row(name, text)
    if result.data is None:  # it failed before its data were read
        table.add_row("folder", folder)
        return Group(title, table, *[Text(f"Note: {note}", style="yellow") for note in notes(result)])
    network = f"{config.model.name} {list(config.model.widths)}, norm {config.model.norm}"
    table.add_row("network", f"{network}, {count(result.parameters)} parameters")
    table.add_row("data", result.data.contents or config.data.name)
    table.add_row(
        "training",
        f"{count(result.steps)} steps ({_short(result.epochs)} epochs), batch {config.train.batch_size}, "
        f"{config.optim.name}, lr {config.optim.lr:g}",
    )
    for stats, meaning in MEANING.items():
        if stats != "running" and not has_batch_statistics(config.model.norm):
            continue  # there is one accuracy
        scores = getattr(result.test, stats)
        shuffled = _shuffled(scores.accuracy_std, scores.shuffles) if stats == "batch" else ""
        name = "test accuracy" if stats == "running" else ""
        table.add_row(name, f"{percent(scores.accuracy)}{shuffled}, loss {number(scores.loss)}  {meaning}")
    best = "" if val.best_step is None else f"; best {percent(val.best_accuracy)} at step {val.best_step:,}"
    table.add_row("validation", f"{percent(val.accuracy)}, loss {number(val.loss)}{best}")
    for key, (name, log) in CURVES.items():
        if curves.get(key):
            table.add_row(name, _course(curves[key], log, result.is_diverged))
    table.add_row("target", _target(target))
    table.add_row(
        "speed",
        f"{count(speed.images_per_s)} images/s, {number(speed.step_ms_median)} ms a step (median); "
        f"training {number(speed.train_s)} s, evaluation {number(speed.eval_s)} s"
        + (f", compiling {number(speed.compile_s)} s before" if speed.compile_s else ""),
    )
    table.add_row("folder", folder)
    return Group(title, table, *[Text(f"Note: {note}", style="yellow") for note in notes(result)])


def _course(curve: Curve, log: bool, diverged: bool) -> str:
    """`█▆▄▃▂▁▁▁  2.31 to 0.0421; best 0.0401 at step 384`: the first and the last value, and the best one's step."""
    drawn = sparkline(curve, CURVE_WIDTH, log=log, diverged=diverged)
    ends = " to ".join(number(value if math.isfinite(value) else None) for _, value in (curve[0], curve[-1]))
    known = [(value if log else -value, step) for step, value in curve if math.isfinite(value)]
    if not known:
        return f"{drawn}  {ends}"
    value, step = min(known)
    return f"{drawn}  {ends}; best {number(abs(value))} at step {step:,}"


def seeds_table(results: Sequence[RunResult], curves: Sequence[Curve]) -> RenderableType:
    """Runs that differ in their seed, one row each, with the validation losses of each; then mean and standard deviation with n."""
    config = results[0].config
    title = f"{config.data.name}, norm {config.model.norm}, batch {config.train.batch_size}, lr {config.optim.lr:g}"
    table = Table(title=Text(title, style="bold"), title_justify="left")
    for name in ("seed", "status", "val loss", "test acc %", "precise %", "batch %", "val acc %", "to target"):
        table.add_column(name, justify="left" if name in ("status", "val loss") else "right")
    scored = [[*(getattr(result.test, stats).accuracy for stats in MEANING), result.val.accuracy] for result in results]
    for result, accuracies, curve in zip(results, scored, curves, strict=True):
        step = result.target.reached_step
        drawn = sparkline(curve, diverged=result.is_diverged)
        shares = [percent(accuracy).removesuffix(" %") for accuracy in accuracies]
        table.add_row(str(result.seed), _status(result), drawn, *shares, "inf" if step is None else f"{step:,}")
    table.add_section()
    means = [spread(column) for column in zip(*scored, strict=True)]
    table.add_row("mean", f"± std, n={len(results)}", "", *means, "")
    every = dict.fromkeys(note for result in results for note in notes(result))
    return Group(Whole(table), *[Text(f"Note: {note}", style="yellow") for note in every])


def list_table(
    runs: Sequence[ListedRun],
    curves: Mapping[str, Curve],
    labels: Mapping[str, Labels] = MappingProxyType({}),
    total: int | None = None,
) -> RenderableType:
    """Runs of a folder, one line each: all, or some of `total`. `curves` has the validation losses of those whose sparkline is shown."""
    total = len(runs) if total is None else total
    some = f" of the newest {len(curves)} runs" if len(curves) < len(runs) else ""
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
        "tags": Column("tags"),
        "note": Column("note", spare=5),
    }
    best = best_runs(runs)
    for run in runs:
        step, is_best, own = run.reached_step, run.id in best, labels.get(run.id)
        cells = {
            "run": run.id,
            "steps": "" if run.steps is None else f"{run.steps:,}",
            "curve": sparkline(curves.get(run.id, ()), diverged=run.status == "diverged"),
            "test acc": percent(run.test_accuracy),
            "target": f"{step:,}" if step is not None else "inf" if run.status in DONE else "",
            "written": (run.written_at or "")[5:16].replace("T", " "),
            "tags": ",".join(own.tags) if own else "",
            "note": short(own.note, NOTE_WIDTH) if own else "",
        }
        for name, text in cells.items():
            columns[name].cells.append((text, ""))
        columns["status"].cells.append((run.status, STATUS_STYLE.get(run.status, "")))
        columns["val loss"].cells.append((MARK * is_best + number(run.val_loss), STYLE if is_best else ""))
    of = "the" if len(runs) == total else "these"
    marked = [f"{MARK} lowest validation loss of {of} finished runs on the same data, whatever else they differ in"] * bool(best)
    for name in ("curve", "tags", "note"):
        if not any(text for text, _ in columns[name].cells):
            del columns[name]
    return Listing(list(columns.values()), "; ".join([*marked, *[f"{len(runs):,} of {total:,} runs"] * (len(runs) < total)]))


def best_runs(runs: Sequence[ListedRun]) -> set[str]:
    """The ids of the runs with the lowest validation loss at their end, among all that finished on the same validation images. Test
    results are never used; a run alone on its data is no best one."""
    groups: dict[tuple[Any, ...], dict[str, float]] = {}
    for run in runs:
        if run.status in DONE:
            loss = None if run.status == "diverged" else run.val_loss
            groups.setdefault(run.same_data, {})[run.id] = math.inf if loss is None else loss
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


def notes(result: RunResult) -> list[str]:
    """What should make a reader careful with this run's numbers."""
    found = []
    if result.is_diverged:
        found.append(f"the loss was not finite at step {result.diverged_at_step}; a diverged run is a result and scores infinity.")
    if result.status == "finished" and result.is_cold and result.running_statistics is not None:
        weight = percent(result.running_statistics.initial_weight, digits=0)
        found.append(f"the running statistics are cold: their initial (0, 1) still weighs {weight}; see the precise statistics.")
    if result.error:
        found.append(result.error)
    return found


def _status(result: RunResult) -> Text:
    at = f" at step {result.diverged_at_step}" if result.is_diverged else ""
    return Text(result.status + at, style=STATUS_STYLE[result.status])


def _target(target: Target) -> str:
    goal = f"validation accuracy {percent(target.accuracy)}"
    if target.reached_step is None:
        return f"{goal} not reached"
    seconds = "" if target.reached_train_s is None else f" ({target.reached_train_s:.2f} s of training)"
    return f"{goal} reached after {target.reached_step:,} steps{seconds}"


def _shuffled(std: float | None, shuffles: int | None) -> str:
    """` ± 0.31 over 20 shuffles`: the standard deviation in points, where images were shuffled."""
    return "" if std is None or not shuffles or shuffles < 2 else f" ± {100 * std:.2f} over {shuffles} shuffles"


def _short(value: float | None) -> str:
    return "n/a" if value is None else f"{value:g}"
