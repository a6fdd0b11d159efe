"""The floor as a script: one resident batch, `--epochs` times 40 steps."""

from __future__ import annotations

import json

import torch
from torch import nn

from benchmarks.apps.plain import options, plain_network

STEPS = 40

if __name__ == "__main__":
    arguments = options(__doc__)
    torch.set_num_threads(arguments.threads)
    side = 8 if arguments.data == "digits" else 28
    network = plain_network(arguments.norm == "batch")
    optimizer = torch.optim.SGD(network.parameters(), lr=arguments.lr, momentum=0.9)
    x, y = torch.randn(arguments.batch, 1, side, side), torch.randint(10, (arguments.batch,))
    for _ in range(STEPS * arguments.epochs):
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(x), y).backward()
        optimizer.step()
    print(json.dumps({"steps": STEPS * arguments.epochs}))
