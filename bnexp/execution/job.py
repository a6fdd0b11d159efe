"""Trains one stack on this machine, from its data to its members' summaries. This is what a worker does."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from msgspec import structs

from bnexp.base.errors import BnexpError, Interrupted, UsageError, failure, more_files
from bnexp.base.signals import Stop
from bnexp.evaluate import STATS
from bnexp.execution.logs import RunLogs, check_records
from bnexp.execution.progress import StackProgress
from bnexp.execution.results import StackResults, final_scores
from bnexp.execution.session import Session, memory_in_one_sentence
from bnexp.execution.terminal import Display
from bnexp.metrics import sampling_note
from bnexp.planning.plan import StackPlan, steps_of
from bnexp.storage.checkpoint import load_checkpoint, save_checkpoint, save_model
from bnexp.storage.facts import Status
from bnexp.storage.run import Run
from bnexp.storage.stack_folder import StackFolder
from bnexp.tensorboard import run_events
from bnexp.training.fit import CheckpointDue, Evaluation, Measurement, NearTargetEvaluation, StepDone, fit
from bnexp.training.stack import Stack


def train_stack(planned: StackPlan, terminal: Display, stop: Stop, threads: int | None = None, *, download: bool = True) -> None:
    """Trains, evaluates, logs and saves the runs of one stack, from its last checkpoint where there is one.

    The caller holds the members' locks. Members that are done or `replay_only` are trained along (the plan is the plan) and left alone.

    Raises:
        UsageError: the data or the device do not fit; no run was started.
        Interrupted: `stop` said so; the state is saved.
        BnexpError: the disk is full or not writable, or memory is. The members are marked as failed.
    """
    written = [None if run.done or run.id in planned.replay_only else run for run in planned.runs]
    config = planned.configs[0]
    with memory_in_one_sentence(len(planned.runs)):
        session = Session.open(config, terminal, runs=len(planned.runs), threads=threads, download=download)
        for note in session.data.notes:
            terminal.note(note)
        if (cost := sampling_note(config, steps_of(config, session.data.header))) is not None:
            terminal.note(cost)
        stack = _restored(planned, written, session, terminal)
        if config.optim.warmup_steps >= stack.total:
            raise UsageError(f"optim.warmup_steps={config.optim.warmup_steps} leaves nothing of the {stack.total} steps of the budget.")
        job = StackTraining(stack, session, written, planned.folder, terminal)
        planned.folder.start(planned.runs, planned.configs)
        with stop.listening():
            job.run(stop)
        if stack.update.failed is not None:
            terminal.say(f"No CUDA graph could be recorded ({stack.update.failed}); the steps ran one by one, which is slower.")
    if not stack.finished:
        names = planned.runs[0].id if stack.runs == 1 else f"{stack.runs} runs"
        raise Interrupted(
            f"Interrupted at step {stack.step} of {stack.total}; {names}: state saved. `bnexp resume {_first(written)}` resumes it."
        )
    for run in written:
        if run is not None and run.fresh:
            run.promote()
    planned.folder.remove()


def _first(runs: Sequence[Run | None]) -> str:
    """The id of the first member that is written: to resume it resumes all of its stack."""
    return next(run.id for run in runs if run is not None)


def _restored(planned: StackPlan, written: list[Run | None], session: Session, terminal: Display) -> Stack:
    """The stack at its newest checkpoint up to which no member has lost its logs; a new one where there is none."""
    stack = Stack(planned.configs, session.data, session.device)

    def use(state: Any) -> None:
        had = state.get("records", {})  # early checkpoints do not say
        for run in written:
            if run is not None:
                check_records(run, state["step"], had.get(run.id, 0))
        stack.load_state_dict(state)

    if all(run is None or run.summary_json.exists() for run in written):
        state = load_checkpoint(planned.folder.folder, terminal.say, use, stack.most_saved_bytes)
        return stack if state is not None else Stack(planned.configs, session.data, session.device)
    planned.folder.remove()
    return stack


class StackTraining:
    """A stack in training: its members' logs, summaries and checkpoints. A member that is None is trained along unwritten."""

    def __init__(self, stack: Stack, session: Session, runs: list[Run | None], folder: StackFolder, terminal: Display) -> None:
        self.stack, self.data, self.runs, self.folder, self.terminal = stack, session.data, runs, folder, terminal
        self.logs, self.progress = RunLogs(stack), StackProgress(stack, runs, terminal)
        self.results = StackResults(stack, session, folder.id)

    def run(self, stop: Stop) -> None:
        """Trains until the stack is finished, or `stop`. However it ends, the summaries say how."""
        try:
            self.start()
            self.train(stop)
            if self.stack.finished:
                self.finish()
            else:
                self.save()
                self.settle("interrupted")
        except KeyboardInterrupt:
            self.settle("interrupted")  # the second Ctrl-C: only the last checkpoint is left
            raise
        except OSError as error:
            self.fail(error)
            said = failure(error) if error.filename else f"{failure(error)}: {self.folder.runs_dir}"  # a failed write names no file
            more = more_files(error, self.stack.runs)
            raise BnexpError(f"Writing the run failed: {said}.{more} `bnexp resume {_first(self.runs)}` resumes it afterwards.") from error
        except BaseException as error:
            self.fail(error)
            raise
        finally:
            self.close()

    def train(self, stop: Stop) -> None:
        """Logs, shows and saves what the training yields."""
        for event in fit(self.stack, stop=stop, display_due=self.terminal.due):
            match event:
                case StepDone():
                    self.progress.step(event)
                case Evaluation():
                    self.logs.evaluation(event)
                    self.progress.evaluation(event)
                case NearTargetEvaluation():
                    self.logs.near_target(event)
                case Measurement():
                    self.logs.measurement(event)
                case CheckpointDue():
                    self.save()

    def start(self) -> None:
        """Opens the logs, says in them what begins, and starts the progress on the terminal."""
        stack = self.stack
        shared, graph = run_events.shared(stack.config, self.data) if stack.step == 0 else ([], None)
        for index, run in enumerate(self.runs):
            if run is not None:
                if run.summary_json.exists() and run.status is None:
                    self.terminal.say(f"{run.summary_json} cannot be read; the run {'is resumed' if stack.step else 'is trained anew'}.")
                run.start(stack.configs[index])
                log = self.logs.open(index, run)
                run.write_result(self.results.of(run.id, index, "running"))
                if stack.step:
                    log.say(f"resumes at step {stack.step} of {stack.total}")
                else:
                    log.say(f"begins: {stack.total} steps, {structs.asdict(self.results.environment)}")
                    own = run_events.opening(stack.configs[index], stack.own_state(index), stack.observer.layer_map, self.data.shape)
                    log.board(0, [*shared, *own], graph)
        self.progress.begin()

    def save(self) -> None:
        self.logs.sync()
        save_checkpoint(self.folder.folder, {**self.stack.state_dict(), "records": self.logs.records})

    def fail(self, error: BaseException) -> None:
        """Marks the members as failed, as far as the disk allows."""
        self.close()  # gives back the files that the summaries may need
        with suppress(OSError):
            self.settle("failed", error=failure(error))

    def settle(self, status: Status, error: str | None = None) -> None:
        """Writes each summary with `status`, as far as the runs have come."""
        for index, run in enumerate(self.runs):
            if run is not None:
                run.write_result(structs.replace(self.results.of(run.id, index, status), error=error))

    def finish(self) -> None:
        """The evaluations, the model and the summary of each run."""
        stack = self.stack
        self.terminal.end()
        scores = final_scores(stack, self.data)
        for index, run in enumerate(self.runs):
            if run is None:
                continue
            status: Status = "finished" if stack.tracks[index].diverged_at_step is None else "diverged"
            result = self.results.of(run.id, index, status, scores)
            values = {
                f"test/{stats}/{name}": float(getattr(scores.test[stats], name)[index]) for stats in STATS for name in ("loss", "accuracy")
            }
            log = self.logs.logs[index]
            step = stack.tracks[index].stopped_at_step or stack.step
            log.record(step, step / stack.batches.per_epoch, {**values, **(scores.metrics[index] if scores.metrics else {})})
            log.say(f"{status}: test accuracy {result.test.running.accuracy:.4f} with running statistics")
            own = stack.own_state(index)
            log.board(step, run_events.closing(result, own, stack.observer.layer_map, self.data.shape, self.data.classes))
            save_model(run.model_pt, own)
            log.sync()
            log.close()
            run.write_result(structs.replace(result, files=run.digests()))

    def close(self) -> None:
        self.terminal.end()
        self.logs.close()
