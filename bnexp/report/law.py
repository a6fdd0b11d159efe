"""The statistics-noise law (`bnexp stats`) as a chapter."""

from __future__ import annotations

import math

from bnexp.analysis.law import NoiseLaw
from bnexp.plots import inside
from bnexp.report.content import Section, Shown, there
from bnexp.tables.table import Table

PICTURES = (
    (
        "noise_law_mean",
        "mean_variance",
        "Var[batch mean] / s²",
        "Noise of the batch mean",
        "Points: measured; lines: theory, 1/M_eff with the pixels' correlation, where images are independent. Mean over channels.",
    ),
    (
        "noise_law_variance",
        "variance_variance",
        "Var[batch variance] / s⁴",
        "Noise of the batch variance",
        "Points: measured; lines: theory, where images are independent and drawn with replacement. Mean over channels.",
    ),
    (
        "noise_law_sample_size",
        "sample_size",
        "effective sample size (values)",
        "What a batch is worth",
        "M_eff = s²/Var[batch mean]: pixels of one image correlate, so that a map is worth less than its pixels.",
    ),
    (
        "noise_law_outlier",
        "outlier_sensitivity",
        "shift of the mean (std)",
        "What one image can do",
        "The most that leaving out one image moves the batch's mean, in standard deviations. No theory line: it depends on the tails.",
    ),
)
"""Name, measure, y axis, title, caption."""
NUMBERS = (
    *("mean_variance", "mean_variance_theory", "sample_size", "variance_variance", "variance_variance_theory"),
    *("running_var", "running_var_theory", "outlier_sensitivity"),
)
COLUMNS = ("layer", "batch", "Var[mean]/s²", "theory", "M_eff", "Var[var]/s⁴", "theory", "running_var/s²", "theory", "outlier")


def law_shown(law: NoiseLaw) -> Shown:
    """The law as a chapter."""
    pictures = [inside.noise_law(name, law, measure, y, title, caption) for name, measure, y, title, caption in PICTURES]
    rows = tuple(
        (layer.layer, str(line.batch), *(_short(getattr(line, name)) for name in NUMBERS)) for layer in law.layers for line in layer.lines
    )
    facts = (
        f"Weights: {law.weights}. Norm: {law.norm}. Data: {law.data}, {law.images:,} images, drawn {law.drawn}. "
        f"Mode: {law.mode}; below each layer: {law.layers_below}."
    )
    hero, *others = there(pictures) or (None,)
    measured = Section("Batch statistics at frozen weights", (facts,), there(others))
    sections = (measured, Section("Every number", tables=(Table(COLUMNS, rows),)))
    return Shown("", f"How noisy are batch statistics on {law.data}?", (law.answer,), "", (), sections, hero=hero)


def _short(value: float | None) -> str:
    return "n/a" if value is None or not math.isfinite(value) else f"{value:.3g}"
