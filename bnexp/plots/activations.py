"""Histograms of a layer's activations before and after the norm."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.artist import Artist
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from bnexp.analysis.histograms import Activations, ArmActivations, activations_finding
from bnexp.plots.style import FAINT, INK, Picture, colours, drawing, legend, wrapped

MOST_ARMS = 4
"""Rows of panels that fit a screen."""


def histograms(name: str, title: str, layer: str, arms: Sequence[ArmActivations], palette: Sequence[str]) -> Picture | None:
    """An arm's activations before and after the norm, a row an arm: at initialization on the left, at the end on the right."""
    arms = arms[:MOST_ARMS]
    if not arms:
        return None
    colour = colours(palette)
    with drawing(len(arms), 2, height=0.9 + 1.45 * len(arms), sharex="row") as (figure, panels):
        for index, arm in enumerate(arms):
            for axes, at in zip(panels[2 * index : 2 * index + 2], (arm.early, arm.late), strict=True):
                axes.grid(False)
                axes.set_yticks([])
                axes.spines["left"].set_visible(False)
                axes.stairs(at.last.density, at.last.edges, fill=True, color=colour[arm.arm], alpha=0.55)
                if at.after is not None:
                    axes.stairs(at.before.density, at.before.edges, color=INK, linewidth=1.2)
                axes.set_title(f"{wrapped(arm.label, 24)}, step {at.step:,}", fontsize=8.5)
                axes.annotate(_spreads(at), (0.99, 0.97), xycoords="axes fraction", ha="right", va="top", fontsize=7.5)
            shown = [made.central for at in (arm.early, arm.late) for made in (at.before, at.after) if made is not None]
            panels[2 * index].set_xlim(min(low for low, _ in shown), max(high for _, high in shown))
        figure.supxlabel(f"activation at {layer}", fontsize=9)
        handles: dict[str, Artist] = (
            {"before the norm": Line2D([], [], color=INK, linewidth=1.2)} if any(arm.early.after for arm in arms) else {}
        )
        legend(figure, panels[0], columns=2, handles={"after the norm, if there is one": Patch(color=FAINT, alpha=0.55), **handles})
    caption = (
        "Values of all channels on the probe batch in train mode, of one seed an arm, at initialization (left) and at the end (right). An "
        "arm's two panels have one horizontal axis; the outermost 1 % of the values is not drawn. std: standard deviation."
    )
    alt = "; ".join(f"{arm.label}, step {at.step:,}: {_spreads(at, ', ')}" for arm in arms for at in (arm.early, arm.late))
    return Picture(
        name=name,
        title=title,
        finding=activations_finding(layer, arms),
        caption=caption,
        alt=f"Histograms of the activations at {layer}. {alt}.",
        figure=figure,
    )


def _spreads(at: Activations, between: str = "\n") -> str:
    return f"std {at.before.std:.3g}" if at.after is None else f"std before {at.before.std:.3g}{between}std after {at.after.std:.3g}"
