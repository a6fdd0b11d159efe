"""The metrics of one pass over the probe batch, each against a slow twin or a law."""

import copy
import dataclasses
import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import norm as normal
from scipy.stats import wasserstein_distance
from support import Tiny
from torch import Tensor, nn

from bnexp.config import Config, from_mapping
from bnexp.data import Dataset
from bnexp.evaluate import precise_statistics
from bnexp.metrics import against_precise, batch_law, batch_noise, batch_stats, drift, gradients, percentiles, relu_balance
from bnexp.metrics.network_copy import NetworkCopy
from bnexp.metrics.probe import QUANTILES, ProbePass, probe_pass, quantiles
from bnexp.models import build, init, layer_map, work_in_place
from bnexp.training.stack import Stack, train_step

CPU = torch.device("cpu")
PLACEMENTS = ["conv-norm-relu", "norm-conv-relu", "conv-relu-norm"]


def config(**changes: Any) -> Config:
    return from_mapping({"model": {"widths": [4, 6], **changes.pop("model", {})}, "train": {"batch_size": 8, "steps": 50}, **changes})


def stack_of(own: Config, data: Dataset, steps: int = 10) -> Stack:
    stack = Stack([own], data, CPU)
    for _ in range(steps):
        train_step(stack)
    return stack


def seen_by(stack: Stack, back: bool = False) -> ProbePass:
    twin = NetworkCopy(stack.network, stack.config)
    gradients_ = [stack.observer.layer_map.weight(layer).grad for layer in stack.observer.layer_map.layers]
    known = None if gradients_[0] is None else [gradient for gradient in gradients_ if gradient is not None]
    return probe_pass(
        *(twin, stack.observer.probe),
        step=stack.step,
        lr_R=stack.optimizer.lr,
        batch_size=stack.config.train.batch_size,
        batches=stack.step,
        step_gradients=known,
        back=back,
    )


def inputs_of(stack: Stack, kind: type[nn.Module]) -> list[np.ndarray[Any, Any]]:
    """What enters each module of a kind when the probe passes a copy in train mode, [C, N*P] each."""
    network, found = copy.deepcopy(stack.network).train(), []
    work_in_place(network, on=False)
    for module in network.modules():
        if isinstance(module, kind):
            module.register_forward_pre_hook(lambda module, args: found.append(args[0].detach().transpose(0, 1).flatten(1).numpy()))
    network(stack.observer.probe[0])
    return found


