"""What is due after which step, beside a walk that asks at every step."""

import itertools
from typing import Any

import pytest

from bnexp.config import from_mapping
from bnexp.training.run_progress import RunProgress
from bnexp.training.schedule import Due, Timeline, near_target_step, schedule

OFF = {"percentiles": False, "drift": False, "batch_stats": False, "relu_balance": False, "gradients": False}


def timeline(
    total: int, metrics: dict[str, Any], every: object = "auto", samples: frozenset[int] = frozenset(), per_epoch: int = 10
) -> Timeline:
    config = from_mapping({"train": {"steps": total, "batch_size": 8, "eval_every": every}, "metrics": metrics})
    return Timeline(config, ((5,), 8 * per_epoch, 3), 20, total, per_epoch, samples)


@pytest.mark.parametrize("metrics", [{}, {"every": 6}, OFF, {**OFF, "test_curve": True}, {"every": 6, "test_curve": True}], ids=str)
@pytest.mark.parametrize("samples", [frozenset[int](), frozenset({1, 2, 9, 24, 30})], ids=["none", "sampled"])
@pytest.mark.parametrize("every", ["auto", 4])
def test_the_schedule_has_each_step_at_which_something_is_due(every: object, samples: frozenset[int], metrics: dict[str, Any]) -> None:
    own = timeline(30, metrics, every, samples)
    evaluated = set(own.evaluations())
    passes, curve = metrics.get("drift", True), metrics.get("test_curve", False)
    expected = []
    for step in range(31):
        evaluate = step in evaluated
        probe = passes and (step in (0, 30) or (step % metrics["every"] == 0 if "every" in metrics else evaluate))
        due = Due(step, evaluate, probe or (curve and (evaluate or step == 0)), step in samples)
        if due.evaluate or due.probe or due.sample or (step > 0 and step + 1 in samples):
            expected.append(due)
    assert list(schedule(own, start=0)) == expected
    for start in range(1, 31):  # a resumed run meets the same steps
        assert list(schedule(own, start)) == [due for due in expected if due.step > start]


def test_it_is_made_as_it_is_used() -> None:
    """A budget of a thousand million steps has no list."""
    steps = [due.step for due in itertools.islice(schedule(timeline(10**9, {"every": 3}), start=0), 5)]
    assert steps == [0, 3, 6, 8, 9]


def test_a_run_near_its_target_is_evaluated_the_more_often_the_nearer_it_is() -> None:
    own = timeline(1000, {}, per_epoch=200)
    assert own.near_target_evaluations > 0
    nears = [near_target_step(own, RunProgress(evaluated_step=100, best_accuracy=accuracy)) for accuracy in (0.5, 0.8, 0.9, 0.94)]
    assert nears == sorted(nears, reverse=True)
    assert nears[-1] == 103
    for over in (
        RunProgress(),
        RunProgress(evaluated_step=100, best_accuracy=0.96, reached_step=100),
        RunProgress(evaluated_step=100, best_accuracy=0.9, extra=own.near_target_evaluations),
    ):
        assert near_target_step(own, over) == 1000
