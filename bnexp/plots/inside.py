"""The network at the end of training: running against precise statistics, the ReLU's balance; and the law of batch statistics."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace

from bnexp.analysis import findings
from bnexp.analysis.law import NoiseLaw
from bnexp.analysis.pairs import estimate
from bnexp.analysis.wording import count, label
from bnexp.plots import style
from bnexp.plots.curves import Arm
from bnexp.plots.style import DASHED, FAINT, HEIGHT, INK, OTHERS, Picture, colours, drawing, legend

MARKERS = "os^Dv<>pP*hX"


def three_statistics(name: str, accuracies: Mapping[str, Mapping[str, Sequence[float]]], palette: Sequence[str], title: str) -> Picture:
    """Test accuracy of each run under the three statistics: {arm: {stats: [accuracy by seed]}}; a line is a run."""
    colour = colours(palette)
    names = list(next(iter(accuracies.values())))
    arms = [arm for arm in palette if arm in accuracies]
    with drawing() as (figure, (axes,)):
        for index, arm in enumerate(arms):
            shift = 0.07 * (index - (len(arms) - 1) / 2)
            x = [place + shift for place in range(len(names))]
            for run in zip(*(accuracies[arm][stats] for stats in names), strict=True):
                axes.plot(x, run, color=colour[arm], linewidth=0.6, alpha=0.5, marker="o", markersize=2.5)
            cells = [estimate(accuracies[arm][stats]) for stats in names]
            axes.plot(x, style.means(cells), color=colour[arm], marker="s", markersize=5, label=f"{label(arm)} (n = {cells[0].n})")
            style.intervals(axes, x, cells, colour[arm], 1.4)
        axes.set_xticks(range(len(names)), names)
        axes.set_xlim(-0.4, len(names) - 0.6)
        axes.set(xlabel="statistics that the network is evaluated with", ylabel="test accuracy (%)", title=title)
        style.percent_axis(axes)
        legend(figure, axes, columns=2)
    texts = "; ".join(
        f"{label(arm)} " + ", ".join(f"{stats} {100 * statistics.fmean(values):.2f} %" for stats, values in accuracies[arm].items())
        for arm in arms
    )
    caption = (
        "Thin lines are runs, squares their means with 95 % intervals. Running: what is deployed. Precise: pooled over training data (Wu "
        "and Johnson 2021). Batch: the test batch's own. A gap between running and precise says that the running average has not arrived."
    )
    finding = findings.sentence(f"mean test accuracy by statistics: {texts}")
    return Picture(name, title, finding, caption, f"Test accuracy under running, precise and batch statistics. {texts}.", figure)


def by_layer(
    name: str,
    arms: Sequence[Arm],
    palette: Sequence[str],
    keys: Mapping[str, str],
    y: str,
    title: str,
    caption: str,
    line_at: float | None,
    percent: bool = False,
) -> Picture | None:
    """A measure's last value in each layer (`keys`: key by layer), a point a run, the mean joined by a line."""
    arms, lost = finished(arms)
    values = {arm: {layer: [v for t in arm.tracks if (v := t.last(key)) is not None] for layer, key in keys.items()} for arm in arms}
    values = {arm: own for arm, own in values.items() if any(own.values())}
    if sum(len(v) for own in values.values() for v in own.values()) < 2:
        return None
    colour, layers = colours(palette), list(keys)
    with drawing() as (figure, (axes,)):
        if line_at is not None:
            axes.axhline(line_at, color=INK, linewidth=0.9, linestyle=DASHED)
        for index, (arm, own) in enumerate(values.items()):
            shift = 0.14 * (index - (len(values) - 1) / 2)
            for place, layer in enumerate(layers):
                x = [place + shift] * len(own[layer])
                axes.plot(x, own[layer], linestyle="", marker="o", markersize=3, alpha=0.55, color=colour[arm.name])
            x = [place + shift for place, layer in enumerate(layers) if own[layer]]
            y_ = [sum(own[layer]) / len(own[layer]) for layer in layers if own[layer]]
            n = max(map(len, own.values()))
            axes.plot(x, y_, color=colour[arm.name], linewidth=1.3, marker="s", markersize=4.5, label=f"{arm.label} (n = {n})")
        axes.set_xticks(range(len(layers)), layers, rotation=30 if len(layers) > 3 else 0, ha="right" if len(layers) > 3 else "center")
        axes.set(ylabel=y, title=title)
        if percent:
            style.percent_axis(axes)
        legend(figure, axes, columns=2)
    scale = 100 if percent else 1
    texts = "; ".join(
        f"{arm.label}: " + ", ".join(f"{layer} {scale * sum(v) / len(v):.3g}" for layer, v in own.items() if v)
        for arm, own in values.items()
    )
    write = findings.in_percent if percent else findings.short
    far = []
    for arm, own in values.items():
        layer, mean = max(
            ((layer, sum(v) / len(v)) for layer, v in own.items() if v), key=lambda one: abs(one[1] - (line_at or 0.0)), default=("", 0.0)
        )
        far.append((arm.label, f"{write(mean)} in {layer}"))
    finding = findings.each(f"{title}, the {'highest value' if line_at is None else f'value furthest from {write(line_at)}'}", far)
    return Picture(name, title, finding, f"{caption}{lost}", f"{y} by layer at the end of training, means: {texts}.", figure)


def finished(arms: Sequence[Arm]) -> tuple[list[Arm], str]:
    """The arms without their diverged runs, which have no end to show, and a sentence that says how many these are."""
    kept = [replace(arm, tracks=tuple(track for track in arm.tracks if track.diverged_at_step is None)) for arm in arms]
    lost = sum(arm.n_diverged for arm in arms)
    return [arm for arm in kept if arm.tracks], f" {count(lost, 'diverged run')} left out." if lost else ""


