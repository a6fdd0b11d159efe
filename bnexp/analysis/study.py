"""A study from the results of its runs: computed once, by whatever command asked for it, then stored (`to_json`) and rendered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from bnexp.analysis import notes, sentences
from bnexp.analysis.aggregate import grid
from bnexp.analysis.answer import answer
from bnexp.analysis.arms import Arms
from bnexp.analysis.audit import fairness_audit
from bnexp.analysis.batch_size import by_batch_size, small_batch_cost
from bnexp.analysis.compare import compare_arms
from bnexp.analysis.pairs import with_holm
from bnexp.analysis.part import Part, Study, Tried
from bnexp.analysis.parts import split
from bnexp.analysis.rates import largest_stable_lr, select_lr
from bnexp.analysis.results import StepTime
from bnexp.analysis.seconds import seconds_to_target
from bnexp.analysis.wording import label
from bnexp.base.errors import UsageError
from bnexp.base.files import JsonObject
from bnexp.norms import has_batch_statistics
from bnexp.storage.result import RunResult
from bnexp.storage.run import Run

MAX_PARTS = 12
"""Runs of more settings than these have one table instead of a chapter on each."""
TITLES = {
    "compare": "Comparison",
    "sweep batch-size": "Sweep over the batch size",
    "sweep lr": "Sweep over the learning rate",
    "sweep norm": "Sweep over the norms",
    "sweep grid": "Sweep over a grid",
}


def analyse(
    kind: str,
    runs: Sequence[Run],
    results: Mapping[str, RunResult],
    parts: Mapping[str, Sequence[Run]],
    *,
    arms: Arms | None = None,
    command: str = "",
    margin: float | None = None,
) -> Study:
    """What the runs say, with Holm's correction over everything that is tested; where that is one comparison, its tuned test accuracy is
    the primary question.

    Args:
        kind: `compare`, `sweep lr`, ...; anything else for runs that were not trained by one command.
        results: of the runs that can be read, by id.
        parts: the runs by the budget that was asked for; a run may stand in several.
        arms: of a comparison: which they are.
        command: the command line that asked for it.
        margin: of an equivalence of test accuracies, a share.

    Raises:
        UsageError: no run can be read, or runs of different settings share arm, learning rate and seed.
    """
    readable = {name: list({run.id: results[run.id] for run in own if run.id in results}.values()) for name, own in parts.items()}
    found = split(kind, readable, arms)
    if not found:
        raise UsageError("None of these runs can be read: there is nothing to report.")
    many, asked = len(found) > MAX_PARTS, kind in TITLES and kind != "sweep grid"
    analysed = [] if many and not asked else [_analysed(part, kind, primary=len(found) == 1, margin=margin) for part in found]
    if kind == "sweep grid" or not analysed:
        overview = [Part(name, {}, Arms((), (), ""), tuple(own), grid=grid(own)) for name, own in readable.items() if own]
        analysed = [*overview, *analysed]
    data = " and ".join(sorted({result.config.data.name for result in results.values()}))
    title = f"{TITLES[kind]} on {data}" if kind in TITLES else runs[0].id if len(runs) == 1 else f"{len(runs)} runs on {data}"
    if kind == "compare":
        title += f": {', '.join(map(label, analysed[0].arms.labels))}"
    return _concluded(Study(kind, title, command, tuple(runs), results, tuple(analysed)))


def with_step_times(found: Study, step_times: Mapping[str, StepTime]) -> Study:
    """A comparison with the arms' step times, so that steps to target become seconds, where every arm with results was timed."""
    part = found.parts[0]
    comparison = part.comparison if len(found.parts) == 1 else None
    if comparison is None or len(comparison.headline.arms) < 2 or not comparison.headline.arms.keys() <= step_times.keys():
        return found
    seconds = seconds_to_target(comparison, {arm: time.turns_ms for arm, time in step_times.items()})
    return _concluded(replace(found, parts=(replace(part, step_times=step_times, seconds=seconds),)))


def _analysed(part: Part, kind: str, *, primary: bool, margin: float | None) -> Part:
    arms, runs = part.arms, part.runs
    options: dict[str, Any] = {"arm_of": arms.arm_of, "treatment": arms.treatment}
    if len(arms.labels) > 1:
        part = replace(part, audit=fairness_audit(runs, arms.baseline, **options))
    if kind == "sweep batch-size" or (kind != "compare" and len(part.batch_sizes) > 1):
        stats = {
            arm: ("running", "batch") if any(has_batch_statistics(run.norm) for run in part.of(arm)) else ("running",)
            for arm in arms.labels
        }
        costs = tuple(small_batch_cost(runs, arm, stats=one, arm_of=arms.arm_of) for arm in arms.labels for one in stats[arm])
        part = replace(part, by_size=by_batch_size(runs, arms.baseline, **options), small_batches=costs)
    else:
        part = replace(part, comparison=compare_arms(runs, arms.baseline, primary=primary, margin=margin, **options))
    tried = {}
    for arm in arms.labels:
        for size in part.batch_sizes:
            if own := part.of(arm, size):
                by_lr = tuple(replace(one, lr=float(one.values[0])) for one in grid(own, ["optim.lr"]).cells if one.n)
                tried[arm, size] = Tried(select_lr(own), largest_stable_lr(own), by_lr)
    return replace(part, tried=tried)


def _concluded(found: Study) -> Study:
    """The study with Holm's p over all its tests, and with the sentences that these allow."""

    def said(part: Part) -> Part:
        short, long, cautions = tuple(answer(part)), tuple(sentences.answers(part)), tuple(notes.of_part(part))
        return replace(part, question=sentences.question(part), answer=short, answers=long, notes=cautions)

    return replace(found, parts=tuple(map(said, with_holm(found.parts))))


def to_json(found: Study) -> JsonObject:
    """The study as values that JSON takes, without its runs. A comparison's own part stands at the top; a sweep's are under `results`."""
    parts = [_plain(part) for part in found.parts]
    if found.kind != "compare":
        return {"kind": found.kind.removeprefix("sweep "), "results": parts}
    (part,) = found.parts
    times = {arm: asdict(time) for arm, time in (part.step_times or {}).items()}
    return {**parts[0], "step_times": times, "seconds": None if part.seconds is None else asdict(part.seconds)}


def _plain(part: Part) -> JsonObject:
    """Only what the part has."""
    plain: JsonObject = {"part": part.name, "setting": dict(part.setting), "question": part.question}
    plain |= {"answer": list(part.answer), "answers": list(part.answers), "notes": list(part.notes)}
    if part.comparison is not None:
        plain["comparison"] = {**asdict(part.comparison), "verdict": list(part.answers)}
    if part.by_size:
        plain["batch_sizes"] = {"comparisons": [asdict(one) for one in part.by_size]}
        keys = ("answer", "answer_same_lr")
        plain["small_batches"] = [
            {**asdict(cost), **dict(zip(keys, sentences.small_batches(cost), strict=True))} for cost in part.small_batches
        ]
    if part.grid is not None:
        plain["cells"] = asdict(part.grid)
    if part.audit is not None:
        plain["audit"] = {**asdict(part.audit), "passed": part.audit.passed}
    return plain
