"""What is recorded over the steps, both arms in one drawing: mean with band over seeds, diverged runs marked."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from matplotlib.artist import Artist
from matplotlib.axes import Axes

from bnexp.analysis import findings
from bnexp.analysis.bands import Band, RunCurves, band
from bnexp.plots.style import DASHED, GRID, INK, Picture, colours, drawing, legend, log_axis, percent_axis, wrapped

BAND = "Lines are means over seeds, bands their 95 % intervals."
ENDS = "A cross marks where a run diverged."
DOTTED = "Dotted: not every run has a value there (it diverged, or has none), and the mean is that of those that have."
KEPT = "Runs that stopped at their target keep their last values."
STYLES = ("-", "--", ":")


@dataclass(frozen=True, eq=False)  # a key of its own
class Arm:
    """An arm's runs of one setting: its best learning rate, unless `label` says something else."""

    name: str
    label: str
    tracks: tuple[RunCurves, ...]

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
    noun: str
    """What it measures, within a sentence."""
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
    found = [(arm, label, made) for arm, label, made in bands if made is not None and len(made.steps) > 1]
    if not found:
        return None
    colour = colours(palette)
    labels = list(dict.fromkeys(label for _, label, _ in found))
    with drawing() as (figure, (axes,)):
        if curve.line_at is not None:
            axes.axhline(curve.line_at, color=INK, linewidth=0.9, linestyle=DASHED)
            at = 0.995, curve.line_at
            axes.annotate(curve.line_label, at, xycoords=("axes fraction", "data"), ha="right", va="top", fontsize=7.5)
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
        axes.set(ylabel=curve.y, title=curve.title)
        if curve.percent:
            percent_axis(axes)
        _keep_crosses(axes)
        legend(figure, axes, columns=1 if len(found) > 3 else 2)
    last = "; ".join(f"{arm.label}{f', {label}' if len(labels) > 1 else ''}: {_ends_at(made, curve)}" for arm, label, made in found)
    caption = _caption(curve.caption, arms, [made for *_, made in found], log=curve.log_y)
    noun = f"{curve.noun} at {labels[0]}" if labels[0] else curve.noun
    spans = [(arm.label, *made.span) for arm, label, made in found if label == labels[0]]
    first = [(arm.label, made) for arm, label, made in found if label == labels[0]]
    finding = findings.change(noun, spans, findings.in_percent if curve.percent else findings.short, _until(first))
    return Picture(curve.name, curve.title, finding, caption, f"{curve.y} against training steps. {last}.", figure)


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
    every = [arm for arms in tracks.values() for arm in arms]
    n = {arm.name: max(len(other.tracks) for other in every if other.name == arm.name) for arm in every}
    drawn: list[Band] = []
    ends: dict[str, list[float]] = {}
    with drawing(rows, columns, height=0.9 + 1.15 * rows, sharex=True, sharey=True) as (figure, panels):
        for axes, lr in zip(panels, lrs, strict=False):
            axes.set_title(f"lr {lr:g}", fontsize=8)
            if target is not None:
                axes.axhline(target, color=GRID, linewidth=1.2, linestyle=DASHED)
            for arm in tracks[lr]:
                if (made := band(arm.tracks, "val/accuracy")) is not None:
                    draw_band(axes, made, colour[arm.name], "-", f"{arm.label} (n = {n[arm.name]})", log=False, width=1.3)
                    drawn.append(made)
                    ends.setdefault(arm.label, []).append(made.mean[-1] if not made.ends else 0.0)
            percent_axis(axes, low=0, high=1.02)
        for axes in panels[len(lrs) :]:
            axes.set_visible(False)
        for index in range(len(lrs) - min(columns, len(lrs)), len(lrs)):
            panels[index].tick_params(labelbottom=True)
        figure.supxlabel("training steps", fontsize=9)
        figure.supylabel("validation accuracy (%)", fontsize=9)
        handles: dict[str, Artist] = {}
        for axes in panels[: len(lrs)]:
            for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
                handles.setdefault(str(label), handle)
        legend(figure, panels[0], columns=4, handles=handles)
    caption = _caption("Validation accuracy (running statistics) at each learning rate; n is the most seeds that a line has.", every, drawn)
    alt = f"{len(lrs)} panels of validation accuracy against training steps, learning rates {lrs[0]:g} to {lrs[-1]:g}"
    lost = sum(arm.n_diverged for arm in every)
    goal = max(map(max, ends.values()), default=0.0) if target is None else target
    shares = [(label, f"{sum(end >= goal for end in own)} of {len(own)} {label}") for label, own in ends.items()]
    finding = findings.sentence(
        f"learning rates at which no run diverges and the mean ends at {findings.in_percent(goal)} or above: "
        + ", ".join(text for _, text in shares)
    )
    return Picture(name, title, finding, caption, f"{alt}; {lost} diverged runs are marked.", figure)


