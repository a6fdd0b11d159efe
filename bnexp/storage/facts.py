"""The groups of a summary.json, each a frozen struct; what a key may hold is its type. A key that was not known is None.

`ListedRun` is what a list shows of a run: ten thousand summaries are decoded for one, so what it does not show is skipped. Its config is
decoded where runs are filtered or sorted by it.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct, field

from bnexp.base.files import JsonObject
from bnexp.config import DataConfig
from bnexp.config.choices import contents
from bnexp.config.fields import Value

MAX_NUMBER = 1e150
"""Nothing that is measured in float32 is larger, and its square is still a number."""

Status = Literal["finished", "diverged", "failed", "interrupted", "running"]
Whole = Annotated[int, Meta(ge=0, le=2**53)]
"""A count, a step or a seed: floats do not tell larger ones from the next."""
Number = Annotated[float, Meta(ge=-MAX_NUMBER, le=MAX_NUMBER)]
Share = Annotated[float, Meta(ge=0, le=1)]


class Budget(Struct, frozen=True):
    """The updates that the run may make, and whether it stops at its target."""

    steps: Whole | None = None
    until_target: bool | None = None


class Scores(Struct, frozen=True):
    """Loss in nats an example, accuracy in [0, 1]."""

    loss: Number | None = None
    accuracy: Share | None = None


class BatchScores(Scores, frozen=True):
    """Under batch statistics: means over shuffles of the images."""

    accuracy_std: Number | None = None
    """The standard deviation over the shuffles."""
    shuffles: Whole | None = None


class ThreeWayScores(Struct, frozen=True):
    """The test images under the three statistics; what follows them is under running statistics."""

    running: Scores = Scores()
    precise: Scores = Scores()
    batch: BatchScores = BatchScores()
    per_class_accuracy: tuple[Share | None, ...] | None = None
    confusion: tuple[tuple[Whole, ...], ...] | None = None
    """confusion[true class][predicted class], in images."""
    correct: str | None = None
    """Which images were right, in the order of the test set: packed bits in base64."""
    chance: Share | None = None
    """The share of the largest class."""


class TrainScores(Scores, frozen=True):
    """The training images in eval mode, without augmentation, at the end."""

    images: Whole | None = None


class Validation(Scores, frozen=True):
    """The validation images: at the last evaluation, and at the best one."""

    best_accuracy: Share | None = None
    best_step: Whole | None = None
    """The update after which it was reached."""


class Target(Struct, frozen=True):
    """`reached_step` is the first evaluation at or above the accuracy, `previous_step` the evaluation before; None where it was missed."""

    accuracy: Number | None = None
    reached_step: Annotated[int, Meta(ge=1, le=2**53)] | None = None
    previous_step: Whole | None = None
    reached_train_s: Number | None = None
    """Seconds of training up to that step; null where the stack has several runs."""


class ParameterCounts(Struct, frozen=True):
    """Learnable parameters by kind."""

    weights: Whole | None = None
    biases: Whole | None = None
    norm: Whole | None = None


class AuditFacts(Struct, frozen=True):
    """What says whether runs were compared fairly: hashes of initial weights and batches, and parameters by kind."""

    initial_weights: str | None = None
    batch_order: str | None = None
    batch_order_epochs: Whole | None = None
    """The epochs whose order is hashed."""
    parameters: ParameterCounts = ParameterCounts()


class RunningStatistics(Struct, frozen=True):
    """The weight that the initial (0, 1) still has in the running statistics, and whether that is small (`warm`)."""

    initial_weight: Number | None = None
    warm: bool | None = None


class Speed(Struct, frozen=True):
    """Seconds by what they were spent on, and the speed of training alone."""

    train_s: Number | None = None
    compile_s: Number | None = None
    """`torch.compile`; in no other time."""
    eval_s: Number | None = None
    metrics_s: Number | None = None
    images_per_s: Number | None = None
    """Training images, over `train_s`."""
    step_ms_median: Number | None = None
    """Milliseconds for an update."""


class DataFacts(Struct, frozen=True):
    """What was trained on: images by split, an example's shape [C, *map], and the normalization's statistics by channel."""

    name: str | None = None
    fingerprint: str | None = None
    """The hash of the user's own data."""
    shape: tuple[Whole, ...] | None = None
    classes: tuple[str, ...] | None = None
    train: Whole | None = None
    val: Whole | None = None
    test: Whole | None = None
    mean: tuple[Number | None, ...] | None = None
    std: tuple[Number | None, ...] | None = None

    @property
    def contents(self) -> str | None:
        """`digits: 10 classes: 0, 1, ...; 1,293 training, 144 validation, 360 test images`; None where that was not recorded."""
        if self.name is None or self.classes is None or self.train is None or self.val is None or self.test is None:
            return None
        return f"{self.name}: {contents(self.name, self.classes, self.train, self.val, self.test)}"


class StackFacts(Struct, frozen=True):
    """The stack that the run was trained in, and how many runs that has."""

    id: str | None = None
    width: Whole | None = None


class Environment(Struct, frozen=True):
    """What computed the numbers: recorded, not hashed."""

    bnexp: str | None = None
    python: str | None = None
    torch: str | None = None
    platform: str | None = None
    device: str | None = None
    device_type: str | None = None
    cpu_kernels: str | None = None
    """The instruction set that PyTorch uses."""
    threads: Whole | None = None
    data_root: str | None = None
    command: str | None = None


class ListedConfig(Struct, frozen=True):
    data: DataConfig = DataConfig()


class ListedData(Struct, frozen=True):
    fingerprint: str | None = None
    train: Whole | None = None
    val: Whole | None = None


class ListedTest(Struct, frozen=True):
    running: Scores | None = None


class ListedRun(Struct, frozen=True):
    """One run. A group that is None was not known when the summary was written."""

    id: str
    status: Status | Literal["unreadable"]
    steps: Whole | None = None
    val: Scores | None = None
    target: Target | None = None
    test: ListedTest | None = None
    written_at: str | None = None
    config: ListedConfig = ListedConfig()
    data: ListedData | None = None
    format: int = 0
    tree: JsonObject = field(default_factory=dict, name="(config)")  # no key of the file: see `Run.listed`
    """The whole config as it stands in the file, where it was asked for."""

    def setting(self, key: str, default: Value) -> Value:
        """The value of a config key in `tree`; `default` where a summary of an earlier version lacks it, or it is what no run writes."""
        found: Any = self.tree
        for name in key.split("."):
            if not isinstance(found, dict) or name not in found:
                return default
            found = found[name]
        if isinstance(found, list) and all(isinstance(item, int) for item in found):
            return tuple(found)
        return default if isinstance(found, (list, dict)) else found

    @property
    def val_loss(self) -> float | None:
        return self.val.loss if self.val else None

    @property
    def test_accuracy(self) -> float | None:
        return self.test.running.accuracy if self.test and self.test.running else None

    @property
    def reached_step(self) -> int | None:
        return self.target.reached_step if self.target else None

    @property
    def same_data(self) -> tuple[Any, ...]:
        """Runs that agree in this are validated on the same images."""
        asked = self.config.data
        return asked.name, asked.val_fraction, asked.subset, asked.split_seed, self.data or ListedData()


class WholeConfig(Struct, frozen=True):
    """A summary's config, as it stands there: checking it would take ten times as long."""

    config: JsonObject = field(default_factory=dict)
