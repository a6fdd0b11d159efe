"""A sweep's plan and its results as Rich tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from bnexp.analysis import BatchSizes, BestLr, Cells, Comparison, GridCell, SmallBatchCost
from bnexp.analysis.notes import COLD, cold_at, few_seeds
from bnexp.analysis.sentences import bracket, count, label, small_batches, verdict
from bnexp.norms import NO_NORM
from bnexp.tables.compare import notes, same_lr
from bnexp.tables.marks import LOWEST, MARK, lowest, marked
from bnexp.tables.text import FASTER, LOST, Whole, difference, mean_std, picks, quartiles, times_faster

if TYPE_CHECKING:
    from bnexp.execution.grid import PlanDocument, PlannedStack
    from bnexp.studies.sweep import Result  # data sets and numpy, which a list of runs need not wait for

SAME_IMAGES = ("config.data.augment", "config.data.root", "config.data.follow_links")
"""What of the data does not change the validation images."""
LISTED = 3
"""Cells that a note names before it only counts them."""


def sweep_tables(results: Sequence[Result]) -> RenderableType:
    """Everything that `bnexp sweep` says."""
    parts: list[RenderableType] = []
    for result in results:
        setting = ", ".join(f"{key}={value}" for key, value in result.setting.items())
        if len(results) > 1 or setting:
            parts.append(Text(f"{result.part}{': ' if setting else ''}{setting}", style="bold underline"))
        if result.batch_sizes is not None:
            parts += _batch_sizes(result.batch_sizes, result.part, result.small_batches)
        if result.comparison is not None:
            parts += _comparison(result.comparison)
        if result.cells is not None:
            parts += [cells_table(result.cells, result.part), *notes(_about_cells(result.cells))]
        parts.append(Text())
    return Group(*parts[:-1])


def plan_table(plan: PlanDocument) -> RenderableType:
    """What `--dry-run` prints: the stacks, alike ones in one row, and what they will take."""
    table = Table(title=Text(f"{plan['runs']} runs, {plan['reused']} of them finished", style="bold"), title_justify="left")
    for name in ("data", "norm", "batch", "stacks", "runs a stack", "steps"):
        table.add_column(name, justify="left" if name in ("data", "norm") else "right")
    alike: dict[tuple[str, str, int, int | None], list[PlannedStack]] = {}
    for stack in plan["stacks"]:
        alike.setdefault((stack["data"], stack["norm"], stack["batch_size"], stack["steps"]), []).append(stack)
    for (data, norm, batch, steps), stacks in alike.items():
        widths = sorted({stack["width"] for stack in stacks}, reverse=True)
        table.add_row(data, norm, str(batch), str(len(stacks)), ", ".join(map(str, widths)), "?" if steps is None else f"{steps:,}")
    found = plan["estimate"]
    known = found["calibrated_on_runs"]
    basis = f"from {known} finished runs here" if known else "uncalibrated: within a factor of 3"
    parts = ", ".join(f"{count} runs: {part}" for part, count in plan["parts"].items())
    budget = Text(f"Budget: {parts}.")
    text = f"About {found['minutes']:.1f} minutes ({basis}) and {found['bytes'] / 1e6:,.0f} MB. Nothing was started."
    last = [Text(text if plan["stacks"] else "All runs are finished: there is nothing to train.")]
    if plan["unmeasured"]:
        cells = dict.fromkeys(f"{one['data']}, batch {one['batch_size']}, norm {one['norm']}" for one in plan["unmeasured"])
        last.append(Text(f"Stack widths would be measured first, and may then differ: {'; '.join(cells)}."))
    return Group(Whole(table), budget, *last)


def cells_table(found: Cells, budget: str) -> RenderableType:
    """A general grid, one setting a row."""
    table = Table(title=Text(f"Test accuracy % (± std over seeds), {budget}", style="bold"), title_justify="left")
    for key in found.keys:
        table.add_column(Text(key.removeprefix("config.").rpartition(".")[2]), justify="right", overflow="fold")
    for name in ("n", "running", "95 % interval", "precise", "batch", "steps to target", "gap"):
        table.add_column(name, justify="right", overflow="fold")
    best = _lowest_cells(found)
    for index, one in enumerate(found.cells):
        running = one.accuracy["running"]
        interval = "" if running.low is None or running.high is None else f"{100 * running.low:.2f} to {100 * running.high:.2f}"
        lost = [f"{one.failures.failed} failed"] * bool(one.failures.failed) + [f"{one.n_missing} missing"] * bool(one.n_missing)
        n = f"{one.n}" + (f" ({', '.join(lost)})" if lost else "")
        stats = [mean_std(one.accuracy[name]) for name in ("running", "precise", "batch")]
        table.add_row(
            *map(_value, one.values), n, marked(stats[0], index in best), interval, *stats[1:], quartiles(one.steps), mean_std(one.gap)
        )
    said = [f"{MARK} {LOWEST}"] * bool(best) + [LOST, "gap: training minus test accuracy"]
    table.caption = Text("; ".join(said))
    return Whole(table)


def _lowest_cells(found: Cells) -> set[int]:
    """Of each data set, the cells with the lowest mean validation loss, among those with as many results as the fullest has."""
    apart = [index for index, key in enumerate(found.keys) if key.startswith("config.data.") and key not in SAME_IMAGES]
    groups: dict[tuple[Any, ...], dict[int, GridCell]] = {}
    for index, one in enumerate(found.cells):
        groups.setdefault(tuple(one.values[at] for at in apart), {})[index] = one
    best: set[int] = set()
    for group in groups.values():
        most = max(one.n for one in group.values())
        best |= lowest({index: one.val_loss.mean for index, one in group.items() if one.n == most})
    return best


def _about_cells(found: Cells) -> list[str]:
    """What makes the cells weaker than they look."""
    said = []
    cold = [cell for cell in found.cells if not cell.ema_warm]
    if cold:
        names = [key.removeprefix("config.").rpartition(".")[2] for key in found.keys]
        which = ["".join(f", {name}={_value(value)}" for name, value in zip(names, cell.values, strict=True))[2:] for cell in cold]
        listed = f" ({'; '.join(which)})" if found.keys and len(cold) <= LISTED else ""
        said.append(f"running statistics are cold in {len(cold)} of {count(len(found.cells), 'cell')}{listed}: {COLD}.")
    few = few_seeds([cell.n for cell in found.cells], "cell")
    said += [] if few is None else [few]
    return said


def _value(value: Any) -> str:
    return "" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def _batch_sizes(found: BatchSizes, part: str, small: Sequence[SmallBatchCost]) -> list[RenderableType]:
    arms = sorted({row.arm for row in found.table}, key=lambda arm: (arm == NO_NORM, arm))
    title = f"Test accuracy % against batch size at {part}, each seed at the learning rate that it chose (± std over seeds)"
    table = Table(title=Text(title, style="bold"), title_justify="left")
    table.add_column("batch", justify="right")
    compared = any(row.difference is not None for row in found.table)
    for name in (
        "arm",
        "lr (seeds)",
        "n",
        "running stats",
        "batch stats",
        "steps to target",
        *["minus the baseline, running stats [95 %]"] * compared,
    ):
        table.add_column(Text(name), justify="left" if name == "arm" else "right", overflow="fold")
    shown = None
    rows = sorted((row for row in found.table if row.kind == "tuned"), key=lambda row: (row.batch_size, arms.index(row.arm)))
    best = _lowest_sizes(found)
    for row in rows:
        if shown not in (None, row.batch_size) and len(arms) > 1:
            table.add_section()
        table.add_row(
            str(row.batch_size),
            Text(label(row.arm)),
            picks(row.picked),
            f"{row.n}" + (f" ({row.failures.failed} failed)" if row.failures.failed else ""),
            marked(mean_std(row.running), (row.batch_size, row.arm) in best),
            mean_std(row.batch),
            quartiles(row.steps),
            *["" if row.difference is None else difference(row.difference)] * compared,
        )
        shown = row.batch_size
    table.caption = Text("; ".join([f"{MARK} the arm's {LOWEST}"] * bool(best) + [LOST]))
    parts: list[RenderableType] = [Whole(table)]
    for cost in small:
        tuned, same = small_batches(cost)
        parts += [Text(), _costs(cost), Text(f"Tuned: {tuned}"), Text(f"At one learning rate: {same}")]
    warned = [f"{label(cost.arm)}: {warning}" for cost in small for warning in cost.warnings]
    for arm in arms:
        cold = [row.batch_size for row in rows if row.arm == arm and not row.ema_warm]
        warned += [f"{label(arm)}: {cold_at(cold)}"] * bool(cold)
    few = few_seeds([row.n for row in rows], "row")
    warned += [] if few is None else [few]
    return [*parts, Text(), *notes(dict.fromkeys(warned))]


def _lowest_sizes(found: BatchSizes) -> set[tuple[int, str]]:
    """The batch size of each arm with the lowest mean validation loss at its best learning rate, among those with the same seeds as the
    fullest."""
    by_arm: dict[str, dict[tuple[int, str], BestLr]] = {}
    for comparison in found.comparisons:
        for arm, choice in comparison.best_lr.items():
            by_arm.setdefault(arm, {})[comparison.batch_sizes[0], arm] = choice
    best: set[tuple[int, str]] = set()
    for choices in by_arm.values():
        fullest = max((choice.seeds for choice in choices.values()), key=len)
        best |= lowest({key: choice.mean_val_loss for key, choice in choices.items() if choice.seeds == fullest})
    return best


def _costs(found: SmallBatchCost) -> RenderableType:
    """Each smaller batch size against the reference, paired by seed."""
    title = f"{label(found.arm)}, {found.stats} statistics: accuracy minus that of batch {found.reference}, points [95 % interval], p"
    table = Table(title=Text(title, style="bold"), title_justify="left")
    tuned, same = ({cost.batch_size: cost for cost in found.of(kind)} for kind in ("tuned", "same-lr"))
    at = "" if found.same_lr is None else f" {found.same_lr:g}"
    for name in ("batch", "n", "each seed at the lr that it chose", f"all at the reference's lr{at}"):
        table.add_column(name, justify="right", overflow="fold")
    for size in sorted(tuned | same):
        cells = [difference(side[size].pairs) if size in side else "" for side in (tuned, same)]
        table.add_row(str(size), str((tuned | same)[size].pairs.n), *cells)
    table.caption = Text("p: paired t test, Holm's correction over all tests of the command")
    return Whole(table)


def _comparison(found: Comparison) -> list[RenderableType]:
    """Arms over learning rates (one of them for a sweep over norms)."""
    lines = []
    for arm in found.arms:
        best = found.best_lr[arm]
        if len(best.by_lr) > 1 and best.lr is not None:
            edge = ", on the edge of the grid" if best.on_edge else ""
            largest = bracket(found.stable_lr[arm])
            lines.append(Text(f"{label(arm)}: lowest mean validation loss at {best.lr:g}{edge}; largest stable learning rate {largest}"))
    said = [Text(sentence) for sentence in verdict(found)]
    return [same_lr(found, choose=True), _targets(found), *lines, Text(), *said, *notes(found.warnings)]


def _targets(found: Comparison) -> RenderableType:
    """Steps to target at each learning rate."""
    others = [arm for arm in found.arms if arm != found.baseline]
    table = Table(title=Text("Steps to target: median (quartiles)", style="bold"), title_justify="left")
    table.add_column("lr", justify="right")
    for arm in [*others, found.baseline]:
        table.add_column(Text(label(arm)), justify="right", overflow="fold")
    for arm in others:
        table.add_column(Text(f"faster {label(arm)}"), justify="right", overflow="fold")
    for matchup in found.same_lr:
        cells = [quartiles(matchup.arms[arm].steps) for arm in [*others, found.baseline]]
        table.add_row(
            f"{matchup.lr:g}", *cells, *[times_faster(matchup.versus[arm].speedup) if arm in matchup.versus else "" for arm in others]
        )
    table.caption = Text(FASTER)
    return Whole(table)
