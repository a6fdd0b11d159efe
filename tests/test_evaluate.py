"""Three-way evaluation and folding, each against a slow and obvious twin."""

import copy
import dataclasses
from statistics import fmean, stdev
from typing import Any

import numpy as np
import pytest
import torch
from support import Tiny
from torch import Tensor, nn
from torch.nn import functional as F

from bnexp.base.errors import UsageError
from bnexp.config import Config, from_mapping
from bnexp.data import Dataset, Split
from bnexp.evaluate import SHUFFLES, STATS, TRAIN_IMAGES, evaluate, fold, norm_layers, precise_statistics, train_part
from bnexp.models import build, init, unstack
from bnexp.training.stack import Stack, train_step

CPU = torch.device("cpu")
SHAPES = {"1d": (2, 9), "2d": (2, 8, 6), "3d": (1, 4, 5, 4), "flat": (7,)}
Naive = tuple[float, float, list[list[int]]]


def config(shape: tuple[int, ...], model: dict[str, Any] | None = None, **changes: Any) -> Config:
    base = {"name": "mlp", "widths": [8, 6]} if len(shape) == 1 else {"widths": [4, 6]}
    return from_mapping({"model": {**base, **(model or {})}, "train": {"batch_size": 8, "steps": 20}, **changes})


def trained(own: Config, data: Dataset, seeds: tuple[int, ...] = (0,), steps: int = 10, dtype: torch.dtype = torch.float32) -> Stack:
    stack = Stack([own.replace(seed=seed) for seed in seeds], data, CPU, dtype)
    for _ in range(steps):
        train_step(stack)
    return stack


def single(stack: Stack, run: int, data: Dataset) -> nn.Sequential:
    """One run's network, in float64."""
    net = build(stack.config.model, data.shape, len(data.classes)).double()
    net.load_state_dict(unstack(stack.network.state_dict(), stack.runs, run))
    return net


def naive(net: nn.Module, data: Dataset, split: Split) -> Naive:
    """Loss, accuracy and confusion of one float64 network in eval mode, one image at a time."""
    loss, right, confusion = 0.0, 0, [[0] * len(data.classes) for _ in data.classes]
    with torch.no_grad():
        for x, y in zip(data.normalize(split.x).double(), split.y, strict=True):
            out = net.eval()(x[None])
            loss += float(F.cross_entropy(out, y[None])) / len(split)
            right += int(out.argmax()) == int(y)
            confusion[int(y)][int(out.argmax())] += 1
    return loss, right / len(split), confusion


def naive_shuffle(net: nn.Module, data: Dataset, split: Split, batch: int, order: list[int]) -> Naive:
    """As `naive`, by a twin in train mode: in batches of exactly `batch` images, the last one filled up with the first ones."""
    loss, right, confusion = 0.0, 0, [[0] * len(data.classes) for _ in data.classes]
    for start in range(0, len(order), batch):
        counted = order[start : start + batch]
        filled = (order * batch)[: batch - len(counted)]
        twin = copy.deepcopy(net).train()
        with torch.no_grad():
            out = twin(data.normalize(split.x[counted + filled]).double())[: len(counted)]
        loss += float(F.cross_entropy(out, split.y[counted], reduction="sum")) / len(split)
        for y, guess in zip(split.y[counted].tolist(), out.argmax(1).tolist(), strict=True):
            right += y == guess
            confusion[y][guess] += 1
    return loss, right / len(split), confusion


def naive_shuffles(net: nn.Module, data: Dataset, split: Split, batch: int) -> list[Naive]:
    """The same for each of the orders that one generator draws."""
    generator = torch.Generator().manual_seed(0)
    orders = [torch.randperm(len(split), generator=generator).tolist() for _ in range(SHUFFLES)]
    return [naive_shuffle(net, data, split, batch, order) for order in orders]


def agree(stack: Stack, data: Dataset, split: Split, stats: str, expected: list[Naive]) -> None:
    scores = evaluate(stack.network, data, split, stack.config, stats)
    assert scores.loss.dtype == scores.accuracy.dtype == torch.float64
    for run, (loss, accuracy, confusion) in enumerate(expected):
        assert float(scores.loss[run]) == pytest.approx(loss, rel=1e-5)
        assert float(scores.accuracy[run]) == pytest.approx(accuracy, abs=1e-12)
        assert scores.confusion[run].tolist() == confusion


