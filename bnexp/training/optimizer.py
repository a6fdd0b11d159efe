"""SGD, Adam and AdamW for a stack: every run has its own learning rate, momentum and weight decay, kept as tensors of shape [R].

Each step is a few `torch._foreach` calls over per-run views of the parameters, [R, ...]; the hyperparameters are broadcast against them.
With R = 1 the numbers are those of `torch.optim` (tested step by step).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from bnexp.config import OptimConfig
from bnexp.storage.saved_state import MAX_STEPS, group, tensor, whole

OptimizerState = dict[str, list[Tensor] | int]
"""Averages of the gradients by name, a tensor a parameter, [R, ...]; `steps` is how many updates Adam has made."""


class StackedOptimizer:
    """What the optimizers share: the views, the hyperparameters [R], the learning rate in force.

    Args:
        network: a stack of R runs; each parameter has the runs outermost in its first axis.
        configs: R configs that differ in `lr`, `momentum` and `weight_decay` only.
    """

    def __init__(self, network: nn.Module, configs: Sequence[OptimConfig]) -> None:
        self.config, runs = configs[0], len(configs)
        self.params = [param for param in network.parameters() if param.requires_grad]
        self.views = [param.detach().unflatten(0, (runs, -1)) for param in self.params]
        self.base_lr = self._per_run([config.lr for config in configs])
        self.lr, self._factor = self.base_lr.clone(), 1.0
        self._lrs = self._broadcast(self.lr)
        self.momentum = self._per_run([config.momentum for config in configs])
        self._momenta = self._broadcast(self.momentum)
        # Weights decay, norm parameters and biases do not: they are the parameters with one axis.
        self._decayed = [i for i, param in enumerate(self.params) if param.dim() > 1]
        self._decayed_views = self._pick(self.views)
        self._decays = self._pick(self._broadcast(self._per_run([config.weight_decay for config in configs])))
        self._has_decay = any(config.weight_decay > 0 for config in configs)
        self.state: dict[str, list[Tensor]] = {}

    def _per_run(self, values: Sequence[float]) -> Tensor:
        return torch.tensor(values, dtype=self.params[0].dtype, device=self.params[0].device)

    def _broadcast(self, per_run: Tensor) -> list[Tensor]:
        """Views of `per_run` [R] that broadcast against each parameter's view [R, ...]; they follow it when it changes in place."""
        return [per_run.view(-1, *[1] * (view.dim() - 1)) for view in self.views]

    def _zeros(self) -> list[Tensor]:
        return [torch.zeros_like(view) for view in self.views]

    def _grads(self) -> list[Tensor]:
        grads = []
        for param, view in zip(self.params, self.views, strict=True):
            assert param.grad is not None
            grads.append(param.grad.view(view.shape))
        return grads

    def _pick(self, tensors: list[Tensor]) -> list[Tensor]:
        return [tensors[i] for i in self._decayed]

    def _add_decay(self, grads: list[Tensor]) -> None:
        """g + d w in the list; the parameters' own gradients stay the loss's, which metrics read."""
        decayed = torch._foreach_addcmul(self._pick(grads), self._decayed_views, self._decays)
        for place, grad in zip(self._decayed, decayed, strict=True):
            grads[place] = grad

    def zero_grad(self) -> None:
        for param in self.params:
            param.grad = None

    def prepare(self, factor: float) -> None:
        """Writes what changes from step to step into tensors: every run's learning rate, `factor` times its base.

        `step` itself can then be recorded and replayed.
        """
        if factor != self._factor:
            torch.mul(self.base_lr, factor, out=self.lr)
            self._factor = factor

    def step(self) -> None:
        """Updates the weights from their gradients; `prepare` comes before each."""
        raise NotImplementedError

    def state_dict(self) -> OptimizerState:
        return {name: list(tensors) for name, tensors in self.state.items()}

    def check_state(self, state: OptimizerState) -> None:
        """Raises ValueError, TypeError or KeyError where `load_state_dict` could not take this."""
        for name, tensors in self.state.items():
            for own, saved in zip(tensors, group(state, "optimizer")[name], strict=True):
                tensor(saved, tuple(own.shape), own.dtype, name)

    def load_state_dict(self, state: OptimizerState) -> None:
        for name, tensors in self.state.items():
            for own, saved in zip(tensors, group(state, "optimizer")[name], strict=True):
                own.copy_(saved)


