"""The ways to run a step: line by line, compiled, recorded and replayed. All give the same numbers."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from support import Tiny
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from bnexp import load
from bnexp.base.errors import BnexpError, UsageError
from bnexp.config import Config, from_mapping
from bnexp.data import Dataset
from bnexp.execution.launch import launch, resume
from bnexp.execution.step_times import take_turns
from bnexp.metrics.network_copy import NetworkCopy
from bnexp.models import build, work_in_place
from bnexp.training.stack import Stack, train_step
from bnexp.training.update import EAGER_STEPS, Replayed, Update, make_update, own_compiler_cache

CPU = torch.device("cpu")
STEPS = EAGER_STEPS + 7


class Tape(TorchDispatchMode):
    """Writes down each operator with the very tensors and numbers that it got, as a CUDA graph does, and makes the same calls again.

    A number that Python computed for the recorded step is in the tape as it was: it does not follow later steps.
    """

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any], Any]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        self.calls.append((func, args, kwargs or {}, found))
        return found

    @torch.no_grad()
    def replay(self) -> None:
        for func, args, kwargs, found in self.calls:
            again = func(*args, **kwargs)
            for old, new in zip(listed(found), listed(again), strict=True):
                if old is not new:
                    old.copy_(new)


def listed(found: Any) -> list[Tensor]:
    return [part for part in (found if isinstance(found, (tuple, list)) else [found]) if isinstance(part, Tensor)]


class Taped(Replayed):
    """Replayed on a CPU: the tape takes the CUDA graph's place, and what recording did is undone, as a graph would not have done it."""

    recorded = 0

    def record(self, update: Callable[[], None]) -> Callable[[], None]:
        kept = [*self.network.state_dict().values(), *(own for tensors in self.optimizer.state.values() for own in tensors)]
        before = [own.clone() for own in kept]
        with Tape() as tape:
            update()
        with torch.no_grad():
            for own, was in zip(kept, before, strict=True):
                own.copy_(was)
        self.recorded += 1
        return tape.replay


def config(**changes: Any) -> Config:
    return from_mapping({"model": {"widths": [3, 4]}, "train": {"batch_size": 8, "steps": 40}}).replace(**changes)


def stack_of(data: Dataset, own: Config, kind: type[Update], runs: int = 2) -> Stack:
    stack = Stack([own.replace(seed=seed, **{"optim.lr": own.optim.lr / (1 + seed)}) for seed in range(runs)], data, CPU)
    stack.update = kind(stack.network, stack.optimizer, stack.config, CPU)
    return stack


def same(a: Stack, b: Stack) -> None:
    """Bit for bit: losses, right answers, weights, buffers, and what the optimizer remembers."""
    assert torch.equal(torch.stack(a.losses), torch.stack(b.losses))
    assert torch.equal(torch.stack(a.correct), torch.stack(b.correct))
    same_state(a, b)


def same_state(a: Stack, b: Stack) -> None:
    for name, own in a.network.state_dict().items():
        assert torch.equal(own, b.network.state_dict()[name]), name
    for name, tensors in a.optimizer.state.items():
        assert all(torch.equal(own, other) for own, other in zip(tensors, b.optimizer.state[name], strict=True)), name


CASES: dict[str, dict[str, Any]] = {
    "sgd": {"optim.weight_decay": 0.01},
    "nesterov": {"optim.nesterov": True, "optim.warmup_steps": 5},
    "adam": {"optim.name": "adam", "optim.lr": 0.01},
    "adamw": {"optim.name": "adamw", "optim.lr": 0.01, "optim.weight_decay": 0.1, "optim.schedule": "constant"},
    "none": {"model.norm": "none", "optim.lr": 0.01},
    "bf16": {"precision": "bf16"},
    "conv-relu-norm": {"model.placement": "conv-relu-norm"},
    "mlp": {"model.name": "mlp"},
}


@pytest.mark.parametrize("case", CASES)
def test_replayed_steps_are_the_steps_line_by_line(case: str, tiny: Tiny) -> None:
    """Schedules, warm-up and Adam's corrections change from step to step: none of them may be frozen in what was recorded."""
    data, own = tiny((1, 6, 6)), config(**CASES[case])
    plain, replayed = stack_of(data, own, Update), stack_of(data, own, Taped)
    for _ in range(STEPS):
        train_step(plain)
        train_step(replayed)
    same(plain, replayed)
    assert isinstance(replayed.update, Taped)
    assert replayed.update.recorded == 1
    assert len({tuple(losses.tolist()) for losses in replayed.losses}) == STEPS  # each step's are its own


