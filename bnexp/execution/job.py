"""Trains one stack on this machine, from its data to its members' summaries. This is what a worker does."""

from __future__ import annotations

import base64
import dataclasses
import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np
import torch
from msgspec import convert, structs

from bnexp.base.errors import BnexpError, Interrupted, UsageError, failure, lacks_memory, more_files, refused_as_usage
from bnexp.base.hardware import computes_bf16
from bnexp.base.signals import Stop
from bnexp.config import Config, check_fits
from bnexp.data import Dataset, fingerprint, load
from bnexp.evaluate import STATS, evaluate, norm_layers, precise_statistics, train_part
from bnexp.evaluate import Scores as StackScores
from bnexp.execution.logs import RunLog, check_records
from bnexp.execution.machine import allow_open_files, environment, keep_memory, resolve_device, set_threads
from bnexp.execution.terminal import Display, RunEvaluation, StackEvaluation
from bnexp.metrics import Measured, against_precise, tracked
from bnexp.models import unstack
from bnexp.planning.plan import StackPlan
from bnexp.storage.checkpoint import load_checkpoint, save_checkpoint, save_model
from bnexp.storage.facts import (
    AuditFacts,
    BatchScores,
    Budget,
    DataFacts,
    Environment,
    RunningStatistics,
    Scores,
    Speed,
    StackFacts,
    Target,
    ThreeWayScores,
    TrainScores,
    Validation,
)
from bnexp.storage.result import RunResult, Status
from bnexp.storage.run import Run
from bnexp.storage.stack_folder import StackFolder
from bnexp.tensorboard import run_events
from bnexp.tensorboard.histograms import named_tensors
from bnexp.training.fit import fit, parameters_a_run, speed
from bnexp.training.stack import Stack

COLD_EMA = 0.01
"""Running statistics are called cold while the initial (0, 1) has more weight in them than this."""


def train_stack(planned: StackPlan, terminal: Display, stop: Stop, threads: int | None = None, *, download: bool = True) -> None:
    """Trains, evaluates, logs and saves the runs of one stack, from its last checkpoint where there is one.

    The caller holds the members' locks. Members that are done or `replay_only` are trained along (the plan is the plan) and left alone.

    Raises:
        UsageError: the data or the device do not fit; no run was started.
        Interrupted: `stop` said so; the state is saved.
        BnexpError: the disk is full or not writable, or memory is. The members are marked as failed.
    """
    written = [None if run.done or run.id in planned.replay_only else run for run in planned.runs]
    keep_memory()
    with memory_in_one_sentence(len(planned.runs)):
        config = planned.configs[0]
        device = resolve_device(config)
        allow_open_files(len(planned.runs))
        data = load_data(config, device, terminal, download)
        check_fits(config, *data.header)  # the files may hold fewer than is known of the set
        for note in data.notes:
            terminal.note(note)
        threads = set_threads(config, data.shape, len(planned.runs), threads)
        stack = _stack(planned, written, data, device, terminal)
        if config.optim.warmup_steps >= stack.total:
            raise UsageError(f"optim.warmup_steps={config.optim.warmup_steps} leaves nothing of the {stack.total} steps of the budget.")
        job = StackTraining(stack, data, written, planned.folder, terminal, environment(device, threads, config))
        planned.folder.start(planned.runs, planned.configs)
        with stop.listening():
            whole = _run(job, stop)
        if stack.update.failed is not None:
            terminal.say(f"No CUDA graph could be recorded ({stack.update.failed}); the steps ran one by one, which is slower.")
    if not whole:
        names = planned.runs[0].id if stack.runs == 1 else f"{stack.runs} runs"
        raise Interrupted(
            f"Interrupted at step {stack.step} of {stack.total}; {names}: state saved. `bnexp resume {_first(written)}` goes on."
        )
    for run in written:
        if run is not None and run.fresh:
            run.promote()
    planned.folder.remove()


def _first(runs: Sequence[Run | None]) -> str:
    """The id of the first member that is written: to resume it resumes all of its stack."""
    return next(run.id for run in runs if run is not None)


def _stack(planned: StackPlan, written: list[Run | None], data: Dataset, device: torch.device, terminal: Display) -> Stack:
    """The stack as its newest checkpoint has it that no member has lost the logs up to; new where there is none."""
    stack = Stack(planned.configs, data, device)

    def use(state: dict[str, Any]) -> None:
        had = state.get("records", {})  # not there: it was written before records were counted
        for run in written:
            if run is not None:
                check_records(run, state["step"], had.get(run.id, 0))
        stack.load_state_dict(state)

    if all(run is None or run.summary_json.exists() for run in written):
        state = load_checkpoint(planned.folder.folder, terminal.say, use, stack.most_saved_bytes)
        return stack if state is not None else Stack(planned.configs, data, device)
    planned.folder.remove()
    return stack


