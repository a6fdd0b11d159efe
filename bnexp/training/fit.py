"""Training a stack until its budget is spent: steps, evaluations, metrics, checkpoints."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from bnexp.config.cost import evaluation_cost
from bnexp.data import Dataset
from bnexp.evaluate import evaluate
from bnexp.metrics import Measured
from bnexp.training.optimizer import lr_factor
from bnexp.training.stack import Stack, train_step

BLOCK = 1024
"""Steps since the last record whose losses are tensors of their own: one takes 500 bytes, and evaluations may be a million steps apart."""
CHECKPOINT_S = 20.0
"""`train.checkpoint_every=auto`: seconds between checkpoints."""
EVALUATION_SHARE = 0.1
"""`train.eval_every=auto`: evaluations near the target are made as long as all of a run's together cost so much of its training at most."""
APPROACH = 6
"""The next evaluation near the target is made after this part of the way that is left to it."""


def fit(
    stack: Stack,
    data: Dataset,
    *,
    record: Callable[[int, dict[str, float]], None],
    record_extra: Callable[[int, dict[str, float]], None] = lambda run, values: None,
    measured: Callable[[Measured, list[int]], None] = lambda values, alive: None,
    tick: Callable[[], None] = lambda: None,
    save: Callable[[], None] = lambda: None,
    stop: Callable[[], bool] = lambda: False,
) -> bool:
    """Trains until the budget is spent or no run is alive; False if `stop` ended it before.

    Args:
        record: gets a run's index and its slashed values at each evaluation.
        record_extra: gets a run's index and its scores at each evaluation that it alone has, near its target.
        measured: gets what the metrics say of every run, and which runs were alive then; on the metrics' clock.
        tick: called after each step, on the clock: it must be cheap.
        save: called where a checkpoint is due. The state between any two steps is complete.
        stop: polled before each step.
    """
    saved_at = time.perf_counter()
    stack.warm_up()
    if stack.step == 0:
        _measure(stack, measured, stack.alive, evaluated=False)
    evaluations, extras = evaluation_steps(stack), extra_evaluations(stack)
    evaluation = next(evaluations, None)
    while evaluation is not None and stack.alive:
        if stack.step + 1 in stack.observer.sampled:
            with stack.clock.on("metrics_s"):
                stack.observer.before_step()
        nearing = {run: next_extra(stack, run, extras) for run in stack.alive}
        pause = min(evaluation, stack.observer.next_pause(stack.step), *nearing.values())
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
        for run in [run for run, step in nearing.items() if step == stack.step < evaluation]:
            _look_closer(stack, data, run, record_extra)
        _measure(stack, measured, alive, evaluated=stack.step == evaluation)
        if stack.step == evaluation:
            evaluation = next(evaluations, None)
        if _save_due(stack, saved_at):  # after the look, so that a stack that goes on from here does not owe it
            save()
            saved_at = time.perf_counter()
    stack.restore_stopped()
    return True


def evaluation_steps(stack: Stack) -> Iterator[int]:
    """The steps after which the whole stack is evaluated, from where it stands. `auto` is dense early on, so that steps to target are not
    quantised to epochs: from 8 on each step is sqrt(2) times the last, until the gaps are longer than an epoch; and after every epoch.
    Looking never costs more than training: a gap is at least as long as an evaluation takes, counted as a third of a step a batch.
    """
    every, epoch, total = stack.config.train.eval_every, stack.batches.per_epoch, stack.total
    step, early = stack.step, _early(stack)
    dense = next(early, total)
    while step < total:
        if every != "auto":
            step = min(total, (step // every + 1) * every)
        else:
            while dense <= step:
                dense = next(early, total)
            step = min(total, (step // epoch + 1) * epoch, dense)
        yield step


def _early(stack: Stack) -> Iterator[int]:
    cost = math.ceil(len(stack.batches.data.val) / (3 * stack.batches.size))
    early = max(8, cost)
    while early < min(stack.total, stack.batches.per_epoch / (math.sqrt(2) - 1)):
        yield early
        early = max(round(early * math.sqrt(2)), early + cost)


def extra_evaluations(stack: Stack) -> int:
    """How many evaluations each run may have near its target beside those of the whole stack: what these leave of `EVALUATION_SHARE` of the
    budget's training. None where `train.eval_every` says at which steps to evaluate."""
    if stack.config.train.eval_every != "auto":
        return 0
    data = stack.batches.data
    cost = evaluation_cost(stack.config, data.header, len(data.val))
    others = math.ceil(stack.total / stack.batches.per_epoch) + sum(1 for _ in _early(stack))
    return max(0, math.floor(EVALUATION_SHARE * stack.total / cost) - others)


def next_extra(stack: Stack, run: int, extras: int) -> int:
    """The step of the run's next evaluation of its own, the end of the budget where there is none to come before.

    As if its error fell as 1/steps from the best that it had, the run is at its target so many steps after its last evaluation; it is
    evaluated again after the `APPROACH`-th part of these: at each step in the end. All of this is what the run itself recorded, and its
    config, whatever else is in its stack.
    """
    track = stack.tracks[run]
    if track.reached_step is not None or track.evaluated_step is None or track.best_accuracy is None or track.extra >= extras:
        return stack.total
    goal = max(1 - stack.config.train.target, 0.5 / len(stack.batches.data.val))  # of all images right, half an error is left
    left = track.evaluated_step * ((1 - track.best_accuracy) / goal - 1)
    return min(stack.total, track.evaluated_step + max(1, round(left / APPROACH)))


def speed(stack: Stack) -> dict[str, float]:
    """Seconds of training, compilation, evaluation and metrics; images a second of a run and median milliseconds a step, after warm-up."""
    clock = stack.clock
    steps, seconds, median = clock.after_warmup()
    rate = stack.config.train.batch_size * steps / seconds if steps else math.nan
    return {
        "train_s": clock.train_s,
        "compile_s": clock.compile_s,
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
        values = {
            "train/loss": train_loss[run],
            "train/accuracy": train_accuracy[run],
            "val/loss": val_loss[run],
            "val/accuracy": val_accuracy[run],
            "optim/lr": stack.configs[run].optim.lr * factor,
            "speed/images_per_s": batch * steps / since_s,
            "speed/train_s": stack.clock.train_s,
        }
        _evaluated(stack, run, val_loss[run], val_accuracy[run])
        record(run, values)
    stack.losses, stack.correct, stack.blocks = [], [], []
    stack.clock.recorded_s = stack.clock.train_s


def _look_closer(stack: Stack, data: Dataset, run: int, record: Callable[[int, dict[str, float]], None]) -> None:
    """Evaluates one run for its target. What of it is not finite, the stack's next evaluation finds."""
    with stack.clock.on("eval_s"):
        scores = evaluate(stack.alone(run), data, data.val, stack.config)
        loss, accuracy = float(scores.loss), float(scores.accuracy)
    stack.tracks[run].extra += 1
    _evaluated(stack, run, loss, accuracy)
    record(run, {"near_target/loss": loss, "near_target/accuracy": accuracy})


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
