"""What is recorded over the steps, both arms in one drawing: mean with band over seeds, diverged runs marked."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from matplotlib.artist import Artist
from matplotlib.axes import Axes

from bnexp.analysis.bands import Band, Track, band
from bnexp.plots.style import GRID, HEIGHT, INK, Picture, colours, drawing, legend, log_axis, percent_axis

BAND = "Lines are means over seeds, bands their 95 % intervals."
ENDS = "A cross marks where a run diverged; from there on the mean, dotted, is that of the runs that are left."
STYLES = ("-", "--", ":")


@dataclass(frozen=True, eq=False)  # a key of its own
class Arm:
    """An arm's runs of one setting: its best learning rate, unless `label` says something else."""

    name: str
    label: str
    tracks: tuple[Track, ...]

    @property
    def n_diverged(self) -> int:
        return sum(track.diverged_at_step is not None for track in self.tracks)


@dataclass(frozen=True)
class Curve:
    """What to draw of a key: several keys of a measure (layers) get one line style each."""

    name: str
    title: str
    y: str
    keys: Mapping[str, str]
    """Label by key; a single one needs none."""
    caption: str = ""
    percent: bool = False
    log_y: bool = False
    log_x: bool = False
    line_at: float | None = None
    line_label: str = ""
    limits: tuple[float, float] | None = None
    """What values cannot leave; intervals can, and are cut there."""

    def at(self, name: str, title: str, line_at: float | None, line_label: str) -> Curve:
        """The same under another name and title, with a line across."""
        return replace(self, name=name, title=title, line_at=line_at, line_label=line_label)


def over_steps(curve: Curve, arms: Sequence[Arm], palette: Sequence[str]) -> Picture | None:
    """A measure over training, every arm that recorded it; None where none did. `palette`: all arms of the page, for their colours."""
    bands = [(arm, label, band(arm.tracks, key, log=curve.log_y)) for arm in arms for key, label in curve.keys.items()]
    found = [(arm, label, made) for arm, label, made in bands if made is not None and made.steps]
    if not found:
        return None
    colour = colours(palette)
    labels = list(dict.fromkeys(label for _, label, _ in found))
    with drawing() as (figure, (axes,)):
        if curve.line_at is not None:
            axes.axhline(curve.line_at, color=INK, linewidth=0.9, linestyle=(0, (4, 3)))
            if curve.line_label:
                axes.annotate(
                    curve.line_label, (0.995, curve.line_at), xycoords=("axes fraction", "data"), ha="right", va="top", fontsize=7.5
                )
        for arm, label, made in found:
            name = ", ".join(part for part in (f"{arm.label} (n = {made.runs})", label if len(labels) > 1 else "") if part)
            draw_band(axes, made, colour[arm.name], STYLES[labels.index(label) % len(STYLES)], name, log=curve.log_x)
        if curve.log_y:
            log_axis(axes.yaxis)
            _within_a_decade(axes, [value for *_, made in found for value in made.mean])
        elif curve.limits is not None:
            low, high = axes.get_ylim()
            axes.set_ylim(max(low, curve.limits[0]), min(high, curve.limits[1]))
        _steps_axis(axes, curve.log_x)
        axes.set_ylabel(curve.y)
        axes.set_title(curve.title, loc="left")
        if curve.percent:
            percent_axis(axes)
        legend(figure, axes, columns=1 if len(found) > 3 or max(len(arm.label) for arm in arms) > 24 else 2)
    ends = f" {ENDS}" if any(made.ends for *_, made in found) else ""
    kind = BAND.replace("means", "geometric means") if curve.log_y else BAND
    several = kind if any(made.runs > 1 for *_, made in found) else "One seed an arm."
    caption = " ".join(part for part in (curve.caption, several + ends) if part)
    last = "; ".join(f"{arm.label}{f', {label}' if len(labels) > 1 else ''}: {_ends_at(made, curve.percent)}" for arm, label, made in found)
    return Picture(curve.name, curve.title, caption, f"{curve.y} against training steps. {last}.", figure)


