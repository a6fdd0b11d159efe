"""The network as a diagram: a box a block, with its layers in order and the shape of what leaves it."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.patches import FancyBboxPatch

from bnexp.plots.style import FAINT, GRID, INK, PAPER, Picture, drawing

Box = tuple[str, Sequence[str], str]
"""Title, layers in order, shape."""
GAP = 0.28
"""Between two boxes, where a box is 1 wide."""


def diagram(name: str, boxes: Sequence[Box], weights: str, title: str) -> Picture:
    """Boxes from left to right with arrows between them; `weights` says how many parameters there are."""
    most = max(len(layers) for _, layers, _ in boxes)
    with drawing(height=1.3 + 0.17 * most) as (figure, (axes,)):
        axes.set_axis_off()
        for index, (head, layers, shape) in enumerate(boxes):
            left = index * (1 + GAP)
            axes.add_patch(FancyBboxPatch((left, 0), 1, 1, boxstyle="round,pad=0,rounding_size=0.06", facecolor=PAPER, edgecolor=FAINT))
            axes.text(left + 0.5, 1.04, head, ha="center", va="bottom", fontsize=8, fontweight="bold", color=INK)
            axes.text(left + 0.5, 0.5, "\n".join(layers), ha="center", va="center", fontsize=7, color=INK)
            axes.text(left + 0.5, -0.05, shape, ha="center", va="top", fontsize=7, color=INK)
            if index:
                arrow = {"arrowstyle": "->", "color": FAINT, "linewidth": 1.2}
                axes.annotate("", (left, 0.5), (left - GAP, 0.5), arrowprops=arrow)
        axes.set(xlim=(-0.1, len(boxes) * (1 + GAP) - GAP + 0.1), ylim=(-0.3, 1.25), title=title)
        axes.grid(visible=False)
        axes.set_facecolor(GRID)
    finding = f"{weights}; from {boxes[0][2]} to {boxes[-1][2]}."
    caption = "Below each box: channels, and the size of the map that leaves it. Blocks after the first have stride 2."
    return Picture(name, title, finding, caption, f"{title}: " + "; ".join(f"{head}, {shape}" for head, _, shape in boxes) + ".", figure)
