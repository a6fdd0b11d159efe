"""The metrics of a training step: covariate shift, landscape, sharpness, noise scale, each against a slow twin or an exact answer."""

import copy
import dataclasses
from collections import OrderedDict
from typing import Any

import pytest
import torch
from support import Tiny
from torch import Tensor, nn
from torch.nn import functional as F

from bnexp.config import Config, from_mapping
from bnexp.data import Dataset
from bnexp.metrics import ics, landscape, noise_scale, sharpness
from bnexp.metrics.network_copy import NetworkCopy, Sample
from bnexp.models import layer_map
from bnexp.models.blocks import Linear
from bnexp.training.stack import Stack, train_step

CPU = torch.device("cpu")


def config(**changes: Any) -> Config:
    model = {"widths": [4, 6], **changes.pop("model", {})}
    return from_mapping({"model": model, "train": {"batch_size": 8, "steps": 50}, "optim": {"lr": 0.1, "momentum": 0.9}, **changes})


def step(stack: Stack) -> tuple[Sample, nn.Sequential]:
    """One training step as a sample, and a copy of the network before it."""
    old = copy.deepcopy(stack.network)
    before, after = NetworkCopy(stack.network, stack.config), NetworkCopy(stack.network, stack.config)
    train_step(stack)
    after.copy_weights_from(stack.network)
    x, y_RB = stack.batches[stack.step - 1]
    probe = stack.observer.probe
    return Sample(stack.step, before, after, x, y_RB, stack.optimizer.lr, probe, probe), old


def slow_ics(old: nn.Sequential, new: nn.Sequential, placement: str, x: Tensor, y: Tensor) -> dict[str, tuple[float, float, float]]:
    """Definition 2.1 by hand: a copy of the whole network for each layer, with the layers before it swapped for the new ones."""

    def gradient(network: nn.Sequential, name: str) -> Tensor:
        network = network.train()
        network.zero_grad()
        F.cross_entropy(network(x), y).backward()
        return network.get_submodule(name).weight.grad.flatten().double()  # type: ignore[union-attr, operator]

    parts, found = layer_map(old, placement), {}
    for layer in parts.layers[1:]:
        mixed = copy.deepcopy(old)
        for place in range(layer.start):
            mixed.get_submodule(parts.names[place]).load_state_dict(new.get_submodule(parts.names[place]).state_dict())
        g = gradient(copy.deepcopy(old), parts.names[layer.weighted])
        shifted = gradient(mixed, parts.names[layer.weighted])
        l2 = float((g - shifted).norm())
        found[layer.name] = (l2, l2 / float(g.norm()), float(F.cosine_similarity(g, shifted, dim=0)))
    return found


@pytest.mark.parametrize("placement", ["conv-norm-relu", "norm-conv-relu", "conv-relu-norm"])
@pytest.mark.parametrize("norm", ["batch", "none"])
@pytest.mark.parametrize("shape", [(2, 6, 5), (2, 9), (5,)])
def test_ics_is_the_definition(tiny: Tiny, shape: tuple[int, ...], norm: str, placement: str) -> None:
    model = {"norm": norm, "placement": placement, **({"name": "mlp"} if len(shape) == 1 else {})}
    stack = Stack([config(model=model, optim={"lr": 0.05, "momentum": 0.9})], tiny(shape), CPU, torch.float64)
    for _ in range(5):  # momentum has built up: the step is not along the gradient
        train_step(stack)
    sample, old = step(stack)
    found = ics.measure(sample)
    expected = slow_ics(old, stack.network, placement, sample.x, sample.y_RB[0])
    assert {key.split("/")[1] for key in found} == set(expected)
    for layer, (l2, relative, cosine) in expected.items():
        assert l2 > 1e-6  # something has shifted
        assert float(found[f"ics/{layer}/l2"]) == pytest.approx(l2, rel=1e-6)
        assert float(found[f"ics/{layer}/relative_l2"]) == pytest.approx(relative, rel=1e-6)
        assert float(found[f"ics/{layer}/cosine"]) == pytest.approx(cosine, abs=1e-8)


@pytest.mark.parametrize("norm", ["noisy", "frozen"])
def test_the_gradient_of_a_sample_is_that_of_the_step(tiny: Tiny, norm: str) -> None:
    """The copies draw the noise that the step drew, and are frozen when the network is."""
    stack = Stack([config(model={"norm": norm, "bn_freeze_at": 3 if norm == "frozen" else None})], tiny((2, 6, 5)), CPU, torch.float64)
    for _ in range(5):
        sample, _ = step(stack)
        losses_R, gradients = sample.own
        assert torch.equal(losses_R, stack.losses[-1])
        for param, gradient in zip(stack.network.parameters(), gradients, strict=True):
            torch.testing.assert_close(param.grad, gradient, rtol=1e-12, atol=1e-14)


