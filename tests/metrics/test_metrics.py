"""The metrics together: they touch nothing, a stack measures what its runs do alone, and a resumed run measures what a whole one does."""

import itertools
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from support import Tiny, train
from torch import Tensor

import bnexp.metrics
from bnexp.config import METRICS, PROBED, SAMPLED, Config, MetricsConfig, from_mapping
from bnexp.config.compose import compose
from bnexp.metrics import PROBE_METRICS, Observer, batch_noise, sampling_note
from bnexp.metrics import SAMPLED as REGISTRY
from bnexp.metrics.schedule import MAX_SAMPLES, log_spaced, sampled_steps
from bnexp.norms import NORMS
from bnexp.training.fit import Measurement
from bnexp.training.schedule import schedule
from bnexp.training.stack import Stack

CPU = torch.device("cpu")
SHAPES = {"1d": (2, 9), "2d": (1, 8, 6), "3d": (2, 4, 5, 4), "flat": (7,)}
FULL = dict.fromkeys(METRICS, True)
OFF = dict.fromkeys(METRICS, False)
SHORT = {"train": {"batch_size": 8, "steps": 6, "eval_every": 3}}
Records = list[tuple[int, int, dict[str, float]]]


def config(shape: tuple[int, ...], norm: str = "batch", metrics: dict[str, Any] | None = None, **changes: Any) -> Config:
    model = {"name": "mlp", "widths": [8, 6]} if len(shape) == 1 else {"widths": [4, 6]}
    tree = {"model": {**model, "norm": norm}, "train": {"batch_size": 8, "steps": 12, "eval_every": 5}, "metrics": metrics or FULL}
    return from_mapping({**tree, "optim": {"lr": 0.1}, **changes})


def run(stack: Stack, stop_at: int | None = None) -> Records:
    """(step, run, values) of what the metrics say while the stack trains."""
    records: Records = []

    def measurement(event: Measurement) -> None:
        records.extend((stack.step, run, values) for run, values in event.values.items())

    whole = train(stack, measurement=measurement, stop=lambda: stack.step == stop_at)
    assert whole == (stop_at is None or stop_at >= stack.total)
    return records