def observed_and_predicted(name: str, arms: Sequence[Arm], palette: Sequence[str], layers: Sequence[str], title: str) -> Picture | None:
    """Observed share of positive values into each ReLU against Phi(beta/|gamma|), a point for each layer and run at the end of training."""
    points: dict[str, list[tuple[int, float, float]]] = {}
    arms, lost = finished(arms)
    for arm in arms:
        for track in arm.tracks:
            for index, layer in enumerate(layers):
                pair = track.last(f"relu_balance/{layer}/predicted"), track.last(f"relu_balance/{layer}/positive")
                if pair[0] is not None and pair[1] is not None:
                    points.setdefault(arm.name, []).append((index, pair[0], pair[1]))
    if not points:
        return None
    colour = colours(palette)
    with drawing(height=HEIGHT + 0.5) as (figure, (axes,)):
        axes.plot([0, 1], [0, 1], color=INK, linewidth=0.9, linestyle=DASHED, label="observed = predicted")
        for name_, found in points.items():
            for index in sorted({index for index, _, _ in found}):
                x, y = zip(*((a, b) for at, a, b in found if at == index), strict=True)
                marker, text = MARKERS[index % len(MARKERS)], f"{label(name_)}: {layers[index]}"
                axes.plot(x, y, linestyle="", marker=marker, markersize=4.5, alpha=0.75, color=colour[name_], label=text)
        every = [value for found in points.values() for _, a, b in found for value in (a, b)]
        low, high = min(every), max(every)
        room = max(0.02, 0.1 * (high - low))
        axes.set_xlim(low - room, high + room)
        style.percent_axis(axes, low=low - room, high=high + room)
        from matplotlib.ticker import PercentFormatter

        axes.xaxis.set_major_formatter(PercentFormatter(1.0, symbol=""))
        n = max(len(arm.tracks) for arm in arms)
        x_label = "predicted: Φ(β/|γ|), mean over channels (%)"  # noqa: RUF001
        axes.set(xlabel=x_label, ylabel="observed positive share (%)", title=f"{title} (n = {n})")
        legend(figure, axes, columns=3)
    gaps = "; ".join(f"{name_}: mean gap {sum(abs(a - b) for _, a, b in found) / len(found):.3f}" for name_, found in points.items())
    caption = (
        f"Share of positive values that enters each ReLU, on the probe batch at the end of training, n = {n} seeds. For a normal x-hat "
        f"gamma alone does not set it: the ratio beta/|gamma| does.{lost}"
    )
    apart = [(label(arm), f"{100 * sum(abs(a - b) for _, a, b in found) / len(found):.1f} points") for arm, found in points.items()]
    finding = findings.each("Observed and predicted shares differ on average by", apart)
    return Picture(name, title, finding, caption, f"Observed positive share against the predicted one, by layer. {gaps}.", figure)


def noise_law(name: str, law: NoiseLaw, measure: str, y: str, title: str, caption: str) -> Picture | None:
    """A statistic of random batches against their size, log-log: points are measured, lines are theory (`<measure>_theory`)."""
    layers = [layer for layer in law.layers if any(_positive(getattr(line, measure)) for line in layer.lines)]
    if not layers:
        return None
    with drawing(height=HEIGHT + 0.5) as (figure, (axes,)):
        for index, layer in enumerate(layers):
            lines = [line for line in layer.lines if _positive(getattr(line, measure))]
            colour = OTHERS[index % len(OTHERS)]
            theory = [
                (line.batch, getattr(line, f"{measure}_theory")) for line in lines if _positive(getattr(line, f"{measure}_theory", None))
            ]
            if theory:
                axes.plot(*zip(*theory, strict=True), color=colour, linewidth=1.1)
            x, y_ = [line.batch for line in lines], [getattr(line, measure) for line in lines]
            marker = MARKERS[index % len(MARKERS)]
            axes.plot(x, y_, linestyle="", marker=marker, markersize=4.5, color=colour, label=layer.layer)
        if any(_positive(getattr(line, f"{measure}_theory", None)) for layer in layers for line in layer.lines):
            axes.plot([], [], color=FAINT, linewidth=1.1, label="theory")
        axes.set_xscale("log", base=2)
        style.log_axis(axes.yaxis)
        sizes = sorted({line.batch for layer in layers for line in layer.lines})
        shown = sizes[:: -(-len(sizes) // 10)]
        axes.set_xticks(shown, [str(size) for size in shown])
        axes.minorticks_off()
        axes.set(xlabel="batch size (images)", ylabel=y, title=f"{title} (n ≥ {law.draws} batches a size)")
        legend(figure, axes, columns=3)
    slopes = [layer.slope for layer in layers if layer.slope is not None]
    alt = f"{y} against batch size, log-log, {len(layers)} layers."
    if slopes and measure == "mean_variance":
        alt += f" Log-log slopes of Var[mean] by layer: {', '.join(f'{slope:.3f}' for slope in slopes)}."
    ends = [(layer.layer, *(getattr(line, measure) for line in layer.lines if _positive(getattr(line, measure)))) for layer in layers]
    moved = [(layer, values[0], values[-1]) for layer, *values in ends[:1]]
    batches = f"from batch {sizes[0]} to {sizes[-1]}"
    finding = findings.sentence(f"in {moved[0][0]} {batches}: {findings.short(moved[0][1])} to {findings.short(moved[0][2])}")
    return Picture(name, title, finding, caption, alt, figure)


def _positive(value: object) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value) and value > 0
