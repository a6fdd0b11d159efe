"""What a step costs, counted and not timed: operators, values read back from the device, bytes of new tensors, kernels that wait.

A floor (the same network in plain `torch.nn` under `torch.optim.SGD`) is counted beside, so that another version of PyTorch, which cuts
its operators otherwise, moves both.
"""

import functools
import itertools
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from support import Tiny
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from bnexp.config import from_mapping
from bnexp.models import build, init
from bnexp.training.stack import Stack, train_step

CPU = torch.device("cpu")
SHAPE, BATCH = (1, 8, 8), 16
BEYOND, BEYOND_MAKING = 4, 9
"""Operators of a step beyond the floor's (learning rate, losses a run, right answers), and of one that makes batches, its own and the next
ones (by index, normalized)."""
BEYOND_BYTES, BEYOND_BYTES_MAKING = 1, 4
"""Bytes of new tensors beyond the floor's, in batches: little, and of a step that makes its batch, this as it is fetched, normalized and
laid out."""
WAITING = {"_local_scalar_dense", "is_nonzero", "nonzero", "masked_select", "equal", "_unique2", "unique_dim", "repeat_interleave"}
"""Operators whose result's shape or value a GPU has to be waited for."""
READS = ("item", "tolist", "numpy", "cpu", "__bool__", "__float__", "__int__", "__index__", "nonzero")


class Cost(TorchDispatchMode):
    """Counts operators, and the bytes of tensors whose memory is new."""

    def __init__(self) -> None:
        super().__init__()
        self.operators: Counter[str] = Counter()
        self.bytes = 0
        self._seen: dict[int, Any] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        self.operators[str(func)] += 1
        given = {part.untyped_storage().data_ptr() for part in torch.utils._pytree.tree_leaves((args, kwargs)) if isinstance(part, Tensor)}
        for part in torch.utils._pytree.tree_leaves(found):
            if isinstance(part, Tensor) and part.untyped_storage().data_ptr() not in given:
                self.bytes += part.untyped_storage().nbytes()
        return found

    @property
    def total(self) -> int:
        """Without views, which launch nothing and cost no memory."""
        return sum(count for name, count in self.operators.items() if name.split(".")[1] not in VIEWS)


VIEWS = {*("view", "_unsafe_view", "reshape", "detach", "t", "transpose"), *("expand", "select", "slice", "alias")}
VIEWS |= {"unsqueeze", "squeeze", "as_strided"}


@contextmanager
def reads_refused(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """What a tensor's value is asked for meanwhile: each would wait for a GPU."""
    asked: list[str] = []

    def watched(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def read(self: Tensor, *args: Any, **kwargs: Any) -> Any:
            asked.append(name)
            return real(self, *args, **kwargs)

        return read

    with monkeypatch.context() as patch:
        for name in READS:
            patch.setattr(Tensor, name, watched(name, getattr(Tensor, name)))
        yield asked


def made(tiny: Tiny, runs: int = 1, **changes: Any) -> Stack:
    tree = {"model": {"widths": [4, 8, 8]}, "train": {"batch_size": BATCH, "steps": 50}, "data": {"val_fraction": 0.1}}
    config = from_mapping(tree).replace(**changes)
    stack = Stack([config.replace(seed=seed) for seed in range(runs)], tiny(SHAPE, train=3 * BATCH), CPU)
    train_step(stack)  # the first allocates what later ones reuse
    return stack


def cost(step: Callable[[], Any]) -> Cost:
    with Cost() as counted:
        step()
    return counted


def floor(norm: str) -> Callable[[], None]:
    config = from_mapping({"model": {"widths": [4, 8, 8], "norm": norm}}).model
    network = build(config, SHAPE, 3)
    init(network, config, [0])
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9, foreach=True)
    x, y = torch.randn(BATCH, *SHAPE).to(memory_format=torch.channels_last), torch.arange(BATCH) % 3

    def step() -> None:
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(x), y).backward()
        optimizer.step()

    step()
    return step