class SGD(StackedOptimizer):
    """v <- m v + (g + d w); w <- w - lr v, or with Nesterov w <- w - lr (g + d w + m v). As `torch.optim.SGD` without dampening."""

    def __init__(self, network: nn.Module, configs: Sequence[OptimConfig]) -> None:
        super().__init__(network, configs)
        self._has_momentum = any(config.momentum > 0 for config in configs)
        if self._has_momentum:
            self.state["velocity"] = self._zeros()

    @torch.no_grad()
    def step(self) -> None:
        grads = self._grads()
        if self._has_decay:
            self._add_decay(grads)
        update = grads
        if self._has_momentum:
            update = self.state["velocity"]
            torch._foreach_mul_(update, self._momenta)
            torch._foreach_add_(update, grads)
            if self.config.nesterov:
                update = list(torch._foreach_addcmul(grads, update, self._momenta))
        torch._foreach_addcmul_(self.views, update, self._lrs, value=-1)


class Adam(StackedOptimizer):
    """Kingma and Ba 2015, Alg. 1, with `momentum` as beta1; weight decay is added to the gradient. As `torch.optim.Adam`."""

    decoupled = False

    def __init__(self, network: nn.Module, configs: Sequence[OptimConfig]) -> None:
        super().__init__(network, configs)
        self.state["mean"], self.state["square"] = self._zeros(), self._zeros()
        self.steps = 0
        # In float32, 1 - beta1 would be off by 1e-7 / (1 - beta1): half a percent at 0.99999. Kept on the device, so that no step waits.
        self._beta1 = torch.tensor([config.momentum for config in configs], dtype=torch.float64, device=self.lr.device)
        self._gains = self._broadcast((1 - self._beta1).to(self.lr.dtype))
        self._corrected_lr = torch.empty_like(self.lr)
        self._corrected_lrs = self._broadcast(self._corrected_lr)
        self._root_correction = torch.ones_like(self.lr[0])

    def prepare(self, factor: float) -> None:
        """Counts the step, and writes the corrections of both averages' bias too (Alg. 1: 1 - beta1^t and 1 - beta2^t)."""
        super().prepare(factor)
        self.steps += 1
        torch.div(self.lr, 1 - self._beta1**self.steps, out=self._corrected_lr)
        self._root_correction.fill_(math.sqrt(1 - self.config.beta2**self.steps))

    @torch.no_grad()
    def step(self) -> None:
        config, grads = self.config, self._grads()
        if self._has_decay and self.decoupled:  # w <- w - lr d w
            scaled = torch._foreach_mul(self._decayed_views, self._decays)
            torch._foreach_addcmul_(self._decayed_views, scaled, self._pick(self._lrs), value=-1)
        elif self._has_decay:
            self._add_decay(grads)
        mean, square = self.state["mean"], self.state["square"]
        shift = torch._foreach_sub(grads, mean)
        torch._foreach_addcmul_(mean, shift, self._gains)
        torch._foreach_mul_(square, config.beta2)
        torch._foreach_addcmul_(square, grads, grads, value=1 - config.beta2)
        denominator = torch._foreach_sqrt(square)
        torch._foreach_div_(denominator, self._root_correction)
        torch._foreach_add_(denominator, config.eps)
        update = torch._foreach_div(mean, denominator)
        torch._foreach_addcmul_(self.views, update, self._corrected_lrs, value=-1)

    def state_dict(self) -> OptimizerState:
        return {**super().state_dict(), "steps": self.steps}

    def check_state(self, state: OptimizerState) -> None:
        super().check_state(state)
        whole(state["steps"], 0, MAX_STEPS, "the optimizer's steps")

    def load_state_dict(self, state: OptimizerState) -> None:
        super().load_state_dict(state)
        self.steps = whole(state["steps"], 0, MAX_STEPS, "the optimizer's steps")


class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019). As `torch.optim.AdamW`."""

    decoupled = True


OPTIMIZERS: dict[str, type[StackedOptimizer]] = {"sgd": SGD, "adam": Adam, "adamw": AdamW}


def make_optimizer(network: nn.Module, configs: Sequence[OptimConfig]) -> StackedOptimizer:
    """The optimizer of R configs that share everything but `lr`, `momentum` and `weight_decay`."""
    return OPTIMIZERS[configs[0].name](network, configs)


SCHEDULES: dict[str, Callable[[OptimConfig, int, int], float]] = {
    "constant": lambda config, step, total: 1.0,
    # Half a cosine from 1 to 0 over the budget (Loshchilov and Hutter 2017, eq. 5, one cycle). As `CosineAnnealingLR(T_max=total)`.
    "cosine": lambda config, step, total: (1 + math.cos(math.pi * step / total)) / 2,
    # Times `gamma` every `step_size` steps (default: a third of the budget). As `StepLR`.
    "step": lambda config, step, total: config.gamma ** (step // (config.step_size or max(1, math.ceil(total / 3)))),
}


def lr_factor(config: OptimConfig, step: int, total: int) -> float:
    """What the base learning rate is multiplied with at `step` (from 0) of `total`: linear warm-up, then the schedule over the rest."""
    warmup = config.warmup_steps
    if step < warmup:
        return (step + 1) / warmup
    return SCHEDULES[config.schedule](config, step - warmup, max(1, total - warmup))
