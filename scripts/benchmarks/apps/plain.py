"""The plain script that a user would write for one run: TensorDataset, DataLoader, nn.Module. It knows nothing of bnexp.

What it trains is what bnexp trains: the same network and initialization, as many images in as many batches, the same optimizer
and schedule, validation loss and accuracy after each epoch, and the test set at the end. It is meant to be fair: what a careful user
leaves out (a training loss read at each step, logs, saved weights) is left out, and evaluation takes large batches.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import time

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

N_TRAIN, N_VAL, N_TEST = 1293, 144, 360
EVALUATED = 1024
Parts = list[tuple[Tensor, Tensor]]


def plain_network(norm: bool, channels: int = 1) -> nn.Sequential:
    """The default network, written out as a user would."""
    layers: list[nn.Module] = []
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
def digits() -> Parts:
    """Training, validation and test digits, normalized with the training part's statistics."""
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    x, y = torch.tensor(x, dtype=torch.float32).view(-1, 1, 8, 8), torch.tensor(y)
    return _normalized([(x[part], y[part]) for part in _split(len(y), N_TRAIN, N_VAL, N_TEST)])


def arrays(file: str) -> Parts:
    """The same of an .npz with x_train, y_train, x_test and y_test; a tenth of the training images is for validation."""
    import numpy as np

    with np.load(file) as held:
        x, y, x_test, y_test = (torch.from_numpy(held[name]) for name in ("x_train", "y_train", "x_test", "y_test"))
    val = round(len(y) / 10)
    parts = [(x[part].float(), y[part].long()) for part in _split(len(y), len(y) - val, val)]
    return _normalized([*parts, (x_test.float(), y_test.long())])


def _split(total: int, *sizes: int) -> tuple[Tensor, ...]:
    return torch.randperm(total, generator=torch.Generator().manual_seed(0)).split(list(sizes))


def _normalized(parts: Parts) -> Parts:
    mean, std = parts[0][0].mean(), parts[0][0].std()
    return [((x - mean) / std, y) for x, y in parts]


def read(data: str) -> Parts:
    return digits() if data == "digits" else arrays(data)


def train(norm: str, lr: float, seed: int, batch: int, epochs: int, threads: int, data: str = "digits") -> dict[str, float | str]:
    """One run; its accuracies, images a second, and the seconds of training (batches and schedule included) and of evaluation."""
    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    part, val, test = read(data)
    loader = DataLoader(TensorDataset(*part), batch_size=batch, shuffle=True, drop_last=True, num_workers=0)
    network = plain_network(norm == "batch")
    initialize(network)
    optimizer = torch.optim.SGD(network.parameters(), lr=lr, momentum=0.9)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=epochs * len(loader))
    train_s, eval_s, val_accuracy = [], 0.0, 0.0
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
        train_s.append(trained - start)
        eval_s += time.perf_counter() - trained
    start = time.perf_counter()
    _, test_accuracy = evaluate(network, *test)
    eval_s += time.perf_counter() - start
    images = batch * len(loader)
    return {
        "norm": norm,
        "val_accuracy": val_accuracy,
        "test_accuracy": test_accuracy,
        "images": images * epochs,
        "images_per_s": warm_rate(images, train_s),
        "train_s": sum(train_s),
        "eval_s": eval_s,
    }


def warm_rate(images: int, epochs_s: list[float]) -> float:
    """Images a second over the epochs; the first is left out, where there are more, as a warm-up."""
    warm = epochs_s[1:] or epochs_s
    return images * len(warm) / sum(warm)


@torch.no_grad()
def evaluate(network: nn.Module, x: Tensor, y: Tensor) -> tuple[float, float]:
    """Loss and accuracy in eval mode."""
    network.eval()
    logits = torch.cat([network(part) for part in x.split(EVALUATED)])
    return F.cross_entropy(logits, y).item(), (logits.argmax(1) == y).double().mean().item()


def options(description: str | None) -> argparse.Namespace:
    """The options that every script here has."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="digits", help="digits, or an .npz file")
    parser.add_argument("--norm", choices=("batch", "none"), default="batch")
    parser.add_argument("--lr", type=float, default=0.1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    return parser.parse_args()


if __name__ == "__main__":
    print(json.dumps(train(**vars(options(__doc__)))))
