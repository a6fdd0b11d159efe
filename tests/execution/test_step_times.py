"""The solo step time: real steps, in turns, in parts. No assertion here depends on how fast this machine is."""

from pathlib import Path

import pytest
import torch
from support import Tiny
from torch import Tensor

from bnexp.base.errors import UsageError
from bnexp.config import Config, from_mapping
from bnexp.data import Dataset
from bnexp.execution.step_times import FEWEST_TURNS, LEAD_STEPS, TURN_STEPS, step_times, take_turns
from bnexp.training.batches import Batches
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
    for label, time in times.items():
        assert len(time.turns_ms) >= FEWEST_TURNS
        assert time.steps % len(time.turns_ms) == 0
        assert min(time.turns_ms) <= time.median_ms <= max(time.turns_ms)
        assert 0 < time.low_ms <= time.median_ms <= time.high_ms
        parts = (time.forward_ms, time.backward_ms, time.optimizer_ms)
        assert all(part > 0 for part in parts)
        assert all(part < time.high_ms for part in parts)
        assert time.threads == (2 if label == "two threads" else 1)  # auto: a small step
        assert time.device.startswith("cpu (")
    assert len({time.steps for time in times.values()}) == 1
    assert torch.get_num_threads() == before
    assert list(tmp_path.iterdir()) == []


def test_the_arms_take_turns(tiny: Tiny) -> None:
    data, log = tiny((5,)), []
    stacks = {}
    for label, norm in (("a", "batch"), ("b", "none")):
        stacks[label] = Stack([mlp(norm)], data, CPU)
        stacks[label].batches = Listed(data, mlp(norm), label, log)
    timed = take_turns(stacks, dict.fromkeys(stacks, 1), 0.0)
    turn = LEAD_STEPS + 1  # where there is no time
    back_and_forth = ["a"] * turn + ["b"] * 2 * turn + ["a"] * turn
    assert log == ["a"] * WARMUP_STEPS + ["b"] * WARMUP_STEPS + back_and_forth * (FEWEST_TURNS // 2)
    assert [[len(steps) for steps in turns] for turns in timed.values()] == [[1] * FEWEST_TURNS] * 2
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
    assert timed.step == WARMUP_STEPS + FEWEST_TURNS * (LEAD_STEPS + 1)
    expected = plain.network.state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in timed.network.state_dict().items())
    assert timed.losses == timed.correct == []


def test_it_goes_on_for_as_long_as_asked(tiny: Tiny) -> None:
    short, long = (take_turns({"a": Stack([mlp("batch")], tiny((5,)), CPU)}, {"a": 1}, seconds)["a"] for seconds in (0.0, 0.5))
    assert len(long) >= len(short) == FEWEST_TURNS
    assert {len(turn) for turn in long} <= set(range(1, TURN_STEPS + 1))


def test_no_arms_no_times() -> None:
    assert step_times({}, seconds=60) == {}


def test_threads_are_set_back_after_an_error() -> None:
    before = torch.get_num_threads()
    with pytest.raises(UsageError):
        step_times({"a": TINY.replace(threads=2), "b": TINY.replace(**{"data.name": "npz", "data.root": "/nowhere/x.npz"})})
    assert torch.get_num_threads() == before
