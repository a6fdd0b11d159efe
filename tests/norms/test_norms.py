"""The network's norm layers against batch norm written out by hand."""

import copy
import dataclasses
import math
import pickle

import pytest
import torch
from support import some
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from bnexp.config import ModelConfig
from bnexp.models.blocks import make_norm
from bnexp.norms import NO_NORM, NORMS
from bnexp.norms.modules import CountedBatchNorm, set_up_norms

MAPS = {0: (), 1: (7,), 2: (5, 4), 3: (3, 2, 4)}
CHANNELS, BATCH, EPS, MOMENTUM = 3, 6, 1e-3, 0.3
CONFIG = ModelConfig(bn_eps=EPS, bn_momentum=MOMENTUM)


class HandWritten:
    """Ioffe and Szegedy 2015, section 3, https://arxiv.org/abs/1502.03167: Alg. 1, its gradients by the chain rule, Alg. 2's inference.

    Shapes: x_[B, C, *map]; a channel's sums run over the m = B * prod(map) values of batch and map.
    """

    def __init__(self, gamma: Tensor, beta: Tensor) -> None:
        self.gamma, self.beta = gamma, beta
        self.running_mean, self.running_var = torch.zeros_like(gamma), torch.ones_like(gamma)

    def sums(self, x: Tensor) -> Tensor:
        return x.sum([0, *range(2, x.dim())])

    def wide(self, x: Tensor, per_channel: Tensor) -> Tensor:
        return per_channel.view(1, -1, *[1] * (x.dim() - 2))

    def train(self, x: Tensor) -> Tensor:
        self.x, m = x, x.numel() // x.shape[1]
        self.mu = self.sums(x) / m
        self.centred = x - self.wide(x, self.mu)
        self.var = self.sums(self.centred**2) / m
        self.running_mean = (1 - MOMENTUM) * self.running_mean + MOMENTUM * self.mu
        self.running_var = (1 - MOMENTUM) * self.running_var + MOMENTUM * self.var * m / (m - 1)
        self.x_hat = self.centred / self.wide(x, (self.var + EPS).sqrt())
        return self.wide(x, self.gamma) * self.x_hat + self.wide(x, self.beta)

    def train_gradients(self, dy: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """With respect to x, gamma and beta, for the last batch given to `train`."""
        x, m = self.x, self.x.numel() // self.x.shape[1]
        dx_hat = dy * self.wide(x, self.gamma)
        dvar = self.sums(dx_hat * self.centred) * -0.5 * (self.var + EPS) ** -1.5
        dmu = self.sums(dx_hat) * -1 / (self.var + EPS).sqrt() + dvar * self.sums(-2 * self.centred) / m
        dx = dx_hat / self.wide(x, (self.var + EPS).sqrt()) + self.wide(x, dvar) * 2 * self.centred / m + self.wide(x, dmu) / m
        return dx, self.sums(dy * self.x_hat), self.sums(dy)

    def eval(self, x: Tensor) -> Tensor:
        scale = self.gamma / (self.running_var + EPS).sqrt()
        return self.wide(x, scale) * x + self.wide(x, self.beta - scale * self.running_mean)

    def eval_gradients(self, x: Tensor, dy: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        inverse = 1 / (self.running_var + EPS).sqrt()
        x_hat = (x - self.wide(x, self.running_mean)) * self.wide(x, inverse)
        return dy * self.wide(x, self.gamma * inverse), self.sums(dy * x_hat), self.sums(dy)


def layer_and_twin(dim: int, runs: int) -> tuple[nn.Module, HandWritten, torch.Generator]:
    generator = torch.Generator().manual_seed(dim + 10 * runs)
    layer = some(make_norm(CONFIG, dim, runs, CHANNELS))
    layer.double()
    with torch.no_grad():
        layer.weight.copy_(torch.randn(runs * CHANNELS, generator=generator, dtype=torch.float64))
        layer.bias.copy_(torch.randn(runs * CHANNELS, generator=generator, dtype=torch.float64))
    return layer, HandWritten(layer.weight.detach().clone(), layer.bias.detach().clone()), generator


def draw(dim: int, runs: int, generator: torch.Generator) -> Tensor:
    return 2 + 3 * torch.randn(BATCH, runs * CHANNELS, *MAPS[dim], generator=generator, dtype=torch.float64)


def close(ours: Tensor | None, expected: Tensor) -> None:
    assert ours is not None
    torch.testing.assert_close(ours.detach(), expected, rtol=1e-10, atol=1e-10)


def gradients(layer: nn.Module, x: Tensor, dy: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    x = x.clone().requires_grad_()
    return torch.autograd.grad(layer(x), [x, layer.weight, layer.bias], dy)


@pytest.mark.parametrize("runs", [1, 3])
@pytest.mark.parametrize("dim", MAPS)
def test_against_the_hand_written(dim: int, runs: int) -> None:
    layer, twin, generator = layer_and_twin(dim, runs)
    for _ in range(3):
        x, dy = draw(dim, runs, generator), draw(dim, runs, generator)
        close(layer.train()(x), twin.train(x))
        close(layer.running_mean, twin.running_mean)
        close(layer.running_var, twin.running_var)
    moved = layer.running_mean.clone(), layer.running_var.clone()
    for ours, expected in zip(gradients(layer, x, dy), twin.train_gradients(dy), strict=True):
        close(ours, expected)
    layer.running_mean, layer.running_var = moved  # the pass for the gradients moved them once more
    layer.eval()
    x = draw(dim, runs, generator)
    close(layer(x), twin.eval(x))
    close(layer.running_mean, twin.running_mean)  # they move in train mode only
    close(layer.running_var, twin.running_var)
    assert int(layer.num_batches_tracked) == 4
    for ours, expected in zip(gradients(layer, x, dy), twin.eval_gradients(x, dy), strict=True):
        close(ours, expected)


def test_one_batch_weighs_as_much_as_bn_momentum_says() -> None:
    """Momentum 0 is no missing momentum (PyTorch's None: a cumulative average): the statistics then stay where they began."""
    x = 5 + torch.randn(64, CHANNELS, generator=torch.Generator().manual_seed(0))
    for momentum in (0.0, 0.25, 1.0):
        layer = some(make_norm(ModelConfig(bn_momentum=momentum), 0, 1, CHANNELS))
        layer(x)
        torch.testing.assert_close(layer.running_mean, momentum * x.mean(0))
        torch.testing.assert_close(layer.running_var, 1 - momentum + momentum * x.var(0, correction=1))


def test_without_affine_there_is_nothing_to_learn_and_the_output_is_normalized() -> None:
    layer = some(make_norm(ModelConfig(bn_affine=False, bn_eps=0.5), 2, 1, CHANNELS))
    assert list(layer.parameters()) == []
    x = torch.tensor([-2.0, 2.0]).view(2, 1, 1, 1).expand(2, CHANNELS, 3, 3)
    torch.testing.assert_close(layer(x), x / math.sqrt(4 + 0.5))


@pytest.mark.parametrize("name", NORMS)
def test_what_a_norm_declares_is_so(name: str) -> None:
    norm, layer = NORMS[name], make_norm(ModelConfig(norm=name), 2, 1, CHANNELS)
    assert (layer is None) == (name == NO_NORM)
    if layer is None:
        return
    assert isinstance(layer, _BatchNorm) == norm.batch_statistics
    assert isinstance(layer, CountedBatchNorm) == (not norm.steady)
    generator = torch.Generator().manual_seed(0)
    x, bias = torch.randn(BATCH, CHANNELS, 5, 4, generator=generator), torch.tensor([3.0, 0.0, -2.0]).view(-1, 1, 1)
    assert torch.allclose(copy.deepcopy(layer)(x), copy.deepcopy(layer)(x + bias), atol=1e-5) == norm.cancels_bias
    colours = [norm.colour for norm in NORMS.values() if norm.colour is not None]
    assert len(set(colours)) == len(colours)


def make(norm: str, dim: int = 2, runs: int = 1, seeds: tuple[int, ...] = (0,), freeze_at: int = 3) -> CountedBatchNorm:
    layer = make_norm(dataclasses.replace(CONFIG, norm=norm), dim, runs, CHANNELS)
    assert isinstance(layer, CountedBatchNorm)
    set_up_norms(layer, seeds, freeze_at)
    return layer.double()


@pytest.mark.parametrize("norm", ["noisy", "frozen"])
@pytest.mark.parametrize("dim", MAPS)
def test_the_controls_are_batch_norm_but_for_what_they_control(norm: str, dim: int) -> None:
    """Before it freezes, frozen is batch norm, bit for bit; noisy has its statistics, and its output under the noise."""
    control, plain = make(norm, dim), make_norm(CONFIG, dim, 1, CHANNELS)
    assert plain is not None
    plain.double()
    generator = torch.Generator().manual_seed(0)
    for _ in range(3):
        x = draw(dim, 1, generator)
        ours, expected = control(x), plain(x)
        assert torch.equal(ours, expected) == (norm == "frozen")
        assert all(torch.equal(a, b) for a, b in zip(control.buffers(), plain.buffers(), strict=True))
    scale = 1.125 if norm == "noisy" else 1.0
    close(control.eval()(x), scale * plain.eval()(x))
    with pytest.raises(ValueError, match="dimensions"):
        control(x.unsqueeze(-1))


def test_the_noise_has_the_distributions_of_algorithm_1() -> None:
    """Santurkar et al. 2018: per channel mu ~ U(-.5, .5), sigma ~ U(1, 1.25); per element m ~ U(mu - .1, mu + .1), s ~ N(sigma, .1)."""
    layer = make("noisy", 0)
    shape = (4000, CHANNELS)
    s_SBC, m_SBC = [], []
    for step in range(300):
        layer.batches = step
        s, m = layer._draw(7, shape)  # type: ignore[operator]
        s_SBC.append(s)
        m_SBC.append(m)
    s, m = torch.stack(s_SBC), torch.stack(m_SBC)
    mu, sigma = m.mean(1), s.mean(1)
    n = mu.numel()
    assert float(mu.min()) > -0.51
    assert float(mu.max()) < 0.51
    assert float(mu.mean()) == pytest.approx(0, abs=4 / math.sqrt(12 * n))
    assert float(mu.std()) == pytest.approx(1 / math.sqrt(12), rel=0.05)
    assert float(sigma.mean()) == pytest.approx(1.125, abs=4 * 0.25 / math.sqrt(12 * n))
    assert float(sigma.std()) == pytest.approx(0.25 / math.sqrt(12), rel=0.08)
    assert float((m - mu[:, None]).abs().max()) < 0.11
    assert float((m - mu[:, None]).std()) == pytest.approx(0.2 / math.sqrt(12), rel=0.01)
    assert float((s - sigma[:, None]).std()) == pytest.approx(0.1, rel=0.01)


@pytest.mark.parametrize("dim", MAPS)
def test_the_noise_depends_on_seed_layer_and_step_alone(dim: int) -> None:
    generator = torch.Generator().manual_seed(0)
    x = draw(dim, 3, generator)
    stack = make("noisy", dim, 3, (5, 6, 5))
    together = stack(x)
    for run, seed in enumerate((5, 6, 5)):
        own = x[:, run * CHANNELS : (run + 1) * CHANNELS]
        alone = make("noisy", dim, 1, (seed,))
        before = torch.get_rng_state()
        close(alone(own), together[:, run * CHANNELS : (run + 1) * CHANNELS])
        assert torch.equal(torch.get_rng_state(), before)
    first, again, later = make("noisy", dim), make("noisy", dim), make("noisy", dim)
    own = x[:, :CHANNELS]
    one, two = first(own), first(own)
    assert not torch.equal(one, two)  # another step, another noise
    assert torch.equal(again(own), one)
    later.load_state_dict(again.state_dict())  # a resumed run goes on with the second step's
    assert torch.equal(later(own), two)
    pair = nn.Sequential(make("noisy", dim), make("noisy", dim))
    set_up_norms(pair, (0,), 1)
    assert not torch.equal(pair[0](own), pair[1](own))


@pytest.mark.parametrize("dim", MAPS)
def test_frozen_statistics_stay_and_normalize_in_train_mode(dim: int) -> None:
    generator = torch.Generator().manual_seed(0)
    layer = make("frozen", dim, freeze_at=3)
    for _ in range(3):
        layer(draw(dim, 1, generator))
    kept = {name: buffer.clone() for name, buffer in layer.named_buffers()}
    x, dy = draw(dim, 1, generator), draw(dim, 1, generator)
    assert torch.equal(layer.train()(x), layer.eval()(x))
    layer.train()
    twin = HandWritten(layer.weight.detach().clone(), layer.bias.detach().clone())
    twin.running_mean, twin.running_var = kept["running_mean"], kept["running_var"]
    for ours, expected in zip(gradients(layer, x, dy), twin.eval_gradients(x, dy), strict=True):
        close(ours, expected)  # no gradient through statistics; gamma and beta go on learning
    assert all(torch.equal(buffer, kept[name]) for name, buffer in layer.named_buffers())
    assert int(layer.num_batches_tracked) == 3
    assert pickle.loads(pickle.dumps(layer)).batches == 3  # as any module
    resumed = make("frozen", dim, freeze_at=3)
    resumed.load_state_dict(layer.state_dict())
    assert torch.equal(resumed(x), layer(x))
