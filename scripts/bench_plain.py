"""The plain script that a user would write for one run on digits: TensorDataset, DataLoader, nn.Module. It knows nothing of bnexp.

What it trains is what `bnexp sweep` trains: the same network and initialization, as many images in as many batches, the same optimizer
and schedule, validation loss and accuracy after each epoch, and the test set at the end. It is meant to be fair: what a careful user
leaves out (a training loss read at each step, logs, saved weights) is left out, and evaluation takes one large batch.
"""

from __future__ import annotations

import argparse
import functools
import json
import time

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

N_TRAIN, N_VAL, N_TEST = 1293, 144, 360


def plain_network(norm: bool) -> nn.Sequential:
    """The default network for 8x8 digits, written out as a user would."""
    layers: list[nn.Module] = []
    channels = 1
    for index, width in enumerate((16, 32, 64)):
        for source, stride in ((channels, 1 if index == 0 else 2), (width, 1)):
            layers += [nn.Conv2d(source, width, 3, stride=stride, padding=1, bias=not norm)]
            layers += [nn.BatchNorm2d(width)] if norm else []
            layers += [nn.ReLU()]
        channels = width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 10))


def initialize(network: nn.Module) -> None:
    """He's initialization, as bnexp has it: without norm PyTorch's own would train worse, and the accuracies would not compare."""
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu" if isinstance(module, nn.Conv2d) else "linear")
            if module.bias is not None:
                nn.init.zeros_(module.bias)


@functools.cache  # a warm worker reads them once
def digits() -> list[tuple[Tensor, Tensor]]:
    """Training, validation and test digits, normalized with the training part's statistics."""
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    x, y = torch.tensor(x, dtype=torch.float32).view(-1, 1, 8, 8), torch.tensor(y)
    parts = torch.randperm(len(y), generator=torch.Generator().manual_seed(0)).split([N_TRAIN, N_VAL, N_TEST])
    x = (x - x[parts[0]].mean()) / x[parts[0]].std()
    return [(x[part], y[part]) for part in parts]


def train(norm: str, lr: float, seed: int, batch: int, epochs: int, threads: int) -> dict[str, float | str]:
    """One run; its accuracies, and the seconds of training (batches and schedule included) and of evaluation."""
    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    part, val, test = digits()
    loader = DataLoader(TensorDataset(*part), batch_size=batch, shuffle=True, drop_last=True, num_workers=0)
    network = plain_network(norm == "batch")
    initialize(network)
    optimizer = torch.optim.SGD(network.parameters(), lr=lr, momentum=0.9)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=epochs * len(loader))
    train_s = eval_s = val_accuracy = 0.0
    for _ in range(epochs):
        start = time.perf_counter()
        network.train()
        for x, y in loader:
            optimizer.zero_grad()
            F.cross_entropy(network(x), y).backward()
            optimizer.step()
            schedule.step()
        trained = time.perf_counter()
        _, val_accuracy = evaluate(network, *val)
        train_s += trained - start
        eval_s += time.perf_counter() - trained
    start = time.perf_counter()
    _, test_accuracy = evaluate(network, *test)
    eval_s += time.perf_counter() - start
    images = batch * len(loader) * epochs
    return {
        "norm": norm,
        "val_accuracy": val_accuracy,
        "test_accuracy": test_accuracy,
        "images": images,
        "train_s": train_s,
        "eval_s": eval_s,
    }


@torch.no_grad()
def evaluate(network: nn.Module, x: Tensor, y: Tensor) -> tuple[float, float]:
    """Loss and accuracy in eval mode, in one batch."""
    network.eval()
    logits = network(x)
    return F.cross_entropy(logits, y).item(), (logits.argmax(1) == y).double().mean().item()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--norm", choices=("batch", "none"), default="batch")
    parser.add_argument("--lr", type=float, default=0.1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--threads", type=int, default=2)
    print(json.dumps(train(**vars(parser.parse_args()))))


if __name__ == "__main__":
    main()
