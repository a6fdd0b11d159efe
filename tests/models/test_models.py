"""Networks: the order of their modules, their shapes, and what they start from."""

import math
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from bnexp.config import ModelConfig, map_sizes
from bnexp.config import choices as names
from bnexp.models import build, init, logits, restack, runs_in, unstack
from bnexp.models.blocks import ACTIVATIONS, Linear, block
from bnexp.models.network import MODELS
from bnexp.norms import NORMS

C, B, R = "conv", "norm", "relu"
KINDS = {nn.Conv1d: C, nn.Conv2d: C, nn.Conv3d: C, Linear: C, nn.BatchNorm1d: B, nn.BatchNorm2d: B, nn.BatchNorm3d: B, nn.ReLU: R}
SHAPES = [(2, 9), (2, 9, 6), (2, 5, 4, 6)]
MLP = ModelConfig(name="mlp", widths=(8, 6))


def small(**changes: object) -> ModelConfig:
    return ModelConfig(**{"widths": (4, 6), **changes})  # type: ignore[arg-type]


def weights(network: nn.Module) -> list[Tensor]:
    """Of convolutions and linear layers, in the order of the forward pass."""
    return [m.weight.detach() for m in network.modules() if isinstance(m, (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear))]


def test_the_registries_have_the_names_of_the_config() -> None:
    assert tuple(MODELS) == tuple(names.MODELS)
    assert tuple(ACTIVATIONS) == names.ACTIVATIONS


def test_one_run_is_the_textbook_block() -> None:
    ours = block(ModelConfig(), 2, 1, 3, 16, stride=1)
    textbook = nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.Conv2d(16, 16, 3, padding=1, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU(),
    )
    assert type(ours) is nn.Sequential
    assert [type(module) for module in ours] == [type(module) for module in textbook]
    assert str(ours) == str(textbook)
    textbook.load_state_dict(ours.state_dict())
    x = torch.randn(4, 3, 7, 5, generator=torch.Generator().manual_seed(0))
    assert torch.equal(ours(x), textbook(x))


@pytest.mark.parametrize("dim", [1, 2, 3])
@pytest.mark.parametrize(
    ("norm", "placement", "order", "norms", "biases"),
    [
        ("batch", "conv-norm-relu", [C, B, R, C, B, R], [10, 10], [False, False]),
        ("batch", "norm-conv-relu", [B, C, R, B, C, R], [6, 10], [True, True]),
        ("batch", "conv-relu-norm", [C, R, B, C, R, B], [10, 10], [True, True]),
        ("none", "conv-norm-relu", [C, R, C, R], [], [True, True]),
        ("none", "norm-conv-relu", [C, R, C, R], [], [True, True]),
        ("none", "conv-relu-norm", [C, R, C, R], [], [True, True]),
    ],
)
def test_placements(norm: str, placement: str, order: list[str], norms: list[int], biases: list[bool], dim: int) -> None:
    runs = 2
    modules = list(block(ModelConfig(norm=norm, placement=placement), dim, runs, 3, 5, stride=2))
    assert [KINDS[type(module)] for module in modules] == order
    assert [m.num_features for m in modules if KINDS[type(m)] == B] == norms
    convolutions = [m for m in modules if KINDS[type(m)] == C]
    assert [m.bias is not None for m in convolutions] == biases
    assert [m.stride for m in convolutions] == [(2,) * dim, (1,) * dim]
    assert [(m.in_channels, m.out_channels, m.groups) for m in convolutions] == [(6, 10, 2), (10, 10, 2)]


@pytest.mark.parametrize(
    ("changes", "order", "norms", "bias"),
    [
        ({}, [C, B, R], [8, 6], False),
        ({"placement": "norm-conv-relu"}, [B, C, R], [12, 8], True),
        ({"placement": "conv-relu-norm"}, [C, R, B], [8, 6], True),
        ({"norm": "none"}, [C, R], [], True),
    ],
)
def test_mlp_placements(changes: dict[str, str], order: list[str], norms: list[int], bias: bool) -> None:
    network = build(ModelConfig(name="mlp", widths=(8, 6), **changes), (3, 2, 2), 5)  # type: ignore[arg-type]
    layers = [network.layer1, network.layer2]
    assert [name for name, _ in network.named_children()] == ["flatten", "layer1", "layer2", "head"]
    assert all([KINDS[type(module)] for module in layer] == order for layer in layers)
    assert [m.num_features for m in network.modules() if isinstance(m, nn.BatchNorm1d)] == norms
    assert [m.bias is not None for layer in layers for m in layer if isinstance(m, Linear)] == [bias, bias]
    assert network.head.bias is not None


def test_mlp_takes_a_sigmoid() -> None:
    network = build(ModelConfig(name="mlp", widths=(8,), activation="sigmoid"), (4,), 3)
    assert [type(module) for module in network.layer1] == [Linear, nn.BatchNorm1d, nn.Sigmoid]


@pytest.mark.parametrize("spatial", [(8, 8), (7,), (1, 9), (2, 3, 5), (28, 28), (1,)])
def test_map_sizes_are_those_of_the_network(spatial: tuple[int, ...]) -> None:
    network = build(small(widths=(2, 2, 2, 2)), (1, *spatial), 3).eval()
    seen = []
    for name, part in network.named_children():
        if name.startswith("block"):
            part.register_forward_hook(lambda module, args, y: seen.append(tuple(y.shape[2:])))
    network(torch.zeros(1, 1, *spatial))
    assert seen == map_sizes(spatial, 4)


