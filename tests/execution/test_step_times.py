"""The solo step time and the step times of stacks by width: real steps, in turns, in parts. Nothing here asserts a speed."""

import math
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from support import Tiny, some
from torch import Tensor

from bnexp.base.errors import UsageError
from bnexp.config import Config, from_mapping
from bnexp.data import Dataset
from bnexp.execution import step_times as timing
from bnexp.execution.session import Session
from bnexp.execution.step_times import Budget, Measurer, calibrate, step_times, take_turns
from bnexp.execution.terminal import Terminal
from bnexp.planning import plan
from bnexp.planning.calibration import has_lost
from bnexp.studies import noise_law
from bnexp.training.batches import MAX_AHEAD, Batches
from bnexp.training.clock import WARMUP_STEPS
from bnexp.training.stack import Stack, train_step

CPU = torch.device("cpu")
TINY = Config().replace(**{"model.widths": [4], "train.epochs": None, "train.steps": 5, "device": "cpu"})


class Listed(Batches):
    """Batches that write down whose turn it was."""

    def __init__(self, data: Dataset, config: Config, label: str, log: list[str]) -> None:
        super().__init__(data, [config], torch.float32)
        self.label, self.log = label, log

    def __getitem__(self, step: int) -> tuple[Tensor, Tensor]:
        self.log.append(self.label)
        return super().__getitem__(step)


def mlp(norm: str) -> Config:
    return from_mapping({"model": {"name": "mlp", "widths": [6], "norm": norm}, "train": {"batch_size": 8, "steps": 5}})


