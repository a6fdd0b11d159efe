"""One update of a stack on one batch, and the ways to run it: line by line, compiled, or replayed as a CUDA graph.

An update reads nothing back from the device, and nothing in it is a Python number that changes from step to step (learning rates and
Adam's corrections are tensors, see `optimizer.StackedOptimizer.prepare`): so it can be recorded once and replayed.
"""

from __future__ import annotations

import os
import types
import warnings
from collections.abc import Callable
from contextlib import suppress

import torch
from torch import Tensor, nn

from bnexp.base.errors import BnexpError, short
from bnexp.config import Config
from bnexp.data.cache import cache_home
from bnexp.evaluate import autocast
from bnexp.models import logits, losses
from bnexp.norms import NORMS
from bnexp.training.optimizer import StackedOptimizer

Forward = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
Mark = Callable[[str], None]
EAGER_STEPS = 3
"""Steps before a CUDA graph is recorded: libraries choose kernels and take memory in them, which a recording must not."""


class Update:
    """Forward, loss, backward and optimizer for x_[B, R*C, *map] and y_[R, B]: gives losses_[R] and right answers_[R]."""

    failed: str | None = None

    def __init__(self, network: nn.Sequential, optimizer: StackedOptimizer, config: Config, device: torch.device) -> None:
        self.network, self.optimizer = network, optimizer

        def forward(x: Tensor, y_RB: Tensor) -> tuple[Tensor, Tensor]:
            with autocast(config, device):
                logits_RBK = logits(network, x)
            logits_RBK = logits_RBK.to(x.dtype)  # the loss in full precision
            return losses(logits_RBK, y_RB), (logits_RBK.detach().argmax(2) == y_RB).sum(1)

        self.forward: Forward = forward

    def __call__(self, x: Tensor, y_RB: Tensor, mark: Mark) -> tuple[Tensor, Tensor]:
        losses_R, correct_R = self.forward(x, y_RB)
        mark("forward")
        self.optimizer.zero_grad()
        # With weights of one instead of a sum PyTorch imports SymPy: 0.4 s before the first step.
        (losses_R if len(losses_R) == 1 else losses_R.sum()).backward()
        mark("backward")
        self.optimizer.step()
        return losses_R.detach(), correct_R

    def compile(self, x: Tensor, y_RB: Tensor, backend: str | Callable[..., object] = "inductor") -> None:
        """Compiles the passes forward and backward for batches of this shape. The network is as before afterwards.

        Raises:
            BnexpError: this machine cannot.
        """
        # Dynamo counts recompilations by code object, and gives up after 8: every stack has one of its own.
        own = types.FunctionType(self.forward.__code__.replace(), self.forward.__globals__, closure=self.forward.__closure__)
        buffers = list(self.network.buffers())
        before = [buffer.clone() for buffer in buffers]
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # the compiler imports what PyTorch itself deprecates
                compiled: Forward = torch.compile(own, dynamic=False, backend=backend)
                compiled(x, y_RB)[0].sum().backward()  # both are compiled when they first run
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            if "allocate memory" in str(error):  # on a CPU only the text says so
                raise
            needed = "Triton" if x.device.type == "cuda" else "a C++ compiler"
            raise BnexpError(f"compile=true failed (it needs {needed}): {short(str(error), 200)}. Use compile=false.") from error
        finally:
            for buffer, kept in zip(buffers, before, strict=True):
                buffer.copy_(kept)
            self.optimizer.zero_grad()
        self.forward = compiled


class Replayed(Update):
    """An update that is recorded as a CUDA graph once `EAGER_STEPS` have been made, and replayed from then on: one launch a step instead
    of hundreds, which small networks would wait for. Where recording fails, steps are made line by line, and `failed` says why.

    The parts of a replayed step cannot be timed apart: `mark` is called for none.
    """

    def __init__(self, network: nn.Sequential, optimizer: StackedOptimizer, config: Config, device: torch.device) -> None:
        super().__init__(network, optimizer, config, device)
        self._made = 0
        self._replay: Callable[[], None] | None = None

    def __call__(self, x: Tensor, y_RB: Tensor, mark: Mark) -> tuple[Tensor, Tensor]:
        if self._replay is None:
            self._made += 1
            if self._made <= EAGER_STEPS or self.failed is not None or not self._recorded(x, y_RB):
                return super().__call__(x, y_RB, mark)
        assert self._replay is not None
        self._x.copy_(x)
        self._y_RB.copy_(y_RB)
        self._replay()
        return self._losses_R.clone(), self._correct_R.clone()  # the next replay writes over its own

    def _recorded(self, x: Tensor, y_RB: Tensor) -> bool:
        # Strides are kept: a recorded kernel reads the layout that it was recorded for.
        self._x, self._y_RB = x.clone(memory_format=torch.preserve_format), y_RB.clone(memory_format=torch.preserve_format)

        def update() -> None:
            self._losses_R, self._correct_R = Update.__call__(self, self._x, self._y_RB, lambda part: None)

        try:
            self._replay = self.record(update)
        except RuntimeError as error:  # a kernel that cannot be recorded, or memory for a second pool
            self.failed = short(str(error), 200)
            self.optimizer.zero_grad()
        return self._replay is not None

    def record(self, update: Callable[[], None]) -> Callable[[], None]:
        """Records what `update` does without doing it; what is given back does it, each time it is called."""
        graph = torch.cuda.CUDAGraph()
        torch.cuda.synchronize()
        with torch.cuda.graph(graph):
            update()
        return graph.replay


def own_compiler_cache() -> None:
    """Has PyTorch's compiler keep what it made in this user's cache folder, unless `TORCHINDUCTOR_CACHE_DIR` names another: its own choice
    is a folder under /tmp with a predictable name, and what lies there is executed."""
    with suppress(OSError):  # this user has no home: PyTorch's choice stays
        folder = cache_home() / "bnexp" / "compiled"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(folder))


def make_update(network: nn.Sequential, optimizer: StackedOptimizer, config: Config, device: torch.device) -> Update:
    """Replayed on a GPU, unless a norm does something else from step to step; line by line on a CPU."""
    return (Replayed if device.type == "cuda" and NORMS[config.model.norm].steady else Update)(network, optimizer, config, device)
