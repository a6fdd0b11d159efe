"""The arms side by side: which classes each takes for which others."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.patches import Rectangle

from bnexp.analysis.confusion import Confusion, confusion_finding
from bnexp.plots.style import GRID, INK, Picture, colours, drawing, wrapped

MOST_ARMS, BESIDE = 4, 12
"""More have no room on a screen; up to how many classes two matrices stand beside each other."""


def confusion(name: str, title: str, arms: Sequence[Confusion], palette: Sequence[str]) -> Picture | None:
    """A confusion matrix an arm: the errors in the arm's colour, with their number."""
    arms = arms[:MOST_ARMS]
    if not arms:
        return None
    colour = colours(palette)
    most = max(1, *(count for arm in arms for true, row in enumerate(arm.counts) for other, count in enumerate(row) if true != other))
    size = len(arms[0].classes)
    columns = 2 if len(arms) > 1 and size <= BESIDE else 1
    lines = -(-len(arms) // columns)
    with drawing(lines, columns, height=0.4 + (max(1.4, 0.2 * size) + 0.45) * lines) as (figure, panels):
        for axes in panels[len(arms) :]:
            axes.set_visible(False)
        for axes, arm in zip(panels, arms, strict=False):
            axes.grid(False)
            for true, row in enumerate(arm.counts):
                axes.add_patch(Rectangle((true - 0.5, true - 0.5), 1, 1, facecolor=GRID, linewidth=0))
                for other, count in enumerate(row):
                    if count and other != true:
                        alpha = 0.2 + 0.6 * count / most
                        axes.add_patch(Rectangle((other - 0.5, true - 0.5), 1, 1, facecolor=colour[arm.arm], alpha=alpha, linewidth=0))
                        axes.text(other, true, f"{count:,}", ha="center", va="center", fontsize=7.5, color=INK)
            axes.set(xlim=(-0.5, size - 0.5), ylim=(size - 0.5, -0.5))
            names = [name[:10] for name in arm.classes]
            long = max(map(len, names)) > 3
            axes.set_xticks(range(size), names, rotation=40 if long else 0, ha="right" if long else "center")
            axes.set_yticks(range(size), names)
            axes.tick_params(length=0, labelsize=7.5)
            axes.set_title(wrapped(f"{arm.label} (n = {arm.runs})"), fontsize=9)
        figure.supxlabel("predicted class", fontsize=9)
        figure.supylabel("true class", fontsize=9)
    caption = (
        "Errors on the test images by true and predicted class, with running statistics, added up over the runs that did train: the "
        "stronger the colour, the more. On the grey diagonal are the images that were right."
    )
    finding = confusion_finding(arms)
    return Picture(name=name, title=title, finding=finding, caption=caption, alt=f"Confusion matrices. {finding}", figure=figure)