def percentiles(name: str, arms: Sequence[Arm], palette: Sequence[str], layer: str, which: str, title: str, caption: str) -> Picture | None:
    """15th, 50th and 85th percentile of what enters a nonlinearity over training, a panel an arm (Ioffe and Szegedy 2015, Fig. 1)."""
    keys = {f"percentiles/{layer}/{which}/{p}": p for p in ("p15", "p50", "p85")}
    bands = [(arm, {p: made for key, p in keys.items() if (made := band(arm.tracks, key)) is not None}) for arm in arms]
    bands = [(arm, found) for arm, found in bands if len(found) == len(keys) and len(found["p50"].steps) > 1]
    if not bands:
        return None
    colour = colours(palette)
    with drawing(len(bands), 1, height=0.9 + 1.65 * len(bands), sharex=True, sharey=True) as (figure, panels):
        for axes, (arm, found) in zip(panels, bands, strict=True):
            for p, style, label in (("p85", "--", "85th percentile"), ("p50", "-", "50th"), ("p15", ":", "15th")):
                draw_band(axes, found[p], colour[arm.name], style, label, log=False)
            axes.set_title(wrapped(f"{arm.label} (n = {found['p50'].runs})"), fontsize=9)
        _steps_axis(panels[-1], log=False)
        figure.supylabel(f"{title[:1].lower()}{title[1:]}", fontsize=8)
        legend(figure, panels[0])
    ends = "; ".join(
        f"{arm.label}: " + ", ".join(f"{p[1:]}th {found[p].mean[-1]:.3g}" for p in keys.values()) + f" at step {found['p50'].steps[-1]:,}"
        for arm, found in bands
    )
    drawn = [made for _, found in bands for made in found.values()]
    text = f"Percentiles of pre-activations against training steps; at the last of them {ends}."
    spans = [(arm.label, *_widths(found["p15"], found["p85"])) for arm, found in bands]
    until = _until([(arm.label, found["p50"]) for arm, found in bands])
    finding = findings.change("the spread (85th minus 15th percentile)", spans, until=until)
    return Picture(name, title, finding, _caption(caption, [arm for arm, _ in bands], drawn), text, figure)


def between(
    name: str, arms: Sequence[Arm], palette: Sequence[str], low: str, high: str, y: str, title: str, caption: str
) -> Picture | None:
    """The range from one key to another over training (the landscape's bands), from mean to mean over seeds."""
    log = all(
        value > 0 or math.isnan(value) for arm in arms for t in arm.tracks for key in (low, high) for _, value in t.curves.get(key, ())
    )
    found = [(arm, a, b) for arm in arms if (a := band(arm.tracks, low, log=log)) and (b := band(arm.tracks, high, log=log)) and a.steps]
    found = [(arm, a, b) for arm, a, b in found if a.steps == b.steps and len(a.steps) > 1]
    if not found:
        return None
    colour = colours(palette)
    with drawing() as (figure, (axes,)):
        for arm, a, b in found:
            whole = min(a.whole, b.whole)
            axes.fill_between(a.steps[:whole], a.mean[:whole], b.mean[:whole], color=colour[arm.name], alpha=0.22, linewidth=0)
            for edge, label in ((a, f"{arm.label} (n = {a.runs})"), (b, "_")):  # an underscore keeps it out of the legend
                draw_band(axes, replace(edge, low=edge.mean, high=edge.mean), colour[arm.name], "-", label, log=True, width=1.1)
        if log:
            log_axis(axes.yaxis)
            _within_a_decade(axes, [value for _, a, b in found for value in (*a.mean, *b.mean)])
        _steps_axis(axes, log=True)
        axes.set(ylabel=y, title=title)
        _keep_crosses(axes)
        legend(figure, axes, columns=2)
    widths = "; ".join(
        f"{arm.label}: from {a.mean[-1]:.3g} to {b.mean[-1]:.3g} at step {a.steps[-1]:,} (n = {a.n[-1]} of {a.runs})" for arm, a, b in found
    )
    edges = f"{caption} Edges are {'geometric ' if log else ''}means over seeds."
    text = _caption(edges, arms, [made for _, a, b in found for made in (a, b)], intervals=False)
    spans = [(arm.label, *_widths(a, b)) for arm, a, b in found]
    finding = findings.change("the width of the range", spans, until=_until([(arm.label, a) for arm, a, _ in found]))
    return Picture(name, title, finding, text, f"{y}, its range against training steps. {widths}.", figure)


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
    cross = partial(axes.plot, linestyle="", marker="X", markersize=7, color=colour, markeredgecolor=INK, markeredgewidth=0.7, zorder=4)
    for step, value in made.ends:
        if math.isfinite(value):
            cross([step], [value])
        else:  # it never had a value: at the foot of the drawing
            cross([step], [0.03], transform=axes.get_xaxis_transform(), clip_on=False)