def _run(job: StackTraining, stop: Stop) -> bool:
    """The training itself; False if it was interrupted. However it ends, the summaries say how."""
    try:
        job.start()
        whole = fit(
            job.stack,
            job.data,
            record=job.record,
            record_extra=job.record_extra,
            measured=job.measured,
            tick=job.tick,
            save=job.save,
            stop=stop,
        )
        if whole:
            job.finish()
        else:
            job.save()
            job.settle("interrupted")
    except KeyboardInterrupt:
        job.settle("interrupted")  # the second Ctrl-C: the last checkpoint is what there is
        raise
    except OSError as error:
        job.fail(error)
        said = failure(error) if error.filename else f"{failure(error)}: {job.folder.runs_dir}"  # a failed write names no file
        more = more_files(error, job.stack.runs)
        raise BnexpError(f"Writing the run failed: {said}.{more} `bnexp resume {_first(job.runs)}` goes on afterwards.") from error
    except BaseException as error:
        job.fail(error)
        raise
    finally:
        job.close()
    return whole


@contextmanager
def memory_in_one_sentence(runs: int = 1) -> Iterator[None]:
    """Raises BnexpError where there was not enough memory for so many runs at once, whoever noticed it first."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, torch.OutOfMemoryError) or lacks_memory(error):
            what, lower = "this run", "train.batch_size or model.widths"
            if runs > 1:
                what, lower = f"{runs} runs at once", "train.batch_size, model.widths or --seeds"
            raise BnexpError(f"There is not enough memory for {what}; lower {lower}.") from error
        raise


class StackTraining:
    """A stack in work: its members' logs, summaries and checkpoints. A member that is None is trained along unwritten."""

    def __init__(
        self, stack: Stack, data: Dataset, runs: list[Run | None], folder: StackFolder, terminal: Display, environment: dict[str, Any]
    ) -> None:
        self.stack, self.data, self.runs, self.folder, self.terminal = stack, data, runs, folder, terminal
        self.environment, self.fingerprint = environment, fingerprint(stack.config.data)
        self.logs: dict[int, RunLog] = {}
        self.recorded: list[dict[str, float]] = []
        self.expected = stack.alive
        self.audit = stack.audit()

    def start(self) -> None:
        stack = self.stack
        shared, graph = run_events.shared(stack.config, self.data) if stack.step == 0 else ([], None)
        for index, run in enumerate(self.runs):
            if run is not None:
                if run.summary_json.exists() and run.status is None:
                    self.terminal.say(f"{run.summary_json} cannot be read; the run {'goes on' if stack.step else 'is trained anew'}.")
                run.start(stack.configs[index])
                self.logs[index] = log = RunLog(run, stack.configs[index], stack.step)
                run.write_result(self.result(index, "running"))
                if stack.step:
                    log.say(f"goes on at step {stack.step} of {stack.total}")
                else:
                    log.say(f"begins: {stack.total} steps, {self.environment}")
                    own = run_events.opening(stack.configs[index], stack.own_state(index), stack.observer.layer_map, self.data.shape)
                    log.board(0, [*shared, *own], graph)
        title = stack.config.run_name if stack.runs == 1 else f"{stack.runs} runs"
        if stack.step:
            self.terminal.say(f"Going on at step {stack.step} of {stack.total}.")
        if stack.config.precision == "bf16" and stack.device.type == "cpu" and not computes_bf16():
            self.terminal.say("This CPU has no bf16 instructions: precision=bf16 is far slower on it than fp32.")
        if stack.config.compile:
            self.terminal.say("Compiling the step first; this takes some seconds, and a Ctrl-C is heeded after it.")
        self.terminal.begin(title, stack.total, stack.step)

    def tick(self) -> None:
        if self.terminal.due():
            stack = self.stack
            size = stack.config.train.batch_size
            rate = stack.runs * size / stack.clock.laps[-1] if stack.clock.laps else math.nan
            loss, accuracy = float(stack.losses[-1][stack.alive].nanmean()), float(stack.correct[-1][stack.alive].double().mean()) / size
            best = max((track.best_accuracy for track in stack.tracks if track.best_accuracy is not None), default=None)
            self.terminal.advance(stack.step, f"loss {loss:.3f}  acc {accuracy:.2f}", best, rate if stack.clock.laps else None)

    def record(self, index: int, values: dict[str, float]) -> None:
        """One line of each log; on the terminal one line for all runs."""
        stack, log = self.stack, self.logs.get(index)
        if log is not None:
            log.record(stack.step, stack.step / stack.batches.per_epoch, values)
            if self.histograms_due():
                own = unstack(stack.network.state_dict(), stack.runs, index)
                log.histograms(stack.step, named_tensors(stack.observer.layer_map, own))
            if stack.tracks[index].diverged_at_step is not None:
                log.say(f"diverged at step {stack.tracks[index].diverged_at_step}")
            elif index in stack.stopped:
                log.say(f"reached the target at step {stack.step} and stops")
        self.recorded.append(values)
        if index == self.expected[-1]:
            self.terminal.looked(self.look())
            self.expected = stack.alive
            mean = {key: sum(one[key] for one in self.recorded) / len(self.recorded) for key in ("train/loss", "val/loss", "val/accuracy")}
            of = f"mean of {len(self.recorded)} runs: " if stack.runs > 1 else ""
            self.terminal.line(
                f"step {stack.step}/{stack.total}  {of}train loss {mean['train/loss']:.4f}  "
                f"val loss {mean['val/loss']:.4f}  val accuracy {mean['val/accuracy']:.4f}"
            )
            self.recorded = []

    def record_extra(self, index: int, values: dict[str, float]) -> None:
        """One line of a run's log, of an evaluation that it alone had."""
        stack, log = self.stack, self.logs.get(index)
        if log is not None:
            log.record(stack.step, stack.step / stack.batches.per_epoch, values)
            if index in stack.stopped:
                log.say(f"reached the target at step {stack.step} and stops")
        self.expected = stack.alive

    def look(self) -> StackEvaluation:
        """What the evaluation found that was recorded last."""
        stack, tracks = self.stack, [track for track, run in zip(self.stack.tracks, self.runs, strict=True) if run is not None]
        seen = []
        for index, values in zip(self.expected, self.recorded, strict=True):
            track, seed = stack.tracks[index], stack.configs[index].seed
            if self.runs[index] is not None:
                scores = values["val/loss"], values["val/accuracy"]
                seen.append(RunEvaluation(index, seed, *scores, track.reached_step, track.diverged_at_step))
        losses = [run.val_loss for run in seen if math.isfinite(run.val_loss)]
        lost = sum(track.diverged_at_step is not None for track in tracks)
        reached = sum(track.reached_step is not None and track.diverged_at_step is None for track in tracks)
        return StackEvaluation(stack.step, sum(losses) / len(losses) if losses else math.nan, seen, len(tracks), reached, lost)

    def measured(self, found: Measured, alive: list[int]) -> None:
        """One line of each living run's logs, with histograms where there are any."""
        for index, values in enumerate(found.by_run()):
            log = self.logs.get(index)
            if log is not None and index in alive:
                step = self.stack.step
                log.record(step, step / self.stack.batches.per_epoch, values)
                log.histograms(step, {name: tensor[index] for name, tensor in found.distributions.items()})

    def histograms_due(self) -> bool:
        """At the first look of each doubling of the steps, and at the last: at every look they took 15 % of a small training's time."""
        step, before = self.stack.step, self.stack.step - self.stack.unrecorded
        return step.bit_length() > before.bit_length() or step == self.stack.total

    def save(self) -> None:
        for log in self.logs.values():
            log.sync()
        records = {log.run.id: log.records for log in self.logs.values()}
        save_checkpoint(self.folder.folder, {**self.stack.state_dict(), "records": records})

    def fail(self, error: BaseException) -> None:
        """Marks the members as failed, as far as the disk allows."""
        self.close()  # gives back the files that the summaries may need
        with suppress(OSError):
            self.settle("failed", error=failure(error))

    def settle(self, status: Status, error: str | None = None) -> None:
        """Writes each summary with `status`, as far as the runs have come."""
        for index, run in enumerate(self.runs):
            if run is not None:
                run.write_result(structs.replace(self.result(index, status), error=error))

    def finish(self) -> None:
        """The evaluations, the model and the summary of each run."""
        stack = self.stack
        self.terminal.end()
        with stack.clock.on("eval_s"):
            test = {"running": evaluate(stack.network, self.data, self.data.test, stack.config)}
            normed = bool(norm_layers(stack.network))  # without running statistics the three are one
            precise = precise_statistics(stack.network, self.data, stack.config) if normed else {}
            for stats in STATS[1:]:
                test[stats] = (
                    evaluate(stack.network, self.data, self.data.test, stack.config, stats, precise) if normed else test["running"]
                )
            train = evaluate(stack.network, self.data, train_part(self.data), stack.config)
        metrics: list[dict[str, float]] = []
        if precise and stack.config.metrics.batch_stats:
            metrics = Measured(against_precise(stack.network, stack.config.model.placement, precise), {}).by_run()
        for index, run in enumerate(self.runs):
            if run is None:
                continue
            status: Status = "finished" if stack.tracks[index].diverged_at_step is None else "diverged"
            result = self.result(index, status, test, train)
            values = {f"test/{stats}/{name}": float(getattr(test[stats], name)[index]) for stats in STATS for name in ("loss", "accuracy")}
            log = self.logs[index]
            step = stack.tracks[index].stopped_at_step or stack.step
            log.record(step, step / stack.batches.per_epoch, {**values, **(metrics[index] if metrics else {})})
            log.say(f"{status}: test accuracy {result.test.running.accuracy:.4f} with running statistics")
            own = stack.own_state(index)
            log.board(step, run_events.closing(result, own, stack.observer.layer_map, self.data.shape, self.data.classes))
            save_model(run.model_pt, own)
            log.sync()
            log.close()
            run.write_result(structs.replace(result, files=run.digests()))

    def close(self) -> None:
        self.terminal.end()
        for log in self.logs.values():
            with suppress(OSError):
                log.close()

    def tested(self, index: int, test: dict[str, StackScores] | None) -> ThreeWayScores:
        """What summary.json says under `test`. The argmax of outputs that are not numbers is the first class: a diverged run has neither a
        confusion matrix nor right answers."""
        chance = int(self.data.test.y.bincount().max()) / len(self.data.test)
        if test is None:
            return ThreeWayScores(chance=chance)
        scores = {stats: (float(found.loss[index]), float(found.accuracy[index])) for stats, found in test.items()}
        batch = BatchScores(*scores["batch"], float(test["batch"].accuracy_std[index]), test["batch"].shuffles)
        found = ThreeWayScores(Scores(*scores["running"]), Scores(*scores["precise"]), batch, chance=chance)
        if self.stack.tracks[index].diverged_at_step is not None or not math.isfinite(scores["running"][1]):
            return found
        confusion, correct = test["running"].confusion[index], test["running"].correct[index].bool()
        return structs.replace(
            found,
            per_class_accuracy=tuple((confusion.diagonal().double() / confusion.sum(1).clamp(min=1)).tolist()),
            confusion=tuple(map(tuple, confusion.tolist())),
            correct=base64.b64encode(np.packbits(correct.cpu().numpy()).tobytes()).decode(),
        )

    def result(self, index: int, status: Status, test: dict[str, StackScores] | None = None, train: StackScores | None = None) -> RunResult:
        """What summary.json says, non-finite numbers still in it."""
        stack, config, track = self.stack, self.stack.configs[index], self.stack.tracks[index]
        run = self.runs[index]
        assert run is not None
        steps = track.diverged_at_step or track.stopped_at_step or stack.step
        left = (1 - config.model.bn_momentum) ** tracked(stack.network, steps) if norm_layers(stack.network) else 0.0
        return RunResult(
            id=run.id,
            status=status,
            seed=config.seed,
            config=dataclasses.replace(config, name=config.run_name),
            budget=Budget(stack.total, config.train.until_target),
            steps=steps,
            epochs=round(steps / stack.batches.per_epoch, 4),
            diverged_at_step=track.diverged_at_step,
            parameters=parameters_a_run(stack.network, stack.runs),
            test=self.tested(index, test),
            train=TrainScores()
            if train is None
            else TrainScores(float(train.loss[index]), float(train.accuracy[index]), int(train.confusion[index].sum())),
            val=Validation(track.val_loss, track.val_accuracy, track.best_accuracy, track.best_step),
            target=Target(config.train.target, track.reached_step, track.previous_step, track.reached_train_s if stack.runs == 1 else None),
            audit=convert(self.audit[index], AuditFacts),
            running_statistics=RunningStatistics(left, left <= COLD_EMA),
            speed=Speed(**speed(stack)),
            data=DataFacts(
                name=self.data.name,
                fingerprint=self.fingerprint,
                shape=self.data.shape,
                classes=self.data.classes,
                train=len(self.data.train),
                val=len(self.data.val),
                test=len(self.data.test),
                mean=tuple(self.data.mean.tolist()),
                std=tuple(self.data.std.tolist()),
            ),
            stack=StackFacts(self.folder.id, stack.runs),
            environment=Environment(**self.environment),
            written_at=time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        )


def load_data(config: Config, device: torch.device, terminal: Display, download: bool = False) -> Dataset:
    """The data of `config` on the device, with what takes time told on the terminal. Nothing is downloaded for a saved run."""
    shown = False

    def progress(done: int, total: int) -> None:
        nonlocal shown
        if not shown:
            terminal.begin(f"Reading {config.data.name}", total)
            shown = True
        terminal.advance(done, f"{done:,} of {total:,}")

    try:
        with refused_as_usage():
            return load(config.data, device, terminal.say, progress, download=download)
    finally:
        terminal.end()