class Quadratic:
    """L(theta) = theta' A theta / 2, with what the landscape asks of a twin: its Hessian is A, its smoothness known."""

    runs = 2

    def __init__(self, a_RDD: Tensor, theta_RD: Tensor) -> None:
        self.a_RDD, self.params = a_RDD, [theta_RD.flatten()]
        self.views = [self.params[0].view(theta_RD.shape)]

    def gradient(self, x: Tensor, y_RB: Tensor) -> tuple[Tensor, list[Tensor]]:
        theta = self.views[0]
        there = torch.einsum("rde,re->rd", self.a_RDD, theta)
        return (theta * there).sum(1) / 2, [there.flatten()]

    def sample(self, lr_R: Tensor) -> Any:
        empty = torch.empty(0)

        class Step:
            before, x, y_RB, runs = self, empty, empty, 2
            own = self.gradient(empty, empty)

        Step.lr_R = lr_R  # type: ignore[attr-defined]
        return Step


def test_the_landscape_of_a_quadratic_is_exact() -> None:
    """grad L(theta - s g) - g = -s A g: smoothness ||A g|| / ||g||, predictiveness s ||A g||, and a parabola of losses."""
    generator = torch.Generator().manual_seed(0)
    root = torch.randn(2, 5, 5, generator=generator, dtype=torch.float64)
    a_RDD = root @ root.transpose(1, 2)
    theta = torch.randn(2, 5, generator=generator, dtype=torch.float64)
    lr_R = torch.tensor([0.01, 0.3], dtype=torch.float64)
    quadratic = Quadratic(a_RDD, theta.clone())
    found = landscape.measure(quadratic.sample(lr_R))
    assert torch.equal(quadratic.views[0], theta)  # put back
    for run in range(2):
        a, origin = a_RDD[run], theta[run]
        g = a @ origin
        losses = [float((origin - c * lr_R[run] * g) @ a @ (origin - c * lr_R[run] * g)) / 2 for c in landscape.STEPS]
        bend = float((a @ g).norm())
        assert float(found["landscape/smoothness"][run]) == pytest.approx(bend / float(g.norm()))
        assert float(found["landscape/smoothness"][run]) <= float(torch.linalg.eigvalsh(a)[-1]) * (1 + 1e-12)
        assert float(found["landscape/predictiveness_min"][run]) == pytest.approx(0.5 * float(lr_R[run]) * bend)
        assert float(found["landscape/predictiveness_max"][run]) == pytest.approx(4 * float(lr_R[run]) * bend)
        assert float(found["landscape/loss_min"][run]) == pytest.approx(min(losses))
        assert float(found["landscape/loss_max"][run]) == pytest.approx(max(losses))
        assert float(found["landscape/loss_range"][run]) == pytest.approx(max(losses) - min(losses))
    assert landscape.STEPS[0] == 0.5
    assert landscape.STEPS[-1] == 4


def test_the_landscape_of_a_network_is_that_of_copies(tiny: Tiny) -> None:
    stack = Stack([config()], tiny((2, 6, 5)), CPU, torch.float64)
    for _ in range(3):
        train_step(stack)
    sample, old = step(stack)
    found = landscape.measure(sample)

    def at(network: nn.Sequential) -> tuple[float, Tensor]:
        network = network.train()
        network.zero_grad()
        loss = F.cross_entropy(network(sample.x), sample.y_RB[0])
        loss.backward()
        return float(loss.detach()), torch.cat([param.grad.flatten() for param in network.parameters()])  # type: ignore[union-attr]

    _, g = at(copy.deepcopy(old))
    losses, smoothness = [], []
    for c in landscape.STEPS:
        size, moved = c * float(sample.lr_R), copy.deepcopy(old)
        offset = 0
        with torch.no_grad():
            for param in moved.parameters():
                param -= size * g[offset : offset + param.numel()].view(param.shape)
                offset += param.numel()
        loss, there = at(moved)
        losses.append(loss)
        smoothness.append(float((there - g).norm() / (size * g.norm())))
    assert float(found["landscape/loss_range"]) == pytest.approx(max(losses) - min(losses), rel=1e-8)
    assert float(found["landscape/smoothness"]) == pytest.approx(max(smoothness), rel=1e-8)


