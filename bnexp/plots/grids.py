"""What a grid of runs scored: accuracy by batch size and by learning rate, steps to target, and how many runs have reached it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import matplotlib
from matplotlib.colors import LogNorm
from matplotlib.patches import Rectangle

from bnexp.analysis import Aggregate, Comparison, Estimate, StableLr, findings, survival
from bnexp.analysis.target import Interval
from bnexp.analysis.wording import label
from bnexp.plots.style import FAINT, HEIGHT, INK, PAPER, Picture, colours, drawing, intervals, legend, means, percent_axis, plain_ticks

STATS = {"running": ("-", "o"), "precise": ("--", "s"), "batch": (":", "^")}
HALF = 0.5 + 1e-7
DODGE = 0.03
"""Arms beside each other at the same x, in decades."""


def accuracy_by_batch_size(name: str, comparisons: Sequence[Comparison], palette: Sequence[str], title: str) -> Picture | None:
    """Test accuracy under running, precise and batch statistics, each seed at the learning rate that it chose."""
    best = [(one.batch_sizes[0], arm, result) for one in comparisons for arm, result in one.headline.arms.items()]
    if len({size for size, *_ in best}) < 2:
        return None
    colour, arms = colours(palette), [name for name in palette if any(arm == name for _, arm, _ in best)]
    ends = [end for *_, one in best for found in one.accuracy.values() for end in (found.mean, found.low) if end is not None]
    lowest, alike = max(0.0, min(ends, default=0.0)), []
    with drawing(height=HEIGHT + 0.4) as (figure, (axes,)):
        for index, arm in enumerate(arms):
            own = {size: one.accuracy for size, name, one in sorted(best, key=lambda row: row[0]) if name == arm}
            same = all(found["running"] == found["precise"] == found["batch"] for found in own.values())  # without running statistics
            alike += [label(arm)] * same
            x = [size * 10 ** (DODGE * (index - (len(arms) - 1) / 2)) for size in own]
            for stats, (style, marker) in list(STATS.items())[: 1 if same else 3]:
                cells = [found[stats] for found in own.values()]
                text = label(arm) if same else f"{label(arm)}: {stats} statistics"
                axes.plot(x, means(cells), color=colour[arm], linestyle=style, marker=marker, markersize=4, label=text)
                if stats == "running":
                    intervals(axes, x, cells, colour[arm])
        axes.set_xscale("log", base=2)
        plain_ticks(axes.xaxis, sorted({size for size, *_ in best}))
        n = max((one.n for *_, one in best), default=0)
        axes.set(xlabel="batch size (images)", ylabel="test accuracy (%)", title=f"{title} (n = {n})")
        percent_axis(axes, low=max(-0.03, lowest - 0.15 * (1 - lowest) - 0.02), high=1 + 0.06 * (1 - lowest) + 0.002)
        legend(figure, axes, columns=2)
    lost, together = sum(one.failures.failed for *_, one in best), " and ".join(alike)
    caption = (
        f"Each seed at the learning rate that it chose by validation loss, n = {n} seeds; bars are 95 % intervals of the running "
        f"ones. {f'{lost} runs that failed to train are left out. ' if lost else ''}"
        f"{f'The three statistics are one {together}. ' if alike else ''}"
    )
    points = "; ".join(
        f"{label(arm)} at batch {size}: {_text(one.accuracy['running'])}, precise {_text(one.accuracy['precise'])}"
        for size, arm, one in best
    )
    smallest, largest = min(size for size, *_ in best), max(size for size, *_ in best)
    scored = {arm: [_text(one.accuracy["running"]) for _, name, one in best if name == arm] for arm in arms}
    finding = findings.each(
        f"Test accuracy (running statistics) at batch {smallest} and {largest}",
        [(label(arm), f"{own[0]} and {own[-1]}") for arm, own in scored.items()],
    )
    return Picture(name, title, finding, caption, f"Test accuracy against batch size. {points}.", figure)


def accuracy_by_lr(
    name: str, cells: Mapping[str, Sequence[Aggregate]], stable: Mapping[str, StableLr], palette: Sequence[str], title: str
) -> Picture | None:
    """Test accuracy (running statistics) against the learning rate, the range in which an arm is stable shaded in its colour."""
    grid = sorted({one.lr or 0.0 for own in cells.values() for one in own})
    if len(grid) < 2:
        return None
    colour = colours(palette)
    arms = [arm for arm in palette if cells.get(arm)]
    with drawing(height=HEIGHT + 0.25) as (figure, (axes,)):
        for index, arm in enumerate(arms):
            own = sorted(cells[arm], key=lambda one: one.lr or 0.0)
            x = [(one.lr or 0.0) * 10 ** (DODGE * (index - (len(arms) - 1) / 2)) for one in own]
            found = [one.accuracy["running"] for one in own]
            y = means(found)
            n = max(one.n for one in own)
            axes.plot(x, y, color=colour[arm], marker="o", markersize=4, label=f"{label(arm)} (n = {n})")
            intervals(axes, x, found, colour[arm])
            for at, mean, one in zip(x, y, own, strict=True):
                if one.failures.failed and math.isfinite(mean):
                    axes.plot([at], [mean], linestyle="", marker="X", markersize=7, color=colour[arm], markeredgecolor=INK, zorder=4)
            low, high = stable_range(stable.get(arm))
            if low is not None and high is not None:
                edge = min((b / a for a, b in pairwise(grid) if a > 0), default=2.0) ** 0.4
                axes.axvspan(low / edge, high * edge, color=colour[arm], alpha=0.1, linewidth=0)
                # Shades that overlap mix: a bar at the top, one below the other, says whose they are.
                axes.plot([low / edge, high * edge], [1.075 + 0.035 * index] * 2, color=colour[arm], linewidth=3, solid_capstyle="butt")
        axes.set_xscale("log")
        plain_ticks(axes.xaxis, grid)
        axes.set(xlabel="learning rate", ylabel="test accuracy (%)", title=title)
        percent_axis(axes, low=-0.03, high=1.06 + 0.035 * (len(arms) + 1))
        axes.set_yticks([0, 0.2, 0.4, 0.6, 0.8, 1.0])
        legend(figure, axes, columns=2)
    texts = []
    for arm in arms:
        low, high = stable_range(stable.get(arm))
        more = ", the largest that it was tried with" if arm in stable and high == grid[-1] else ""
        extent = "none" if low is None else f"{low:g} alone" if low == high else f"from {low:g} to {high:g}"
        texts.append(f"{label(arm)} {extent}{more}")
    failed = any(one.failures.failed for own in cells.values() for one in own)
    crosses = "Crosses: some of the runs failed to train (diverged, or at chance); the mean is that of the others. " * failed
    caption = (
        f"Shaded, with a bar at the top: the stable learning rates ({'; '.join(texts)}): at least half of its runs end with 0.8 of their "
        f"seed's best validation accuracy. {crosses}Bars are 95 % intervals."
    )
    finding = findings.sentence(f"learning rates at which training is stable: {'; '.join(texts)}")
    return Picture(name, title, finding, caption, f"Test accuracy against learning rate. Stable: {'; '.join(texts)}.", figure)


def stable_range(found: StableLr | None) -> tuple[float | None, float | None]:
    """The unbroken run of stable learning rates that ends with the largest stable one of the median seed."""
    if found is None or not found.lr:
        return None, None
    low = found.lr
    for reach in sorted(found.by_lr, key=lambda reach: -reach.lr):
        if reach.lr <= found.lr:
            if not reach.stable:
                break
            low = reach.lr
    return low, found.lr


def steps_heat_map(
    name: str, arm: str, by_size: Mapping[int, Sequence[Aggregate]], limits: tuple[float, float], title: str
) -> Picture | None:
    """Median steps to target for each learning rate (x) and batch size (y); infinite ones hatched. `limits`: the colours', of all arms."""
    cells = [(one.lr or 0.0, size, one) for size, own in by_size.items() for one in own]
    lrs, sizes = sorted({lr for lr, _, _ in cells}), sorted({size for _, size, _ in cells})
    if len(lrs) < 2 or len(sizes) < 2:
        return None
    with drawing(height=1.3 + 0.42 * len(sizes)) as (figure, (axes,)):
        scale = matplotlib.colormaps["cividis_r"]
        norm = LogNorm(*limits) if limits[0] < limits[1] else LogNorm(limits[0] * 0.9, limits[1] * 1.1)
        axes.grid(visible=False)
        axes.set_facecolor(PAPER)
        for lr, size, one in cells:
            x, y, median = lrs.index(lr), sizes.index(size), one.steps.median
            if median is None:
                continue
            if math.isinf(median):
                axes.add_patch(_square(x, y, facecolor=PAPER, edgecolor=FAINT, hatch="////"))
                text, ink = "∞", INK
            else:
                shade = scale(norm(median))
                axes.add_patch(_square(x, y, facecolor=shade, edgecolor=PAPER))
                text, ink = f"{median:,.0f}", "#fefefe" if sum(shade[:3]) < 1.6 else "#111111"  # not ink and paper: these do not turn
            box = {"facecolor": PAPER, "edgecolor": "none", "pad": 1.0} if ink == INK else None
            axes.text(x, y, text, ha="center", va="center", color=ink, fontsize=8, bbox=box)
        axes.set(xlim=(-0.5, len(lrs) - 0.5), ylim=(-0.5, len(sizes) - 0.5))
        axes.set_xticks(range(len(lrs)), [f"{lr:g}" for lr in lrs])
        axes.set_yticks(range(len(sizes)), [str(size) for size in sizes])
        n = max(one.n for *_, one in cells)
        axes.set(xlabel="learning rate", ylabel="batch size (images)", title=f"{title} (median, n = {n} a cell)")
    never = sum(one.steps.median is not None and math.isinf(one.steps.median) for *_, one in cells)
    caption = f"Median updates to the target, n = {n} seeds a cell; hatched cells: the median run never reaches it. Darker is slower."
    extent = f"{len(sizes)} batch sizes by {len(lrs)} learning rates"
    alt = f"Heat map of median steps to target {label(arm)}, {extent}; {never} cells are infinite."
    known = [(one.steps.median, size, lr) for lr, size, one in cells if one.steps.median is not None]
    fewest, size, lr = min(known, default=(math.inf, 0, 0.0))
    finding = "No median run reaches the target."
    if math.isfinite(fewest):
        finding = f"Fewest steps to the target {label(arm)}: {fewest:,.0f}, at batch size {size} and learning rate {lr:g}."
    return Picture(name, title, finding, caption, alt, figure)


