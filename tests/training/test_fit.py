"""The training loop: when it evaluates, what it records, how it ends, and that it resumes where it stood."""

import copy
import io
import itertools
import math
import time
from collections import Counter
from dataclasses import asdict
from typing import Any

import pytest
import torch
from msgspec import structs
from support import Tiny, train
from torch import nn
from torch.nn import functional as F

from bnexp.config import Config, from_mapping
from bnexp.evaluate import evaluate
from bnexp.models import build
from bnexp.training.clock import WARMUP_STEPS
from bnexp.training.fit import StepDone, fit, speed
from bnexp.training.stack import Stack, train_step

CPU = torch.device("cpu")
Records = list[tuple[int, int, dict[str, float]]]  # (step, run, values)


def configs(seeds: tuple[int, ...] = (0,), **changes: Any) -> list[Config]:
    base = {"model.name": "mlp", "model.widths": [6], "train.batch_size": 8, "train.steps": 30, "train.eval_every": 7}
    one = from_mapping({"train": {"steps": 1}}).replace(**{**base, "train.epochs": None, **changes})
    return [one.replace(seed=seed) for seed in seeds]


def run_fit(stack: Stack, **hooks: Any) -> tuple[bool, Records]:
    records: Records = []
    whole = train(stack, evaluation=lambda run, values: records.append((stack.step, run, values)), **hooks)
    return whole, records


def untimed(records: Records) -> Records:
    """Without the figures that two equal runs may differ in."""
    return [(step, run, {key: value for key, value in values.items() if not key.startswith("speed/")}) for step, run, values in records]


def results(stack: Stack) -> tuple[Any, ...]:
    """What two equal trainings have in common: weights as lists, tracks without seconds, the step."""
    state = {name: tensor.tolist() for name, tensor in stack.network.state_dict().items()}
    tracks = [{**asdict(track), "reached_train_s": track.reached_train_s is None} for track in stack.tracks]
    return state, tracks, stack.step


@pytest.mark.parametrize(
    ("train", "batch", "budget", "every", "expected"),
    [
        (1000, 10, {"steps": 300}, "auto", [8, 11, 16, 23, 33, 47, 66, 93, 100, 132, 187, 200, 300]),
        (160, 8, {"epochs": 3}, "auto", [8, 11, 16, 20, 23, 33, 40, 47, 60]),
        (24, 8, {"epochs": 4}, "auto", [3, 6, 9, 12]),
        (1000, 10, {"steps": 5}, "auto", [5]),
        (1000, 10, {"steps": 8}, "auto", [8]),
        (160, 8, {"epochs": 1}, "auto", [8, 11, 16, 20]),
        (160, 8, {"steps": 25}, 10, [10, 20, 25]),
        (160, 8, {"steps": 20}, 10, [10, 20]),
        (160, 8, {"steps": 20}, 50, [20]),
    ],
)
def test_evaluation_steps(tiny: Tiny, train: int, batch: int, budget: dict[str, int], every: object, expected: list[int]) -> None:
    changes = {f"train.{key}": value for key, value in {"steps": None, **budget}.items()}
    stack = Stack(configs(**{**changes, "train.batch_size": batch, "train.eval_every": every}), tiny((2,), train=train), CPU)
    assert list(stack.timeline.evaluations()) == expected


@pytest.mark.parametrize("per_epoch", [8, 20, 40, 45, 400])
@pytest.mark.parametrize("total", [9, 64, 400, 1001])
def test_auto_evaluations_are_dense_early_on_and_at_every_epoch(tiny: Tiny, per_epoch: int, total: int) -> None:
    changes = {"train.steps": total, "train.batch_size": 2, "train.eval_every": "auto"}
    stack = Stack(configs(**changes), tiny((1,), train=2 * per_epoch, classes=2), CPU)
    when = list(stack.timeline.evaluations())
    assert when[0] == 8
    assert when[-1] == total
    assert all(a < b for a, b in itertools.pairwise(when))
    assert set(range(per_epoch, total, per_epoch)) <= set(when)
    assert all(b - a <= min(0.5 * a, per_epoch) for a, b in itertools.pairwise(when))  # the step is known within a factor, and an epoch
    assert list(stack.timeline.evaluations(64)) == [step for step in when if step > 64]


