"""Arms beside each other, each at its best learning rate: its errors by class, and its last layer's activations."""

from __future__ import annotations

from bnexp.analysis.confusion import confusion as confusion_of
from bnexp.analysis.histograms import activations, layers
from bnexp.analysis.wording import label
from bnexp.plots import Picture, arms
from bnexp.plots import activations as plots
from bnexp.report.content import there
from bnexp.report.view import View

MOST_SEEDS = 10
"""Runs of an arm in which a histogram is looked for."""


def confusion(view: View) -> tuple[Picture, ...]:
    """Each arm's confusion matrix at the batch size in focus, of the runs that did train: those whose accuracies are counted."""
    size = view.part.focus
    trained = {arm: [run for run in view.part.at_best(arm, size) if not run.is_failure] for arm in view.arms}
    every = [confusion_of(arm, label(arm), runs) for arm, runs in trained.items()]
    found = [one for one in every if one is not None]
    return there([arms.confusion(view.name("confusion"), f"Confusion matrix{view.at(size)}", found, view.arms)])


def histograms(view: View) -> tuple[Picture, ...]:
    """Activations of the last layer before and after the norm, of the first run of each arm that recorded both ends."""
    found, layer = [], None
    for arm in view.arms:
        for run in view.part.at_best(arm, view.part.focus)[:MOST_SEEDS]:
            recorded = view.lists(run.id)
            layer = layer or next(reversed(layers(recorded)), None)
            made = None if layer is None else activations(arm, label(arm), recorded, layer)
            if made is not None:
                found.append(made)
                break
    if layer is None:
        return ()
    title = f"Activations of {layer}{view.at(view.part.focus)}"
    return there([plots.histograms(view.name("activations"), title, layer, found, view.arms)])
