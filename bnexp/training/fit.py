"""Training a stack until its budget is spent: steps, evaluations, measurements. `fit` yields an event where there is something to log, to
show or to save. The time that its consumer takes is never on the training clock; for a measurement it is on the metrics' clock."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from bnexp.evaluate import evaluate
from bnexp.metrics import Measured
from bnexp.storage.facts import Speed
from bnexp.training.optimizer import lr_factor
from bnexp.training.schedule import near_target_step, schedule
from bnexp.training.stack import Stack, train_step

BLOCK = 1024
"""Steps since the last record whose losses are tensors of their own: one takes 500 bytes, and evaluations may be a million steps apart."""
CHECKPOINT_S = 20.0
"""`train.checkpoint_every=auto`: seconds between checkpoints."""


@dataclass(frozen=True)
class StepDone:
    """A step was made after which the display is due: the last of `stack.losses` and `stack.correct`."""

    step_s: float
    """Seconds of a step, in the mean since the device was last waited for."""


@dataclass(frozen=True)
class Measurement:
    """What the metrics say of the runs that were alive, by run; distributions, where TensorBoard's histograms are due, and the report's
    histograms, [R, n] each."""

    values: Mapping[int, dict[str, float]]
    distributions: Mapping[str, Tensor]
    histograms: Mapping[str, Tensor]


@dataclass(frozen=True)
class Evaluation:
    """Slashed values of each run that was alive before; their training figures are means over the `steps` since the last evaluation."""

    values: Mapping[int, dict[str, float]]
    steps: int


@dataclass(frozen=True)
class NearTargetEvaluation:
    """Scores of an evaluation that one run alone had, near its target."""

    run: int
    values: dict[str, float]


@dataclass(frozen=True)
class CheckpointDue:
    """The state is complete, and `train.checkpoint_every` asks for it to be saved."""


Event = StepDone | Measurement | Evaluation | NearTargetEvaluation | CheckpointDue


def never() -> bool:
    return False


@dataclass
class Pace:
    """What may interrupt the steps: `stop`, the display, and a checkpoint every so many steps, or so many seconds after the last."""

    stop: Callable[[], bool]
    display_due: Callable[[], bool]
    checkpoint_every: int | str
    saved_at: float

    def checkpoint_due(self, step: int) -> bool:
        if isinstance(self.checkpoint_every, int):
            return step > 0 and step % self.checkpoint_every == 0
        return time.perf_counter() - self.saved_at >= CHECKPOINT_S

    def checkpoint(self) -> Iterator[CheckpointDue]:
        yield CheckpointDue()
        self.saved_at = time.perf_counter()  # saving may itself take longer than `CHECKPOINT_S`


def fit(stack: Stack, *, stop: Callable[[], bool] = never, display_due: Callable[[], bool] = never) -> Iterator[Event]:
    """Trains until the budget is spent or no run is alive, which `stack.finished` says, or until `stop`.

    Args:
        stop: polled before each step. The state between any two steps is complete.
        display_due: polled before each step, and must be cheap: whether to yield `StepDone` after it.
    """
    pace = Pace(stop, display_due, stack.config.train.checkpoint_every, time.perf_counter())
    stack.warm_up()
    for due in schedule(stack.timeline, start=stack.step):
        if due.sample:
            with stack.clock.on("metrics_s"):
                stack.observer.before_step()
        yield from advance(stack, due.step, pace)
        if stack.step < due.step:
            break  # it was stopped, or no run is alive
        alive = stack.alive
        if due.sample:
            with stack.clock.on("metrics_s"):  # with what it takes to log them
                yield _sample(stack, alive)
        if due.evaluate:
            yield _evaluate(stack)
        else:
            yield from _evaluate_near_target(stack)
        if due.probe:
            with stack.clock.on("metrics_s"):
                yield _measure(stack, alive, due.evaluate)
        if pace.checkpoint_due(stack.step):  # after the evaluation, so that a stack that is resumed from here does not owe it
            yield from pace.checkpoint()
    if stack.finished:
        stack.restore_stopped()


def advance(stack: Stack, until: int, pace: Pace) -> Iterator[Event]:
    """Steps up to `until`, fewer where `stop` says so or no run is left; single runs are evaluated in between as they near their target."""
    while stack.step < until and stack.alive:
        pause = min(until, *(near_target_step(stack.timeline, stack.tracks[run]) for run in stack.alive))
        yield from _steps(stack, pause, pace)
        if stack.step < pause:
            return
        if pause < until:
            yield from _evaluate_near_target(stack)
            if pace.checkpoint_due(stack.step):
                yield from pace.checkpoint()


def _steps(stack: Stack, until: int, pace: Pace) -> Iterator[Event]:
    """The steps themselves, with nothing due in between but the display and checkpoints. The device is waited for before each event, so
    that the queued steps are on the training clock and the consumer's time is not."""
    clock, waited = stack.clock, True
    while stack.step < until and not pace.stop():
        shown, saved = pace.display_due(), stack.step + 1 < until and pace.checkpoint_due(stack.step + 1)
        if waited:
            begun, begun_s, start = stack.step, clock.train_s, clock.now()
        else:
            start = time.perf_counter()
        train_step(stack)
        waited = shown or saved or stack.step == until
        end = clock.now() if waited else time.perf_counter()
        clock.lap(end - start)
        if waited:
            mean = (clock.train_s - begun_s) / (stack.step - begun)
            if stack.device.type == "cuda":  # steps are queued there, and only their mean means something
                clock.even_out(stack.step - begun, mean)
            if shown:
                yield StepDone(mean)
            if saved:
                yield from pace.checkpoint()
        if len(stack.losses) >= BLOCK:
            stack.gather()


