"""The floor as a script: one resident batch, `--epochs` times 40 steps."""

from __future__ import annotations

import json

import torch
from torch import nn

from benchmarks.apps.plain import options, plain_network

STEPS = 40

if __name__ == "__main__":
    asked = options(__doc__)
    torch.set_num_threads(asked.threads)
    side = 8 if asked.data == "digits" else 28
    network = plain_network(asked.norm == "batch")
    optimizer = torch.optim.SGD(network.parameters(), lr=asked.lr, momentum=0.9)
    x, y = torch.randn(asked.batch, 1, side, side), torch.randint(10, (asked.batch,))
    for _ in range(STEPS * asked.epochs):
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(x), y).backward()
        optimizer.step()
    print(json.dumps({"steps": STEPS * asked.epochs}))
