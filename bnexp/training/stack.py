"""A stack: R runs in lock-step, one program. A single run is a stack of one.

A diverged run stays inside its own channels: a loss that is not finite makes its own gradients so, and those of no other run.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import TypedDict

import torch
from torch import Tensor, nn

from bnexp.base.seeds import derive
from bnexp.config import Config
from bnexp.data import Dataset
from bnexp.metrics import Observer
from bnexp.metrics.observer import ObserverState
from bnexp.models import build, init, memory_format, parameter_counts, restack, unstack, weight_digests, work_in_place
from bnexp.norms.modules import set_up_norms
from bnexp.storage.facts import AuditFacts, ParameterCounts
from bnexp.storage.saved_state import group, tensor, tensors, whole
from bnexp.training.batches import Batches
from bnexp.training.clock import Clock, ClockState
from bnexp.training.optimizer import OptimizerState, lr_factor, make_optimizer
from bnexp.training.run_progress import RunProgress
from bnexp.training.schedule import Timeline
from bnexp.training.update import Mark, make_update, own_compiler_cache

AUDIT_EPOCHS = 10
"""The audit hashes the order of so many epochs at most. All follow from the seed in the same way, so that later ones add nothing."""


class StackState(TypedDict):
    """What must survive of a stack, as a checkpoint has it. What is read from one is not trusted: `load_state_dict` checks every value."""

    step: int
    network: dict[str, Tensor]
    optimizer: OptimizerState
    tracks: list[dict[str, float | None]]
    stopped: dict[int, dict[str, Tensor]]
    metrics: ObserverState
    clock: ClockState
    losses: Tensor
    correct: Tensor


class Stack:
    """R runs that share their structure: network, optimizer, and how far they are."""

    def __init__(self, configs: Sequence[Config], data: Dataset, device: torch.device, dtype: torch.dtype = torch.float32) -> None:
        self.configs, self.runs, self.device = list(configs), len(configs), device
        self.config = self.configs[0]  # what all members share is read from the first
        self.network = build(self.config.model, data.shape, len(data.classes), self.runs)
        init(self.network, self.config.model, [derive(config.seed, "init") for config in configs])
        self.network.to(device=device, dtype=dtype, memory_format=memory_format(len(data.shape) - 1, device))  # type: ignore[call-overload]
        self.initial_weights = weight_digests(self.network)  # before a checkpoint may replace them
        work_in_place(self.network)
        self.optimizer = make_optimizer(self.network, [config.optim for config in configs])
        self.update = make_update(self.network, self.optimizer, self.config, device)
        self.batches = Batches(data, configs, dtype)
        train = self.config.train
        self.total = train.steps if train.steps is not None else (train.epochs or 0) * self.batches.per_epoch
        freeze_at = self.config.model.bn_freeze_at or max(1, self.total // 2)
        set_up_norms(self.network, [derive(config.seed, "noise") for config in configs], freeze_at)
        self.observer = Observer(self.network, data, configs, self.total)
        self.timeline = Timeline(self.config, data.header, len(data.val), self.total, self.batches.per_epoch, self.observer.sampled)
        self.step = 0
        self.tracks = [RunProgress() for _ in configs]
        self.stopped: dict[int, dict[str, Tensor]] = {}
        """The state_dict of each run that stopped at its target, as it was then: its channels are trained on, and replaced at the end."""
        self._alone: nn.Sequential | None = None
        self.clock = Clock(device)
        self.losses: list[Tensor] = []  # [R] a step, since the last record; read only there
        self.correct: list[Tensor] = []
        self.blocks: list[tuple[Tensor, Tensor]] = []  # losses_SR and correct_SR of the steps before these, since the last record

    def warm_up(self) -> None:
        """Compiles the step where the config says so and there is one to make; on a clock of its own."""
        if self.config.compile and self.step < self.total and self.alive:
            own_compiler_cache()
            with self.clock.on("compile_s"):
                self.update.compile(*self.batches[self.step])

    @property
    def alive(self) -> list[int]:
        """The runs still in training: they have neither diverged nor stopped at their target."""
        return [run for run, track in enumerate(self.tracks) if track.diverged_at_step is None and run not in self.stopped]

    @property
    def finished(self) -> bool:
        """Whether nothing is left to train: the budget is spent, or no run is alive."""
        return self.step == self.total or not self.alive

    @property
    def unrecorded(self) -> int:
        """Steps since the last record."""
        return len(self.losses) + sum(len(losses_SR) for losses_SR, _ in self.blocks)

    def gather(self) -> None:
        """Puts the losses and right answers of single steps into a block."""
        if self.losses:
            self.blocks.append((torch.stack(self.losses), torch.stack(self.correct)))
            self.losses, self.correct = [], []

    def since_record(self) -> tuple[Tensor, Tensor]:
        """losses_SR and correct_SR of the steps since the last record."""
        self.gather()
        if not self.blocks:
            return torch.empty(0, self.runs), torch.empty(0, self.runs, dtype=torch.int64)
        if len(self.blocks) > 1:
            losses, correct = zip(*self.blocks, strict=True)
            self.blocks = [(torch.cat(losses), torch.cat(correct))]
        return self.blocks[0]

    def stop_run(self, run: int) -> None:
        """Stops a run here: what it is now it stays, whatever becomes of its channels."""
        self.tracks[run].stopped_at_step = self.step
        self.stopped[run] = unstack(self.network.state_dict(), self.runs, run)

    def alone(self, run: int) -> nn.Sequential:
        """The run's network as it is now, to be evaluated without the others: a copy, where there are any."""
        if self.runs == 1:
            return self.network
        if self._alone is None:
            data, (weight, *_) = self.batches.data, self.network.parameters()
            network = build(self.config.model, data.shape, len(data.classes), 1)
            layout = memory_format(len(data.shape) - 1, self.device)
            self._alone = network.to(device=self.device, dtype=weight.dtype, memory_format=layout)  # type: ignore[call-overload]
        own = self._alone.state_dict()
        for name, all_runs in self.network.state_dict().items():
            own[name].copy_(all_runs if all_runs.dim() == 0 else all_runs.unflatten(0, (self.runs, -1))[run])
        return self._alone

    def restore_stopped(self) -> None:
        """Gives the stopped runs the weights and buffers with which they stopped. Only `num_batches_tracked`, which all share, stays."""
        for run, own in self.stopped.items():
            restack(self.network.state_dict(), self.runs, run, own)

    def own_state(self, run: int) -> dict[str, Tensor]:
        """A run's state_dict: where it stopped, or now."""
        return self.stopped[run] if run in self.stopped else unstack(self.network.state_dict(), self.runs, run)

    def audit(self) -> list[AuditFacts]:
        """What shows of each run whether it was compared fairly: hashes of its initial weights and batches, and its kinds of parameters."""
        epochs = min(AUDIT_EPOCHS, math.ceil(self.total / self.batches.per_epoch))
        digests = zip(self.initial_weights, self.batches.order_digests(epochs), strict=True)
        counts = ParameterCounts(**parameter_counts(self.network))
        return [AuditFacts(weights, order, epochs, counts) for weights, order in digests]

    def state_dict(self) -> StackState:
        """Everything that must survive. The order of the data is a function of the step, so there is no generator to keep."""
        losses_SR, correct_SR = self.since_record()
        return {
            "step": self.step,
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "tracks": [asdict(track) for track in self.tracks],
            "stopped": self.stopped.copy(),
            "metrics": self.observer.state_dict(),
            "clock": self.clock.state_dict(),
            "losses": losses_SR,
            "correct": correct_SR,
        }

    @property
    def most_saved_bytes(self) -> int:
        """More than a checkpoint of this stack has: the network for itself, twice for the optimizer and once for what stopped, what the
        metrics remember of each channel (6 KiB at the most), and the steps between two evaluations."""
        every = self.config.train.eval_every
        unrecorded: int = min(self.total, self.batches.per_epoch if every == "auto" else every)
        own = list(self.network.state_dict().values())
        weights_bytes: int = sum(weights.numel() * weights.element_size() for weights in own)
        remembered = sum(6 * 2**10 * len(weights) for weights in own if weights.dim() > 1)
        described = 2**10 * len(own) * (4 + self.runs)
        return 4 * weights_bytes + remembered + 16 * unrecorded * self.runs + described + 2**25

    def load_state_dict(self, state: StackState) -> None:
        """Takes over what `state_dict` gave: all of it or, where a part does not fit this stack, nothing.

        Raises:
            ValueError, TypeError, KeyError, AttributeError: it does not fit.
        """
        step = whole(state["step"], 0, self.total, "step")
        weights = self.network.state_dict()
        network = tensors(state["network"], weights, "network")
        self.optimizer.check_state(state["optimizer"])
        tracks = [RunProgress.restored(track, step) for track in state["tracks"]]
        stopped = {}
        for run, own in group(state["stopped"], "stopped").items():
            own_weights = unstack(weights, self.runs, whole(run, 0, self.runs - 1, "a run"))
            stopped[run] = tensors(own, own_weights, "stopped")
        if len(tracks) != self.runs or {run for run, track in enumerate(tracks) if track.stopped_at_step is not None} != stopped.keys():
            raise ValueError("its runs are others")
        self.observer.check_state(state["metrics"], step)
        clock = Clock.restored(self.device, state["clock"])
        losses_SR = tensor(state["losses"], (None, self.runs), self.optimizer.lr.dtype, "losses")
        correct_SR = tensor(state["correct"], (len(losses_SR), self.runs), torch.int64, "correct")
        whole(len(losses_SR), 0, step, "steps since the last record")
        self.step, self.tracks, self.stopped, self.clock = step, tracks, stopped, clock
        self.network.load_state_dict(network)
        self.optimizer.load_state_dict(state["optimizer"])
        self.observer.load_state_dict(state["metrics"])
        self.losses, self.correct = [], []
        self.blocks = [(losses_SR.to(self.device), correct_SR.to(self.device))] if len(losses_SR) else []


def train_step(stack: Stack, mark: Mark = lambda part: None) -> None:
    """One update of every run: data, forward, loss, backward, step, log. `mark` is called with the name of each part as it ends."""
    x, y_RB = stack.batches[stack.step]
    stack.optimizer.prepare(lr_factor(stack.config.optim, stack.step, stack.total))
    losses_R, correct_R = stack.update(x, y_RB, mark)  # forward, loss, backward, step: see `update.Update`
    stack.losses.append(losses_R)
    stack.correct.append(correct_R)
    stack.step += 1
    mark("optimizer")