def test_looking_costs_no_more_than_training(tiny: Tiny) -> None:
    """240 validation images are 120 batches of 2, each counted as a third of a training step."""
    changes = {"train.steps": 390, "train.batch_size": 2, "train.eval_every": "auto"}
    stack = Stack(configs(**changes), tiny((1,), train=800, val=240, classes=2), CPU)
    assert list(stack.timeline.evaluations()) == [40, 80, 120, 170, 240, 339, 390]


def test_records_are_means_since_the_last_one(tiny: Tiny) -> None:
    data, own = tiny((5,)), configs((0, 1), **{"optim.schedule": "cosine", "optim.warmup_steps": 4})
    stack, walker = Stack(own, data, CPU), Stack(own, data, CPU)
    whole, records = run_fit(stack)
    assert whole
    assert [(step, run) for step, run, _ in records] == [(step, run) for step in (7, 14, 21, 28, 30) for run in (0, 1)]
    for step, run, values in records:
        while walker.step < step:
            train_step(walker)
        since = step - 28 if step == 30 else 7
        assert values["train/loss"] == pytest.approx(float(torch.stack(walker.losses[-since:]).double().mean(0)[run]))
        right = sum(int(correct[run]) for correct in walker.correct[-since:])
        assert values["train/accuracy"] == pytest.approx(right / (8 * since))
        scores = evaluate(walker.network, data, data.val, own[0])
        assert values["val/loss"] == float(scores.loss[run])
        assert values["val/accuracy"] == float(scores.accuracy[run])
        rate = 0.1 * (1 + math.cos(math.pi * (step - 1 - 4) / 26)) / 2  # what the last step was made with
        assert values["optim/lr"] == pytest.approx(rate)
        assert values["speed/images_per_s"] > 0
    seconds = [values["speed/train_s"] for _, run, values in records if run == 0]
    assert seconds == sorted(seconds)


def test_best_and_reached_follow_the_records(tiny: Tiny) -> None:
    data = tiny((3,), train=80, val=60)
    stack = Stack(configs((0, 1, 2, 3), **{"train.eval_every": 1, "train.target": 0.6, "optim.lr": 0.02}), data, CPU)
    _, records = run_fit(stack)
    reached = 0
    for run, track in enumerate(stack.tracks):
        course = [(step, values["val/accuracy"]) for step, own, values in records if own == run]
        best = max(accuracy for _, accuracy in course)
        assert (track.best_accuracy, track.best_step) == (best, next(step for step, accuracy in course if accuracy == best))
        first = next((step for step, accuracy in course if accuracy >= 0.6), None)
        assert track.reached_step == first
        assert (track.reached_train_s is None) == (first is None)
        reached += first is not None and first > 1
    assert reached  # some run passed the target on its way