@pytest.mark.parametrize("placement", PLACEMENTS)
@pytest.mark.parametrize("norm", ["batch", "none"])
def test_percentiles_are_numpys(tiny: Tiny, placement: str, norm: str) -> None:
    stack = stack_of(config(model={"placement": placement, "norm": norm}, optim={"lr": 0.01}), tiny((2, 6, 5)))
    found = percentiles.measure(seen_by(stack))
    entering = inputs_of(stack, nn.ReLU)
    assert len(entering) == 4
    for layer, values in zip(("block1.conv1", "block1.conv2", "block2.conv1", "block2.conv2"), entering, strict=True):
        for percent in (15, 50, 85):
            expected = np.percentile(values.astype(np.float64), percent, axis=1)
            assert float(found[f"percentiles/{layer}/unit/p{percent}"]) == pytest.approx(expected[0], rel=1e-4, abs=1e-5)
            assert float(found[f"percentiles/{layer}/mean/p{percent}"]) == pytest.approx(expected.mean(), rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_histograms_are_of_what_the_norm_gets_and_gives(tiny: Tiny, placement: str) -> None:
    stack = stack_of(config(model={"placement": placement}), tiny((2, 6, 5)))
    found = percentiles.histograms(seen_by(stack))
    getting = inputs_of(stack, nn.BatchNorm2d)
    norms = [module for module in stack.network.modules() if isinstance(module, nn.BatchNorm2d)]
    assert len(found) == 2 * len(getting) == 8
    for layer, x, norm in zip(("block1.conv1", "block1.conv2", "block2.conv1", "block2.conv2"), getting, norms, strict=True):
        gamma, beta = (value.detach().numpy()[:, None] for value in (norm.weight, norm.bias))
        y = gamma * (x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + norm.eps) + beta
        for when, values in (("before", x), ("after", y)):
            low, high, *counts = found[f"percentiles/{layer}/histogram/{when}"][0].tolist()
            assert sum(counts) == min(values.size, percentiles.DRAWN)
            assert low >= values.min() - 1e-4
            assert high <= values.max() + 1e-4
            edges = np.linspace(low, high, len(counts) + 1)
            shares = np.histogram(values, edges)[0] / values.size
            assert np.abs(np.array(counts) / sum(counts) - shares).max() < (0.03 if values.size > percentiles.DRAWN else 0.002)


def test_histograms_without_a_norm_are_of_its_place_and_a_stack_draws_as_its_runs_do_alone(tiny: Tiny) -> None:
    data, own = tiny((2, 6, 5)), [config(model={"norm": "none"}, seed=seed) for seed in (0, 1)]
    together = percentiles.histograms(seen_by(Stack(own, data, CPU)))
    assert {key.rsplit("/", 1)[1] for key in together} == {"before"}
    for index, one in enumerate(own):
        alone = percentiles.histograms(seen_by(Stack([one], data, CPU)))
        for key, values in alone.items():
            assert values[0].tolist() == pytest.approx(together[key][index].tolist(), rel=1e-5, abs=1.0)


def test_a_value_that_is_not_finite_has_no_histogram(tiny: Tiny) -> None:
    stack = stack_of(config(model={"norm": "none"}), tiny((2, 6, 5)), steps=0)
    with torch.no_grad():
        stack.observer.layer_map.weight(stack.observer.layer_map.layers[1])[0] = torch.inf
    found = percentiles.histograms(seen_by(stack))
    assert found["percentiles/block1.conv1/histogram/before"].isfinite().all()
    assert found["percentiles/block1.conv2/histogram/before"].isnan().all()


def test_percentiles_of_a_sigmoid(tiny: Tiny) -> None:
    stack = stack_of(config(model={"name": "mlp", "widths": [5], "activation": "sigmoid"}), tiny((7,)))
    found = percentiles.measure(seen_by(stack))
    (values,) = inputs_of(stack, nn.Sigmoid)
    assert float(found["percentiles/layer1/unit/p85"]) == pytest.approx(np.percentile(values[0], 85), rel=1e-4)
    assert relu_balance.measure(seen_by(stack)) == {}


@pytest.mark.parametrize(("shape", "exact"), [((1, 4, 4), True), ((1, 2, 2), True), ((1, 5, 7), False)])
def test_drift_is_scipys_wasserstein(tiny: Tiny, shape: tuple[int, ...], exact: bool) -> None:
    """Exact with 256 values a channel, or a divisor of it: 16 images of 4x4, or of 2x2, pixels."""
    own = config(model={"widths": [5]}, metrics={"probe": 16})
    stack = Stack([own], tiny(shape), CPU)
    metric, before = drift.Drift(), {}
    for name in ("init", "last", "now"):
        found = metric.measure(seen_by(stack))
        before[name] = [values.astype(np.float64) for values in inputs_of(stack, nn.ReLU)]
        assert bool(found) == (name != "init")
        for _ in range(4):
            train_step(stack)
    for name in ("init", "last"):
        for layer, old, now, first in zip(("block1.conv1", "block1.conv2"), before[name], before["now"], before["init"], strict=True):
            std = first.std(1)
            w1 = [wasserstein_distance(a, b) for a, b in zip(old, now, strict=True)]
            tolerance = 1e-4 if exact else 0.03
            assert float(found[f"drift/{layer}/{name}/w1"]) == pytest.approx(np.mean(w1 / std), rel=tolerance)
            assert float(found[f"drift/{layer}/{name}/mean"]) == pytest.approx(np.mean(abs(now.mean(1) - old.mean(1)) / std), rel=1e-3)
            assert float(found[f"drift/{layer}/{name}/std"]) == pytest.approx(np.mean(abs(now.std(1) - old.std(1)) / std), rel=1e-3)
    assert metric.channels["drift/block1.conv1/init/w1"].shape == (1, 5)


def test_wasserstein_of_shifted_and_stretched_samples() -> None:
    x = torch.linspace(-1, 1, QUANTILES, dtype=torch.float64).expand(3, -1)
    assert drift.wasserstein(x, x + 0.25).tolist() == pytest.approx([0.25] * 3)
    assert drift.wasserstein(x, 3 * x).tolist() == pytest.approx([2 * float(x[0].abs().mean())] * 3)
    assert torch.equal(quantiles(x), x)


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_xhat_has_mean_0_and_the_variance_that_eps_leaves(tiny: Tiny, placement: str) -> None:
    """var(x-hat) = s2 / (s2 + eps), made visible by a large eps; undone are gamma and beta, which have moved from 1 and 0."""
    stack = stack_of(config(model={"placement": placement, "bn_eps": 0.5}), tiny((2, 6, 5)), steps=30)
    with torch.no_grad():
        next(module for module in stack.network.modules() if isinstance(module, nn.BatchNorm2d)).weight[0] = -0.7
    found = batch_stats.measure(seen_by(stack))
    for layer in ("block1.conv1", "block1.conv2", "block2.conv1", "block2.conv2"):
        assert float(found[f"batch_stats/{layer}/xhat_mean"]) < 1e-5
        variance, theory = (float(found[f"batch_stats/{layer}/{what}"]) for what in ("xhat_var", "xhat_var_theory"))
        assert variance == pytest.approx(theory, rel=1e-4)
        assert 0.05 < theory < 0.97


def test_a_dead_channel_brings_the_variance_of_xhat_below_1(tiny: Tiny) -> None:
    stack = stack_of(config(), tiny((2, 6, 5)), steps=5)
    with torch.no_grad():
        stack.network.block1[0].weight[1] = 0  # one of 4 channels: nothing but a constant comes out
    found = batch_stats.measure(seen_by(stack))
    assert float(found["batch_stats/block1.conv1/xhat_var"]) == pytest.approx(0.75, abs=0.01)
    found = batch_noise.measure(NetworkCopy(stack.network, stack.config), stack.batches.data, 0)
    assert float(found["batch_stats/block1.conv1/effective_sample_size"]) > 0  # of the others


def test_of_the_controls_only_what_holds_is_claimed(tiny: Tiny) -> None:
    """Under noise x-hat cannot be told from the noise; frozen statistics leave a variance of s2 / (running_var + eps)."""
    data = tiny((2, 6, 5))
    noisy = seen_by(stack_of(config(model={"norm": "noisy"}), data))
    assert not any("xhat" in key for key in batch_stats.measure(noisy))
    assert "batch_stats/ema_initial_weight" in batch_stats.measure(noisy)
    assert not any("predicted" in key for key in relu_balance.measure(noisy))
    stack = stack_of(config(model={"norm": "frozen", "bn_freeze_at": 3}, optim={"lr": 0.03}), data, steps=30)
    found = batch_stats.measure(seen_by(stack))
    for layer in ("block1.conv1", "block2.conv2"):
        variance, theory = (float(found[f"batch_stats/{layer}/{what}"]) for what in ("xhat_var", "xhat_var_theory"))
        assert variance == pytest.approx(theory, rel=1e-4)
        assert abs(theory - 1) > 0.01
        assert float(found[f"batch_stats/{layer}/xhat_mean"]) > 0.01


def test_a_batch_of_one_has_no_outlier(tiny: Tiny) -> None:
    own = config(model={"name": "mlp", "norm": "none"}, train={"batch_size": 1, "steps": 5})
    found = batch_stats.measure(seen_by(stack_of(own, tiny((7,)), steps=2)))
    assert not any("outlier" in key for key in found)
    assert all(value.isfinite().all() for value in found.values())


def correlated(images: int, pixels: int, rho: float, channels: int = 40, seed: int = 0) -> Tensor:
    """x_[images, channels, pixels] of variance 4 about 3; two pixels of an image have the correlation rho."""
    generator = torch.Generator().manual_seed(seed)
    shared = torch.randn(images, channels, 1, generator=generator, dtype=torch.float64)
    own = torch.randn(images, channels, pixels, generator=generator, dtype=torch.float64)
    return 3 + 2 * (math.sqrt(rho) * shared + math.sqrt(1 - rho) * own)


@pytest.mark.parametrize(("batch", "ratio"), [(1, 0.70), (2, 0.85), (8, 0.96)])
def test_running_var_is_biased_as_the_law_says(batch: int, ratio: float) -> None:
    """PyTorch's own running_var, averaged over 4,000 batches of images whose 64 pixels correlate with 0.3."""
    s2, v, pixels = torch.tensor(4.0), torch.tensor(4 * (0.3 + 0.7 / 64)), torch.tensor(64)
    law = float(batch_law.running_var_bias(batch_law.mean_variance(v, batch) / s2, batch, pixels))
    assert law == pytest.approx(ratio, abs=0.01)
    layer = nn.BatchNorm1d(40, momentum=None).double()  # None: a plain average
    for seed in range(10):
        for x in correlated(400 * batch, 64, 0.3, seed=seed).split(batch):
            layer(x)
    assert float(layer.running_var.mean()) / 4 == pytest.approx(law, abs=0.006)
    assert float(batch_law.correlation(s2, v, pixels)) == pytest.approx(0.3)


def test_the_outlier_is_that_of_leaving_out_each_image(tiny: Tiny) -> None:
    stack = stack_of(config(model={"widths": [40]}), tiny((1, 6, 6)))
    x = correlated(2000, 36, 0.3).unflatten(2, (6, 6))
    found = batch_stats.measure(dataclasses.replace(seen_by(stack), sites=[x, x]))
    groups = x.mean((2, 3)).unflatten(0, (250, 8))
    naive = []
    for group in groups:
        without = torch.stack([torch.cat([group[:i], group[i + 1 :]]).mean(0) for i in range(8)])
        naive.append((without - group.mean(0)).abs().amax(0) / x.transpose(0, 1).flatten(1).std(1, correction=0))
    assert float(found["batch_stats/block1.conv1/outlier_sensitivity"]) == pytest.approx(float(torch.stack(naive).mean()), rel=1e-3)


def test_the_initial_statistics_weigh_what_the_formula_says(tiny: Tiny) -> None:
    """On data that are always the same, the running mean is (1 - weight) times theirs."""
    own = config(model={"bn_momentum": 0.2})
    stack = stack_of(own, tiny((2, 6, 5)), steps=7)
    weight = float(batch_stats.measure(seen_by(stack))["batch_stats/ema_initial_weight"])
    assert weight == pytest.approx(0.8**7, rel=1e-6)
    layer = nn.BatchNorm1d(1, momentum=0.2)
    for _ in range(7):
        layer(torch.tensor([[4.0], [6.0]]))
    assert float(layer.running_mean) == pytest.approx((1 - weight) * 5, rel=1e-6)
    assert float(layer.running_var) == pytest.approx(weight * 1 + (1 - weight) * 2, rel=1e-6)


def test_running_against_precise_statistics(tiny: Tiny) -> None:
    """Precise ones in float64 over all training data, by a copy in train mode that keeps each batch's moments."""
    data, own = tiny((2, 6, 5), train=40), config()
    stack = stack_of(own, data, steps=30)
    found = against_precise(stack.network, own.model.placement, precise_statistics(stack.network, data, own))
    copied = copy.deepcopy(stack.network).double().train()
    seen: dict[str, list[Tensor]] = {}
    for name, module in copied.named_modules():
        if isinstance(module, nn.BatchNorm2d):
            module.register_forward_pre_hook(lambda module, args, name=name: seen.setdefault(name, []).append(args[0].detach()))
    order = torch.randperm(len(data.train), generator=torch.Generator().manual_seed(0))
    for index in order.split(8):
        copied(data.normalize(data.train.x[index]).double())
    names = {"block1.1": "block1.conv1", "block1.4": "block1.conv2", "block2.1": "block2.conv1", "block2.4": "block2.conv2"}
    for name, layer in names.items():
        means = torch.stack([x.mean((0, 2, 3)) for x in seen[name]])
        variances = torch.stack([x.var((0, 2, 3), correction=0) for x in seen[name]])
        mean = means.mean(0)
        var = (means.square() + variances).mean(0) - mean.square()
        norm = stack.network.get_submodule(name)
        offset, ratio = ((norm.running_mean - mean).abs() / var.sqrt()).mean(), (norm.running_var / var).mean()
        assert float(found[f"batch_stats/{layer}/running_mean_offset"]) == pytest.approx(float(offset), rel=1e-3)
        assert float(found[f"batch_stats/{layer}/running_var_ratio"]) == pytest.approx(float(ratio), rel=1e-3)


def test_the_positive_share_of_gaussians_is_phi(tiny: Tiny) -> None:
    """A linear layer of Gaussian inputs gives Gaussian x-hats: P(y > 0) = Phi(beta / |gamma|), whatever the sign of gamma."""
    own = config(model={"name": "mlp", "widths": [50]}, metrics={"probe": 20_000}, train={"batch_size": 8, "steps": 5})
    data = tiny((6,), train=23_000, classes=2)
    data.train.x.normal_(generator=torch.Generator().manual_seed(1))
    stack = Stack([own], data, CPU)
    norm, generator = stack.network.layer1[1], torch.Generator().manual_seed(2)
    with torch.no_grad():
        norm.weight.copy_(2 * torch.randn(50, generator=generator))
        norm.bias.copy_(torch.randn(50, generator=generator))
    seen = seen_by(stack)
    found = relu_balance.measure(seen)
    gamma, beta = norm.weight.detach().numpy(), norm.bias.detach().numpy()
    expected = normal.cdf(beta / abs(gamma))
    assert relu_balance.predicted(seen)[0].tolist() == pytest.approx(expected.tolist(), abs=1e-5)  # type: ignore[index]
    assert relu_balance.positive_shares(seen)[0].tolist() == pytest.approx(expected.tolist(), abs=0.015)  # 4 sigma of 20,000 draws
    assert float(found["relu_balance/layer1/error"]) < 0.005
    assert float(found["relu_balance/layer1/predicted"]) == pytest.approx(expected.mean(), abs=1e-5)
    assert float(found["relu_balance/layer1/dead"]) == pytest.approx((expected < 1e-6).mean(), abs=0.03)


def test_positive_shares_and_dead_channels_are_counted(tiny: Tiny) -> None:
    stack = stack_of(config(model={"norm": "none"}, optim={"lr": 0.01}), tiny((2, 6, 5)))
    with torch.no_grad():
        stack.network.block1[0].bias[2] = -1e3
    found = relu_balance.measure(seen_by(stack))
    values = inputs_of(stack, nn.ReLU)[0]
    assert float(found["relu_balance/block1.conv1/positive"]) == pytest.approx((values > 0).mean(), abs=1e-6)
    assert float(found["relu_balance/block1.conv1/dead"]) == 0.25
    assert "relu_balance/block1.conv1/predicted" not in found


def test_without_gamma_and_beta_half_are_predicted(tiny: Tiny) -> None:
    stack = stack_of(config(model={"bn_affine": False}), tiny((2, 6, 5)))
    found = relu_balance.measure(seen_by(stack))
    assert float(found["relu_balance/block1.conv1/predicted"]) == 0.5
    assert float(batch_stats.measure(seen_by(stack))["batch_stats/block1.conv1/xhat_var"]) == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("optim", [{"lr": 0.1}, {"lr": 0.1, "weight_decay": 0.5, "nesterov": True}, {"name": "adam", "weight_decay": 0.5}])
def test_gradient_and_weight_norms(tiny: Tiny, optim: dict[str, Any]) -> None:
    """Of the loss alone on the last step's batch, whatever the optimizer adds to it."""
    data, own = tiny((2, 6, 5)), config(optim=optim)
    stack = stack_of(own, data, steps=4)
    before = copy.deepcopy(stack.network)
    train_step(stack)
    found = gradients.measure(seen_by(stack))
    x, y_RB = stack.batches[stack.step - 1]
    nn.functional.cross_entropy(before.train()(x), y_RB[0]).backward()
    for layer, (old, new) in {"block1.conv1": ("block1.0", "block1.0"), "head": ("head", "head")}.items():
        gradient = before.get_submodule(old).weight.grad
        weight = stack.network.get_submodule(new).weight.detach()
        assert float(found[f"gradients/{layer}/gradient_norm"]) == pytest.approx(float(gradient.norm()), rel=1e-4)
        assert float(found[f"gradients/{layer}/weight_norm"]) == pytest.approx(float(weight.norm()), rel=1e-5)
        effective = float(stack.optimizer.lr) / float(weight.norm()) ** 2
        assert float(found[f"gradients/{layer}/effective_lr"]) == pytest.approx(effective, rel=1e-4)


def test_the_gradient_grows_by_the_mean_field_law() -> None:
    """pi / (pi - 1) = 1.467 a layer going backward, in wide fully connected layers with batch norm and ReLU (Yang et al. 2019)."""
    own = from_mapping({"model": {"name": "mlp", "widths": [1000] * 8}, "train": {"steps": 5}})
    network = build(own.model, (50,), 10)
    init(network, own.model, [0])
    generator = torch.Generator().manual_seed(0)
    probe = torch.randn(512, 50, generator=generator), torch.randint(10, (1, 512), generator=generator)
    seen = probe_pass(
        *(NetworkCopy(network, own), probe), step=0, lr_R=torch.tensor([0.1]), batch_size=32, batches=0, step_gradients=None, back=True
    )
    growth = gradients.measure(seen)
    interior = [float(growth[f"gradients/layer{layer}/growth"]) for layer in range(2, 6)]
    assert np.exp(np.mean(np.log(interior))) == pytest.approx(math.pi / (math.pi - 1), rel=0.05)
    assert "gradients/layer8/growth" not in growth


def test_growth_is_the_ratio_of_squared_gradients(tiny: Tiny) -> None:
    stack = Stack([config()], tiny((2, 6, 5)), CPU)
    found = gradients.measure(seen_by(stack, back=True))
    network, kept = copy.deepcopy(stack.network).train(), []
    work_in_place(network, on=False)
    for module in network.modules():
        if isinstance(module, nn.ReLU):
            module.register_forward_pre_hook(lambda module, args: (args[0].retain_grad(), kept.append(args[0]))[0])
    x, y_RN = stack.observer.probe
    nn.functional.cross_entropy(network(x), y_RN[0]).backward()
    squares = [float(a.grad.double().square().sum()) for a in kept]
    assert float(found["gradients/block1.conv2/growth"]) == pytest.approx(squares[1] / squares[2], rel=1e-4)


@pytest.mark.parametrize("placement", PLACEMENTS)
@pytest.mark.parametrize("norm", ["batch", "none"])
@pytest.mark.parametrize("model", [{"widths": [4, 6]}, {"name": "mlp", "widths": [5, 4]}])
def test_layers_have_the_same_names_and_sites_in_every_arm(placement: str, norm: str, model: dict[str, Any]) -> None:
    own = from_mapping({"model": {**model, "norm": norm, "placement": placement}})
    network = build(own.model, (1, 8, 8), 3)
    parts = layer_map(network, placement)
    blocks = ["block1.conv1", "block1.conv2", "block2.conv1", "block2.conv2"]
    assert [layer.name for layer in parts.layers] == [*(blocks if "name" not in model else ["layer1", "layer2"]), "head"]
    assert len(parts.chain) == len(parts.names)
    x = torch.randn(3, 1, 8, 8)
    y = x
    for name, module in zip(parts.names, parts.chain, strict=True):
        assert network.get_submodule(name) is module
        y = module(y)
    network.eval()
    for layer in parts.hidden:
        assert isinstance(parts.chain[layer.activation], nn.ReLU)  # type: ignore[index]
        assert (layer.norm is None) == (norm == "none")
        if layer.norm is not None:
            assert layer.site == layer.norm  # where there is a norm, its input is what is measured