def linear_model(features: int = 6, classes: int = 4, images: int = 30) -> tuple[NetworkCopy, Tensor, Tensor, Tensor]:
    """A softmax regression without norm, its data, and its Hessian from autograd, [D, D]."""
    generator = torch.Generator().manual_seed(0)
    network = nn.Sequential(OrderedDict(head=Linear(1, features, classes))).double()
    x = torch.randn(images, features, generator=generator, dtype=torch.float64)
    y = torch.randint(classes, (1, images), generator=generator)
    with torch.no_grad():
        for param in network.parameters():
            param.copy_(torch.randn(param.shape, generator=generator, dtype=torch.float64))
    shapes = [param.shape for param in network.parameters()]

    def loss(theta: Tensor) -> Tensor:
        weight, bias = theta.split([shapes[0].numel(), shapes[1].numel()])
        return F.cross_entropy(F.linear(x, weight.view(shapes[0]), bias), y[0])

    theta = torch.cat([param.detach().flatten() for param in network.parameters()])
    return NetworkCopy(network, Config().replace(**{"model.norm": "none"})), x, y, torch.autograd.functional.hessian(loss, theta)


def test_sharpness_and_smoothness_of_a_linear_model_against_eigvalsh() -> None:
    twin, x, y, hessian = linear_model()
    values = torch.linalg.eigvalsh(hessian)
    product = sharpness.hessian(twin, x, y, training=True)
    assert float(sharpness.lambda_max(product, sharpness.start(twin), iterations=28, tolerance=0)) == pytest.approx(
        float(values[-1]), rel=1e-9
    )
    assert float(sharpness.lambda_max(product, sharpness.start(twin))) == pytest.approx(float(values[-1]), rel=0.02)
    _, gradient = twin.gradient(x, y)
    lr = 1e-6 * torch.ones(1, dtype=torch.float64)
    _, distances = landscape.along(twin, x, y, gradient, [lr])
    g = torch.cat([part.flatten() for part in gradient])
    smoothness = float(distances[0]) / (1e-6 * float(g.norm()))
    assert smoothness == pytest.approx(float((hessian @ g).norm() / g.norm()), rel=1e-4)
    assert smoothness <= float(values[-1]) * (1 + 1e-4)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("norm", ["batch", "none"])
def test_sharpness_of_a_network_in_both_modes_against_eigvalsh(tiny: Tiny, norm: str, training: bool) -> None:
    """The whole Hessian, from autograd, of a small network with batch norm in train mode and in eval mode: two functions."""
    stack = Stack([config(model={"name": "mlp", "widths": [4], "norm": norm})], tiny((3,)), CPU, torch.float64)
    for _ in range(6):
        train_step(stack)
    network = copy.deepcopy(stack.network).train(training)
    x, y_RN = stack.observer.probe
    names, params = zip(*((name, param.detach()) for name, param in network.named_parameters()), strict=True)
    buffers = dict(network.named_buffers())

    def loss(theta: Tensor) -> Tensor:
        parts = theta.split([param.numel() for param in params])
        state = {name: part.view(param.shape) for name, part, param in zip(names, parts, params, strict=True)}
        kept = {name: buffer.clone() for name, buffer in buffers.items()}
        return F.cross_entropy(torch.func.functional_call(network, {**state, **kept}, (x,)), y_RN[0])

    exact = torch.linalg.eigvalsh(torch.autograd.functional.hessian(loss, torch.cat([param.flatten() for param in params])))
    twin = NetworkCopy(stack.network, stack.config)
    found = sharpness.lambda_max(sharpness.hessian(twin, x, y_RN, training=training), sharpness.start(twin), iterations=60, tolerance=0)
    assert float(found) == pytest.approx(float(exact[-1]), rel=1e-6)
    assert float(exact[0]) < 0 or norm == "none"  # not convex: the largest is not simply the one of largest size


def test_the_largest_eigenvalue_is_found_beside_a_more_negative_one() -> None:
    matrix = torch.diag(torch.tensor([-9.0, -4.0, 2.0, 1.0, 0.5], dtype=torch.float64))
    start = torch.ones(1, 5, dtype=torch.float64)
    assert float(sharpness.lambda_max(lambda v: v @ matrix, start, tolerance=0)) == pytest.approx(2)
    down = -torch.eye(3, dtype=torch.float64)
    assert float(sharpness.lambda_max(lambda v: v @ down, torch.ones(1, 3, dtype=torch.float64), tolerance=0)) == pytest.approx(-1)


def test_sharpness_is_measured_against_the_edge(tiny: Tiny) -> None:
    stack = Stack([config(), config(optim={"lr": 0.4, "momentum": 0.9})], tiny((2, 6, 5)), CPU)
    for _ in range(3):
        train_step(stack)
    sample, _ = step(stack)
    found = sharpness.measure(sample)
    for mode in ("train", "eval"):
        assert found[f"sharpness/{mode}/over_edge"].tolist() == pytest.approx(
            (found[f"sharpness/{mode}/lambda_max"] * sample.lr_R / 2).tolist()
        )
    assert found["sharpness/train/lambda_max"].tolist() != found["sharpness/eval/lambda_max"].tolist()