def by_learning_rate(
    name: str, tracks: Mapping[float, Sequence[Arm]], palette: Sequence[str], target: float | None, title: str
) -> Picture | None:
    """Validation accuracy over the steps, a small panel for each learning rate, so that runs that diverged are seen where they did."""
    lrs = sorted(tracks)
    if len(lrs) < 2:
        return None
    colour = colours(palette)
    columns = 3
    rows = -(-len(lrs) // columns)
    n = {
        arm.name: max(len(one.tracks) for arms in tracks.values() for one in arms if one.name == arm.name)
        for a in tracks.values()
        for arm in a
    }
    lost = 0
    with drawing(rows, columns, height=0.9 + 1.15 * rows, sharex=True, sharey=True) as (figure, panels):
        for axes, lr in zip(panels, lrs, strict=False):
            axes.set_title(f"lr {lr:g}", fontsize=8, loc="left")
            if target is not None:
                axes.axhline(target, color=GRID, linewidth=1.2, linestyle=(0, (4, 3)))
            for arm in tracks[lr]:
                made = band(arm.tracks, "val/accuracy")
                if made is not None:
                    draw_band(axes, made, colour[arm.name], "-", f"{arm.label} (n = {n[arm.name]})", log=False, width=1.3)
                lost += arm.n_diverged
            percent_axis(axes, low=0, high=1.02)
        for axes in panels[len(lrs) :]:
            axes.set_visible(False)
        for index in range(len(lrs) - min(columns, len(lrs)), len(lrs)):
            panels[index].tick_params(labelbottom=True)
        figure.supxlabel("training steps", fontsize=9)
        figure.supylabel("validation accuracy (%)", fontsize=9)
        seen: dict[str, Artist] = {}
        for axes in panels[: len(lrs)]:
            for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
                seen.setdefault(str(label), handle)
        figure.legend(list(seen.values()), list(seen), loc="outside upper left", ncols=4)
    caption = f"Validation accuracy (running statistics) at each learning rate, n seeds a line at most. {BAND} {ENDS}"
    alt = (
        f"{len(lrs)} panels of validation accuracy against training steps, learning rates {lrs[0]:g} to {lrs[-1]:g}; "
        f"{lost} diverged runs are marked."
    )
    return Picture(name, title, caption, alt, figure)


def percentiles(name: str, arms: Sequence[Arm], palette: Sequence[str], layer: str, which: str, title: str, caption: str) -> Picture | None:
    """15th, 50th and 85th percentile of what enters a nonlinearity over training, a panel an arm (Ioffe and Szegedy 2015, Fig. 1)."""
    keys = {f"percentiles/{layer}/{which}/{p}": p for p in ("p15", "p50", "p85")}
    bands = [(arm, {p: made for key, p in keys.items() if (made := band(arm.tracks, key)) is not None}) for arm in arms]
    bands = [(arm, found) for arm, found in bands if len(found) == len(keys)]
    if not bands:
        return None
    colour = colours(palette)
    with drawing(len(bands), 1, height=0.9 + 1.65 * len(bands), sharex=True, sharey=True) as (figure, panels):
        for axes, (arm, found) in zip(panels, bands, strict=True):
            for p, style in (("p85", "--"), ("p50", "-"), ("p15", ":")):
                draw_band(axes, found[p], colour[arm.name], style, {"p15": "15th", "p50": "50th", "p85": "85th percentile"}[p], log=False)
            axes.set_title(f"{arm.label} (n = {found['p50'].runs})", loc="left", fontsize=9)
        _steps_axis(panels[-1], log=False)
        figure.supylabel(f"pre-activation of {layer}", fontsize=9)
        legend(figure, panels[0])
    ends = "; ".join(
        f"{arm.label}: " + ", ".join(f"{p[1:]}th {found[p].mean[-1]:.3g}" for p in ("p15", "p50", "p85")) for arm, found in bands
    )
    several = BAND if any(found["p50"].runs > 1 for _, found in bands) else ""
    return Picture(
        name, title, f"{caption} {several}".strip(), f"Percentiles of pre-activations against training steps; at the end {ends}.", figure
    )


def between(
    name: str, arms: Sequence[Arm], palette: Sequence[str], low: str, high: str, y: str, title: str, caption: str
) -> Picture | None:
    """The range from one key to another over training (the landscape's bands), means over seeds."""
    found = [(arm, a, b) for arm in arms if (a := band(arm.tracks, low)) is not None and (b := band(arm.tracks, high)) is not None]
    found = [(arm, a, b) for arm, a, b in found if a.steps == b.steps]
    if not found:
        return None
    colour = colours(palette)
    with drawing() as (figure, (axes,)):
        for arm, a, b in found:
            mark = "o" if len(a.steps) < 12 else None
            axes.fill_between(a.steps, a.mean, b.mean, color=colour[arm.name], alpha=0.22, linewidth=0, label=f"{arm.label} (n = {a.runs})")
            for edge in (a, b):
                axes.plot(edge.steps, edge.mean, color=colour[arm.name], linewidth=1.1, marker=mark, markersize=2.5)
        if all(value > 0 for _, a, b in found for value in (*a.mean, *b.mean)):
            log_axis(axes.yaxis)
        _steps_axis(axes, log=True)
        axes.set_ylabel(y)
        axes.set_title(title, loc="left")
        legend(figure, axes, columns=2)
    widths = "; ".join(f"{arm.label}: from {a.mean[-1]:.3g} to {b.mean[-1]:.3g} at the last measured step" for arm, a, b in found)
    return Picture(name, title, caption, f"{y}, its range against training steps. {widths}.", figure)


def draw_band(axes: Axes, made: Band, colour: str, style: str, label: str, *, log: bool, width: float = 1.7) -> None:
    """A band, its mean, and crosses where runs diverged. On a logarithmic axis initialization (step 0) has no place."""
    start = 1 if log and made.steps and made.steps[0] == 0 else 0
    steps, whole = made.steps[start:], max(0, made.whole - start)
    mean, low, high = made.mean[start:], made.low[start:], made.high[start:]
    mark = "o" if len(steps) < 12 else None
    axes.plot(steps[:whole], mean[:whole], color=colour, linestyle=style, linewidth=width, label=label, marker=mark, markersize=2.5)
    axes.plot(steps[max(0, whole - 1) :], mean[max(0, whole - 1) :], color=colour, linestyle=":", linewidth=width * 0.8)
    if made.runs > 1:
        axes.fill_between(steps[:whole], low[:whole], high[:whole], color=colour, alpha=0.18, linewidth=0)
    cross: dict[str, Any] = {
        "linestyle": "",
        "marker": "X",
        "markersize": 7,
        "color": colour,
        "markeredgecolor": INK,
        "markeredgewidth": 0.7,
    }
    for step, value in made.ends:
        if math.isfinite(value):
            axes.plot([step], [value], zorder=4, **cross)
        else:  # it never had a value: at the foot of the drawing
            axes.plot([step], [0.03], zorder=4, transform=axes.get_xaxis_transform(), clip_on=False, **cross)


def _within_a_decade(axes: Axes, means: Sequence[float]) -> None:
    """Keeps a logarithmic axis within a factor of 10 of the means: an interval of a few seeds can span many decades."""
    low, high = axes.get_ylim()
    axes.set_ylim(max(low, min(means) / 10), min(high, max(means) * 10))


def _steps_axis(axes: Axes, log: bool) -> None:
    if log:
        log_axis(axes.xaxis)
    axes.set_xlabel("training steps")


def _ends_at(made: Band, percent: bool) -> str:
    scale, unit = (100, " %") if percent else (1, "")
    text = f"{scale * made.mean[-1]:.4g}{unit}" if made.mean else "no finite value"
    spread = f" ({scale * made.low[-1]:.4g} to {scale * made.high[-1]:.4g})" if made.runs > 1 and made.mean else ""
    lost = f", {len(made.ends)} of {made.runs} diverged" if made.ends else ""
    return f"{text}{spread} at step {made.steps[-1]:,}{lost}" if made.steps else text


__all__ = ["HEIGHT", "Arm", "Curve", "between", "by_learning_rate", "over_steps", "percentiles"]