def _until(arms: Sequence[tuple[str, Band]]) -> str:
    """Of arms in which runs diverged, up to which step the first and last values of `Band.span` are."""
    texts = []
    for label, made in arms:
        if 1 < made.whole < len(made.steps):
            texts.append(f"{label} until step {made.steps[made.whole - 1]:,}, the last that all {made.runs} runs reached")
        elif made.whole < len(made.steps):
            texts.append(f"{label} at the end of the {made.n[-1]} of {made.runs} runs that reached it")
    return "; ".join(texts)


def _widths(low: Band, high: Band) -> tuple[float, float]:
    """How far two bands are apart at first and at last."""
    return high.span[0] - low.span[0], high.span[1] - low.span[1]


def _within_a_decade(axes: Axes, means: Sequence[float]) -> None:
    """Keeps a logarithmic axis within a factor of 10 of the means: an interval of a few seeds can span many decades."""
    low, high = axes.get_ylim()
    finite = [mean for mean in means if math.isfinite(mean) and mean > 0]
    if finite:
        axes.set_ylim(max(low, min(finite) / 10), min(high, max(finite) * 10))


def _keep_crosses(axes: Axes) -> None:
    """Moves crosses that lie beyond the drawing to its edge: a run that diverges has left the others far behind."""
    low, high = axes.get_ylim()
    for line in axes.lines:
        if line.get_marker() == "X" and line.get_transform() == axes.transData:
            line.set_ydata([min(max(float(value), low), high) for value in line.get_ydata()])  # type: ignore[union-attr, arg-type]
            line.set_clip_on(False)


def _steps_axis(axes: Axes, log: bool) -> None:
    if log:
        log_axis(axes.xaxis)
    axes.set_xlabel("training steps")


def _caption(text: str, arms: Sequence[Arm], drawn: Sequence[Band], *, log: bool = False, intervals: bool = True) -> str:
    """What a drawing of these bands needs to be texts of it, after its own text."""
    texts = [text]
    if intervals and any(made.runs > 1 for made in drawn):
        texts.append(BAND.replace("means", "geometric means") if log else BAND)
    elif all(made.runs == 1 for made in drawn):
        texts.append("One seed an arm.")
    texts += [ENDS] * any(made.ends for made in drawn)
    texts += [DOTTED] * any(made.whole < len(made.steps) for made in drawn)
    texts += [KEPT] * any(track.stopped for arm in arms for track in arm.tracks)
    return " ".join(part for part in texts if part)


def _ends_at(made: Band, curve: Curve) -> str:
    """A band's last mean with its interval, of how many runs, and when."""
    scale, unit = (100, " %") if curve.percent else (1, "")
    low, high = made.low[-1], made.high[-1]
    if curve.percent:
        low, high = max(0.0, low), min(1.0, high)
    interval = f"{scale * low:.4g} to {scale * high:.4g}, " if made.n[-1] > 1 else ""
    lost = f"; {len(made.ends)} of {made.runs} diverged" if made.ends else ""
    return f"{scale * made.mean[-1]:.4g}{unit} ({interval}n = {made.n[-1]}) at step {made.steps[-1]:,}{lost}"
