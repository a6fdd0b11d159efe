"""The same run with skorch's NeuralNetClassifier: validation loss and accuracy after each epoch, the test set at the end."""

from __future__ import annotations

import json
import time
from typing import Any

import torch
from skorch import NeuralNetClassifier
from skorch.callbacks import Callback, LRScheduler
from skorch.dataset import Dataset
from skorch.helper import predefined_split
from torch import nn

from benchmarks.apps.plain import EVALUATED, initialize, options, plain_network, read, warm_rate


class Clock(Callback):
    """Seconds of each epoch's training: from its start to the end of its last training batch."""

    def __init__(self) -> None:
        self.epochs_s: list[float] = []

    def on_epoch_begin(self, net: Any, **_: Any) -> None:
        self.start = time.perf_counter()

    def on_batch_end(self, net: Any, training: bool = False, **_: Any) -> None:
        if training:
            self.end = time.perf_counter()

    def on_epoch_end(self, net: Any, **_: Any) -> None:
        self.epochs_s.append(self.end - self.start)


def main() -> None:
    arguments = options(__doc__)
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(arguments.seed)
    (x, y), (x_val, y_val), (x_test, y_test) = read(arguments.data)
    network = plain_network(arguments.norm == "batch")
    initialize(network)
    steps, clock = len(y) // arguments.batch, Clock()
    schedule = LRScheduler("CosineAnnealingLR", T_max=arguments.epochs * steps, step_every="batch")
    net = NeuralNetClassifier(
        network,
        criterion=nn.CrossEntropyLoss,
        optimizer=torch.optim.SGD,
        optimizer__momentum=0.9,
        lr=arguments.lr,
        max_epochs=arguments.epochs,
        batch_size=arguments.batch,
        iterator_train__shuffle=True,
        iterator_train__drop_last=True,
        iterator_valid__batch_size=EVALUATED,
        train_split=predefined_split(Dataset(x_val, y_val)),
        callbacks=[("clock", clock), ("schedule", schedule)],
        verbose=0,
    )
    net.fit(x, y)
    accuracy = float((net.predict(x_test) == y_test.numpy()).mean())
    rate = warm_rate(arguments.batch * steps, clock.epochs_s)
    print(json.dumps({"images_per_s": rate, "train_s": sum(clock.epochs_s), "test_accuracy": accuracy}))


if __name__ == "__main__":
    main()
