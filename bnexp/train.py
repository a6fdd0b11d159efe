"""Training a stack: R runs in lock-step, one program. A single run is a stack of one.

A diverged run stays inside its own channels: a loss that is not finite makes its own gradients so, and nobody else's.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor, nn

from bnexp.batches import Batches
from bnexp.clock import Clock
from bnexp.config import Config
from bnexp.data import Dataset
from bnexp.evaluate import autocast, evaluate
from bnexp.metrics import Measured, Observer
from bnexp.models import (
    build,
    init,
    logits,
    losses,
    memory_format,
    parameter_counts,
    restack,
    set_up_norms,
    unstack,
    weight_digests,
)
from bnexp.optim import lr_factor, make_optimizer
from bnexp.saved_state import group, tensor, tensors, whole
from bnexp.seeds import derive
from bnexp.track import Track

BLOCK = 1024
"""Steps since the last record whose losses are tensors of their own: one takes 500 bytes, and evaluations may be a million steps apart."""
CHECKPOINT_S = 20.0
"""`train.checkpoint_every=auto`: seconds between checkpoints."""
AUDIT_EPOCHS = 10
"""The audit hashes the order of so many epochs at most. All follow from the seed in the same way, so that later ones tell no more."""


class Stack:
    """R runs that share their structure: network, optimizer, and how far they are."""

    def __init__(self, configs: Sequence[Config], data: Dataset, device: torch.device, dtype: torch.dtype = torch.float32) -> None:
        self.configs, self.runs, self.device = list(configs), len(configs), device
        self.config = self.configs[0]  # what all members share is read from the first
        self.network = build(self.config.model, data.shape, len(data.classes), self.runs)
        init(self.network, self.config.model, [derive(config.seed, "init") for config in configs])
        self.network.to(device=device, dtype=dtype, memory_format=memory_format(len(data.shape) - 1, device))  # type: ignore[call-overload]
        self.initial_weights = weight_digests(self.network)  # before a checkpoint may replace them
        self.optimizer = make_optimizer(self.network, [config.optim for config in configs])
        self.batches = Batches(data, configs, dtype)
        train = self.config.train
        self.total = train.steps if train.steps is not None else (train.epochs or 0) * self.batches.per_epoch
        freeze_at = self.config.model.bn_freeze_at or max(1, self.total // 2)
        set_up_norms(self.network, [derive(config.seed, "noise") for config in configs], freeze_at)
        self.observer = Observer(self.network, data, configs, self.total)
        self.step = 0
        self.tracks = [Track() for _ in configs]
        self.stopped: dict[int, dict[str, Tensor]] = {}
        """The state_dict of each run that stopped at its target, as it was then: its channels are trained on, and replaced at the end."""
        self.clock = Clock(device)
        self.losses: list[Tensor] = []  # [R] a step, since the last record; read only there
        self.correct: list[Tensor] = []
        self.blocks: list[tuple[Tensor, Tensor]] = []  # losses_SR and correct_SR of the steps before these, since the last record

    @property
    def alive(self) -> list[int]:
        """The runs that go on: they have neither diverged nor stopped at their target."""
        return [run for run, track in enumerate(self.tracks) if track.diverged_at_step is None and run not in self.stopped]

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

    def set_aside(self, run: int) -> None:
        """Stops a run here: what it is now it stays, whatever becomes of its channels."""
        self.tracks[run].stopped_at_step = self.step
        self.stopped[run] = unstack(self.network.state_dict(), self.runs, run)

    def put_back(self) -> None:
        """Gives the stopped runs the weights and buffers with which they stopped. Only `num_batches_tracked`, which all share, stays."""
        for run, own in self.stopped.items():
            restack(self.network.state_dict(), self.runs, run, own)

    def own_state(self, run: int) -> dict[str, Tensor]:
        """A run's state_dict: where it stopped, or now."""
        return self.stopped[run] if run in self.stopped else unstack(self.network.state_dict(), self.runs, run)

    def audit(self) -> list[dict[str, Any]]:
        """What tells of each run whether it was compared fairly: hashes of its initial weights and batches, and its kinds of parameters."""
        epochs, counts = min(AUDIT_EPOCHS, math.ceil(self.total / self.batches.per_epoch)), parameter_counts(self.network)
        return [
            {"initial_weights": weights, "batch_order": order, "batch_order_epochs": epochs, "parameters": counts}
            for weights, order in zip(self.initial_weights, self.batches.order_digests(epochs), strict=True)
        ]

    def state_dict(self) -> dict[str, Any]:
        """Everything that must survive. The order of the data is a function of the step, so there is no generator to keep."""
        losses_SR, correct_SR = self.since_record()
        return {
            "step": self.step,
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "tracks": [asdict(track) for track in self.tracks],
            "stopped": dict(self.stopped),
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

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes over what `state_dict` gave: all of it or, where a part does not fit this stack, nothing.

        Raises:
            ValueError, TypeError, KeyError, AttributeError: it does not fit.
        """
        step = whole(state["step"], 0, self.total, "step")
        weights = self.network.state_dict()
        network = tensors(state["network"], weights, "network")
        self.optimizer.check_state(state["optimizer"])
        tracks = [Track.restored(track, step) for track in state["tracks"]]
        stopped = {run: tensors(own, unstack(weights, self.runs, run), "stopped") for run, own in _by_run(state["stopped"], self.runs)}
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


def _by_run(saved: Any, runs: int) -> list[tuple[int, Any]]:
    return [(whole(run, 0, runs - 1, "a run"), own) for run, own in group(saved, "stopped").items()]


def train_step(stack: Stack, mark: Callable[[str], None] = lambda part: None) -> None:
    """One update of every run: data, forward, loss, backward, step, log. `mark` is told the name of each part as it ends."""
    x, y_RB = stack.batches[stack.step]
    with autocast(stack.config, stack.device):
        logits_RBK = logits(stack.network, x)
    logits_RBK = logits_RBK.to(x.dtype)  # the loss in full precision
    losses_R = losses(logits_RBK, y_RB)
    mark("forward")
    stack.optimizer.zero_grad()
    losses_R.sum().backward()
    mark("backward")
    stack.optimizer.set_lr(lr_factor(stack.config.optim, stack.step, stack.total))
    stack.optimizer.step()
    stack.losses.append(losses_R.detach())
    stack.correct.append((logits_RBK.detach().argmax(2) == y_RB).sum(1))
    stack.step += 1
    mark("optimizer")


def fit(
    stack: Stack,
    data: Dataset,
    *,
    record: Callable[[int, dict[str, float]], None],
    measured: Callable[[Measured, list[int]], None] = lambda values, alive: None,
    tick: Callable[[], None] = lambda: None,
    save: Callable[[], None] = lambda: None,
    stop: Callable[[], bool] = lambda: False,
) -> bool:
    """Trains until the budget is spent or no run is alive; False if `stop` ended it before.

    Args:
        record: gets a run's index and its slashed values at each evaluation.
        measured: gets what the metrics say of every run, and which runs were alive then; on the metrics' clock.
        tick: called after each step, on the clock: it must be cheap.
        save: called where a checkpoint is due. The state between any two steps is complete.
        stop: polled before each step.
    """
    saved_at = time.perf_counter()
    if stack.step == 0:
        _measure(stack, measured, stack.alive, evaluated=False)
    evaluations = pauses(stack)
    evaluation = next(evaluations, None)
    while evaluation is not None and stack.alive:
        if stack.step + 1 in stack.observer.sampled:
            with stack.clock.on("metrics_s"):
                stack.observer.before_step()
        pause = min(evaluation, stack.observer.next_pause(stack.step))
        begun, begun_s = stack.step, stack.clock.train_s
        while stack.step < pause:
            if stop():
                return False
            start = stack.clock.now() if stack.step == begun else time.perf_counter()
            train_step(stack)
            tick()
            end = stack.clock.now() if stack.step == pause else time.perf_counter()
            stack.clock.lap(end - start)
            if len(stack.losses) >= BLOCK:
                stack.gather()
            if stack.step < pause and _save_due(stack, saved_at):
                save()
                saved_at = time.perf_counter()
        if stack.device.type == "cuda":  # steps are queued there, and only the stretch's mean means something
            stack.clock.even_out(stack.step - begun, (stack.clock.train_s - begun_s) / max(1, stack.step - begun))
        alive = stack.alive
        if stack.step in stack.observer.sampled:
            _sample(stack, measured, alive)
        if stack.step == evaluation:
            _look(stack, data, record)
        _measure(stack, measured, alive, evaluated=stack.step == evaluation)
        if stack.step == evaluation:
            evaluation = next(evaluations, None)
        if _save_due(stack, saved_at):  # after the look, so that a stack that goes on from here does not owe it
            save()
            saved_at = time.perf_counter()
    stack.put_back()
    return True


def pauses(stack: Stack) -> Iterator[int]:
    """The steps after which the stack is evaluated, from where it stands. `auto` is dense early on, so that steps to target are not
    quantised to epochs: from 8 on each step is sqrt(2) times the last, until the gaps are longer than an epoch; and after every epoch.
    Looking never costs more than training: a gap is at least as long as an evaluation takes, counted as a third of a step a batch."""
    every, epoch, total = stack.config.train.eval_every, stack.batches.per_epoch, stack.total
    cost = math.ceil(len(stack.batches.data.val) / (3 * stack.batches.size))
    step, early = stack.step, max(8, cost)
    while step < total:
        if every != "auto":
            step = min(total, (step // every + 1) * every)
        else:
            while early <= step:
                early = max(round(early * math.sqrt(2)), early + cost)
            dense = early if early < epoch / (math.sqrt(2) - 1) else total
            step = min(total, (step // epoch + 1) * epoch, dense)
        yield step


def speed(stack: Stack) -> dict[str, float]:
    """Seconds of training, evaluation and metrics; a run's training images a second and median milliseconds a step, warm-up left out."""
    clock = stack.clock
    steps, seconds, median = clock.after_warmup()
    rate = stack.config.train.batch_size * steps / seconds if steps else math.nan
    return {
        "train_s": clock.train_s,
        "eval_s": clock.eval_s,
        "metrics_s": clock.metrics_s,
        "images_per_s": rate,
        "step_ms_median": 1e3 * median,
    }


def _look(stack: Stack, data: Dataset, record: Callable[[int, dict[str, float]], None]) -> None:
    """Evaluates, finds who has diverged, and records one line for each run that was alive."""
    alive, batch, steps = stack.alive, stack.config.train.batch_size, stack.unrecorded
    with stack.clock.on("eval_s"):
        scores = evaluate(stack.network, data, data.val, stack.config)
        val_loss, val_accuracy = scores.loss.tolist(), scores.accuracy.tolist()
        losses_SR, correct_SR = stack.since_record()
        train_loss = losses_SR.double().mean(0).tolist()
        train_accuracy = (correct_SR.double().mean(0) / batch).tolist()
        _find_diverged(stack, losses_SR, val_loss)
    since_s, factor = stack.clock.train_s - stack.clock.recorded_s, lr_factor(stack.config.optim, stack.step - 1, stack.total)
    for run in alive:
        track = stack.tracks[run]
        values = {
            "train/loss": train_loss[run],
            "train/accuracy": train_accuracy[run],
            "val/loss": val_loss[run],
            "val/accuracy": val_accuracy[run],
            "optim/lr": stack.configs[run].optim.lr * factor,
            "speed/images_per_s": batch * steps / since_s,
            "speed/train_s": stack.clock.train_s,
        }
        track.val_loss, track.val_accuracy = val_loss[run], val_accuracy[run]
        if track.diverged_at_step is None and (track.best_accuracy is None or val_accuracy[run] > track.best_accuracy):
            track.best_accuracy, track.best_step = val_accuracy[run], stack.step
        if track.diverged_at_step is None and track.reached_step is None and val_accuracy[run] >= stack.config.train.target:
            track.reached_step, track.reached_train_s = stack.step, stack.clock.train_s
            if stack.config.train.until_target:
                stack.set_aside(run)
        record(run, values)
    stack.losses, stack.correct, stack.blocks = [], [], []
    stack.clock.recorded_s = stack.clock.train_s


def _measure(stack: Stack, measured: Callable[[Measured, list[int]], None], alive: list[int], evaluated: bool) -> None:
    """What the metrics say of the network as it is now, where they are due."""
    if stack.observer.look_due(stack.step, evaluated):
        with stack.clock.on("metrics_s"):
            factor = lr_factor(stack.config.optim, max(0, stack.step - 1), stack.total)
            measured(stack.observer.look(stack.step, factor * stack.optimizer.base_lr, evaluated), alive)


def _sample(stack: Stack, measured: Callable[[Measured, list[int]], None], alive: list[int]) -> None:
    """What the metrics say of the step that was just made."""
    with stack.clock.on("metrics_s"):
        x, y_RB = stack.batches[stack.step - 1]
        measured(stack.observer.after_step(stack.step, x, y_RB, stack.optimizer.lr), alive)


def _find_diverged(stack: Stack, losses_SR: Tensor, val_loss: list[float]) -> None:
    """A run has diverged at the first step whose loss is not finite, or now, if its weights, buffers or validation loss are not."""
    first_step = stack.step - len(losses_SR) + 1
    bad_SR = ~losses_SR.isfinite()
    finite = torch.ones(stack.runs, dtype=torch.bool, device=stack.device)
    for values in stack.network.state_dict().values():
        if values.dim() > 0:
            finite &= values.unflatten(0, (stack.runs, -1)).flatten(1).isfinite().all(1)
    for run in stack.alive:
        if bad_SR[:, run].any():
            stack.tracks[run].diverged_at_step = first_step + int(bad_SR[:, run].int().argmax())
        elif not finite[run] or not math.isfinite(val_loss[run]):
            stack.tracks[run].diverged_at_step = stack.step


def _save_due(stack: Stack, saved_at: float) -> bool:
    every = stack.config.train.checkpoint_every
    if every == "auto":
        return time.perf_counter() - saved_at >= CHECKPOINT_S
    return stack.step % every == 0


def parameters_a_run(network: nn.Module, runs: int) -> int:
    """Learnable parameters of one run."""
    return sum(param.numel() for param in network.parameters()) // runs
