"""What the metrics said last of a run, layer by layer."""

from __future__ import annotations

from collections.abc import Mapping

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from bnexp.tables.text import Whole

Values = Mapping[str, tuple[int, float]]
COLUMNS: Mapping[str, tuple[str, ...]] = {
    "p15 p50 p85": ("percentiles/{}/mean/p15", "percentiles/{}/mean/p50", "percentiles/{}/mean/p85"),
    "drift W1": ("drift/{}/init/w1",),
    "var(x-hat)": ("batch_stats/{}/xhat_var",),
    "M_eff": ("batch_stats/{}/effective_sample_size",),
    "running_var": ("batch_stats/{}/running_var_ratio",),
    "positive (Phi)": ("relu_balance/{}/positive", "relu_balance/{}/predicted"),
    "dead": ("relu_balance/{}/dead",),
    "|gradient|": ("gradients/{}/gradient_norm",),
    "|W|": ("gradients/{}/weight_norm",),
    "ICS cosine": ("ics/{}/cosine",),
}
"""Of each layer."""
WHOLE: Mapping[str, str] = {
    "landscape/smoothness": "effective smoothness along the gradient",
    "landscape/loss_range": "loss range along the gradient",
    "sharpness/train/lambda_max": "largest Hessian eigenvalue, train mode",
    "sharpness/eval/lambda_max": "largest Hessian eigenvalue, eval mode",
    "noise_scale/simple": "gradient noise scale, images",
}
"""Of the network as a whole."""
LEGEND = (
    "p15 p50 p85: percentiles of the pre-activations, mean over channels; drift W1: Wasserstein distance from initialization, in initial "
    "sigmas; var(x-hat): before gamma and beta; M_eff: values that a batch is worth; running_var: over the precise variance, at the end; "
    "positive (Phi): share into the ReLU, and Phi(beta/|gamma|); dead: share of channels. `metrics.jsonl` and TensorBoard have them all."
)


def inside_table(values: Values) -> RenderableType | None:
    """The last value of the metrics; None where nothing was measured. What was not measured has no column."""
    by_layer = [key for key in values if key.startswith(("gradients/", "percentiles/", "ics/"))]
    layers = list(dict.fromkeys(key.split("/")[1] for key in by_layer))
    shown = {name: keys for name, keys in COLUMNS.items() if any(keys[0].format(layer) in values for layer in layers)}
    rest = {name: values[key] for key, name in WHOLE.items() if key in values}
    parts: list[RenderableType] = []
    if shown:
        table = Table(title=Text("Inside the network, at the last measurement", style="bold"), title_justify="left")
        for name in ("layer", *shown):
            table.add_column(Text(name), justify="left" if name == "layer" else "right")
        for layer in layers:
            table.add_row(layer, *(_cell(values, [key.format(layer) for key in keys]) for keys in shown.values()))
        parts += [Whole(table), Text(LEGEND, style="dim")]
    parts += [Text(f"{name}: {value:.4g} (step {step:,})") for name, (step, value) in rest.items()]
    return Group(Text(""), *parts) if parts else None


def _cell(values: Values, keys: list[str]) -> str:
    found = [f"{values[key][1]:.3g}" for key in keys if key in values]
    return f"{found[0]} ({found[1]})" if len(found) == 2 else " ".join(found)
