"""The statistics-noise law as a table: theory against measurement."""

from __future__ import annotations

import math

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from bnexp.analysis.law import NoiseLaw
from bnexp.norms import has_batch_statistics
from bnexp.tables.text import Whole

COLUMNS = {
    "Var[mean]": "mean_variance",
    "M_eff": "sample_size",
    "Var[var]": "variance_variance",
    "running_var": "running_var",
}
"""Each with what theory says of it in parentheses, where it holds."""


def law_table(law: NoiseLaw) -> RenderableType:
    """What `bnexp stats` found: a line for each layer, then one for each layer and batch size."""
    title = f"Batch statistics at frozen weights ({law.weights}; norm {law.norm}; {law.mode} mode) on {law.data}"
    slopes = Table(title=Text(title, style="bold"), title_justify="left")
    for name in ("layer", "map pixels", "channels", "pixel correlation", "slope of Var[mean]"):
        slopes.add_column(Text(name), justify="left" if name == "layer" else "right")
    for layer in law.layers:
        error = "" if layer.slope_se is None else f" ± {layer.slope_se:.3f}"
        theory = "" if layer.slope_theory is None else f" ({layer.slope_theory:.3f})"
        slope = "n/a" if layer.slope is None else f"{layer.slope:.3f}{error}{theory}"
        channels = str(layer.channels) if layer.alive == layer.channels else f"{layer.alive} of {layer.channels}"
        slopes.add_row(layer.layer, str(layer.pixels), channels, _number(layer.correlation), slope)
    parts: list[RenderableType] = [Whole(slopes)]
    for layer in law.layers:
        table = Table(title=Text(layer.layer, style="bold"), title_justify="left")
        for name in ("batch", *COLUMNS, "outlier"):
            table.add_column(Text(name), justify="right")
        for line in layer.lines:
            cells = [_against(getattr(line, key), getattr(line, f"{key}_theory")) for key in COLUMNS.values()]
            table.add_row(f"{line.batch:,}", *cells, _number(line.outlier_sensitivity))
        parts.append(Whole(table))
    below = f"Below a layer: {law.layers_below}. " if has_batch_statistics(law.norm) else "No norms. "
    parts.append(
        Text(
            f"{law.mode} mode: n = {law.draws} random batches a size or more, from {law.images:,} training images, drawn "
            f"{law.drawn}. {below}Theory, in parentheses, is that of independent images"
            f"{', which only the first layer gets' if _partly(law) else ''}. Means over channels, in units of the channel's variance "
            "s2. Var[mean] and Var[var]: variance of the batch's mean and of its variance; M_eff: independent values that a batch is "
            "worth; running_var: what PyTorch's running_var tends to, over s2; outlier: the most that leaving out one image moves the "
            f"mean, in sigma. The slope is fitted log-log, ± its standard error, from resampling the batches.{law.beyond_fit}"
        )
    )
    return Group(*parts)


def _partly(law: NoiseLaw) -> bool:
    """Whether theory holds at some layers only."""
    return any(line.mean_variance_theory is None for layer in law.layers for line in layer.lines)


def _against(measured: float | None, theory: float | None) -> str:
    return _number(measured) if theory is None else f"{_number(measured)} ({_number(theory)})"


def _number(value: float | None) -> str:
    return "" if value is None or not math.isfinite(value) else f"{value:,.0f}" if 100 <= value < 1e6 else f"{value:.3g}"