@pytest.mark.parametrize("kind", SHAPES)
@pytest.mark.parametrize("norm", ["batch", "none"])
def test_running_against_one_image_at_a_time(tiny: Tiny, kind: str, norm: str) -> None:
    data = tiny(SHAPES[kind], test=37)
    stack = trained(config(SHAPES[kind], {"norm": norm}), data, (0, 1, 2))
    agree(stack, data, data.test, "running", [naive(single(stack, run, data), data, data.test) for run in range(3)])


def test_every_image_is_counted_whatever_the_evaluation_batch(tiny: Tiny) -> None:
    """The last partial batch is dropped in training, kept in evaluation. Wide maps make evaluation batches of 16 images."""
    data = tiny((1, 64, 64), train=8, test=35)
    own = config((1, 64, 64), {"widths": [16]})
    stack = Stack([own], data, CPU)
    agree(stack, data, data.test, "running", [naive(single(stack, 0, data), data, data.test)])
    assert int(evaluate(stack.network, data, data.test, own).confusion.sum()) == 35


@pytest.mark.parametrize("kind", SHAPES)
@pytest.mark.parametrize("images", [16, 37, 3], ids=["whole-batches", "last-filled", "fewer-than-a-batch"])
def test_batch_against_a_twin_in_train_mode(tiny: Tiny, kind: str, images: int) -> None:
    data = tiny(SHAPES[kind], test=images)
    stack = trained(config(SHAPES[kind]), data, (0, 1))
    shuffles = [naive_shuffles(single(stack, run, data), data, data.test, 8) for run in range(2)]
    expected = [
        (fmean(loss for loss, _, _ in run), fmean(right for _, right, _ in run), np.sum([counts for _, _, counts in run], axis=0).tolist())
        for run in shuffles
    ]
    agree(stack, data, data.test, "batch", expected)
    scores = evaluate(stack.network, data, data.test, stack.config, "batch")
    spread = [stdev(right for _, right, _ in run) for run in shuffles]
    assert scores.accuracy_std.tolist() == pytest.approx(spread, abs=1e-12)
    assert scores.shuffles == SHUFFLES == 20
    assert expected[0][0] != pytest.approx(naive(single(stack, 0, data), data, data.test)[0], rel=1e-3)  # they are not the same thing


def test_which_images_are_right_in_the_order_of_the_split(tiny: Tiny) -> None:
    data = tiny(SHAPES["2d"], test=37)
    stack = trained(config(SHAPES["2d"]), data, (0, 1))
    running, batch = (evaluate(stack.network, data, data.test, stack.config, stats) for stats in ("running", "batch"))
    for run in range(2):
        net = single(stack, run, data).eval()
        with torch.no_grad():
            right = net(data.normalize(data.test.x).double()).argmax(1) == data.test.y
        assert running.correct[run].tolist() == right.tolist()
        assert 0 < int(right.sum()) < 37
    assert batch.correct.double().mean(1).tolist() == pytest.approx((20 * batch.accuracy).tolist())
    assert batch.accuracy_std.min() > 0
    assert running.accuracy_std.tolist() == [0, 0]


def naive_pooled(batches: list[Tensor]) -> tuple[Tensor, Tensor]:
    """E[mu_B] and E[mu_B^2 + s2_B] - E[mu_B]^2 of batches of a norm layer's inputs x_[B, C, *map] (Wu and Johnson 2021, section 3.2)."""
    mu = torch.stack([x.transpose(0, 1).flatten(1).mean(1) for x in batches])
    s2 = torch.stack([x.transpose(0, 1).flatten(1).var(1, correction=0) for x in batches])
    return mu.mean(0), (mu**2 + s2).mean(0) - mu.mean(0) ** 2