def test_a_replayed_stack_goes_on_from_a_checkpoint(tiny: Tiny) -> None:
    data, own = tiny((1, 6, 6)), config()
    whole, first = stack_of(data, own, Taped), stack_of(data, own, Taped)
    for _ in range(STEPS):
        train_step(whole)
        train_step(first)
    again = stack_of(data, own, Taped)
    again.load_state_dict(first.state_dict())
    for _ in range(STEPS):
        train_step(whole)
        train_step(again)
    same_after = [torch.equal(a, b) for a, b in zip(whole.network.state_dict().values(), again.network.state_dict().values(), strict=True)]
    assert all(same_after)


class Unrecordable(Replayed):
    def record(self, update: Callable[[], None]) -> Callable[[], None]:
        update()  # as far as it came
        raise RuntimeError("operation not permitted when stream is capturing")


def test_what_cannot_be_recorded_runs_line_by_line(tiny: Tiny) -> None:
    data, own = tiny((1, 6, 6)), config()
    plain, tried = stack_of(data, own, Update), stack_of(data, own, Unrecordable)
    for _ in range(EAGER_STEPS):
        train_step(plain)
        train_step(tried)
    same(plain, tried)
    assert tried.update.failed is None
    kept = {name: own.clone() for name, own in tried.network.state_dict().items()}
    train_step(tried)
    assert tried.update.failed is not None
    assert "not permitted" in tried.update.failed
    assert any(not torch.equal(own, kept[name]) for name, own in tried.network.state_dict().items())  # the step was made all the same
    train_step(tried)
    assert len(tried.losses) == EAGER_STEPS + 2


def test_a_gpu_replays_what_is_the_same_from_step_to_step(tiny: Tiny) -> None:
    data, gpu = tiny((1, 6, 6)), torch.device("cuda")
    for norm, kind in (("batch", Replayed), ("none", Replayed), ("noisy", Update), ("frozen", Update)):
        stack = Stack([config(**{"model.norm": norm})], data, CPU)
        assert type(make_update(stack.network, stack.optimizer, stack.config, gpu)) is kind
        assert type(stack.update) is Update


def test_a_replayed_step_has_no_parts(tiny: Tiny) -> None:
    stack = stack_of(tiny((1, 6, 6)), config(), Taped)
    timed = take_turns({"a": stack}, {"a": 1}, 0.0)["a"]
    assert all(list(parts) == ["optimizer"] for turn in timed for parts in turn)


class Counting:
    """A backend that compiles nothing, and counts what it is given and how often that runs."""

    def __init__(self) -> None:
        self.compiled, self.ran = 0, 0

    def __call__(self, graph: torch.fx.GraphModule, inputs: list[Tensor]) -> Callable[..., Any]:
        self.compiled += 1

        def run(*args: Tensor) -> Any:
            self.ran += 1
            return graph(*args)

        return run


@pytest.mark.slow  # torch._dynamo takes seconds to import
def test_every_stack_of_a_process_is_compiled_once(tiny: Tiny) -> None:
    """Dynamo stops compiling a function that it has compiled for the eighth time: later stacks of a worker ran line by line."""
    data, backend = tiny((1, 6, 6)), Counting()
    for number in range(1, 12):
        plain, stack = (stack_of(data, config(**{"model.widths": [number]}), Update) for _ in range(2))
        before = {name: own.clone() for name, own in stack.network.state_dict().items()}
        stack.update.compile(*stack.batches[0], backend=backend)
        assert all(torch.equal(own, before[name]) for name, own in stack.network.state_dict().items())
        assert all(param.grad is None for param in stack.network.parameters())
        assert backend.compiled == number
        backend.ran = 0
        for _ in range(3):
            train_step(plain)
            train_step(stack)
        assert backend.ran == 3
        assert backend.compiled == number
        same(plain, stack)


@pytest.mark.slow  # compiles for real
@pytest.mark.parametrize("norm", ["batch", "none"])
def test_a_compiled_stack_goes_on_from_a_checkpoint(norm: str, tiny: Tiny) -> None:
    """Compiling runs the network once, which has steps behind it by then: nothing of it must stay. At the budget's end none is needed."""
    own = config(**{"model.norm": norm, "compile": True, "train.steps": 2 * STEPS, "train.epochs": None})
    data = tiny((1, 6, 6))
    whole, first = (Stack([own, own.replace(seed=1)], data, CPU) for _ in range(2))
    for stack, steps in ((whole, 2 * STEPS), (first, STEPS)):
        stack.warm_up()
        for _ in range(steps):
            train_step(stack)
    for steps in (STEPS, 0):
        spent_s = first.clock.compile_s
        again = Stack([own, own.replace(seed=1)], data, CPU)
        again.load_state_dict(first.state_dict())
        again.warm_up()
        for _ in range(steps):
            train_step(again)
        assert (again.clock.compile_s > spent_s > 0) == (steps > 0)
        first = again
    assert all(torch.equal(one, other) for one, other in zip(whole.since_record(), first.since_record(), strict=True))
    same_state(whole, first)


