"""A chapter with its sections: those that its data allow."""

from __future__ import annotations

from bnexp.analysis import fairness_audit
from bnexp.analysis.sentences import count
from bnexp.report import network_figures, training_figures
from bnexp.report.answers import all_runs, answer, numbers
from bnexp.report.content import Section, Shown
from bnexp.report.view import View


def shown(view: View) -> Shown:
    """Everything that a chapter's data allow."""
    chapter = view.chapter
    question, answers, notes = answer(view)
    sections = (
        numbers(view),
        Section("Training", pictures=training_figures.training(view)),
        Section(
            "Learning rate, batch size, steps to the target", pictures=(*training_figures.grid(view), *training_figures.to_target(view))
        ),
        Section("Inside the network: activations", pictures=network_figures.activations(view)),
        Section("Inside the network: gradients and loss landscape", pictures=network_figures.optimization(view)),
        Section("Running against precise statistics", pictures=network_figures.running_statistics(view)),
        Section("What gamma and beta do before the ReLU", pictures=network_figures.relu(view)),
        all_runs(view),
    )
    if lost := len(view.without_curves):
        notes.append(f"{count(lost, 'run')} recorded no curves, or lost them: the tables count them, and no curve shows them.")
    audit = None
    if len(chapter.arms) > 1:
        audit = fairness_audit(chapter.runs, chapter.baseline, arm_of=chapter.arm_of, treatment=chapter.treatment)
    there = tuple(section for section in sections if section.pictures or section.table)
    facts = [run.data for run in chapter.runs if run.data is not None]
    data = dict.fromkeys(filter(None, (one.contents for one in facts)))  # one, but where files changed between runs
    return Shown(chapter.title, question, (*answers, *(f"Data: {one}." for one in data)), tuple(dict.fromkeys(notes)), there, audit)
