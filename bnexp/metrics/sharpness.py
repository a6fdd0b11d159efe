"""Sharpness: the largest eigenvalue of the loss's Hessian, in train mode and in eval mode, against 2 / lr.

Gradient descent on a quadratic is stable while lambda_max < 2 / lr; networks train near that edge (Cohen et al. 2021, "Gradient Descent
on Neural Networks Typically Occurs at the Edge of Stability", section 2). With batch norm the two modes are two functions: in train mode
the batch's statistics move with the weights, in eval mode they are constants. Tools that force eval mode see only the second.

Power iteration on Hessian-vector products by double backward, over a fixed subset of at most 32 probe images; the iterates are kept
orthogonal, and the largest eigenvalue of the Hessian restricted to their span is reported (Lanczos 1950; Golub and Van Loan, Matrix
Computations, section 10.1), which converges faster than the last iterate alone and finds the largest where the one of largest size is
negative. 10 iterations from a fixed random vector, in full precision.

Keys: `sharpness/{train,eval}/lambda_max`, in units of loss per squared weight; `sharpness/{train,eval}/over_edge`, lambda_max lr / 2:
above 1 gradient descent without momentum is unstable along that direction.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from bnexp.metrics.sample import Sample
from bnexp.metrics.twin import Twin, dots, per_run
from bnexp.seeds import derive

ITERATIONS = 10
IMAGES = 32

Product = Callable[[list[Tensor]], list[Tensor]]


def measure(sample: Sample) -> dict[str, Tensor]:
    """`sharpness/{train,eval}/{lambda_max,over_edge}` -> [R]."""
    x, y_RN = sample.probe
    found = {}
    for mode in ("train", "eval"):
        largest_R = lambda_max(hessian(sample.before, x[:IMAGES], y_RN[:, :IMAGES], training=mode == "train"), sample.before)
        found[f"sharpness/{mode}/lambda_max"] = largest_R
        found[f"sharpness/{mode}/over_edge"] = largest_R * sample.lr_R / 2
    return found


def hessian(twin: Twin, x: Tensor, y_RN: Tensor, training: bool) -> Product:
    """v -> H v for each run's own Hessian: the graph of the gradient is built once and gone through at every product."""
    losses_R = twin.losses(x, y_RN, training=training, full=True)
    gradient = torch.autograd.grad(losses_R.sum(), twin.params, create_graph=True)

    def product(vectors: list[Tensor]) -> list[Tensor]:
        return list(torch.autograd.grad(gradient, twin.params, vectors, retain_graph=True))

    return product


def lambda_max(product: Product, twin: Twin, iterations: int = ITERATIONS) -> Tensor:
    """The largest eigenvalue of each run's Hessian on the span of `iterations` power iterates, [R], float64."""
    runs = twin.runs
    vector = _normalized(_start(twin), runs)[0]
    kept, diagonal, beside = [vector], [], []
    for _ in range(iterations):
        new = product(kept[-1])
        diagonal.append(dots(new, kept[-1], runs))
        for _ in range(2):  # twice is enough (Kahan): rounding would let converged directions come back
            for old in kept:
                new = _minus(new, old, dots(new, old, runs))
        new, length = _normalized(new, runs)
        beside.append(length)
        kept.append(new)
    tridiagonal = torch.stack(diagonal, 1).diag_embed()
    off = torch.stack(beside[:-1], 1) if iterations > 1 else tridiagonal.new_zeros(runs, 0)
    tridiagonal = tridiagonal + off.diag_embed(1) + off.diag_embed(-1)
    sound = tridiagonal.isfinite().flatten(1).all(1)
    values: Tensor = torch.linalg.eigvalsh(tridiagonal.where(sound[:, None, None], 0.0)).amax(1)
    largest: Tensor = values.where(sound, torch.nan)
    return largest


def _start(twin: Twin) -> list[Tensor]:
    """The same random vector for every run, whatever stack it is in."""
    generator = torch.Generator().manual_seed(derive(0, "sharpness"))
    start = []
    for param in twin.params:
        own = torch.randn(param.unflatten(0, (twin.runs, -1)).shape[1:], generator=generator)
        start.append(own.repeat(twin.runs, *[1] * (param.dim() - 1)).to(param))
    return start


def _minus(a: Sequence[Tensor], b: Sequence[Tensor], factor_R: Tensor) -> list[Tensor]:
    return [x - per_run(factor_R, x) * y for x, y in zip(a, b, strict=True)]


def _normalized(vector: list[Tensor], runs: int) -> tuple[list[Tensor], Tensor]:
    """Of unit length for each run, and the length before; a vector of no length stays one of zeros."""
    length = dots(vector, vector, runs).sqrt()
    inverse = torch.where(length > 0, 1 / length, 0.0).where(length.isfinite(), torch.nan)
    return [x * per_run(inverse, x) for x in vector], length


def cost(layers: int) -> float:
    """In training steps: a product costs about three in train mode and two in eval mode."""
    return 5.0 * ITERATIONS