@pytest.mark.slow  # compiles for real
@pytest.mark.parametrize("norm", ["batch", "none"])
def test_a_compiled_run(norm: str, tmp_path: Path) -> None:
    own = Config().replace(**{"model.norm": norm, "model.widths": [4, 8], "train.epochs": None, "train.steps": 30, "optim.lr": 0.03})
    (plain,) = launch([own], tmp_path, quiet=True).summaries
    outcome = launch([own.replace(compile=True)], tmp_path, quiet=True)
    (summary,) = outcome.summaries
    assert summary["id"] != plain["id"]  # other rounding: another run
    assert summary["config"]["compile"] is True
    assert summary["speed"]["compile_s"] > 0
    assert plain["speed"]["compile_s"] == 0
    assert summary["test"]["running"]["loss"] == pytest.approx(plain["test"]["running"]["loss"], rel=0.02)
    assert resume(outcome.runs[0], quiet=True).reused == {summary["id"]}


def test_compiled_code_is_kept_in_the_users_own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """PyTorch's choice is a folder under /tmp whose name anybody can guess, and what lies there is run."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "mine")
    own_compiler_cache()
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == "mine"
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR")
    own_compiler_cache()
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == str(tmp_path / "bnexp" / "compiled")
    assert (tmp_path / "bnexp" / "compiled").stat().st_mode & 0o777 == 0o700


def test_nothing_is_compiled_where_no_step_follows(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr(Update, "compile", lambda self, x, y_RB: asked.append(1))
    stack = Stack([config(compile=True)], tiny((1, 6, 6)), CPU)
    stack.warm_up()
    assert asked == [1]
    stack.tracks[0].diverged_at_step = 1  # and killed before that was told
    stack.warm_up()
    stack.tracks[0].diverged_at_step, stack.step = None, stack.total
    stack.warm_up()
    assert asked == [1]


def test_where_nothing_can_be_compiled_one_sentence_says_so(tiny: Tiny) -> None:
    def broken(graph: torch.fx.GraphModule, inputs: list[Tensor]) -> Callable[..., Any]:
        raise RuntimeError("no compiler here")

    stack = stack_of(tiny((1, 6, 6)), config(), Update)
    with pytest.raises(BnexpError, match=r"^compile=true failed \(it needs a C\+\+ compiler\): .*no compiler here.*Use compile=false\.$"):
        stack.update.compile(*stack.batches[0], backend=broken)


@pytest.mark.parametrize("norm", ["noisy", "frozen"])
def test_norms_that_change_from_step_to_step_are_not_compiled(norm: str) -> None:
    with pytest.raises(UsageError, match=f"compile=true needs model.norm=batch or none: a step of {norm} differs"):
        config(**{"model.norm": norm, "compile": True})


@pytest.mark.parametrize("norm", ["batch", "none", "noisy", "frozen"])
@pytest.mark.parametrize("placement", ["conv-norm-relu", "norm-conv-relu", "conv-relu-norm"])
def test_a_relu_in_place_changes_no_number(placement: str, norm: str, tiny: Tiny) -> None:
    data = tiny((1, 6, 6))
    in_place, beside = (stack_of(data, config(**{"model.norm": norm, "model.placement": placement}), Update) for _ in range(2))
    work_in_place(beside.network, on=False)
    for _ in range(4):
        train_step(in_place)
        train_step(beside)
    same(in_place, beside)


def test_who_looks_inside_finds_no_relu_in_place(tiny: Tiny, tmp_path: Path) -> None:
    """The metrics' copy, which keeps what each module gives, and a loaded network, on which users put hooks."""

    def in_place(network: nn.Module) -> list[bool]:
        return [module.inplace for module in network.modules() if isinstance(module, nn.ReLU)]

    stack = stack_of(tiny((1, 6, 6)), config(), Update)
    assert in_place(stack.network) == [True] * 4
    assert in_place(NetworkCopy(stack.network, stack.config).network) == [False] * 4
    assert in_place(build(config().model, (1, 6, 6), 3)) == [False] * 4
    outcome = launch([Config().replace(**{"model.widths": [4], "train.epochs": None, "train.steps": 2})], tmp_path, quiet=True)
    assert in_place(load(outcome.runs[0].folder)) == [False] * 2
