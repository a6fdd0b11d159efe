"""The test curve: loss and accuracy on the test data at each evaluation, in eval mode with running statistics, as papers plot them.

Nothing is chosen by it: target, best step and learning rate are found on validation data.
"""

from __future__ import annotations

from torch import Tensor, nn

from bnexp.config import Config
from bnexp.data import Dataset
from bnexp.evaluate import evaluate
from bnexp.metrics.declaration import Keys, Metric


def measure(network: nn.Sequential, data: Dataset, config: Config) -> dict[str, Tensor]:
    """`test_curve/{loss,accuracy}` -> [R]."""
    scores = evaluate(network, data, data.test, config)
    return {"test_curve/loss": scores.loss, "test_curve/accuracy": scores.accuracy}


METRIC = Metric(
    summary="test loss and accuracy at each evaluation; nothing is chosen by them",
    keys=(
        Keys("loss", "mean cross-entropy on the test data at each evaluation (`metrics.test_curve=true`); nothing is chosen by it", "nats"),
        Keys("accuracy", "the share of test images that are predicted right, likewise"),
    ),
)
