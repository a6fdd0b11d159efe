"""Summaries of runs as Rich tables. Reads summaries only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from bnexp.tables.text import count, number, percent, spread

STATUS_STYLE = {"finished": "green", "diverged": "yellow", "failed": "red", "interrupted": "magenta", "running": "cyan"}
MEANING = {
    "running": "running statistics (eval mode)",
    "precise": "precise statistics (pooled over training data)",
    "batch": "batch statistics",
}


def run_table(summary: dict[str, Any], folder: str) -> RenderableType:
    """One run: what it scored, when it reached the target, how fast it was."""
    config, target, speed = summary["config"], summary["target"], summary["speed"]
    table = Table(title=Text(summary["id"], style="bold"), title_justify="left", show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_column(style="dim", no_wrap=True)
    table.add_column()
    table.add_row("status", _status(summary))
    if summary["data"] is None:  # it failed before its data were read
        table.add_row("folder", folder)
        return Group(table, *[Text(f"Note: {note}", style="yellow") for note in notes(summary)])
    table.add_row(
        "network",
        f"{config['model']['name']} {config['model']['widths']}, norm {config['model']['norm']}, {summary['parameters']:,} parameters",
    )
    data = summary["data"]
    table.add_row("data", f"{data['name']}: {data['train']:,} training, {data['val']:,} validation, {data['test']:,} test")
    table.add_row(
        "training",
        f"{summary['steps']:,} steps ({summary['epochs']:g} epochs), batch {config['train']['batch_size']}, "
        f"{config['optim']['name']}, lr {config['optim']['lr']:g}",
    )
    for stats, meaning in MEANING.items():
        score = summary["test"][stats]
        name = "test accuracy" if stats == "running" else ""
        table.add_row(name, f"{percent(score['accuracy'])}, loss {number(score['loss'])}  {meaning}")
    val = summary["val"]
    best = "" if val["best_step"] is None else f"; best {percent(val['best_accuracy'])} at step {val['best_step']:,}"
    table.add_row("validation", f"{percent(val['accuracy'])}, loss {number(val['loss'])}{best}")
    table.add_row("target", _target(target))
    table.add_row(
        "speed",
        f"{count(speed['images_per_s'])} images/s, {number(speed['step_ms_median'])} ms a step (median); "
        f"training {number(speed['train_s'])} s, evaluation {number(speed['eval_s'])} s",
    )
    table.add_row("folder", folder)
    return Group(table, *[Text(f"Note: {note}", style="yellow") for note in notes(summary)])


def seeds_table(summaries: Sequence[dict[str, Any]]) -> RenderableType:
    """Runs that differ in their seed, one row each, then mean and standard deviation with n."""
    config = summaries[0]["config"]
    title = f"{config['data']['name']}, norm {config['model']['norm']}, batch {config['train']['batch_size']}, lr {config['optim']['lr']:g}"
    table = Table(title=Text(title, style="bold"), title_justify="left")
    for name in ("seed", "status", "test acc", "precise", "batch", "val acc", "to target"):
        table.add_column(name, justify="left" if name == "status" else "right", overflow="fold")
    for summary in summaries:
        cells = [percent(summary["test"][stats]["accuracy"]) for stats in MEANING]
        step = summary["target"]["reached_step"]
        seed = str(summary["seed"])
        table.add_row(seed, _status(summary), *cells, percent(summary["val"]["accuracy"]), "inf" if step is None else f"{step:,}")
    columns = [[s["test"][stats]["accuracy"] for s in summaries] for stats in MEANING]
    columns.append([s["val"]["accuracy"] for s in summaries])
    table.add_section()
    table.add_row("mean", f"± std, n={len(summaries)}", *[spread(column) for column in columns], "")
    return Group(table, *[Text(f"Note: {note}", style="yellow") for note in dict.fromkeys(n for s in summaries for n in notes(s))])


def list_table(rows: Sequence[dict[str, Any]]) -> RenderableType:
    """All runs of a folder, one row each."""
    table = Table(box=None, padding=(0, 1, 0, 0))
    for name in ("run", "status", "steps", "test acc", "to target", "written"):
        table.add_column(name, justify="right" if name in ("steps", "test acc", "to target") else "left", overflow="fold")
    for row in rows:
        status = Text(row["status"], style=STATUS_STYLE.get(row["status"], ""))
        accuracy = percent(row.get("test.running.accuracy"))
        step = row.get("target.reached_step")
        reached = f"{step:,}" if step is not None else "inf" if row["status"] in ("finished", "diverged") else ""
        written = str(row.get("written_at", ""))[5:16].replace("T", " ")
        table.add_row(row["id"], status, f"{row['steps']:,}" if "steps" in row else "", accuracy, reached, written)
    return table


def evaluation_table(result: dict[str, Any]) -> RenderableType:
    """What `bnexp evaluate` found."""
    table = Table(title=Text(f"{result['id']} on {result['images']:,} test images", style="bold"), title_justify="left")
    for name in ("statistics", "accuracy", "loss"):
        table.add_column(name, justify="left" if name == "statistics" else "right")
    for stats, score in result["test"].items():
        table.add_row(MEANING[stats], percent(score["accuracy"]), number(score["loss"]))
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
    if summary["status"] == "finished" and not statistics_.get("warm", True):
        weight = 100 * statistics_["initial_weight"]
        found.append(f"the running statistics are cold: their initial (0, 1) still weighs {weight:.0f} %; see the precise statistics.")
    if summary.get("error"):
        found.append(str(summary["error"]))
    return found


def _status(summary: dict[str, Any]) -> Text:
    at = f" at step {summary['diverged_at_step']}" if summary["status"] == "diverged" else ""
    return Text(summary["status"] + at, style=STATUS_STYLE.get(summary["status"], ""))


def _target(target: dict[str, Any]) -> str:
    goal = f"validation accuracy {percent(target['accuracy'])}"
    if target["reached_step"] is None:
        return f"{goal} not reached"
    seconds = "" if target["reached_train_s"] is None else f" ({target['reached_train_s']:.2f} s of training)"
    return f"{goal} reached after {target['reached_step']:,} steps{seconds}"
