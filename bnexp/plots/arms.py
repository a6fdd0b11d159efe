"""The arms side by side: which classes each takes for which others."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from bnexp.analysis.confusion import Confusion, confusion_finding
from bnexp.plots.style import GRID, INK, Picture, colours, drawing, wrapped

MOST_ARMS, MOST_CLASSES = 4, 20
"""More have no room for a number in each cell."""


def confusion(name: str, title: str, arms: Sequence[Confusion], palette: Sequence[str]) -> Picture | None:
    """A confusion matrix an arm, one below the other: the errors in the arm's colour, with their number."""
    arms = [arm for arm in arms if len(arm.classes) <= MOST_CLASSES][:MOST_ARMS]
    if not arms:
        return None
    colour = colours(palette)
    most = max(1, *(count for arm in arms for true, row in enumerate(arm.counts) for other, count in enumerate(row) if true != other))
    size = len(arms[0].classes)
    each = max(1.4, 0.23 * size)
    with drawing(len(arms), 1, height=0.5 + (each + 0.45) * len(arms)) as (figure, panels):
        for axes, arm in zip(panels, arms, strict=True):
            axes.grid(False)
            for true, row in enumerate(arm.counts):
                for other, count in enumerate(row):
                    if count:
                        _cell(axes, other, true, count, GRID if true == other else colour[arm.arm], 1.0 if true == other else count / most)
            axes.set(xlim=(-0.5, size - 0.5), ylim=(size - 0.5, -0.5), ylabel="true class")
            names = [name[:10] for name in arm.classes]
            long = max(map(len, names)) > 3
            axes.set_xticks(range(size), names, rotation=40 if long else 0, ha="right" if long else "center")
            axes.set_yticks(range(size), names)
            axes.tick_params(length=0, labelsize=7.5)
            axes.set_title(wrapped(f"{arm.label} (n = {arm.runs})"), fontsize=9)
        panels[-1].set_xlabel("predicted class")
    caption = (
        "Test images by true and predicted class, with running statistics, added up over the seeds: on the grey diagonal the right ones, "
        "elsewhere the errors, darker where there are more."
    )
    finding = confusion_finding(arms)
    return Picture(name=name, title=title, finding=finding, caption=caption, alt=f"Confusion matrices. {finding}", figure=figure)


def _cell(axes: Axes, x: int, y: int, count: int, colour: str, share: float) -> None:
    axes.add_patch(Rectangle((x - 0.5, y - 0.5), 1, 1, facecolor=colour, alpha=1.0 if colour == GRID else 0.2 + 0.7 * share, linewidth=0))
    axes.text(x, y, f"{count:,}", ha="center", va="center", fontsize=7.5, color=INK)
