"""What the metrics saw inside the network, at the batch size in focus, each arm at its best learning rate."""

from __future__ import annotations

from collections.abc import Mapping

from bnexp.base.quoting import slug
from bnexp.plots import Picture, curves, inside
from bnexp.plots.curves import Arm, Curve
from bnexp.report.arm_figures import histograms
from bnexp.report.content import there
from bnexp.report.view import View
from bnexp.storage.result import STATS

PERCENTILES = "15th, 50th and 85th percentile of what enters the nonlinearity, on a fixed probe batch (Ioffe and Szegedy 2015, Fig. 1)"
SAMPLED = "Measured at some training steps, on the step's own batch."


def activations(view: View) -> tuple[Picture, ...]:
    """Percentiles of pre-activations, and how far their distributions moved."""
    arms, layers = view.at_best(view.part.focus), list(view.layers("percentiles/", "/mean/p50").values())
    at = view.at(view.part.focus)
    found: list[Picture | None] = [*histograms(view)]
    for layer in dict.fromkeys(layers[-1:] + layers[:1]):
        name, title = view.name(f"percentiles_{slug(layer)}"), f"Pre-activations of {layer}{at}"
        caption = f"{PERCENTILES}: mean over the layer's channels."
        found.append(curves.percentiles(name, arms, view.arms, layer, "mean", title, caption))
    for layer in layers[-1:]:
        first = [Arm(arm.name, arm.label, arm.tracks[:1]) for arm in arms]
        name, title = view.name(f"percentiles_unit_{slug(layer)}"), f"One unit of {layer}{at}"
        caption = f"{PERCENTILES}: the layer's first unit, of one seed, as in the paper."
        found.append(curves.percentiles(name, first, view.arms, layer, "unit", title, caption))
    drift = Curve(
        view.name("drift"),
        f"Drift since initialization{at}",
        "1-Wasserstein distance (initial std)",
        view.last_and_first("drift/", "/init/w1"),
        "the drift since initialization",
        "How far the distribution of pre-activations has moved, mean over channels, in standard deviations at initialization.",
        log_y=True,
    )
    return there([*found, curves.over_steps(drift, arms, view.arms)])


def optimization(view: View) -> tuple[Picture, ...]:
    """Internal covariate shift and the loss landscape, as Santurkar et al. 2018 define them, and sharpness."""
    arms, at = view.at_best(view.part.focus), view.at(view.part.focus)
    shift = "the layers before it make their step (Santurkar et al. 2018, Def. 2.1)."

    def curve(
        name: str,
        title: str,
        y: str,
        keys: Mapping[str, str],
        noun: str,
        text: str,
        limits: tuple[float, float] | None = None,
        line_at: float | None = None,
    ) -> Picture | None:
        return curves.over_steps(
            Curve(
                view.name(name),
                f"{title}{at}",
                y,
                keys,
                noun,
                f"{text} {SAMPLED}",
                log_x=True,
                log_y=limits is None,
                limits=limits,
                line_at=line_at,
            ),
            arms,
            view.arms,
        )

    def range_(name: str, key: str, title: str, y: str, text: str) -> Picture | None:
        return curves.between(
            view.name(name),
            arms,
            view.arms,
            f"landscape/{key}_min",
            f"landscape/{key}_max",
            y,
            f"{title}{at}",
            f"{text} {SAMPLED}",
        )

    return there(
        (
            curve(
                "ics_size",
                "Internal covariate shift: size",
                "||G - G'|| / ||G||",
                view.last_and_first("ics/", "/relative_l2"),
                "the relative change of the gradient",
                f"How much a layer's gradient G changes when {shift}",
            ),
            curve(
                "ics_direction",
                "Internal covariate shift: direction",
                "cosine of G and G'",
                view.last_and_first("ics/", "/cosine"),
                "the cosine of the gradients",
                f"1: a layer's gradient keeps its direction when {shift}",
                limits=(-1.02, 1.02),
            ),
            curves.between(
                view.name("landscape_loss"),
                view.at_same(view.part.focus),
                view.arms,
                "landscape/change_min",
                "landscape/change_max",
                "change of the loss (nats)",
                f"Loss landscape{at}",
                "How the loss of a step's own batch changes along its gradient g: the range of L(θ - s g) - L(θ) over step sizes s from "
                "lr/2 to 4 lr, all arms at the same lr (Santurkar et al. 2018, Fig. 4a). How to read it: where the range stays below 0, "
                f"every such step makes the loss smaller; the wider it is, the less the gradient says of what a step will do. {SAMPLED}",
            ),
            range_(
                "landscape_gradient",
                "predictiveness",
                "Gradient predictiveness",
                "||grad(θ - s g) - g||",
                "Range of the change of the gradient along itself (Santurkar et al. 2018, Fig. 4b).",
            ),
            curve(
                "smoothness",
                "Effective smoothness",
                "max ||grad(θ - s g) - g|| / (s ||g||)",
                {"landscape/smoothness": ""},
                "the effective smoothness",
                "The largest over steps s from lr/2 to 4 lr (Santurkar et al. 2018, section 3.1).",
            ),
            curve(
                "sharpness",
                "Sharpness against the edge of stability",
                "largest eigenvalue x lr / 2",
                {"sharpness/train/over_edge": ""},
                "the sharpness relative to the edge of stability",
                "Above 1 gradient descent is unstable along the sharpest direction (Cohen et al. 2021, section 2); with batch statistics.",
                line_at=1.0,
            ),
        )
    )