@pytest.mark.parametrize("shape", [*SHAPES, (7,)])
@pytest.mark.parametrize("norm", NORMS)
def test_logits_of_a_stack_are_those_of_its_networks(shape: tuple[int, ...], norm: str) -> None:
    config = small(norm=norm) if len(shape) > 1 else MLP
    stack = build(config, shape, 5, runs=3).double()
    init(stack, config, [3, 1, 2])
    x = torch.randn(4, 3 * shape[0], *shape[1:], generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    together = logits(stack, x)
    assert runs_in(stack) == 3
    assert together.shape == (3, 4, 5)
    for run in range(3):
        alone = build(config, shape, 5).double()
        init(alone, config, [[3, 1, 2][run]])
        expected = logits(alone, x.unflatten(1, (3, -1))[:, run])[0]
        torch.testing.assert_close(together[run], expected, rtol=1e-10, atol=1e-10)
        state, own = alone.state_dict(), unstack(stack.state_dict(), 3, run)
        assert list(own) == list(state)  # strict loading and more: the order of the file is the same too
        for name, tensor in own.items():
            torch.testing.assert_close(tensor, state[name], rtol=1e-10, atol=1e-10)


def test_unstack_makes_contiguous_copies() -> None:
    stack = build(small(), (2, 8, 8), 3, runs=2).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    own = unstack(stack.state_dict(), 2, 1)
    before = {name: tensor.clone() for name, tensor in own.items()}
    with torch.no_grad():
        for param in stack.parameters():
            param.add_(1)
    assert all(tensor.is_contiguous() and torch.equal(tensor, before[name]) for name, tensor in own.items())


@pytest.mark.parametrize("shape", [*SHAPES, (7,)])
def test_restack_is_the_inverse_of_unstack(shape: tuple[int, ...]) -> None:
    """It writes one run's channels, in any memory format; the others' and what all share stay."""
    config = small() if len(shape) > 1 else MLP
    stack, other = (build(config, shape, 5, runs=3) for _ in range(2))
    if len(shape) == 3:
        stack.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    init(stack, config, [0, 1, 2])
    init(other, config, [3, 4, 5])
    for _ in range(2):
        other(torch.randn(4, 3 * shape[0], *shape[1:], generator=torch.Generator().manual_seed(0)))  # moves the running statistics
    own = [unstack(stack.state_dict(), 3, 0), unstack(other.state_dict(), 3, 1), unstack(stack.state_dict(), 3, 2)]
    restack(stack.state_dict(), 3, 1, own[1])
    for run, expected in enumerate(own):
        for name, tensor in unstack(stack.state_dict(), 3, run).items():
            assert torch.equal(tensor, expected[name] if tensor.dim() > 0 else torch.tensor(0))


@pytest.mark.parametrize("shape", SHAPES)
def test_the_start_depends_on_the_seed_alone(shape: tuple[int, ...]) -> None:
    def start(seeds: list[int], run: int) -> dict[str, Tensor]:
        stack = build(small(), shape, 3, len(seeds))
        init(stack, small(), seeds)
        return unstack(stack.state_dict(), len(seeds), run)

    alone, other = start([7], 0), start([8], 0)
    for beside in (start([7, 8], 0), start([8, 9, 7], 2)):
        assert all(torch.equal(tensor, beside[name]) for name, tensor in alone.items())
    assert all((alone[name] == other[name]).float().mean() < 0.01 for name in alone if alone[name].dim() > 1)


def test_init_takes_nothing_from_the_global_generator() -> None:
    network = build(small(), (1, 8, 8), 3)
    before = torch.get_rng_state()
    init(network, small(), [0])
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("config", "shape"),
    [(ModelConfig(widths=(24, 32)), (3, 8, 8)), (ModelConfig(name="mlp", widths=(100, 80)), (60,))],
    ids=["blocknet", "mlp"],
)
def test_kaiming_by_its_statistics(config: ModelConfig, shape: tuple[int, ...]) -> None:
    """Mean 0, std sqrt(2 / fan_in), the head's 1 / sqrt(fan_in). Sampling errors: std / sqrt(n) and std / sqrt(2 n); 5 of them."""
    network = build(config, shape, 50, runs=2)
    init(network, config, [0, 1])
    for stacked in weights(network):
        for weight in stacked.unflatten(0, (2, -1)):
            gain = 1 if weight.shape[0] == 50 else 2  # 50 classes: the head
            n, std = weight.numel(), math.sqrt(gain / math.prod(weight.shape[1:]))
            assert n > 500
            assert abs(float(weight.mean())) < 5 * std / math.sqrt(n)
            assert abs(float(weight.std()) - std) < 5 * std / math.sqrt(2 * n)
    for name, param in network.named_parameters():
        if name.endswith("bias"):
            assert not param.any(), name
    norms = [m for m in network.modules() if isinstance(m, (nn.BatchNorm1d, nn.BatchNorm2d))]
    assert norms
    assert all((m.weight == 1).all() for m in norms)


def test_a_sigmoid_has_gain_one() -> None:
    config = ModelConfig(name="mlp", widths=(200,), activation="sigmoid")
    network = build(config, (100,), 3)
    init(network, config, [0])
    assert float(weights(network)[0].std()) == pytest.approx(1 / math.sqrt(100), rel=0.03)


def test_layers_of_a_run_are_drawn_apart() -> None:
    network = build(small(widths=(4, 4, 4)), (4, 6, 6), 3)
    init(network, small(), [0])
    convolutions = [weight for weight in weights(network) if weight.dim() == 4 and weight.shape[:2] == (4, 4)]
    assert len(convolutions) == 6
    assert all(not torch.equal(a, b) for a, b in pairwise(convolutions))
