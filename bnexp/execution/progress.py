"""What the training of a stack shows: each event as numbers that a display takes."""

from __future__ import annotations

import math
from collections.abc import Sequence

from bnexp.base.hardware import computes_bf16
from bnexp.execution.terminal import Display, RunEvaluation, StackEvaluation
from bnexp.storage.run import Run
from bnexp.training.fit import Evaluation, StepDone
from bnexp.training.stack import Stack


class StackProgress:
    """The progress of a stack on a display; of the members, those that are written (not None) count."""

    def __init__(self, stack: Stack, runs: Sequence[Run | None], terminal: Display) -> None:
        self.stack, self.runs, self.terminal = stack, runs, terminal

    def begin(self) -> None:
        stack, config, terminal = self.stack, self.stack.config, self.terminal
        if stack.step:
            terminal.say(f"Resuming at step {stack.step} of {stack.total}.")
        if config.precision == "bf16" and stack.device.type == "cpu" and not computes_bf16():
            terminal.say("This CPU has no bf16 instructions: precision=bf16 is far slower on it than fp32.")
        if config.compile:
            terminal.say("Compiling the step first; this takes some seconds, and a Ctrl-C is heeded after it.")
        terminal.begin(config.run_name if stack.runs == 1 else f"{stack.runs} runs", stack.total, stack.step)

    def step(self, event: StepDone) -> None:
        """The last step's loss and accuracy, the best accuracy so far, and the images a second."""
        stack, size = self.stack, self.stack.config.train.batch_size
        loss, accuracy = stack.losses[-1][stack.alive], stack.correct[-1][stack.alive].double() / size
        best = max((track.best_accuracy for track in stack.tracks if track.best_accuracy is not None), default=None)
        info = f"loss {float(loss.nanmean()):.3f}  acc {float(accuracy.mean()):.2f}"
        self.terminal.advance(stack.step, info, best, stack.runs * size / event.step_s)

    def evaluation(self, event: Evaluation) -> None:
        """A point of the curves, or one line for all runs."""
        stack, found = self.stack, list(event.values.values())
        self.terminal.evaluated(self._stack_evaluation(event))
        mean = {key: sum(one[key] for one in found) / len(found) for key in ("train/loss", "val/loss", "val/accuracy")}
        of = f"mean of {len(found)} runs: " if stack.runs > 1 else ""
        self.terminal.line(
            f"step {stack.step}/{stack.total}  {of}train loss {mean['train/loss']:.4f}  "
            f"val loss {mean['val/loss']:.4f}  val accuracy {mean['val/accuracy']:.4f}"
        )

    def _stack_evaluation(self, event: Evaluation) -> StackEvaluation:
        stack = self.stack
        tracks = [track for track, run in zip(stack.tracks, self.runs, strict=True) if run is not None]
        evaluations = []
        for index, values in event.values.items():
            if self.runs[index] is not None:
                track, scores = stack.tracks[index], (values["val/loss"], values["val/accuracy"])
                evaluations.append(RunEvaluation(index, stack.configs[index].seed, *scores, track.reached_step, track.diverged_at_step))
        losses = [run.val_loss for run in evaluations if math.isfinite(run.val_loss)]
        diverged = sum(track.diverged_at_step is not None for track in tracks)
        reached = sum(track.reached_step is not None and track.diverged_at_step is None for track in tracks)
        loss = sum(losses) / len(losses) if losses else math.nan
        return StackEvaluation(stack.step, loss, evaluations, len(tracks), reached, diverged)
