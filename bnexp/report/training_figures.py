"""What runs scored: curves of training, the grid of batch sizes and learning rates, steps to target."""

from __future__ import annotations

import math

from bnexp.analysis.wording import label
from bnexp.base.quoting import slug
from bnexp.plots import Picture, curves, grids
from bnexp.plots.curves import Arm, Curve
from bnexp.report.content import there
from bnexp.report.view import View

BEST = "each arm at the learning rate with its lowest mean validation loss"
LOSS = Curve(
    "training_loss",
    "Training loss",
    "training loss (nats)",
    {"train/loss": ""},
    "the training loss",
    "Mean since the last evaluation.",
    log_y=True,
)
VALIDATION = Curve(
    "validation_accuracy",
    "Validation accuracy",
    "validation accuracy (%)",
    {"val/accuracy": ""},
    "validation accuracy",
    "With running statistics; the target is dashed.",
    percent=True,
    limits=(-0.02, 1.02),
)
TEST = Curve(
    "test_accuracy",
    "Test accuracy",
    "test accuracy (%)",
    {"test_curve/accuracy": ""},
    "test accuracy",
    "With running statistics; nothing is chosen by it.",
    percent=True,
    limits=(-0.02, 1.02),
)


def training(view: View) -> tuple[Picture, ...]:
    """Loss and accuracy over the steps, each arm at its best learning rate; and every learning rate small beside the others."""
    found: list[Picture | None] = []
    for size in view.shown_sizes:
        for curve in (VALIDATION, LOSS, TEST):
            line = view.part.target if curve is VALIDATION else None
            own = curve.at(view.name(curve.name, size), f"{curve.title}{view.at(size)}", line, "target")
            found.append(curves.over_steps(own, view.at_best(size), view.arms))
    rates: dict[float, list[Arm]] = {}
    for lr in sorted({run.lr for run in view.part.runs}):
        for arm in view.arms:
            if tracks := view.tracks(view.part.drawn(arm, view.part.focus, lr)):
                rates.setdefault(lr, []).append(Arm(arm, label(arm), tracks))
    title = f"Every learning rate{view.at(view.part.focus)}"
    found.append(curves.by_learning_rate(view.name("curves_by_learning_rate"), rates, view.arms, view.part.target, title))
    return there(found)


def grid(view: View) -> tuple[Picture, ...]:
    """Accuracy by batch size and by learning rate, and steps to target over both."""
    found: list[Picture | None] = []
    if view.part.by_size:
        name = view.name("accuracy_by_batch_size")
        found.append(grids.accuracy_by_batch_size(name, view.part.by_size, view.arms, "Accuracy by batch size"))
    for size in view.shown_sizes:
        own = {arm: view.by_lr(arm, size) for arm in view.arms}
        stable = {arm: tried.stable for (arm, batch), tried in (view.part.tried or {}).items() if batch == size}
        title = f"Accuracy by learning rate{view.at(size)}"
        found.append(grids.accuracy_by_lr(view.name("accuracy_by_lr", size), own, stable, view.arms, title))
    maps = {arm: {size: view.by_lr(arm, size) for size in view.sizes} for arm in view.arms}
    medians = [one.steps.median for own in maps.values() for cells in own.values() for one in cells if one.steps.median is not None]
    finite = [median for median in medians if math.isfinite(median)] or [1.0]
    for index, (arm, own_cells) in enumerate(maps.items()):
        name = view.name(f"steps_to_target_{index}_{slug(arm)}")
        found.append(grids.steps_heat_map(name, arm, own_cells, (min(finite), max(finite)), f"Steps to target {label(arm)}"))
    return there(found)


def to_target(view: View) -> tuple[Picture, ...]:
    """How many runs have reached the target, against steps: at the best learning rates, and over all."""
    goal = "the target" if view.part.target is None else f"{100 * view.part.target:g} % validation accuracy"
    found: list[Picture | None] = []
    for size in view.shown_sizes:
        steps = {arm: [run.target_interval for run in view.part.at_best(arm, size)] for arm in view.arms}
        caption = (
            f"Runs that have reached {goal}, each arm at its lowest mean validation loss. A run that misses it, or diverges, never counts."
        )
        found.append(
            grids.reached(
                view.name("reached_target", size),
                steps,
                view.part.budget(size),
                view.arms,
                f"Runs at the target{view.at(size)}",
                caption,
                BEST,
            )
        )
    tuned = any(len({run.lr for run in view.part.results(arm)}) > 1 for arm in view.arms)
    if len(view.sizes) == 1 and tuned:
        steps = {arm: [run.target_interval for run in view.part.results(arm)] for arm in view.arms}
        caption = f"Over all learning rates that were tried: how forgiving an arm is of a rate that does not suit it. The target: {goal}."
        found.append(
            grids.reached(
                view.name("reached_target_all_lr"),
                steps,
                view.part.budget(),
                view.arms,
                "Runs at the target, every lr",
                caption,
                "at every learning rate",
            )
        )
    return there(found)
