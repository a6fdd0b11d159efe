"""Where a run's numbers go while it trains: metrics.jsonl, TensorBoard, train.log."""

from __future__ import annotations

import json
import math
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path

import numpy as np
import yaml
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.graph_pb2 import GraphDef
from tensorboard.compat.proto.summary_pb2 import Summary
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from bnexp.base.errors import DataError
from bnexp.base.files import atomic_write, null_nonfinite, open_log, sync, sync_folder
from bnexp.config import Config, to_mapping
from bnexp.models import unstack
from bnexp.storage.curves import read
from bnexp.storage.run import Run
from bnexp.tensorboard.files import PATTERN, cut_after
from bnexp.tensorboard.histograms import histogram, named_tensors
from bnexp.training.fit import Evaluation, Measurement, NearTargetEvaluation
from bnexp.training.stack import Stack

FLUSH_S = 5
"""Seconds after which a running TensorBoard can see what was logged: as often as it polls."""


def _excepthook(args: threading.ExceptHookArgs, usual: Callable[[threading.ExceptHookArgs], object] = threading.excepthook) -> None:
    """The usual one, without the traceback of TensorBoard's writer when the disk is full: its next write or flush raises the error here."""
    if not (type(args.thread).__name__ == "_AsyncWriterThread" and isinstance(args.exc_value, OSError)):
        usual(args)


threading.excepthook = _excepthook


class RunLog:
    """One run's log files. Open it on a new run, or on one that is resumed at `from_step`: what was logged after that step is dropped."""

    def __init__(self, run: Run, config: Config, from_step: int = 0) -> None:
        self.run = run
        self.records = _keep_until(run.metrics_jsonl, from_step)
        """How many lines metrics.jsonl has."""
        self._synced: dict[Path, int] = {}
        with ExitStack() as files:
            self._text = files.enter_context(open_log(run.train_log))
            self._metrics = files.enter_context(open_log(run.metrics_jsonl))
            if from_step == 0:
                for old in run.folder.glob(PATTERN):
                    old.unlink()
            else:
                cut_after(run.folder, from_step)
            # With max_queue a training need not wait for the disk. purge_step has a running TensorBoard forget what an interrupted process
            # wrote past the checkpoint.
            purge_step = from_step + 1 if from_step else None
            self._board = SummaryWriter(str(run.folder), purge_step=purge_step, max_queue=1000, flush_secs=FLUSH_S)
            files.callback(self._board.close)
            self._events = self._board._get_file_writer()
            if from_step == 0:
                text = "    " + yaml.safe_dump(to_mapping(config), sort_keys=False).replace("\n", "\n    ")
                self._board.add_text("config", text, 0)
            self._files = files.pop_all()

    def record(self, step: int, epoch: float, values: Mapping[str, float]) -> None:
        """One line of metrics.jsonl and one point of each TensorBoard scalar. A non-finite number is null in the one, NaN in the other."""
        numbers = null_nonfinite({"step": step, "epoch": round(epoch, 6), **values})
        self._metrics.write(json.dumps(numbers, allow_nan=False) + "\n")  # several times as fast as `json.dump`
        self._metrics.flush()
        self.records += 1
        # One event for all: hundreds of add_scalar calls would cost more than what they log.
        points = [Summary.Value(tag=key, simple_value=value) for key, value in values.items()]
        self._events.add_summary(Summary(value=points), step)

    def record_lists(self, step: int, epoch: float, lists: Mapping[str, Sequence[float]]) -> None:
        """A line of metrics.jsonl with lists of numbers, in five digits; one with a number that is not finite is left out."""
        finite = {key: [_plain(value) for value in values] for key, values in lists.items() if all(map(math.isfinite, values))}
        if finite:
            self._metrics.write(json.dumps({"step": step, "epoch": round(epoch, 6), **finite}) + "\n")
            self._metrics.flush()
            self.records += 1

    def histograms(self, step: int, tensors: Mapping[str, Tensor]) -> None:
        """A histogram of each tensor in `BINS` bins; one with a non-finite value has none."""
        found = []
        for name, tensor in tensors.items():
            values = tensor.detach().float().cpu().numpy().ravel()
            if np.isfinite(values).all():
                found.append(Summary.Value(tag=name, histo=histogram(values)))
        self._events.add_summary(Summary(value=found), step)

    def board(self, step: int, values: Iterable[Summary.Value], graph: GraphDef | None = None) -> None:
        """What only TensorBoard shows: pictures, hparams, the layout of its charts, and the network's graph."""
        if graph is not None:
            self._events.add_event(Event(graph_def=graph.SerializeToString()))
        self._events.add_summary(Summary(value=values), step)

    def say(self, message: str) -> None:
        """A line in train.log, with the time."""
        self._text.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {message}\n")
        self._text.flush()

    def sync(self) -> None:
        """Brings to disk what was logged: a checkpoint must not be ahead of the logs that go with it, even if the machine goes down."""
        self._board.flush()
        if not self._synced:
            sync_folder(self.run.folder)
        for path in (self.run.metrics_jsonl, self.run.train_log, *self.run.folder.glob(PATTERN)):
            size = path.stat().st_size
            if self._synced.get(path) != size:
                sync(path)
                self._synced[path] = size

    def close(self) -> None:
        """Closes every file, whatever becomes of the others."""
        self._files.close()


def _plain(value: float) -> int | float:
    """Counts without a point, other numbers in five digits."""
    return int(value) if value.is_integer() and abs(value) < 2**53 else float(f"{value:.5g}")


class RunLogs:
    """The logs of a stack's members by their index in the stack; one that is trained along unwritten has none."""

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
                if event.histograms:
                    epoch = self.stack.step / self.stack.batches.per_epoch
                    log.record_lists(self.stack.step, epoch, {name: tensor[index].tolist() for name, tensor in event.histograms.items()})
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


def check_records(run: Run, step: int, had: int) -> None:
    """Raises DataError where a run's metrics.jsonl has lost some of the `had` records that it had at a checkpoint of that step: the machine
    went down before they were on disk, or the file was cut. A run that is resumed at step 0 begins anew."""
    if step and (has := len(_lines_until(run.metrics_jsonl, step))) < had:
        raise DataError(f"{run.metrics_jsonl} has {has} of the {had} records that it had then.")


def _lines_until(path: Path, step: int) -> list[str]:
    """The records up to `step`, without test scores: those come last, and will come again. Torn lines are none. At step 0 none stays."""
    if step == 0:
        return []
    return [line for line, at, record in read(path) if at <= step and not any(key.startswith("test/") for key in record)]


def _keep_until(path: Path, step: int) -> int:
    """Drops all lines but those of `_lines_until`; how many stay."""
    if not path.exists():
        return 0
    kept = _lines_until(path, step)
    with atomic_write(path) as file:
        file.write("".join(line + "\n" for line in kept).encode())
    return len(kept)
