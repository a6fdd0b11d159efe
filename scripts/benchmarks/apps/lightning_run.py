"""The same run with Lightning's Trainer: a LightningModule, DataLoaders, validation after each epoch, the test set at the end; no logger,
no checkpoints, no progress bar."""

from __future__ import annotations

import json
import logging
import time
import warnings

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from benchmarks.apps.plain import EVALUATED, initialize, options, plain_network, read, warm_rate
from bnexp.data.vision import torchvision_datasets

torchvision_datasets()  # Lightning imports torchvision, which does not always come in a build that matches torch

import lightning  # noqa: E402


class Run(lightning.LightningModule):
    def __init__(self, network: nn.Module, lr: float, steps: int) -> None:
        super().__init__()
        self.network, self.lr, self.steps = network, lr, steps

    def training_step(self, batch: tuple[Tensor, Tensor], index: int) -> Tensor:
        x, y = batch
        return F.cross_entropy(self.network(x), y)

    def validation_step(self, batch: tuple[Tensor, Tensor], index: int) -> None:
        self.log("val_accuracy", self.accuracy(batch))

    def test_step(self, batch: tuple[Tensor, Tensor], index: int) -> None:
        self.log("test_accuracy", self.accuracy(batch))

    def accuracy(self, batch: tuple[Tensor, Tensor]) -> Tensor:
        x, y = batch
        return (self.network(x).argmax(1) == y).double().mean().float()

    def configure_optimizers(self) -> dict[str, object]:
        optimizer = torch.optim.SGD(self.network.parameters(), lr=self.lr, momentum=0.9)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=self.steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


class Clock(lightning.Callback):
    """Seconds of each epoch's training, from its first batch to the end of its last."""

    def __init__(self) -> None:
        self.epochs_s: list[float] = []
        self.start = 0.0

    def on_train_epoch_start(self, *_: object) -> None:
        self.start = time.perf_counter()

    def on_train_batch_end(self, *_: object) -> None:
        self.end = time.perf_counter()

    def on_train_epoch_end(self, *_: object) -> None:
        self.epochs_s.append(self.end - self.start)


def main() -> None:
    arguments = options(__doc__)
    warnings.simplefilter("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(arguments.seed)
    part, val, test = (TensorDataset(*one) for one in read(arguments.data))
    loader = DataLoader(part, batch_size=arguments.batch, shuffle=True, drop_last=True)
    network = plain_network(arguments.norm == "batch")
    initialize(network)
    clock = Clock()
    trainer = lightning.Trainer(
        accelerator="cpu",
        devices=1,
        max_epochs=arguments.epochs,
        callbacks=[clock],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    run = Run(network, arguments.lr, arguments.epochs * len(loader))
    trainer.fit(run, loader, DataLoader(val, batch_size=EVALUATED))
    (tested,) = trainer.test(run, DataLoader(test, batch_size=EVALUATED), verbose=False)
    rate = warm_rate(arguments.batch * len(loader), clock.epochs_s)
    print(json.dumps({"images_per_s": rate, "train_s": sum(clock.epochs_s), "test_accuracy": tested["test_accuracy"]}))


if __name__ == "__main__":
    main()