@pytest.mark.parametrize("train", [40, 45], ids=["whole-batches", "a-rest-is-left-out"])
@pytest.mark.parametrize("kind", SHAPES)
def test_precise_statistics_against_pooled_ones(tiny: Tiny, kind: str, train: int) -> None:
    """On networks whose first layer is the norm's only input, in float64."""
    shape = SHAPES[kind]
    data = tiny(shape, train=train)
    own = config(shape, {"widths": [5]})
    stack = trained(own, data, (0, 1), dtype=torch.float64)
    order = torch.randperm(train, generator=torch.Generator().manual_seed(0))[: train // 8 * 8].view(-1, 8)
    mean, var = next(iter(precise_statistics(stack.network, data, own).values()))
    for run in range(2):
        net = single(stack, run, data)
        first = net[1][0] if len(shape) == 1 else net[0][0]
        with torch.no_grad():
            expected_mean, expected_var = naive_pooled([first(data.normalize(data.train.x[index]).double()) for index in order])
        torch.testing.assert_close(mean.unflatten(0, (2, -1))[run], expected_mean, rtol=1e-10, atol=1e-12)
        torch.testing.assert_close(var.unflatten(0, (2, -1))[run], expected_var, rtol=1e-10, atol=1e-12)


def test_precise_statistics_of_whole_batches_are_those_of_all_the_data(tiny: Tiny) -> None:
    """Pooling equal batches loses nothing, where running_var of batches of 2 is far too low: a map's pixels are not independent."""
    data = tiny(SHAPES["2d"], train=400)
    data.train.x.add_(3 * torch.randn(400, 1, 1, 1, generator=torch.Generator().manual_seed(0)))
    own = config(SHAPES["2d"], {"placement": "norm-conv-relu", "widths": [2], "bn_momentum": 0.01}, train={"batch_size": 2, "steps": 600})
    stack = trained(own, data, steps=600)
    x = data.normalize(data.train.x).double()
    population = x.var((0, 2, 3), correction=0)
    statistics = precise_statistics(stack.network, data, own)
    mean, var = statistics["block1.0"]
    torch.testing.assert_close(mean, x.mean((0, 2, 3)), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(var, population, rtol=1e-5, atol=1e-6)
    assert (stack.network.block1[0].running_var < 0.9 * population).all()


def test_precise_is_an_evaluation_with_the_precise_statistics(tiny: Tiny) -> None:
    data = tiny(SHAPES["2d"])
    stack = trained(config(SHAPES["2d"]), data, (0, 1))
    statistics = precise_statistics(stack.network, data, stack.config)
    assert list(statistics) == [f"block{block}.{index}" for block in (1, 2) for index in (1, 4)]
    expected = []
    for run in range(2):
        net = single(stack, run, data)
        for name, layer in norm_layers(net).items():
            for buffer, value in zip((layer.running_mean, layer.running_var), statistics[name], strict=True):
                assert buffer is not None
                buffer.copy_(value.unflatten(0, (2, -1))[run])
        expected.append(naive(net, data, data.test))
    agree(stack, data, data.test, "precise", expected)
    assert expected[0] != naive(single(stack, 0, data), data, data.test)


@pytest.mark.parametrize("kind", SHAPES)
def test_without_norm_the_three_coincide(tiny: Tiny, kind: str) -> None:
    data = tiny(SHAPES[kind])
    stack = trained(config(SHAPES[kind], {"norm": "none"}), data, (0, 1))
    running, precise, batch = (evaluate(stack.network, data, data.test, stack.config, stats) for stats in STATS)
    for other in (precise, batch):
        assert torch.equal(running.loss, other.loss)
        assert torch.equal(running.confusion, other.confusion)


@pytest.mark.parametrize("stats", STATS)
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("changes", [{}, {"data": {"augment": "crop_flip"}}, {"precision": "bf16"}], ids=["plain", "augmented", "bf16"])
def test_evaluation_changes_nothing(tiny: Tiny, stats: str, training: bool, changes: dict[str, Any]) -> None:
    data = tiny((2, 8, 8))
    stack = trained(config((2, 8, 8), **changes), data, (0, 1))
    net = stack.network.train(training)
    before = copy.deepcopy(net.state_dict())
    grads = [param.grad.clone() for param in net.parameters() if param.grad is not None]
    torch.manual_seed(7)
    generator = torch.get_rng_state()
    first = evaluate(net, data, data.test, stack.config, stats)
    assert torch.equal(torch.get_rng_state(), generator)
    after = net.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(tensor, before[name]) and tensor.dtype == before[name].dtype for name, tensor in after.items())
    assert len(grads) == len(list(net.parameters()))
    assert all(torch.equal(param.grad, grad) for param, grad in zip(net.parameters(), grads, strict=True))
    assert all(module.training is training for module in net.modules())
    again = evaluate(net, data, data.test, stack.config, stats)
    assert torch.equal(first.loss, again.loss)
    net.train()
    train_step(stack)  # inference mode leaves no tensor behind that autograd refuses


def test_an_evaluation_that_fails_changes_nothing_either(tiny: Tiny) -> None:
    data, other = tiny(SHAPES["2d"]), tiny((3, 8, 6))
    stack = trained(config(SHAPES["2d"]), data)
    before = copy.deepcopy(stack.network.state_dict())
    for stats in STATS:
        with pytest.raises(RuntimeError, match="channels"):
            evaluate(stack.network, other, other.test, stack.config, stats)
        assert stack.network.training
        after = stack.network.state_dict()
        assert list(after) == list(before)
        assert all(torch.equal(tensor, before[name]) for name, tensor in after.items())
    assert not any(module._forward_pre_hooks for module in stack.network.modules())


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("kind", SHAPES)
def test_folding_keeps_the_outputs(tiny: Tiny, kind: str, affine: bool) -> None:
    data = tiny(SHAPES[kind])
    own = config(SHAPES[kind], {"bn_affine": affine})
    net = single(trained(own, data), 0, data).float().train()
    before = copy.deepcopy(net.state_dict())
    folded = fold(net, own)
    assert all(module.training for module in net.modules())
    net.eval()
    assert not any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in folded.modules())
    x = data.normalize(data.test.x)
    with torch.no_grad():
        torch.testing.assert_close(folded(x), net(x), rtol=1e-4, atol=1e-4)
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())