def everything(stack: Stack) -> dict[str, Tensor]:
    state = {f"network.{name}": tensor for name, tensor in stack.network.state_dict().items()}
    for name, tensors in stack.optimizer.state.items():
        state |= {f"{name}.{index}": tensor for index, tensor in enumerate(tensors)}
    return state


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("kind", SHAPES)
def test_metrics_touch_nothing(tiny: Tiny, kind: str, norm: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of them at every step, against none: weights, running statistics and momentum are the same bits, and no generator moved."""
    monkeypatch.setattr(batch_noise, "MEASURE_EVERY", 4)
    data = tiny(SHAPES[kind])
    full = {**FULL, "log_spaced": 6, "every": 1}
    changes = {"optim": {"lr": 0.1, "weight_decay": 0.01, "nesterov": True}, **SHORT}
    stacks = [Stack([config(SHAPES[kind], norm, metrics, seed=seed, **changes) for seed in (0, 1)], data, CPU) for metrics in (OFF, full)]
    before = torch.get_rng_state()
    losses = []
    for stack in stacks:
        records = run(stack)
        assert bool(records) == (stack is stacks[1])
        assert stack.network.training
        losses.append([track.val_loss for track in stack.tracks])
    assert torch.equal(torch.get_rng_state(), before)
    off, on = map(everything, stacks)
    assert off.keys() == on.keys()
    for name, tensor in off.items():
        assert torch.equal(tensor, on[name]), name
    assert losses[0] == losses[1]
    assert stacks[0].clock.metrics_s < stacks[1].clock.metrics_s


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("kind", SHAPES)
def test_a_stack_measures_what_its_runs_do_alone(tiny: Tiny, kind: str, norm: str) -> None:
    data = tiny(SHAPES[kind])
    own = [
        config(SHAPES[kind], norm, seed=seed, optim={"lr": lr, "momentum": 0.8}, **SHORT) for seed, lr in ((0, 0.05), (3, 0.1), (0, 0.2))
    ]
    together = run(Stack(own, data, CPU, torch.float64))
    for index, alone in enumerate(own):
        single = run(Stack([alone], data, CPU, torch.float64))
        mine = [(step, values) for step, run_, values in together if run_ == index]
        assert [(step, values.keys()) for step, values in mine] == [(step, values.keys()) for step, _, values in single]
        for (step, values), (_, _, expected) in zip(mine, single, strict=True):
            for key, value in expected.items():
                assert values[key] == pytest.approx(value, rel=1e-5, abs=1e-7, nan_ok=True), (step, key)


@pytest.mark.parametrize("norm", ["batch", "none"])
@pytest.mark.parametrize("placement", ["conv-norm-relu", "norm-conv-relu", "conv-relu-norm"])
def test_every_metric_says_something_finite(tiny: Tiny, norm: str, placement: str) -> None:
    data = tiny(SHAPES["2d"])
    model = {"widths": [4, 6], "norm": norm, "placement": placement}
    records = run(Stack([config(SHAPES["2d"], model=model)], data, CPU))
    seen = {key for _, _, values in records for key in values}
    assert {key.split("/")[0] for key in seen} == set(METRICS)
    for step, _, values in records:
        for key, value in values.items():
            assert abs(value) < float("inf"), (step, key)
    layers = {key.split("/")[1] for key in seen if key.startswith(("percentiles", "drift"))}
    assert layers == {"block1.conv1", "block1.conv2", "block2.conv1", "block2.conv2"}
    for what in ("xhat_mean", "batch_mean_variance", "effective_sample_size", "running_var_bias"):
        assert (f"batch_stats/block1.conv1/{what}" in seen) == (norm == "batch")
    theory = {key.split("/")[1] for key in seen if key.endswith("_theory") and "xhat" not in key}
    assert theory == ({"block1.conv1"} if norm == "batch" else set())  # below a norm images are not independent
    assert ("relu_balance/block1.conv1/predicted" in seen) == (norm == "batch" and placement == "conv-norm-relu")
    assert "ics/head/l2" in seen
    assert "ics/block1.conv1/l2" not in seen  # nothing comes before the first layer


def test_a_diverged_run_is_measured_as_such_and_harms_nobody(tiny: Tiny) -> None:
    data = tiny(SHAPES["2d"])
    calm = config(SHAPES["2d"], "none", optim={"lr": 0.05})
    wild = config(SHAPES["2d"], "none", seed=1, optim={"lr": 1e20})
    beside_wild, beside_calm = (run(Stack(own, data, CPU)) for own in ([calm, wild], [calm, wild.replace(**{"optim.lr": 0.05})]))
    sick = [values for step, index, values in beside_wild if index == 1 and step > 2]
    assert any(value != value for values in sick for value in values.values())
    mine, expected = ([(step, values) for step, index, values in records if index == 0] for records in (beside_wild, beside_calm))
    assert len(mine) == len(expected) > 5
    for (step, values), (_, other) in zip(mine, expected, strict=True):
        for key, value in values.items():
            assert value == pytest.approx(other[key], rel=1e-6 if key.startswith("sharpness") else 0), (step, key)


@pytest.mark.parametrize("stop_at", [0, 1, 4, 5, 7, 11])
@pytest.mark.parametrize("norm", ["batch", "noisy", "frozen"])
def test_a_resumed_run_measures_what_a_whole_one_does(tiny: Tiny, norm: str, stop_at: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bit for bit: what drift remembers is in the checkpoint, and when a metric is due depends on the steps alone."""
    monkeypatch.setattr(batch_noise, "MEASURE_EVERY", 4)
    data, own = tiny(SHAPES["2d"]), [config(SHAPES["2d"], norm, seed=seed) for seed in (0, 1)]
    expected = run(Stack(own, data, CPU))
    first = Stack(own, data, CPU)
    begun = run(first, stop_at)
    second = Stack(own, data, CPU)
    second.load_state_dict(first.state_dict())
    rest = run(second)
    assert [(step, index) for step, index, _ in begun + rest if step or stop_at] == [
        (step, index) for step, index, _ in expected if step or stop_at
    ]
    for (step, _, values), (_, _, other) in zip((begun if stop_at else []) + rest, expected, strict=True):
        for key, value in values.items():
            assert value == pytest.approx(other[key], rel=0, abs=0, nan_ok=True), (step, key)


def test_when_the_cheap_ones_are_due(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    data = tiny((3,))

    def steps(key: str, **metrics: Any) -> list[int]:
        return [step for step, _, values in run(Stack([config((3,), metrics={**OFF, **metrics})], data, CPU)) if key in values]

    key = "percentiles/layer1/unit/p50"
    assert steps(key, percentiles=True) == [0, 5, 10, 12]  # the initialization, and evaluations
    assert steps(key, percentiles=True, every=4) == [0, 4, 8, 12]
    assert steps(key, percentiles=True, every=100) == [0, 12]
    assert steps("drift/layer1/init/w1", drift=True, every=6) == [6, 12]  # there is nothing to compare initialization with
    assert steps("test_curve/loss", test_curve=True, every=4) == [0, 5, 10, 12]
    assert steps(key, percentiles=True, test_curve=True, every=100) == [0, 12]  # nobody's schedule moves another's
    assert steps("ics/head/l2", ics=True, log_spaced=4) == log_spaced(4, 11) == [1, 2, 5, 11]
    assert steps("gradients/head/growth", gradients=True) == []
    assert steps("gradients/layer1/growth", gradients=True) == [0]
    assert steps("gradients/layer1/gradient_norm", gradients=True) == [5, 10, 12]
    assert steps("batch_stats/layer1/effective_sample_size", batch_stats=True, every=2) == [12]  # the run is short, and they are not cheap
    monkeypatch.setattr(batch_noise, "MEASURE_EVERY", 6)
    assert steps("batch_stats/layer1/effective_sample_size", batch_stats=True, every=2) == [6, 12]
    assert steps("batch_stats/layer1/effective_sample_size", batch_stats=True) == [10, 12]  # at initialization and at step 5 it is not due


@pytest.mark.parametrize("total", [1, 2, 7, 400, 1687, 16_870, 10**6])
@pytest.mark.parametrize("count", [1, 2, 3, 10, 50, 400])
def test_log_spaced_steps(count: int, total: int) -> None:
    steps = log_spaced(count, total)
    assert len(steps) == min(count, total)
    assert steps == sorted(set(steps))
    if len(steps) > 1:
        assert steps[0] == 1
        assert steps[-1] == total
        ratios = [b / a for a, b in itertools.pairwise(steps) if b > a + 1 and b < total]
        assert not ratios or max(ratios) < 1.5 * min(ratios) or total < 100  # even, once whole numbers allow it


def test_short_runs_are_sampled_less_often() -> None:
    assert sampled_steps(20, 8.0, 400) == log_spaced(20, 360)  # as asked, over nine tenths of the budget
    assert len(sampled_steps("auto", 4.0, 10**6)) == MAX_SAMPLES
    counts = [len(sampled_steps("auto", 4.0, total)) for total in (10, 400, 1687, 16_870)]
    assert counts == sorted(counts)
    assert 1 <= counts[0] < counts[-1]
    for total in (100, 1687, 16_870):
        for cost in (4.5, 9.6):
            count = len(sampled_steps("auto", cost, total))
            assert count * cost <= 35 + 0.014 * total or count <= 12
    assert [len(sampled_steps("auto", 1e9, total)) for total in (10, 100, 400, 4000)] == [1, 1, 5, 5]


def test_a_default_run_has_enough_samples_for_curves_and_says_what_they_cost() -> None:
    config = compose(["metrics=full"])
    note = sampling_note(config, 400)
    assert note is not None
    times = {name: int(count) for name, count in re.findall(r"(\w+) (\d+) times", note)}
    assert set(times) == set(SAMPLED)
    assert min(times["ics"], times["landscape"]) >= 12
    assert times["sharpness"] >= 5
    costs = {name: metric.cost(7) for name, metric in REGISTRY.items()}
    assert f"at most about {100 * sum(times[name] * costs[name] for name in times) / 400:.0f} % of" in note
    assert sampling_note(compose([]), 400) is None


def test_the_registries_have_the_names_of_the_config() -> None:
    assert tuple(REGISTRY) == SAMPLED
    assert {*PROBE_METRICS, "drift", "test_curve", *REGISTRY} == set(METRICS)
    assert {name for name in METRICS if name in MetricsConfig.__dataclass_fields__} == set(METRICS)
    assert {*PROBE_METRICS, "drift"} == set(PROBED)
    files = Path(bnexp.metrics.__file__).parent.glob("*.py")
    assert {file.stem for file in files if "\nMETRIC = " in file.read_text()} == set(METRICS)
    assert set(MetricsConfig().on) <= set(PROBED)


def test_nothing_is_built_where_nothing_is_measured(tiny: Tiny) -> None:
    data = tiny((3,))
    stack = Stack([config((3,), metrics=OFF)], data, CPU)
    assert run(stack) == []
    assert stack.clock.metrics_s == 0
    assert isinstance(stack.observer, Observer)
    assert all(due.evaluate and not due.probe and not due.sample for due in schedule(stack.timeline, start=0))


def test_bf16_is_measured(tiny: Tiny) -> None:
    data = tiny(SHAPES["2d"])
    single, half = (run(Stack([config(SHAPES["2d"], precision=name)], data, CPU)) for name in ("fp32", "bf16"))
    assert [(step, values.keys()) for step, _, values in half] == [(step, values.keys()) for step, _, values in single]
    for key, value in single[0][2].items():  # at initialization the weights are the same
        if not key.startswith(("gradients", "batch_stats")):
            assert half[0][2][key] == pytest.approx(value, rel=0.2, abs=0.05), key