def running_statistics(view: View) -> tuple[Picture, ...]:
    """Accuracy under the three statistics, and the running ones against the precise ones, layer by layer."""
    arms, at, scores = view.at_best(view.part.focus), view.at(view.part.focus), {}
    for arm in view.arms:
        runs = view.part.at_best(arm, view.part.focus)
        own = {stats: [value for run in runs if (value := run.accuracy(stats)) is not None] for stats in STATS}
        if runs and all(len(values) == len(runs) for values in own.values()):
            scores[arm] = own
    found: list[Picture | None] = []
    if any(view.normed(arm) for arm in scores):
        found.append(inside.three_statistics(view.name("three_statistics"), scores, view.arms, f"Test accuracy by statistics{at}"))
    for what, title, y in (
        ("running_var_to_batch", "Running against batch variance", "running / batch variance"),
        ("running_mean_to_batch", "Running against batch mean", "running - batch mean (batch std)"),
    ):
        curve = Curve(
            view.name(what),
            f"{title}{at}",
            y,
            view.last_and_first("batch_stats/", f"/{what}"),
            "the ratio of the variances" if "var" in what else "the distance of the means",
            f"Running statistics against those of the probe batch, mean over channels. {1 if 'var' in what else 0}: they are equal.",
            line_at=1.0 if "var" in what else 0.0,
        )
        found.append(curves.over_steps(curve, arms, view.arms))
    for what, title, y, line, text in (
        (
            "running_var_ratio",
            "Running variance by layer",
            "running / precise variance",
            1.0,
            "1: the running variance is the precise one.",
        ),
        ("running_mean_offset", "Running mean by layer", "offset (precise std)", 0.0, "0: the running mean is the precise one."),
    ):
        keys = {layer: key for key, layer in view.layers("batch_stats/", f"/{what}").items()}
        caption = f"{text} At the end of training; a point is a run, a square their mean."
        found.append(inside.by_layer(view.name(what), arms, view.arms, keys, y, f"{title}{at}", caption, line))
    return there(found)


def relu(view: View) -> tuple[Picture, ...]:
    """The share of positive values that enters each ReLU, against what gamma and beta say."""
    arms, at = view.at_best(view.part.focus), view.at(view.part.focus)
    keys = {layer: key for key, layer in view.layers("relu_balance/", "/positive").items()}
    caption = "At the end of training, on the probe batch; a point is a run. 50 %: half of the values are passed on."
    return there(
        (
            inside.observed_and_predicted(
                view.name("relu_balance"), arms, view.arms, list(keys), f"Positive share: observed and predicted{at}"
            ),
            *(
                inside.by_layer(
                    view.name(what),
                    arms,
                    view.arms,
                    {layer: key for key, layer in view.layers("batch_stats/", f"/{what}").items()},
                    f"{what}, mean over channels",
                    f"{what.capitalize()} by layer{at}",
                    f"At the end of training; a point is a run, a square their mean. At initialization {what} is {start:g}.",
                    start,
                )
                for what, start in (("gamma", 1.0), ("beta", 0.0))
            ),
            inside.by_layer(
                view.name("positive_share"),
                arms,
                view.arms,
                keys,
                "positive values (%)",
                f"Positive share by layer{at}",
                caption,
                0.5,
                percent=True,
            ),
        )
    )
