"""Batch noise: real train-mode batches against what PyTorch's batch norm stores, simulated images, and thousands of batches of digits."""

import copy
import itertools
import math
from typing import Any

import pytest
import torch
from support import Tiny
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from bnexp.config import Config, from_mapping
from bnexp.data import Dataset, Split, load
from bnexp.data.dataset import channel_statistics
from bnexp.evaluate import training_inputs
from bnexp.metrics import batch_law, batch_noise
from bnexp.metrics.network_copy import NetworkCopy
from bnexp.models import build, init, layer_map
from bnexp.training.stack import Stack, train_step

CPU = torch.device("cpu")
PLACEMENTS = ["conv-norm-relu", "norm-conv-relu", "conv-relu-norm"]


def config(**changes: Any) -> Config:
    return from_mapping({"model": {"widths": [4, 6], **changes.pop("model", {})}, "train": {"batch_size": 8, "steps": 50}, **changes})


def trained(own: Config, data: Dataset, steps: int) -> nn.Sequential:
    stack = Stack([own], data, CPU)
    for _ in range(steps):
        train_step(stack)
    return stack.network


def stored(network: nn.Sequential, own: Config, data: Dataset, count: int, seed: int) -> tuple[Tensor, Tensor]:
    """What PyTorch's batch norm stores of each batch with momentum 1, mean_[D, T] and unbiased variance_[D, T], in a copy."""
    network = copy.deepcopy(network).train()
    norms = [module for module in network.modules() if isinstance(module, _BatchNorm)]
    for norm in norms:
        norm.momentum = 1.0
    generator, means, variances = torch.Generator().manual_seed(seed), [], []
    for _ in range(count):
        index = torch.randperm(len(data.train), generator=generator)[: own.train.batch_size]
        with torch.no_grad():
            network(training_inputs(network, data, own, index, generator))
        means.append(torch.cat([norm.running_mean.clone() for norm in norms]))
        variances.append(torch.cat([norm.running_var.clone() for norm in norms]))
    return torch.stack(means), torch.stack(variances)


@pytest.mark.parametrize("augment", ["none", "crop_flip"])
@pytest.mark.parametrize("norm", ["batch", "noisy"])
@pytest.mark.parametrize("placement", PLACEMENTS)
def test_batches_have_the_statistics_that_batch_norm_stores(tiny: Tiny, placement: str, norm: str, augment: str) -> None:
    """Batch by batch, below other norms in train mode, whose noise is another in each batch."""
    data, own = tiny((2, 8, 8)), config(model={"placement": placement, "norm": norm}, data={"augment": augment})
    network = trained(own, data, 5)
    mean_DT, var_DT = stored(network, own, data, 6, seed=3)
    draws = batch_noise.draw(NetworkCopy(network, own), data, 8, 6, seed=3)
    n_T = 8 * draws.layout.pixels_T
    assert torch.allclose(draws.mean_DRT[:, 0], mean_DT, rtol=1e-4, atol=1e-5)
    assert torch.allclose(draws.var_DRT[:, 0] * n_T / (n_T - 1), var_DT, rtol=1e-4, atol=1e-6)
    assert mean_DT.std(0).min() > 1e-4  # the batches differ


def test_the_keys_are_moments_of_these_batches(tiny: Tiny) -> None:
    data, own = tiny((2, 8, 8)), config()
    network = trained(own, data, 20)
    found = batch_noise.measure(NetworkCopy(network, own), data, step=7)
    seed = batch_noise.derive(0, "batch noise", 7)
    mean_DT, unbiased_DT = (values.double() for values in stored(network, own, data, batch_noise.BATCHES, seed))
    pixels = {"block1.conv1": (0, 4, 64), "block1.conv2": (4, 8, 64), "block2.conv1": (8, 14, 16), "block2.conv2": (14, 20, 16)}
    for layer, (start, end, size) in pixels.items():
        n, channels = 8 * size, slice(start, end)
        variance, unbiased = mean_DT[:, channels].var(0), unbiased_DT[:, channels].mean(0)
        s2 = unbiased * (n - 1) / n + variance
        assert float(found[f"batch_stats/{layer}/batch_mean_variance"]) == pytest.approx(float((variance / s2).mean()), rel=1e-3)
        assert float(found[f"batch_stats/{layer}/effective_sample_size"]) == pytest.approx(1 / float((variance / s2).mean()), rel=1e-3)
        assert float(found[f"batch_stats/{layer}/running_var_bias"]) == pytest.approx(float((unbiased / s2).mean()), rel=1e-4)


def test_the_law_without_replacement_is_exact() -> None:
    means = torch.randn(7, generator=torch.Generator().manual_seed(0), dtype=torch.float64).exp()
    every = torch.tensor([means[list(batch)].mean() for batch in itertools.combinations(range(7), 3)], dtype=torch.float64)
    v = means.var(correction=0)
    assert float(batch_law.mean_variance(v, 3, 7)) == pytest.approx(float(every.var(correction=0)), rel=1e-12)
    assert float(batch_law.mean_variance(v, 7, 7)) == 0
    pairs = means[torch.cartesian_prod(torch.arange(7), torch.arange(7))].mean(1)
    assert float(batch_law.mean_variance(v, 2)) == pytest.approx(float(pairs.var(correction=0)), rel=1e-12)


