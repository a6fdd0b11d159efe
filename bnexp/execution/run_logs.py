"""The logs of a stack's members as one object: what an event of the training becomes in each run's own files."""

from __future__ import annotations

from contextlib import suppress

from bnexp.execution.logs import RunLog
from bnexp.models import unstack
from bnexp.storage.run import Run
from bnexp.tensorboard.histograms import named_tensors
from bnexp.training.fit import Evaluation, Measurement, NearTargetEvaluation
from bnexp.training.stack import Stack


class RunLogs:
    """Each member's log by its index in the stack; one that is trained along unwritten has none."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.logs: dict[int, RunLog] = {}

    def open(self, index: int, run: Run) -> RunLog:
        self.logs[index] = RunLog(run, self.stack.configs[index], self.stack.step)
        return self.logs[index]

    @property
    def records(self) -> dict[str, int]:
        """How many records each run has, by its id."""
        return {log.run.id: log.records for log in self.logs.values()}

    def evaluation(self, event: Evaluation) -> None:
        """A record of each run that was alive; and histograms of its parameters at the first evaluation of each doubling of the steps, and
        at the last: at every evaluation they took 15 % of a small training's time."""
        stack = self.stack
        doubled = stack.step.bit_length() > (stack.step - event.steps).bit_length()
        for index, log in self.logs.items():
            if index in event.values:
                self._record(log, event.values[index])
                if doubled or stack.step == stack.total:
                    own = unstack(stack.network.state_dict(), stack.runs, index)
                    log.histograms(stack.step, named_tensors(stack.observer.layer_map, own))
                if stack.tracks[index].diverged_at_step is not None:
                    log.say(f"diverged at step {stack.tracks[index].diverged_at_step}")
                self._say_if_stopped(index, log)

    def near_target(self, event: NearTargetEvaluation) -> None:
        """A record of the run that was evaluated."""
        if event.run in self.logs:
            self._record(self.logs[event.run], event.values)
            self._say_if_stopped(event.run, self.logs[event.run])

    def measurement(self, event: Measurement) -> None:
        """A record of each run that was alive, with histograms where there are any."""
        for index, log in self.logs.items():
            if index in event.values:
                self._record(log, event.values[index])
                log.histograms(self.stack.step, {name: tensor[index] for name, tensor in event.distributions.items()})

    def _record(self, log: RunLog, values: dict[str, float]) -> None:
        log.record(self.stack.step, self.stack.step / self.stack.batches.per_epoch, values)

    def _say_if_stopped(self, index: int, log: RunLog) -> None:
        if index in self.stack.stopped:
            log.say(f"reached the target at step {self.stack.step} and stops")

    def sync(self) -> None:
        """Brings to disk what was logged."""
        for log in self.logs.values():
            log.sync()

    def close(self) -> None:
        """Closes every log that is still open, whatever becomes of the others."""
        for log in self.logs.values():
            with suppress(OSError):
                log.close()