@pytest.mark.parametrize(("ahead_bytes", "beyond"), [(1, BEYOND_MAKING), (2**18, BEYOND)])
@pytest.mark.parametrize("norm", ["batch", "none"])
def test_operators_of_a_step_beside_the_floor(
    norm: str, ahead_bytes: int, beyond: int, tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bnexp.training.batches.AHEAD_BYTES", ahead_bytes)
    stack = made(tiny, **{"model.norm": norm})
    ours, plain = cost(lambda: train_step(stack)), cost(floor(norm))
    assert plain.total > 40  # it counts
    assert ours.total - plain.total <= beyond, (ours.operators - plain.operators).most_common()


def test_a_stack_has_the_operators_of_one_run(tiny: Tiny) -> None:
    """That is what makes small steps faster in stacks. The head alone is a batched product with a bias of its own."""
    stacks = [made(tiny, runs) for runs in (1, 8)]
    one, eight = (cost(functools.partial(train_step, stack)) for stack in stacks)
    more, less = eight.operators - one.operators, one.operators - eight.operators
    assert abs(eight.total - one.total) <= 8, (more.most_common(), less.most_common())


@pytest.mark.parametrize(("ahead_bytes", "beyond"), [(1, BEYOND_BYTES_MAKING), (2**18, BEYOND_BYTES)])
@pytest.mark.parametrize("norm", ["batch", "none"])
def test_bytes_of_a_step_beside_the_floor(norm: str, ahead_bytes: int, beyond: int, tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bnexp.training.batches.AHEAD_BYTES", ahead_bytes)
    stack = made(tiny, **{"model.norm": norm})
    ours, plain = cost(lambda: train_step(stack)), cost(floor(norm))
    maps = 4 * BATCH * sum(2 * width * side * side for width, side in ((4, 8), (8, 4), (8, 2)))
    assert plain.bytes > 3 * maps  # each layer's output, its ReLU's, their gradients
    batch_bytes = 4 * BATCH * 64
    assert ours.bytes <= plain.bytes - maps + beyond * batch_bytes, (ours.bytes, plain.bytes, maps)  # no map for a ReLU


@pytest.mark.parametrize("kind", [{}, {"optim.name": "adam"}, {"precision": "bf16"}, {"data.augment": "crop_flip"}, {"model.norm": "none"}])
@pytest.mark.parametrize("runs", [1, 4])
def test_a_step_reads_nothing_back(kind: dict[str, Any], runs: int, tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps of one epoch: where the next begins, its order goes to the device, and nothing comes back either way."""
    monkeypatch.setattr("bnexp.training.batches.AHEAD_BYTES", 1)  # each step makes its batch
    stack = made(tiny, runs, **kind)
    with reads_refused(monkeypatch) as asked, Cost() as counted:
        train_step(stack)
        assert "aten.index.Tensor" in counted.operators
        assert not WAITING & {name.split(".")[1] for name in counted.operators}
        torch.ones(1).item()
        torch.ones(2).masked_select(torch.tensor([True, False]))
    assert asked == ["item"]  # that one: reading is seen
    assert {"_local_scalar_dense", "masked_select"} <= WAITING & {name.split(".")[1] for name in counted.operators}


def test_metrics_are_no_part_of_steps_between_them(tiny: Tiny) -> None:
    plain, full = made(tiny), made(tiny, **{f"metrics.{name}": True for name in ("ics", "landscape", "sharpness", "noise_scale")})
    assert cost(lambda: train_step(plain)).operators == cost(lambda: train_step(full)).operators


def test_what_is_remembered_of_a_step_is_small(tiny: Tiny) -> None:
    """A loss and a count of right answers a run: neither graph nor activations."""
    stack = made(tiny, 4)
    for _ in range(3):
        train_step(stack)
    for kept in itertools.chain(stack.losses, stack.correct):
        assert kept.grad_fn is None
        assert kept.untyped_storage().nbytes() <= 8 * 4
