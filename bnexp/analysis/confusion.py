"""Which classes a network takes for which others: the confusion matrices of an arm's runs, added up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bnexp.analysis import findings
from bnexp.storage.result import RunResult

MOST_CLASSES = 20
"""A matrix of more has no room for a number in each cell."""


@dataclass(frozen=True)
class Confusion:
    """counts[true class][predicted class], in test images over all runs, with running statistics."""

    arm: str
    label: str
    classes: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]
    runs: int

    @property
    def errors(self) -> int:
        return sum(count for true, row in enumerate(self.counts) for predicted, count in enumerate(row) if true != predicted)

    @property
    def images(self) -> int:
        return sum(map(sum, self.counts))

    @property
    def most_frequent(self) -> tuple[int, int] | None:
        """The true and the predicted class of the most frequent error; None where there is none, or several are as frequent."""
        size = range(len(self.counts))
        pairs = sorted((self.counts[true][predicted], true, predicted) for true in size for predicted in size if true != predicted)
        last = [count for count, _, _ in pairs[-2:]]
        return pairs[-1][1:] if last and last[-1] > (last[0] if len(last) > 1 else 0) else None


def confusion(arm: str, label: str, runs: Sequence[RunResult]) -> Confusion | None:
    """The sum over the runs; None where none recorded one, they have other classes, or more than `MOST_CLASSES`."""
    having = [run for run in runs if run.test.confusion and run.data is not None and run.data.classes]
    classes = {run.data.classes for run in having if run.data is not None}
    shapes = {tuple(map(len, run.test.confusion or ())) for run in having}
    if len(classes) != 1 or len(shapes) != 1:
        return None
    (names,), (shape,) = classes, shapes
    if names is None or len(names) > MOST_CLASSES or shape != (len(names),) * len(names):
        return None
    size = range(len(names))
    counts = tuple(tuple(sum(run.test.confusion[true][other] for run in having if run.test.confusion) for other in size) for true in size)
    return Confusion(arm, label, names, counts, len(having))


def confusion_finding(arms: Sequence[Confusion]) -> str:
    """`With BN, 1.4 % of the test images are misclassified, most often 8 taken for 1; without BN, 2.2 %, most often 9 taken for 3.`"""
    texts = []
    for index, arm in enumerate(arms):
        often = arm.most_frequent
        most = "" if often is None else f", most often {arm.classes[often[0]]} taken for {arm.classes[often[1]]}"
        of = "" if index else " of the test images are misclassified"
        texts.append(f"{arm.label}, {findings.in_percent(arm.errors / max(1, arm.images))}{of}{most}")
    return findings.sentence("; ".join(texts))
