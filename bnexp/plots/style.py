"""How every figure looks: one colour an arm throughout, ink and paper that a page can exchange, and how a figure becomes SVG and PNG.

The arms' colours are those of Okabe and Ito (2008), which people with any colour vision tell apart; line styles and markers carry what is
not the arm. Figures are drawn dark on white; `themed` puts CSS variables in the place of the colours, so that a page can show the same
drawing light on dark.
"""

from __future__ import annotations

import html
import io
import math
import re
import textwrap
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from bnexp.analysis.parts import MAX_ARMS
from bnexp.base.files import atomic_write
from bnexp.norms import NORMS

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from bnexp.analysis import Estimate

INK, FAINT, GRID, PAPER = "#1f2328", "#59636e", "#d4d9df", "#ffffff"
CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")
"""What XML cannot hold."""
OTHERS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7b5ea7", "#8c6d31")
VARIABLES = {INK: "ink", FAINT: "faint", GRID: "grid", PAPER: "paper", **{colour: f"arm{index}" for index, colour in enumerate(OTHERS)}}
WIDTH, HEIGHT = 4.8, 3.1
"""Inches. Narrow, so that letters stay readable on a phone; pages put figures side by side."""
DPI = 160
DASHED = (0, (4, 3))
LETTERS, LINE = 76, 0.15
"""Letters of a legend beside each other, and inches of a line of them."""
RC: Any = {  # matplotlib's own type lists its 300 keys
    "font.family": ["DejaVu Sans", "sans-serif"],
    "font.size": 9.0,
    "axes.titlesize": 9.5,
    "legend.fontsize": 8.0,
    "xtick.labelsize": 8.0,
    "ytick.labelsize": 8.0,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.titlelocation": "left",
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "text.color": INK,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "legend.frameon": False,
    "legend.handlelength": 1.8,
    "lines.linewidth": 1.7,
    "svg.fonttype": "none",
    "text.parse_math": False,  # labels are users' words, not formulas
    "path.simplify": False,
}


@contextmanager
def own_style(more: Mapping[str, Any] = MappingProxyType({})) -> Iterator[None]:
    """The settings of all figures over matplotlib's defaults, not over a `matplotlibrc`, which may need other programs (TeX)."""
    import matplotlib

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        settings: Any = {**RC, **more}  # matplotlib types its keys one by one
        matplotlib.rcParams.update(settings)
        yield


def colours(arms: Sequence[str]) -> dict[str, str]:
    """One colour an arm: its norm's own, or a remaining one, in order. Raises ValueError where there are too many arms to distinguish."""
    if len(arms) > MAX_ARMS:
        raise ValueError(f"{len(arms)} arms; {MAX_ARMS} colours can be distinguished")
    found = {arm: colour for arm in arms if arm in NORMS and (colour := NORMS[arm].colour) is not None}
    left = [colour for colour in OTHERS if colour not in found.values()]
    return {arm: found.get(arm) or left.pop(0) for arm in arms}


@dataclass(frozen=True)
class Picture:
    """A figure with its file name, what it says below it, and what it shows for those who cannot see it."""

    name: str
    title: str
    caption: str
    alt: str
    figure: Figure = field(repr=False, compare=False)
    finding: str = field(default="", kw_only=True)
    """What it shows, in one sentence that is computed from what is drawn (`bnexp.analysis.findings`)."""

    def svg(self) -> str:
        """The drawing as an SVG file, the same bytes each time."""
        text = io.StringIO()
        with own_style({"svg.hashsalt": self.name}):  # ids that differ between figures and not between calls
            self.figure.savefig(text, format="svg", metadata={"Date": None, "Creator": "bnexp", "Title": self.title})
        return CONTROL.sub("\ufffd", text.getvalue()).replace("<svg ", f'<svg role="img" aria-label="{html.escape(self.alt)}" ', 1)

    def save(self, folder: Path) -> str:
        """Writes `<name>.svg` and `<name>.png`; gives the drawing as `themed` does."""
        with own_style(), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Glyph")  # a letter that the font lacks shows as a box
            self.figure.draw_without_rendering()
            self.figure.set_layout_engine(None)  # laid out once: it took as long as a drawing each time
            with atomic_write(folder / f"{self.name}.png") as file:
                words = {"Title": self.title, "Description": self.alt, "Software": "bnexp"}
                self.figure.savefig(file, format="png", dpi=DPI, metadata=words)
            svg = self.svg()
        with atomic_write(folder / f"{self.name}.svg") as file:
            file.write(svg.encode())
        return themed(svg, self.name)