def _evaluate(stack: Stack) -> Evaluation:
    """Evaluates the stack, and finds who has diverged and who has reached the target."""
    alive, batch, steps, clock, data = stack.alive, stack.config.train.batch_size, stack.unrecorded, stack.clock, stack.batches.data
    with clock.on("eval_s"):
        scores = evaluate(stack.network, data, data.val, stack.config)
        val_loss, val_accuracy = scores.loss.tolist(), scores.accuracy.tolist()
        losses_SR, correct_SR = stack.since_record()
        train_loss = losses_SR.double().mean(0).tolist()
        train_accuracy = (correct_SR.double().mean(0) / batch).tolist()
        _find_diverged(stack, losses_SR, val_loss)
    since_s, factor = clock.train_s - clock.recorded_s, lr_factor(stack.config.optim, stack.step - 1, stack.total)
    values = {
        run: {
            "train/loss": train_loss[run],
            "train/accuracy": train_accuracy[run],
            "val/loss": val_loss[run],
            "val/accuracy": val_accuracy[run],
            "optim/lr": stack.configs[run].optim.lr * factor,
            "speed/images_per_s": batch * steps / since_s,
            "speed/train_s": clock.train_s,
        }
        for run in alive
    }
    for run in alive:
        _evaluated(stack, run, val_loss[run], val_accuracy[run])
    stack.losses, stack.correct, stack.blocks = [], [], []
    clock.recorded_s = clock.train_s
    return Evaluation(values, steps)


def _evaluate_near_target(stack: Stack) -> Iterator[NearTargetEvaluation]:
    """Evaluates each run whose own evaluation is due for its target. What of it is not finite, the stack's next evaluation finds."""
    data = stack.batches.data
    for run in [run for run in stack.alive if near_target_step(stack.timeline, stack.tracks[run]) == stack.step]:
        with stack.clock.on("eval_s"):
            scores = evaluate(stack.alone(run), data, data.val, stack.config)
            loss, accuracy = float(scores.loss), float(scores.accuracy)
        stack.tracks[run].extra += 1
        _evaluated(stack, run, loss, accuracy)
        yield NearTargetEvaluation(run, {"near_target/loss": loss, "near_target/accuracy": accuracy})


def _evaluated(stack: Stack, run: int, loss: float, accuracy: float) -> None:
    """Keeps what an evaluation found of a run: whether it is the best, and whether it reached the target."""
    track = stack.tracks[run]
    before, track.evaluated_step = track.evaluated_step or 0, stack.step
    track.val_loss, track.val_accuracy = loss, accuracy
    if track.diverged_at_step is None and (track.best_accuracy is None or accuracy > track.best_accuracy):
        track.best_accuracy, track.best_step = accuracy, stack.step
    if track.diverged_at_step is None and track.reached_step is None and accuracy >= stack.config.train.target:
        track.reached_step, track.previous_step, track.reached_train_s = stack.step, before, stack.clock.train_s
        if stack.config.train.until_target:
            stack.stop_run(run)


def _measure(stack: Stack, alive: list[int], evaluated: bool) -> Measurement:
    """What the metrics say of the network as it is now."""
    factor = lr_factor(stack.config.optim, max(0, stack.step - 1), stack.total)
    return _measurement(stack.observer.measure(stack.step, factor * stack.optimizer.base_lr, evaluated), alive)


def _sample(stack: Stack, alive: list[int]) -> Measurement:
    """What the metrics say of the step that was just made."""
    x, y_RB = stack.batches[stack.step - 1]
    return _measurement(stack.observer.after_step(stack.step, x, y_RB, stack.optimizer.lr), alive)


def _measurement(found: Measured, alive: list[int]) -> Measurement:
    return Measurement({run: values for run, values in enumerate(found.by_run()) if run in alive}, found.distributions, found.histograms)


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


def speed(stack: Stack) -> Speed:
    """The speed of a run of the stack so far; images a second and the median step after warm-up."""
    clock = stack.clock
    steps, seconds, median = clock.after_warmup()
    rate = stack.config.train.batch_size * steps / seconds if steps else math.nan
    return Speed(clock.train_s, clock.compile_s, clock.eval_s, clock.metrics_s, rate, 1e3 * median)