def test_a_poisoned_image_is_a_divergence_at_the_step_that_drew_it(tiny: Tiny) -> None:
    data, own = tiny((5,), train=80), configs((0, 1, 2, 3), **{"train.steps": 25, "train.eval_every": 4})
    data.train.x[11] = math.nan
    batches = Stack(own, data, CPU).batches
    expected = [next(step + 1 for step in range(10) if batches[step][0].unflatten(1, (4, -1))[:, run].isnan().any()) for run in range(4)]
    assert len(set(expected)) > 1
    stack = Stack(own, data, CPU)
    whole, records = run_fit(stack)
    assert whole
    assert [track.diverged_at_step for track in stack.tracks] == expected
    assert stack.alive == []
    seen_at = -(-max(expected) // 4) * 4
    assert stack.step == seen_at < 25  # nobody is left: it ends
    for run, step in enumerate(expected):  # one record where it was found, and none after it
        assert [at for at, who, _ in records if who == run] == list(range(4, step + 4, 4))
        last = [values for _, who, values in records if who == run][-1]
        assert math.isnan(last["train/loss"])


def test_it_goes_on_while_one_is_alive(tiny: Tiny) -> None:
    data = tiny((5,), train=80)
    good, bad = configs((0, 1))
    stack = Stack([bad.replace(**{"optim.lr": 1e30}), good], data, CPU)
    whole, records = run_fit(stack)
    assert whole
    assert stack.step == 30
    assert stack.alive == [1]
    assert [step for step, run, _ in records if run == 1] == [7, 14, 21, 28, 30]
    assert [step for step, run, _ in records if run == 0] == [7]


@pytest.mark.parametrize("every", [1, 7])
@pytest.mark.parametrize("norm", ["batch", "none"])
@pytest.mark.parametrize(("lr", "momentum"), [(1e30, 0.0), (1e10, 0.9), (100.0, 0.9), (0.1, 0.9)])
def test_divergence_at_the_step_of_a_plain_loop(tiny: Tiny, norm: str, lr: float, momentum: float, every: int) -> None:
    """The first step whose loss is not finite; or the look that finds weights, buffers or the validation loss so."""
    data = tiny((5,), train=80)
    changes = {"optim.lr": lr, "optim.momentum": momentum, "model.norm": norm, "train.steps": 60, "train.eval_every": every}
    stack = Stack(configs(**changes), data, CPU)
    net = build(stack.config.model, (5,), 3)
    net.load_state_dict(stack.network.state_dict())
    optimizer = torch.optim.SGD(net.parameters(), lr=lr, momentum=momentum)
    expected, x_val = None, data.normalize(data.val.x)
    for step in range(1, 61):
        x, y = stack.batches[step - 1]
        loss = F.cross_entropy(net.train()(x), y[0])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        looked = [F.cross_entropy(net.eval()(x_val), data.val.y), *net.state_dict().values()] if step % every == 0 else []
        if not all(tensor.isfinite().all() for tensor in [loss, *looked]):
            expected = step
            break
    run_fit(stack)
    assert stack.tracks[0].diverged_at_step == expected
    assert lr == 100 or (expected is None) == (lr == 0.1)  # whether 100 is too much depends on the norm


@pytest.mark.parametrize("what", ["weights", "running statistics", "validation loss"])
def test_what_is_not_finite_behind_a_finite_loss_is_a_divergence_too(tiny: Tiny, what: str) -> None:
    """A skipped or last step may poison weights and buffers that no training loss has seen yet."""
    data = tiny((5,), train=80)
    stack = Stack(configs((0, 1)), data, CPU)

    def spoil() -> None:
        if stack.step == 7:
            with torch.no_grad():
                norm = stack.network.layer1[1]
                assert isinstance(norm, nn.BatchNorm1d)
                if what == "weights":
                    norm.bias[7] = -math.inf  # behind the ReLU it is a zero
                elif what == "running statistics":
                    norm.running_var[7] = math.inf
                else:
                    stack.network.head.bias[3:] = 3e38  # both are finite, and their loss is not
                    stack.network.head.bias[3] = -3e38

    run_fit(stack, step_done=spoil)
    assert [track.diverged_at_step for track in stack.tracks] == [None, 7]


HARD = {
    "sgd": {"optim.schedule": "cosine", "optim.warmup_steps": 3, "optim.weight_decay": 0.01},
    "adam": {"optim.name": "adam", "optim.lr": 0.01},
    "augmented": {"model.name": "blocknet", "data.augment": "crop_flip", "model.widths": [3]},
}


@pytest.mark.parametrize("kind", HARD)
def test_every_checkpoint_continues_bit_for_bit(tiny: Tiny, kind: str) -> None:
    """From any of them: mid-epoch, between records, and at a record. Checkpoints that were taken before the look of their own step lost
    that record on resume."""
    data, own = tiny((1, 8, 8), train=40), configs((0, 1), **{**HARD[kind], "train.checkpoint_every": 1})
    stack = Stack(own, data, CPU)
    files: list[io.BytesIO] = []

    def save() -> None:
        files.append(io.BytesIO())
        torch.save(stack.state_dict(), files[-1])

    _, records = run_fit(stack, checkpoint=save)
    assert len(files) == 30
    for number, file in enumerate(files, start=1):
        if number not in (1, 3, 5, 7, 8, 14, 20, 28, 29, 30):
            continue
        file.seek(0)
        again = Stack(own, data, CPU)
        again.load_state_dict(torch.load(file, weights_only=True))
        assert again.step == number
        _, rest = run_fit(again)
        before = [record for record in records if record[0] <= number]
        assert untimed(before + rest) == untimed(records)
        assert results(again) == results(stack)


def test_stop_ends_between_steps_with_the_state_complete(tiny: Tiny) -> None:
    data, own = tiny((5,)), configs((0, 1))
    whole_stack = Stack(own, data, CPU)
    _, records = run_fit(whole_stack)
    for at in (0, 1, 7, 10, 29):
        stack = Stack(own, data, CPU)
        ended, first = run_fit(stack, stop=lambda stack=stack, at=at: stack.step == at)
        assert not ended
        assert stack.step == at
        again = Stack(own, data, CPU)
        again.load_state_dict(stack.state_dict())
        ended, second = run_fit(again)
        assert ended
        assert untimed(first + second) == untimed(records)
        assert results(again) == results(whole_stack)


def test_checkpoints_come_as_often_as_asked(tiny: Tiny) -> None:
    data = tiny((5,))
    saved: list[int] = []
    stack = Stack(configs(**{"train.checkpoint_every": 4}), data, CPU)
    run_fit(stack, checkpoint=lambda: saved.append(stack.step))
    assert saved == [4, 8, 12, 16, 20, 24, 28]


def test_speed_leaves_the_warm_up_out(tiny: Tiny) -> None:
    stack = Stack(configs(), tiny((5,)), CPU)
    assert math.isnan(speed(stack).images_per_s or 0)  # nothing was trained
    for seconds in [100.0] * WARMUP_STEPS + [0.5] * 9 + [1.5] * 10:
        stack.clock.lap(seconds)
    figures = structs.asdict(speed(stack))
    assert figures["images_per_s"] == pytest.approx(8 * 19 / (0.5 * 9 + 15))
    assert figures["step_ms_median"] == pytest.approx(1500)


def test_losses_in_blocks_change_no_number(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    """A block is small here; as it is, no test would fill one. A checkpoint amid the blocks has their losses, too."""
    data, changes = tiny((5,)), {"train.eval_every": 20, "train.checkpoint_every": 7}
    whole_stack = Stack(configs((0, 1), **changes), data, CPU)
    _, records = run_fit(whole_stack)
    monkeypatch.setattr("bnexp.training.fit.BLOCK", 3)
    saved: list[dict[str, Any]] = []
    stack = Stack(configs((0, 1), **changes), data, CPU)
    _, in_blocks = run_fit(stack, checkpoint=lambda: saved.append(copy.deepcopy(stack.state_dict())))
    assert untimed(in_blocks) == untimed(records)
    again = Stack(configs((0, 1), **changes), data, CPU)
    again.load_state_dict(saved[1])  # after step 14
    assert again.unrecorded == 14
    _, rest = run_fit(again)
    assert untimed(rest) == untimed(records)
    assert results(again) == results(stack) == results(whole_stack)


def test_the_consumers_time_is_not_on_the_training_clock(tiny: Tiny) -> None:
    """Neither what it does after a step, nor after an evaluation or a checkpoint. What it does with a measurement is part of measuring."""
    stack, kinds = Stack(configs(**{"train.checkpoint_every": 10, "metrics.every": 15}), tiny((5,)), CPU), Counter[str]()
    for event in fit(stack, display_due=lambda: True):
        kinds[type(event).__name__] += 1
        time.sleep(0.02)
    assert kinds == {"StepDone": 30, "Evaluation": 5, "Measurement": 3, "CheckpointDue": 3}
    assert stack.clock.steps == 30
    assert stack.clock.train_s == pytest.approx(sum(stack.clock.laps))
    assert stack.clock.train_s + stack.clock.eval_s < 0.02 * kinds.total() / 2
    assert stack.clock.metrics_s > 0.02 * kinds["Measurement"]


def test_a_display_sees_the_last_step_even_where_losses_are_put_into_blocks(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bnexp.training.fit.BLOCK", 3)
    stack, walker = (Stack(configs((0, 1)), tiny((5,)), CPU) for _ in range(2))
    seen = 0
    for event in fit(stack, display_due=lambda: True):
        if isinstance(event, StepDone):
            train_step(walker)
            assert torch.equal(stack.losses[-1], walker.losses[-1])
            assert event.step_s > 0
            seen += 1
    assert seen == 30
