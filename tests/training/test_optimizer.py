"""Optimizers and schedules, step by step against torch.optim, with PyTorch's own gradients given to both."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import lr_scheduler

from bnexp.config import ModelConfig, OptimConfig
from bnexp.config import choices as names
from bnexp.models import build, unstack
from bnexp.training.optimizer import OPTIMIZERS, SCHEDULES, StackedOptimizer, lr_factor, make_optimizer

MODEL, SHAPE = ModelConfig(widths=(3, 4), placement="conv-relu-norm"), (2, 5, 5)  # convolutions with biases, norms, a head
VARIANTS = {
    "plain": {"momentum": 0.0},
    "momentum": {"momentum": 0.9},
    "nesterov": {"momentum": 0.8, "nesterov": True},
    "decay": {"momentum": 0.0, "weight_decay": 0.3},
    "momentum-decay": {"momentum": 0.9, "weight_decay": 0.3},
    "nesterov-decay": {"momentum": 0.9, "nesterov": True, "weight_decay": 0.3},
    "adam": {"name": "adam", "lr": 0.01},
    "adam-decay": {"name": "adam", "lr": 0.01, "momentum": 0.7, "beta2": 0.9, "eps": 1e-3, "weight_decay": 0.3},
    "adam-no-momentum": {"name": "adam", "lr": 0.01, "momentum": 0.0},
    "adamw": {"name": "adamw", "lr": 0.01},
    "adamw-decay": {"name": "adamw", "lr": 0.01, "momentum": 0.8, "weight_decay": 0.3},
}


def network(runs: int = 1) -> nn.Sequential:
    torch.manual_seed(0)
    stack = build(MODEL, SHAPE, 3, runs).double()
    with torch.no_grad():
        for param in stack.parameters():
            param.normal_()
    return stack


def twin(net: nn.Sequential, config: OptimConfig) -> torch.optim.Optimizer:
    """torch.optim with the groups that everybody writes by hand: weights decay, norm parameters and biases do not."""
    weights = [m.weight for m in net.modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
    rest = [param for param in net.parameters() if all(param is not weight for weight in weights)]
    assert len(rest) == 4 + 4 * 2 + 1  # biases of convolutions, gamma and beta, the head's bias
    groups = [{"params": weights, "weight_decay": config.weight_decay}, {"params": rest, "weight_decay": 0.0}]
    if config.name == "sgd":
        return torch.optim.SGD(groups, lr=config.lr, momentum=config.momentum, nesterov=config.nesterov)
    kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[config.name]
    return kind(groups, lr=config.lr, betas=(config.momentum, config.beta2), eps=config.eps)


def gradients(net: nn.Module, step: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(step)
    return [torch.randn(param.shape, generator=generator, dtype=param.dtype) for param in net.parameters()]


def give(net: nn.Module, grads: Sequence[Tensor]) -> None:
    for param, grad in zip(net.parameters(), grads, strict=True):
        param.grad = grad.clone()


def same(ours: nn.Module, other: nn.Module, tolerance: float = 1e-12) -> None:
    for (name, a), b in zip(ours.named_parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=tolerance, atol=1e-13, msg=lambda text, name=name: f"{name}: {text}")


def run(net: nn.Module, optimizer: StackedOptimizer, steps: range) -> None:
    for step in steps:
        optimizer.prepare(1 / (1 + step))
        give(net, gradients(net, step))
        optimizer.step()


def test_the_registries_have_the_names_of_the_config() -> None:
    assert tuple(OPTIMIZERS) == names.OPTIMIZERS
    assert tuple(SCHEDULES) == names.SCHEDULES


@pytest.mark.parametrize("variant", VARIANTS)
def test_step_by_step_against_torch(variant: str) -> None:
    config = OptimConfig(**VARIANTS[variant])  # type: ignore[arg-type]
    ours, theirs = network(), network()
    optimizer, reference = make_optimizer(ours, [config]), twin(theirs, config)
    start = [param.detach().clone() for param in ours.parameters()]
    for step in range(12):
        factor = 1 / (1 + step)
        grads = gradients(ours, step)
        optimizer.zero_grad()
        give(ours, grads)
        give(theirs, grads)
        optimizer.prepare(factor)
        for group in reference.param_groups:
            group["lr"] = config.lr * factor
        optimizer.step()
        reference.step()
        same(ours, theirs)
    assert all((before != after).all() for before, after in zip(start, ours.parameters(), strict=True))


@pytest.mark.parametrize("beta1", [0.0, 0.9, 0.99999, 0.999999])
def test_adam_in_float32_is_as_exact_as_float32(beta1: float) -> None:
    """1 - beta1 and the bias correction were computed in float32: 5 % off at 0.999999."""
    ours, theirs = nn.Linear(3, 2, bias=False), nn.Linear(3, 2, bias=False, dtype=torch.float64)
    nn.init.zeros_(ours.weight), nn.init.zeros_(theirs.weight)  # the sum of the updates, not rounded to larger weights
    configs = [OptimConfig(name="adam", lr=0.01, momentum=beta) for beta in (beta1, 0.5)]
    optimizer, reference = make_optimizer(ours, configs), torch.optim.Adam(theirs.parameters(), lr=0.01, betas=(beta1, 0.999))
    for step in range(5):
        grads = gradients(ours, step)
        give(ours, grads)
        give(theirs, [grad.double() for grad in grads])
        optimizer.prepare(1.0)
        optimizer.step()
        reference.step()
        torch.testing.assert_close(ours.weight[:1].double(), theirs.weight[:1], rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("variant", ["momentum-decay", "adam-decay", "adamw-decay"])
def test_norm_parameters_and_biases_do_not_decay(variant: str) -> None:
    """Without gradients decay is all that moves a parameter (it would set lr/||W||^2 of scale-invariant weights)."""
    net = network()
    optimizer = make_optimizer(net, [OptimConfig(**VARIANTS[variant])])  # type: ignore[arg-type]
    before = {name: param.detach().clone() for name, param in net.named_parameters()}
    for _ in range(3):
        give(net, [torch.zeros_like(param) for param in net.parameters()])
        optimizer.prepare(1.0)
        optimizer.step()
    for name, param in net.named_parameters():
        if param.dim() == 1:
            assert torch.equal(param, before[name]), name
        else:
            assert (param.abs() < before[name].abs()).all(), name


PER_RUN: list[dict[str, Any]] = [
    {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.1},
    {"lr": 0.01, "momentum": 0.0, "weight_decay": 0.0},
    {"lr": 1.0, "momentum": 0.5, "weight_decay": 0.3},
]


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_each_run_of_a_stack_has_hyperparameters_of_its_own(name: str) -> None:
    configs = [OptimConfig(name=name, **own) for own in PER_RUN]
    stack = network(runs=3)
    singles = [network() for _ in configs]
    for index, single in enumerate(singles):
        single.load_state_dict(unstack(stack.state_dict(), 3, index))
    optimizer, separate = make_optimizer(stack, configs), [make_optimizer(net, [c]) for net, c in zip(singles, configs, strict=True)]
    for step in range(8):
        grads = gradients(stack, step)
        give(stack, grads)
        optimizer.prepare(1.0)
        optimizer.step()
        for index, (single, own) in enumerate(zip(singles, separate, strict=True)):
            give(single, [grad.unflatten(0, (3, -1))[index] for grad in grads])
            own.prepare(1.0)
            own.step()
            params = unstack(dict(stack.named_parameters()), 3, index)
            for param_name, param in single.named_parameters():
                torch.testing.assert_close(params[param_name], param.detach(), rtol=1e-12, atol=1e-13)


Make = Callable[[torch.optim.Optimizer, int], Any]


@pytest.mark.parametrize("warmup", [0, 2, 5])
@pytest.mark.parametrize(
    ("changes", "make"),
    [
        ({"schedule": "constant"}, lambda optimizer, total: lr_scheduler.ConstantLR(optimizer, factor=1.0)),
        ({"schedule": "cosine"}, lambda optimizer, total: lr_scheduler.CosineAnnealingLR(optimizer, T_max=total)),
        ({"schedule": "step", "step_size": 7, "gamma": 0.3}, lambda optimizer, total: lr_scheduler.StepLR(optimizer, 7, 0.3)),
        ({"schedule": "step"}, lambda optimizer, total: lr_scheduler.StepLR(optimizer, -(-total // 3), 0.1)),
    ],
    ids=["constant", "cosine", "step", "step-default"],
)
def test_schedules_against_torch(changes: dict[str, Any], make: Make, warmup: int) -> None:
    total, config = 25, OptimConfig(lr=0.4, warmup_steps=warmup, **changes)
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=config.lr)
    if warmup:
        linear = lr_scheduler.LinearLR(optimizer, start_factor=1 / warmup, total_iters=warmup - 1)
        scheduler: Any = lr_scheduler.SequentialLR(optimizer, [linear, make(optimizer, total - warmup)], milestones=[warmup])
    else:
        scheduler = make(optimizer, total)
    for step in range(total):
        assert config.lr * lr_factor(config, step, total) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-12, abs=1e-15)
        optimizer.step()
        scheduler.step()


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("warmup", [0, 1, 3, 10])
def test_schedules_take_budgets_of_a_few_steps(schedule: str, warmup: int) -> None:
    for total in (1, 2, 3):
        factors = [lr_factor(OptimConfig(schedule=schedule, warmup_steps=warmup), step, total) for step in range(total)]
        assert all(0 < factor <= 1 for factor in factors)