def test_the_noise_scale_is_unbiased() -> None:
    """On a linear model without norm, where per-example gradients exist: |G|^2 and tr(Sigma), as means over many draws of groups."""
    twin, x, y, _ = linear_model(images=400)
    per_example = []
    for i in range(len(x)):
        per_example.append(torch.cat([part.flatten() for part in twin.gradient(x[i : i + 1], y[:, i : i + 1])[1]]))
    gradients = torch.stack(per_example)
    signal, trace = float(gradients.mean(0).square().sum()), float(gradients.var(0, correction=0).sum())
    generator, found = torch.Generator().manual_seed(1), []
    for _ in range(1500):
        index = torch.randint(len(x), (32,), generator=generator)
        found.append(torch.stack(noise_scale.two_sizes(twin, x[index], y[:, index], ghost=4, groups=8)).flatten())
    mean, error = torch.stack(found).mean(0), torch.stack(found).std(0) / 1500**0.5
    assert abs(float(mean[0]) - signal) < 4 * float(error[0])
    assert abs(float(mean[1]) - trace) < 4 * float(error[1])
    assert float(error[1]) < 0.05 * trace  # the test can tell


def test_ghost_groups_are_normalized_by_themselves(tiny: Tiny) -> None:
    stack = Stack([config()], tiny((2, 6, 5), train=80), CPU, torch.float64)
    sample, old = step(stack)
    x, y_RN = sample.fresh
    found = noise_scale.measure(sample)
    groups = []
    for start in range(0, 64, 8):  # the training batch has 8 images, so has a ghost group
        network = copy.deepcopy(old).train()
        F.cross_entropy(network(x[start : start + 8]), y_RN[0, start : start + 8]).backward()
        groups.append(torch.cat([param.grad.flatten() for param in network.parameters()]))  # type: ignore[union-attr]
    small, large = float(torch.stack(groups).square().sum(1).mean()), float(torch.stack(groups).mean(0).square().sum())
    assert float(found["noise_scale/gradient"]) == pytest.approx((64 * large - 8 * small) / 56, rel=1e-8)
    assert float(found["noise_scale/trace"]) == pytest.approx((small - large) / (1 / 8 - 1 / 64), rel=1e-8)
    assert float(found["noise_scale/simple"]) == pytest.approx(float(found["noise_scale/trace"] / found["noise_scale/gradient"]))


def test_no_two_groups_no_noise_scale(tiny: Tiny) -> None:
    data: Dataset = tiny((2, 6, 5))
    stack = Stack([config(metrics={"probe": 2, "noise_scale": True}, model={"norm": "none"})], data, CPU)
    sample, _ = step(stack)
    assert noise_scale.measure(sample) == {}  # a group of one image is none where the batch has eight: batch norm could not take it
    four = dataclasses.replace(sample, fresh=(sample.x[:4], sample.y_RB[:, :4]))
    assert noise_scale.measure(four).keys() == {"noise_scale/gradient", "noise_scale/trace", "noise_scale/simple"}
    flat = Stack([config(metrics={"probe": 3, "noise_scale": True}, model={"name": "mlp"})], tiny((5,)), CPU)
    assert noise_scale.measure(step(flat)[0]) == {}


def test_steps_below_rounding_have_no_smoothness() -> None:
    """At the end of an annealed run theta - s g is theta in float32; the ratio of two rounding errors is no smoothness."""
    quadratic = Quadratic(torch.eye(5).expand(2, -1, -1), torch.ones(2, 5))
    found = landscape.measure(quadratic.sample(torch.tensor([1e-9, 0.1])))
    assert found["landscape/smoothness"][0].isnan()
    assert float(found["landscape/smoothness"][1]) == pytest.approx(1, rel=1e-5)


@pytest.mark.parametrize("norm", ["batch", "noisy", "frozen"])
def test_a_pass_changes_nothing_of_the_copy_either(tiny: Tiny, norm: str) -> None:
    """Else an eval-mode measurement would depend on which train-mode passes came before it, and noise would differ from pass to pass."""
    stack = Stack([config(model={"norm": norm})], tiny((2, 6, 5)), CPU)
    for _ in range(3):
        train_step(stack)
    twin = NetworkCopy(stack.network, stack.config)
    kept = {name: buffer.clone() for name, buffer in twin.network.named_buffers()}
    x, y_RN = stack.observer.probe
    first, again = twin.losses(x, y_RN), twin.losses(x, y_RN)
    assert torch.equal(first, again)
    assert all(torch.equal(buffer, kept[name]) for name, buffer in twin.network.named_buffers())
    assert not torch.equal(twin.losses(x, y_RN, training=False), first)  # the running statistics are there, and are used