def test_step_times_of_two_arms(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    before = torch.get_num_threads()
    arms = {"with": TINY, "without": TINY.replace(**{"model.norm": "none"}), "two threads": TINY.replace(threads=2)}
    times = step_times(arms, seconds=0.2)
    assert list(times) == list(arms)
    for label, found in times.items():
        assert len(found.turns_ms) >= timing.FEWEST_TURNS
        assert found.steps % len(found.turns_ms) == 0
        assert min(found.turns_ms) <= found.median_ms <= max(found.turns_ms)
        assert 0 < found.low_ms <= found.median_ms <= found.high_ms
        parts = (found.forward_ms, found.backward_ms, found.optimizer_ms)
        assert all(part > 0 for part in parts)
        assert all(part < found.high_ms for part in parts)
        assert found.threads == (2 if label == "two threads" else 1)  # auto: a small step
        assert found.device.startswith("cpu (")
    assert len({found.steps for found in times.values()}) == 1
    assert torch.get_num_threads() == before
    assert list(tmp_path.iterdir()) == []


def test_the_arms_take_turns(tiny: Tiny) -> None:
    data, log = tiny((5,)), []
    stacks = {}
    for label, norm in (("a", "batch"), ("b", "none")):
        stacks[label] = Stack([mlp(norm)], data, CPU)
        stacks[label].batches = Listed(data, mlp(norm), label, log)
    timed = take_turns(stacks, dict.fromkeys(stacks, 1), 0.0)
    turn = timing.LEAD_STEPS + 1  # where there is no time
    back_and_forth = ["a"] * turn + ["b"] * 2 * turn + ["a"] * turn
    assert log == ["a"] * WARMUP_STEPS + ["b"] * WARMUP_STEPS + back_and_forth * (timing.FEWEST_TURNS // 2)
    assert [[len(steps) for steps in turns] for turns in timed.values()] == [[1] * timing.FEWEST_TURNS] * 2
    for turns in timed.values():
        assert all(list(parts) == ["forward", "backward", "optimizer"] for steps in turns for parts in steps)
        assert all(seconds > 0 for steps in turns for parts in steps for seconds in parts.values())


def test_timed_steps_are_the_steps_of_training(tiny: Tiny) -> None:
    """Bit for bit, with the losses that nobody reads thrown away."""
    data = tiny((5,))
    timed, plain = Stack([mlp("batch")], data, CPU), Stack([mlp("batch")], data, CPU)
    take_turns({"a": timed}, {"a": 1}, 0.0)
    for _ in range(timed.step):
        train_step(plain)
    assert timed.step == WARMUP_STEPS + timing.FEWEST_TURNS * (timing.LEAD_STEPS + 1)
    expected = plain.network.state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in timed.network.state_dict().items())
    assert timed.losses == timed.correct == []


def test_it_goes_on_for_as_long_as_asked(tiny: Tiny) -> None:
    short, long = (take_turns({"a": Stack([mlp("batch")], tiny((5,)), CPU)}, {"a": 1}, seconds)["a"] for seconds in (0.0, 0.5))
    assert len(long) >= len(short) == timing.FEWEST_TURNS
    assert {len(turn) for turn in long} <= set(range(1, timing.TURN_STEPS + 1))


def test_no_arms_no_times() -> None:
    assert step_times({}, seconds=60) == {}


def test_threads_are_set_back_after_an_error() -> None:
    before = torch.get_num_threads()
    with pytest.raises(UsageError):
        step_times({"a": TINY.replace(threads=2), "b": TINY.replace(**{"data.name": "npz", "data.root": "/nowhere/x.npz"})})
    assert torch.get_num_threads() == before


MLP = from_mapping({"model": {"name": "mlp", "widths": [6]}, "train": {"batch_size": 8, "steps": 5}, "device": "cpu"})
DIGITS = (1, 8, 8), 1437, 10


def session(data: Dataset) -> Session:
    return Session(MLP, torch.device("cpu"), data, 1)


def test_real_steps_are_timed_at_each_width_that_is_asked_for(tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for widths in ((1,), (1, 2), (1, 2, 4)):
        found = some(calibrate(session(tiny((5,))), widths, 60.0))
        assert found.tried == widths[-1]
        assert tuple(found.ms) == widths or has_lost(found.ms)
        assert all(ms > 0 for ms in found.ms.values())
    assert list(tmp_path.iterdir()) == []


def test_what_others_took_is_not_what_measuring_took() -> None:
    """On a machine so busy that the time ran out, nothing is said of widths that were not tried: a later command tries them."""
    cpu, cuda = (Budget(torch.device(name), 0.05) for name in ("cpu", "cuda"))
    time.sleep(0.25)  # computes nothing
    assert (cpu.over(), cpu.spent()) == (True, False)
    assert (cuda.over(), cuda.spent()) == (True, True)
    assert Budget(torch.device("cpu"), 60.0).spent(61.0)


@pytest.mark.parametrize(("spent", "tried"), [(False, 1), (True, 8)])
def test_widths_that_others_left_no_time_for_are_tried_again(spent: bool, tried: int, tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Budget, "over", lambda self, more=0.0: True)
    monkeypatch.setattr(Budget, "spent", lambda self, more=0.0: spent)
    found = some(calibrate(session(tiny((5,))), (1, 2, 4, 8), 60.0))
    assert (list(found.ms), found.tried) == ([1], tried)


def test_widths_that_do_not_fit_into_memory_are_not_tried(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    header = (5,), 68, 3
    for runs, expected in ((3, (1, 2)), (0, None)):
        monkeypatch.setattr(plan, "available_memory", lambda runs=runs: plan.least_bytes(MLP, header, runs))
        found = calibrate(session(tiny((5,))), (1, 2, 4, 8), 60.0)
        assert (found and (tuple(found.ms), found.tried)) == (expected and (expected, 2))


def test_the_measurer_reads_the_data_and_leaves_the_threads_alone() -> None:
    torch.set_num_threads(2)
    try:
        measurer = Measurer(Terminal(quiet=True))
        config = Config().replace(**{"model.widths": [2], "train.batch_size": 4, "device": "cpu"})
        for norm in ("batch", "none"):
            found = some(measurer([config.replace(**{"model.norm": norm})], DIGITS, (1, 2), 60.0))
            assert list(found.ms) == [1, 2]
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)


@pytest.mark.parametrize("command", ["stats", "step times", "widths"])
def test_a_batch_larger_than_the_training_images_without_validation_is_refused(command: str, tmp_path: Path) -> None:
    """60 examples: 12 are for the test, 5 for validation. Batches of 45 were accepted, of which there is none in 43."""
    np.savez(tmp_path / "x.npz", x=np.random.default_rng(0).random((60, 5)), y=np.arange(60) % 2)
    mapping = {"data": {"name": "npz", "root": str(tmp_path / "x.npz")}, "model": {"name": "mlp", "widths": [4]}, "device": "cpu"}
    for size in (45, 43):
        config, terminal = from_mapping(mapping).replace(**{"train.batch_size": size}), Terminal(quiet=True)
        uses = {
            "stats": lambda config=config, terminal=terminal: noise_law.of_config(config, [2, 4], "frozen", terminal),
            "step times": lambda config=config: step_times({"arm": config}, seconds=0.0),
            "widths": lambda config=config, terminal=terminal: Measurer(terminal)([config], DIGITS, (1,), 60.0),
        }
        if size > 43:
            with pytest.raises(UsageError, match=r"train\.batch_size=45 is larger than the 43 training images"):
                uses[command]()
        else:
            uses[command]()


def test_each_stack_is_warm_before_it_is_timed_and_makes_as_many_steps_a_turn(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    stacks: list[Stack] = []

    class Seen(Stack):
        def __init__(self, *args: object) -> None:
            super().__init__(*args)  # type: ignore[arg-type]
            stacks.append(self)

    monkeypatch.setattr("bnexp.execution.step_times.Stack", Seen)
    some(calibrate(session(tiny((5,))), (1, 2), 600.0))
    assert [stack.runs for stack in stacks] == [1, 2]
    assert [stack.batches.ahead for stack in stacks] == [1, MAX_AHEAD]  # batches of 160 bytes would lie anywhere
    for stack, rounds in zip(stacks, (timing.WIDTH_TURNS + 1, timing.WIDTH_TURNS), strict=True):
        timed = math.ceil(timing.TURN_STEPS / stack.batches.ahead) * stack.batches.ahead  # whole makings of batches
        assert stack.step == timing.WIDTH_WARMUP_STEPS + rounds * (timing.LEAD_STEPS + timed)
    assert all(len({config.seed for config in stack.configs}) == stack.runs for stack in stacks)
    assert all(stack.losses == stack.correct == [] for stack in stacks)