def themed(svg: str, name: str) -> str:
    """A drawing as an element of a page that sizes and describes it, and has its colours as CSS variables (`--ink`, `--arm0`, ...)."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.S)
    svg = re.sub(r"<style[^>]*>.*?</style>", "", svg, flags=re.S)  # it would hold for the whole page
    for attribute in ("width", "height", "role", "aria-label"):
        svg = re.sub(rf'(<svg[^>]*?) {attribute}="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'\bid="', f'id="{name}-', svg)  # ids are the page's, and figures must not share them
    svg = re.sub(r'((?:xlink:href="|url\()#)', rf"\g<1>{name}-", svg)
    return re.sub(r"#[0-9a-f]{6}\b", lambda found: f"var(--{VARIABLES[found[0]]})" if found[0] in VARIABLES else found[0], svg)


@contextmanager
def drawing(rows: int = 1, columns: int = 1, *, height: float = HEIGHT, **options: Any) -> Iterator[tuple[Figure, list[Axes]]]:
    """A figure with its axes, row by row, while the style holds."""
    from matplotlib.figure import Figure

    with own_style():
        figure = Figure(figsize=(WIDTH, height), layout="constrained")
        axes = figure.subplots(rows, columns, squeeze=False, **options)
        yield figure, list(axes.flat)


def legend(figure: Figure, axes: Axes, columns: int = 3, handles: Mapping[str, Artist] | None = None) -> None:
    """One legend above the drawing, where it covers no data; `handles`: by label, instead of those of the axes. Labels that are too long
    for so many columns get fewer, and are wrapped; the figure grows by what it needs."""
    found = dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True)) if handles is None else dict(handles)
    if not found:
        return
    longest = max(map(len, found))
    columns = next((count for count in range(columns, 1, -1) if longest <= LETTERS // count - 5), 1)
    labels = [wrapped(label, LETTERS // columns - 5) for label in found]
    lines = -(-len(labels) // columns) if columns > 1 else sum(label.count("\n") + 1 for label in labels)
    figure.set_figheight(figure.get_figheight() + LINE * max(0, lines - 2))
    figure.legend(list(found.values()), labels, loc="outside upper left", ncols=columns, columnspacing=1.2)


def wrapped(text: str, letters: int = 62) -> str:
    """A text in lines of so many letters, at most four; what is left is cut."""
    lines = textwrap.wrap(text, letters) or [text]
    return "\n".join(lines if len(lines) <= 4 else [*lines[:3], f"{lines[3][: letters - 4]} ..."])


def intervals(axes: Axes, x: Sequence[float], cells: Sequence[Estimate], colour: str, width: float = 1.2) -> None:
    for at, cell in zip(x, cells, strict=True):
        if cell.low is not None and cell.high is not None:
            axes.plot([at, at], [max(0.0, cell.low), min(1.0, cell.high)], color=colour, linewidth=width)


def means(cells: Sequence[Estimate]) -> list[float]:
    """NaN where there is none."""
    return [math.nan if cell.mean is None else cell.mean for cell in cells]


def percent_axis(axes: Axes, *, low: float | None = None, high: float | None = None) -> None:
    """Shares on the y axis as percent, from `low` to `high`; None: what is drawn."""
    from matplotlib.ticker import PercentFormatter

    axes.yaxis.set_major_formatter(PercentFormatter(1.0, symbol="", decimals=None))
    if low is not None or high is not None:
        axes.set_ylim(low, high)


def log_axis(axis: Any) -> None:
    """Numbers as they are on a logarithmic axis, 1e-5 where they are small or large."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    getattr(axis.axes, f"set_{axis.axis_name}scale")("log")
    axis.set_major_locator(LogLocator(numticks=7))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_locator(NullLocator())  # eight more ticks a decade to lay out, each time
    low, high = sorted(axis.get_view_interval())
    if low > 0 and high / low < 20:  # a decade or less has too few ticks otherwise
        axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0), numticks=7))


def plain_ticks(axis: Any, values: Sequence[float]) -> None:
    """Ticks at the given values of a logarithmic axis, written as they are; of many every second or third."""
    from matplotlib.ticker import NullLocator

    step = max(1, -(-len(values) // 9))
    shown = list(values)[::step]
    axis.set_ticks(shown, labels=[f"{value:g}" for value in shown])
    axis.set_minor_locator(NullLocator())
