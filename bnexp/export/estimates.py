"""The numbers of a study's tables as one long table, unrounded: what each arm scored, and each arm against the baseline."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from bnexp.analysis import Aggregate, Comparison, Estimate, Paired, Part, Quartiles, Ratio, Seconds, SmallBatchCost, Study, Versus
from bnexp.analysis.wording import listed
from bnexp.config.fields import show
from bnexp.storage.result import Row

COLUMNS = (
    "part",
    "setting",
    "batch",
    "at",
    "lr",
    "arm",
    "against",
    "measure",
    "statistic",
    "n",
    "value",
    "std",
    "low",
    "high",
    "p",
    "p_holm",
)
"""The same in every row; None where there is none.

- `at`: `tuned`, each seed at the learning rate that it chose; `same-lr`, all at `lr`; `setting`, a cell of a grid; `all-lrs`, over all.
- `arm`, `against`: keys, as in `config.model.norm` of the runs; `batch 32` where batch sizes are compared.
- `statistic`: `mean`, `median`, `rate`, `bracket` of an arm; `difference` or `ratio` against another. A ratio of steps or seconds to target
  above 1 says that the arm is faster, one of `step_ms` that its step costs more.
- `low`, `high`: the 95 % interval; of a `median` the quartiles; of a `bracket` the largest stable rate and the next one, which is not.
- Accuracies and rates are shares, losses nats, steps updates. `p_holm` is Holm's p over all tests of the study.
"""
Numbers = tuple[str, str, dict[str, float | int | None]]
"""Measure, statistic, and what stands in the columns from `n` on."""


def estimates(study: Study) -> list[Row]:
    """One row a measure of an arm or of a difference, with the columns `COLUMNS`."""
    rows = [row for part in study.parts for row in _of_part(part)]
    return [{column: row.get(column) for column in COLUMNS} for row in rows]


def _of_part(part: Part) -> Iterator[Row]:
    about: Row = {"part": part.name, "setting": _setting(part.setting.items())}
    for comparison in (*([part.comparison] if part.comparison is not None else []), *part.by_size):
        for row in _of_comparison(comparison):
            yield {**about, "batch": listed(comparison.batch_sizes), **row}
    if part.seconds is not None:
        for row in _of_seconds(part.seconds):
            yield {**about, "batch": listed(part.batch_sizes), "at": "tuned", **row}
    for cost in part.small_batches:
        yield from ({**about, **row} for row in _of_small_batches(cost))
    if part.grid is not None:
        for cell in part.grid.cells:
            setting = _setting(zip(part.grid.keys, cell.values, strict=True))
            yield from ({**about, "setting": setting, "at": "setting", **row} for row in _rows(_aggregate(cell)))


def _of_comparison(comparison: Comparison) -> Iterator[Row]:
    for matchup in (comparison.headline, *comparison.same_lr):
        at: Row = {"at": matchup.kind, "lr": matchup.lr}
        for arm, result in matchup.arms.items():
            yield from ({**at, "arm": arm, **row} for row in _rows(_aggregate(result)))
        for arm, versus in matchup.versus.items():
            yield from ({**at, "arm": arm, "against": versus.baseline, **row} for row in _rows(_versus(versus)))
    for arm, found in comparison.stable_lr.items():
        numbers = {"low": found.lr, "high": None if found.at_edge else found.unstable_lr}
        yield {"at": "all-lrs", "arm": arm, "measure": "largest_stable_lr", "statistic": "bracket", **numbers}
    for arm, ratio in comparison.stable_factor.items():
        yield {"at": "all-lrs", "arm": arm, "against": comparison.baseline, **_row(_ratio("largest_stable_lr", ratio))}


def _of_seconds(seconds: Seconds) -> Iterator[Row]:
    for arm, found in seconds.to_target.items():
        yield {"arm": arm, **_row(_quartiles("seconds_to_target", found))}
        yield {"arm": arm, **_row(("step_ms", "median", {"value": seconds.step_ms[arm]}))}
    for arm, versus in seconds.versus.items():
        cost, against = versus.step_cost, {"arm": arm, "against": versus.baseline}
        yield {**against, **_row(_ratio("seconds_to_target", versus.seconds))}
        yield {**against, **_row(("step_ms", "ratio", {"n": cost.turns, "value": cost.factor, "low": cost.low, "high": cost.high}))}


def _of_small_batches(found: SmallBatchCost) -> Iterator[Row]:
    for cost in found.costs:
        at: Row = {"batch": f"{cost.batch_size}", "at": cost.kind, "lr": cost.lr, "arm": found.arm, "against": f"batch {found.reference}"}
        yield {**at, **_row(_paired(f"test.{found.stats}.accuracy", cost.pairs))}


def _aggregate(found: Aggregate) -> list[Numbers]:
    failures = found.failures
    return [
        *(_mean(f"test.{stats}.accuracy", one) for stats, one in found.accuracy.items()),
        _mean("val.loss", found.val_loss),
        _mean("generalization_gap", found.gap),
        _quartiles("steps_to_target", found.steps),
        (
            "failed",
            "rate",
            {
                "n": failures.n,
                "value": failures.failed / failures.n if failures.n else None,
                "low": failures.low,
                "high": failures.high,
            },
        ),
    ]


def _versus(found: Versus) -> list[Numbers]:
    test = found.failures
    over_images = [_paired("test.running.accuracy", found.over_images, "difference over test images")] if found.over_images else []
    return [
        *over_images,
        *(_paired(f"test.{stats}.accuracy", one) for stats, one in found.accuracy.items()),
        _paired("generalization_gap", found.gap),
        _ratio("steps_to_target", found.speedup),
        ("failed", "difference", {"n": test.n, "value": test.rate - test.baseline_rate, "p": test.p, "p_holm": test.p_holm}),
    ]


def _mean(measure: str, one: Estimate) -> Numbers:
    return measure, "mean", {"n": one.n, "value": one.mean, "std": one.std, "low": one.low, "high": one.high}


def _quartiles(measure: str, found: Quartiles) -> Numbers:
    return measure, "median", {"n": found.n, "value": found.median, "low": found.low, "high": found.high}


def _paired(measure: str, pairs: Paired, statistic: str = "difference") -> Numbers:
    numbers = {"n": pairs.n, "value": pairs.difference, "low": pairs.low, "high": pairs.high, "p": pairs.p, "p_holm": pairs.p_holm}
    return measure, statistic, numbers


def _ratio(measure: str, ratio: Ratio) -> Numbers:
    numbers = {"n": ratio.n, "value": ratio.factor, "low": ratio.low, "high": ratio.high, "p": ratio.p, "p_holm": ratio.p_holm}
    return measure, "ratio", numbers


def _row(numbers: Numbers) -> Row:
    measure, statistic, values = numbers
    return {"measure": measure, "statistic": statistic, **values}


def _rows(found: Iterable[Numbers]) -> list[Row]:
    return list(map(_row, found))


def _setting(values: Iterable[tuple[str, object]]) -> str:
    """`optim.lr=0.1, model.norm=none`; values that are not read are left out."""
    return ", ".join(f"{key.removeprefix('config.')}={show(value)}" for key, value in values if value is not None)