def images(count: int, pixels: int, rho: float, channels: int) -> Dataset:
    """Images of `pixels` x `pixels` whose pixels correlate with rho; batch norm comes first and sees them as they are."""
    generator = torch.Generator().manual_seed(0)
    shared = torch.randn(count, channels, 1, 1, generator=generator)
    own = torch.randn(count, channels, pixels, pixels, generator=generator)
    x, y = 3 + 2 * (math.sqrt(rho) * shared + math.sqrt(1 - rho) * own), torch.arange(count) % 3
    part = Split(x, y)
    return Dataset("images", ("0", "1", "2"), part, part, part, *channel_statistics(x))


@pytest.mark.parametrize("size", [1, 8, 400])
@pytest.mark.parametrize("rho", [0.0, 0.3, 0.9])
def test_the_first_layer_follows_the_law_of_correlated_pixels(rho: float, size: int) -> None:
    """M_eff = B / (rho + (1 - rho) / P) (N - 1) / (N - B); 40 channels of 300 batches are good to 2 %."""
    data = images(800, 6, rho, 40)
    own = config(model={"widths": [4], "placement": "norm-conv-relu"}, train={"batch_size": size, "steps": 1})
    network = build(own.model, data.shape, 3)
    init(network, own.model, [0])
    draws = batch_noise.draw(NetworkCopy(network, own), data, size, 300, seed=0)
    first = draws.layout.index_T == 0
    share = float((draws.mean_DRT.var(0) / draws.s2_RT)[0, first].mean())
    law = (rho + (1 - rho) / 36) / size * (800 - size) / 799
    assert share == pytest.approx(law, rel=0.06)
    n = size * 36
    bias = float((n / (n - 1) * draws.var_DRT.mean(0) / draws.s2_RT)[0, first].mean())
    assert bias == pytest.approx(n / (n - 1) * (1 - law), abs=0.02)
    found = batch_noise.measure(NetworkCopy(network, own), data, 0)
    within = 0.4 if size == 1 else 0.06  # a batch of one image: 16 images make the law
    assert float(found["batch_stats/block1.conv1/batch_mean_variance_theory"]) == pytest.approx(law, rel=within)
    assert float(found["batch_stats/block1.conv1/effective_sample_size_theory"]) == pytest.approx(1 / law, rel=within)
    assert float(found["batch_stats/block1.conv1/running_var_bias_theory"]) == pytest.approx(n / (n - 1) * (1 - law), abs=0.05)
    assert not any("conv2" in key for key in found if key.endswith("_theory"))


def test_a_norm_without_batch_statistics_has_no_such_rows(tiny: Tiny) -> None:
    data, own = tiny((2, 6, 5)), config(model={"norm": "none"})
    assert batch_noise.measure(NetworkCopy(trained(own, data, 2), own), data, 0) == {}


def test_the_copy_stays_as_it_was(tiny: Tiny) -> None:
    for norm in ("batch", "noisy", "frozen"):
        data, own = tiny((2, 6, 5)), config(model={"norm": norm})
        network = trained(own, data, 4)
        twin = NetworkCopy(network, own)
        before = {name: tensor.clone() for name, tensor in twin.network.state_dict().items()}
        first = batch_noise.measure(twin, data, 4)
        assert all(torch.equal(tensor, before[name]) for name, tensor in twin.network.state_dict().items())
        twin.copy_from(network)
        second = batch_noise.measure(twin, data, 4)
        assert all(torch.equal(value, second[key]) for key, value in first.items())


@pytest.mark.slow
@pytest.mark.parametrize(("size", "steps"), [(4, 1200), (32, 400)])
def test_the_estimates_are_those_of_2000_real_batches(size: int, steps: int) -> None:
    """A trained digits network: 40 estimates of 16 batches scatter about what PyTorch's batch norm stores of 2,000 batches, where the law
    of independent images is several times off. The scatter is what `BATCHES` says."""
    own = from_mapping({"train": {"batch_size": size, "steps": steps}})
    data = load(own.data, CPU)
    network = trained(own, data, steps)
    mean_DT, unbiased_DT = (values.double() for values in stored(network, own, data, 2000, seed=0))
    twin = NetworkCopy(network, own)
    found = [batch_noise.measure(twin, data, step) for step in range(40)]
    parts, start = layer_map(network, own.model.placement), 0
    law = batch_noise.draw(twin, data, size, 200, seed=1)
    for place, layer in enumerate(parts.hidden):
        channels = slice(start, start + law.layout.channels[place])
        start, n = channels.stop, size * law.layout.pixels[place]
        variance, unbiased = mean_DT[:, channels].var(0), unbiased_DT[:, channels].mean(0)
        s2 = unbiased * (n - 1) / n + variance
        shares = torch.stack([values[f"batch_stats/{layer.name}/batch_mean_variance"] for values in found])
        biases = torch.stack([values[f"batch_stats/{layer.name}/running_var_bias"] for values in found])
        share = float((variance / s2).mean())
        assert float(shares.mean()) == pytest.approx(share, rel=0.15 if place == 0 else 0.1), layer.name
        assert float(shares.std()) < (0.5 if place == 0 else 0.3) * share, layer.name
        assert float(biases.mean()) == pytest.approx(float((unbiased / s2).mean()), abs=0.002), layer.name
        independent = float((batch_law.mean_variance(law.v_RT, size, len(data.train)) / law.s2_RT)[0, channels].mean())
        if place == 0:
            assert independent == pytest.approx(share, rel=0.15)
        elif layer.name == "block3.conv2":
            assert independent > 1.8 * share
            assert float((unbiased / s2).mean()) > 1  # the law says less than 1 at batch 32
