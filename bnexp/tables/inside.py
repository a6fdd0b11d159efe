"""What the metrics said last of a run, layer by layer."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import fmean

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from bnexp.tables.text import Whole, number

Curves = Mapping[str, Sequence[tuple[int, float]]]
"""(step, value) by slashed key."""

Columns = Mapping[str, tuple[tuple[str, ...], str]]
"""The keys of a column, the second in parentheses, and what the legend says."""

ACTIVATIONS: Columns = {
    "p15": (("percentiles/{}/mean/p15",), ""),
    "p50": (("percentiles/{}/mean/p50",), ""),
    "p85": (("percentiles/{}/mean/p85",), "p15 p50 p85: percentiles of the pre-activations, mean over channels"),
    "drift": (("drift/{}/init/w1",), "drift: their Wasserstein distance from initialization, in initial standard deviations"),
    "positive": (("relu_balance/{}/positive", "relu_balance/{}/predicted"), "positive: share into the ReLU (Phi(beta/|gamma|))"),
    "dead": (("relu_balance/{}/dead",), "dead: share of channels without any positive value"),
}
STATISTICS: Columns = {
    "x-hat var": (("batch_stats/{}/xhat_var",), "x-hat var: variance before gamma and beta"),
    "M_eff": (("batch_stats/{}/effective_sample_size",), "M_eff: independent values that a training batch is worth, from 16 batches"),
    "running var": (("batch_stats/{}/running_var_ratio",), "running var: over the precise variance, at the end"),
    "|dL/dW|": (("gradients/{}/gradient_norm",), ""),
    "|W|": (("gradients/{}/weight_norm",), ""),
    "ICS cos": (("ics/{}/cosine",), "ICS cos: of the gradients before and after the earlier layers' step"),
}
LAYERED = {keys[0].split("/")[0] for columns in (ACTIVATIONS, STATISTICS) for keys, _ in columns.values()}
"""The metrics that have a value for each layer."""
WHOLE: Mapping[str, str] = {
    "landscape/smoothness": "effective smoothness along the gradient",
    "landscape/loss_range": "loss range along the gradient",
    "sharpness/train/lambda_max": "largest Hessian eigenvalue, train mode",
    "sharpness/eval/lambda_max": "largest Hessian eigenvalue, eval mode",
}
"""Of the network as a whole."""


def inside_table(curves: Curves) -> RenderableType | None:
    """The last value of the metrics; None where nothing was measured. What was not measured has no column."""
    layers = list(dict.fromkeys(key.split("/")[1] for key in curves if key.split("/")[0] in LAYERED and key.count("/") > 1))
    parts: list[RenderableType] = []
    for title, columns in (("Activations", ACTIVATIONS), ("Statistics, gradients and weights", STATISTICS)):
        parts += _by_layer(title, columns, layers, curves)
    for key, meaning in WHOLE.items():
        if key in curves:
            step, value = curves[key][-1]
            parts.append(Text(f"{meaning}: {number(None if math.isnan(value) else value)} (step {step:,})"))
    if "noise_scale/trace" in curves and "noise_scale/gradient" in curves:
        signal, noise = (fmean(value for _, value in curves[f"noise_scale/{part}"]) for part in ("gradient", "trace"))
        count = len(curves["noise_scale/trace"])
        scale = f"{noise / signal:,.3g} images" if signal > 0 else "more than the samples can tell"
        parts.append(Text(f"gradient noise scale, ratio of the means over {count} sampled steps: {scale}"))
    return Group(Text(""), *parts) if parts else None


def _by_layer(title: str, columns: Columns, layers: Sequence[str], curves: Curves) -> list[RenderableType]:
    shown = {name: column for name, column in columns.items() if any(column[0][0].format(layer) in curves for layer in layers)}
    if not shown:
        return []
    table = Table(title=Text(f"Inside the network at the last measurement: {title.lower()}", style="bold"), title_justify="left")
    for name in ("layer", *shown):
        table.add_column(Text(name), justify="left" if name == "layer" else "right")
    for layer in layers:
        cells = [_cell(curves, [key.format(layer) for key in keys]) for keys, _ in shown.values()]
        if any(cells):
            table.add_row(layer, *cells)
    return [Whole(table), Text("; ".join(meaning for _, meaning in shown.values() if meaning), style="dim")]


def _cell(curves: Curves, keys: list[str]) -> str:
    found = ["n/a" if math.isnan(curves[key][-1][1]) else f"{curves[key][-1][1]:.3g}" for key in keys if key in curves]
    return f"{found[0]} ({found[1]})" if len(found) == 2 else "".join(found)