def reached(
    name: str, steps: Mapping[str, Sequence[Interval]], budget: float, palette: Sequence[str], title: str, caption: str, which: str
) -> Picture | None:
    """The share of runs that have reached the target, against steps; misses never do. `which`: the learning rates of these runs."""
    if sum(map(len, steps.values())) < 2:
        return None
    colour = colours(palette)
    texts, halves = [], []
    with drawing() as (figure, (axes,)):
        for arm in palette:
            own = steps.get(arm)
            if not own:
                continue
            times, shares = survival(own)
            x, y = [*times, max(budget, times[-1])], [*shares, shares[-1]]
            axes.plot(x, y, drawstyle="steps-post", color=colour[arm], label=f"{label(arm)} (n = {len(own)})")
            arrived = [step for _, step in own if math.isfinite(step)]
            first = f", from step {min(arrived):,.0f} on" if arrived else ""
            texts.append(f"{label(arm)}: {len(arrived)} of {len(own)} reach it{first}")
            half = next((step for step, share in zip(times, shares, strict=True) if share > HALF), None)
            halves.append((label(arm), "never" if half is None else f"after {half:,.0f} steps"))
        axes.set(xlabel="training steps", ylabel="runs at the target (%)", title=title)
        percent_axis(axes, low=-0.02, high=1.02)
        axes.set_xlim(left=0)
        legend(figure, axes, columns=2)
    finding = findings.each(f"More than half of the runs ({which}) have reached the target", halves)
    return Picture(name, title, finding, caption, f"Share of runs that have reached the target against steps. {'; '.join(texts)}.", figure)


def _square(x: int, y: int, **options: Any) -> Rectangle:
    return Rectangle((x - 0.5, y - 0.5), 1, 1, linewidth=1.0, **options)


def _text(cell: Estimate) -> str:
    return "no result" if cell.mean is None else f"{100 * cell.mean:.2f} %"
