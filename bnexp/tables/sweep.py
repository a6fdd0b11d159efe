"""What a sweep found, as tables: batch sizes, what small ones cost, a grid of any keys; and the plan before anything is trained."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.table import Table as RichTable
from rich.text import Text

from bnexp.analysis import Aggregate, Grid, Part, SmallBatchCost
from bnexp.analysis.arms import short_key
from bnexp.analysis.best import lowest_cells, lowest_sizes
from bnexp.analysis.sentences import small_batches
from bnexp.analysis.wording import label, mean_std
from bnexp.config.fields import show
from bnexp.storage.result import STATS
from bnexp.tables.marks import LOWEST, MARK, mark
from bnexp.tables.table import Table
from bnexp.tables.text import LOST, Whole, difference, number, picks, quartiles, times_faster

if TYPE_CHECKING:
    from bnexp.execution.grid import PlanDocument, PlannedStack


def plan_table(plan: PlanDocument) -> RenderableType:
    """What `--dry-run` prints: the stacks, alike ones in one row, and what they will take."""
    table = RichTable(title=Text(f"{plan['runs']} runs, {plan['reused']} of them finished", style="bold"), title_justify="left")
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


def batch_sizes(part: Part) -> Table:
    """Each arm at each batch size, each seed at the learning rate that it chose."""
    best, rows = lowest_sizes(part), []
    for comparison in part.by_size:
        size, matchup = comparison.batch_sizes[0], comparison.headline
        for arm in (arm for arm in part.arms.labels if arm in matchup.arms):
            one, versus = matchup.arms[arm], matchup.versus.get(arm)
            rows.append(
                (
                    f"{size}",
                    label(arm),
                    picks(one.picked),
                    _n(one),
                    mark(mean_std(one.accuracy["running"]), (size, arm) in best),
                    *(mean_std(one.accuracy[stats]) for stats in STATS[1:]),
                    quartiles(one.steps),
                    "" if versus is None else difference(versus.accuracy["running"]),
                    "" if versus is None else times_faster(versus.speedup),
                )
            )
    columns = ("batch", "arm", "lr (seeds)", "n", *(f"{stats} stats" for stats in STATS), "steps to target", "minus the baseline", "faster")
    return Table(
        columns,
        tuple(rows),
        "; ".join(
            [f"{MARK} the arm's {LOWEST}"] * bool(best)
            + [f"minus the baseline: running statistics, against the arm {label(part.arms.baseline)}", LOST]
        ),
        f"Test accuracy % by batch size, {part.name or 'one budget'}, each seed at the learning rate that it chose (± std over seeds)",
        grouped=True,
    )


def brief_sizes(parts: Sequence[Part]) -> Table:
    """Test accuracy under running statistics: a row a batch size, a column an arm, and where there are several budgets, of each."""
    best = [lowest_sizes(part) for part in parts]
    found = [{one.batch_sizes[0]: one.headline.arms for one in part.by_size} for part in parts]

    def cells(size: int) -> Iterator[str]:
        for part, marked, by_size in zip(parts, best, found, strict=True):
            for arm in part.arms.labels:
                result = by_size.get(size, {}).get(arm)
                yield "" if result is None else mark(mean_std(result.accuracy["running"]), (size, arm) in marked)

    budgets = [f", {part.name.partition(' (')[0]}" if len(parts) > 1 else "" for part in parts]
    columns = [label(arm) + budget for part, budget in zip(parts, budgets, strict=True) for arm in part.arms.labels]
    rows = tuple((f"{size}", *cells(size)) for size in sorted({size for by_size in found for size in by_size}))
    caption = f"{MARK} the arm's {LOWEST}" * any(best)
    return Table(("batch", *columns), rows, caption, "Test accuracy %, running statistics (± std)")


def brief_cells(found: Grid, most: int = 10) -> Table:
    """The settings with the lowest mean validation loss."""
    known = [one for one in found.cells if one.n and one.val_loss.mean is not None]
    best = sorted(known, key=lambda one: one.val_loss.mean or 0.0)[:most]
    rows = [
        (
            *("" if value is None else show(value) for value in one.values),
            _n(one),
            mean_std(one.accuracy["running"]),
            number(one.val_loss.mean),
        )
        for one in best
    ]
    which = "Every setting" if len(best) == len(found.cells) else f"The best {len(best)} of {len(found.cells)} settings"
    title = f"{which}, the lowest mean validation loss first: test accuracy % (± std)"
    return Table((*map(short_key, found.keys), "n", "running", "val loss"), tuple(rows), "", title)


def small_batch_costs(found: SmallBatchCost) -> Table:
    """Each smaller batch size against the reference, paired by seed."""
    tuned, same = ({cost.batch_size: cost for cost in found.of(kind)} for kind in ("tuned", "same-lr"))
    at = "" if found.same_lr is None else f" {found.same_lr:g}"
    rows = [
        (f"{size}", f"{(tuned | same)[size].pairs.n}", *(difference(side[size].pairs) if size in side else "" for side in (tuned, same)))
        for size in sorted(tuned | same)
    ]
    return Table(
        ("batch", "n", "each seed at the lr that it chose", f"all at the reference's lr{at}"),
        tuple(rows),
        f"p: paired t test, Holm's correction over all tests of the command. At one learning rate: {small_batches(found)[1]}",
        f"{label(found.arm)}, {found.stats} statistics: accuracy minus that of batch {found.reference}, points [95 % interval], p",
    )


def cells(found: Grid, budget: str) -> Table:
    """A grid, one setting a row."""
    best, rows = lowest_cells(found), []
    for index, one in enumerate(found.cells):
        accuracy = {stats: mean_std(one.accuracy[stats]) for stats in STATS}
        running = one.accuracy["running"]
        interval = "" if running.low is None or running.high is None else f"{100 * running.low:.2f} to {100 * running.high:.2f}"
        rows.append(
            (
                *("" if value is None else show(value) for value in one.values),
                _n(one),
                mark(accuracy["running"], index in best),
                interval,
                accuracy["precise"],
                accuracy["batch"],
                number(one.val_loss.mean),
                quartiles(one.steps),
                mean_std(one.gap),
            )
        )
    return Table(
        (*map(short_key, found.keys), "n", "running", "95 % interval", "precise", "batch", "val loss", "steps to target", "gap"),
        tuple(rows),
        "; ".join([f"{MARK} {LOWEST}"] * bool(best) + [LOST, "gap: training minus test accuracy"]),
        f"Test accuracy % (± std over seeds){f', {budget}' * bool(budget)}",
    )


def _n(one: Aggregate) -> str:
    lost = [f"{one.failures.failed} failed"] * bool(one.failures.failed) + [f"{one.n_missing} missing"] * bool(one.n_missing)
    return f"{one.n}" + (f" ({', '.join(lost)})" if lost else "")