@pytest.mark.parametrize("model", [{"placement": "norm-conv-relu"}, {"placement": "conv-relu-norm"}, {"norm": "none"}])
def test_folding_is_refused_where_it_would_be_wrong(model: dict[str, str]) -> None:
    own = config(SHAPES["2d"], model)
    key, value = next(iter(model.items()))
    with pytest.raises(UsageError, match=f"needs model.norm=batch and model.placement=conv-norm-relu; this run has .*model.{key}={value}"):
        fold(build(own.model, SHAPES["2d"], 3), own)


@pytest.mark.parametrize("kind", ["2d", "flat"])
def test_bf16_trains_and_evaluates_with_statistics_in_float32(tiny: Tiny, kind: str) -> None:
    data = tiny(SHAPES[kind])
    single_precision = trained(config(SHAPES[kind]), data, (0, 1))
    stack = trained(config(SHAPES[kind], precision="bf16"), data, (0, 1))
    state = stack.network.state_dict()
    assert {tensor.dtype for tensor in state.values() if tensor.dim() > 0} == {torch.float32}
    assert torch.stack(stack.losses).dtype == torch.float32
    torch.testing.assert_close(torch.stack(stack.losses), torch.stack(single_precision.losses), rtol=0.15, atol=0.05)
    assert not torch.equal(stack.losses[0], single_precision.losses[0])  # it is bf16 indeed
    for stats in STATS:
        scores, expected = (evaluate(one.network, data, data.test, one.config, stats) for one in (stack, single_precision))
        torch.testing.assert_close(scores.loss, expected.loss, rtol=0.2, atol=0.1)


def test_an_untrained_network_is_near_chance(tiny: Tiny) -> None:
    data = tiny((5,), classes=10, test=200)
    own = config((5,), {"widths": [4]})
    net = build(own.model, data.shape, 10, 2)
    init(net, own.model, [0, 1])
    with torch.no_grad():
        for param in net.head.parameters():
            param.zero_()
    scores = evaluate(net, data, data.test, own)
    assert scores.loss.tolist() == pytest.approx([2.302585093] * 2)  # ln 10


def test_the_training_accuracy_is_counted_on_all_classes_and_not_on_more_than_a_test_set_has() -> None:
    """The first 10,000 images of a folder would be those of its first classes."""
    n = 25_003
    split = Split(torch.arange(n).view(n, 1).float(), torch.arange(n) * 5 // n)
    data = Dataset("sorted", tuple("abcde"), split, split, split, torch.zeros(1), torch.ones(1))
    part = train_part(data)
    assert len(part) == TRAIN_IMAGES
    assert len(part.x.unique()) == TRAIN_IMAGES
    assert torch.equal(split.y[part.x.flatten().long()], part.y)
    assert all(abs(count - TRAIN_IMAGES / 5) <= 1 for count in part.y.bincount().tolist())
    few = Split(split.x[:TRAIN_IMAGES], split.y[:TRAIN_IMAGES])
    assert train_part(dataclasses.replace(data, train=few)) is few
