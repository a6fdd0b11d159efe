"""Sharpness: the largest eigenvalue of the loss's Hessian, in train mode and in eval mode, against 2 / lr.

Gradient descent on a quadratic is stable while lambda_max < 2 / lr; networks train near that edge (Cohen et al. 2021, "Gradient Descent
on Neural Networks Typically Occurs at the Edge of Stability", section 2). With batch norm the two modes are two functions: in train mode
the batch's statistics move with the weights, in eval mode they are constants. Tools that force eval mode see only the second. Without norm
the modes are one.

Power iteration on Hessian-vector products by double backward, on a fixed subset: at most 32 of the probe images. The iterates are kept
orthogonal, and the largest eigenvalue of the Hessian restricted to their span is reported (Lanczos; Golub and Van Loan, Matrix
Computations, section 10.1), which converges faster than the last iterate alone, and finds the largest where the one of largest size is
negative. From a fixed random vector, in full precision, until two iterations in a row change it by less than 0.2 %, or 20 are made.
It is a lower bound: of 48 states of networks on digits, 47 were within 0.1 % of what sixty iterations find, and one was 5 % too low.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from bnexp.base.seeds import derive
from bnexp.evaluate import norm_layers
from bnexp.metrics.declaration import Keys, SampledMetric
from bnexp.metrics.network_copy import NetworkCopy, Sample

ITERATIONS, TOLERANCE, AT_REST = 20, 0.002, 2
IMAGES = 32
ROUNDING = 1e-6

Product = Callable[[Tensor], Tensor]


def measure(sample: Sample) -> dict[str, Tensor]:
    """`sharpness/{train,eval}/{lambda_max,over_edge}` -> [R]."""
    (x, y_RN), clone, found = sample.probe, sample.before, {}
    largest_R = None
    for mode in ("train", "eval"):
        if largest_R is None or norm_layers(clone.network):
            product = hessian(clone, x[:IMAGES], y_RN[:, :IMAGES], training=mode == "train")
            largest_R = lambda_max(product, start(clone))
        found[f"sharpness/{mode}/lambda_max"] = largest_R
        found[f"sharpness/{mode}/over_edge"] = largest_R * sample.lr_R / 2
    return found


def hessian(clone: NetworkCopy, x: Tensor, y_RN: Tensor, training: bool) -> Product:
    """v_[R, D] -> H v_[R, D] for each run's own Hessian, where D counts a run's parameters in the order of the network. The graph of the
    gradient is built once, and gone through at every product."""
    losses_R = clone.losses(x, y_RN, training=training, full=True)
    gradient_RD = _flat(torch.autograd.grad(losses_R.sum(), clone.params, create_graph=True), clone.runs)

    def product(vectors_RD: Tensor) -> Tensor:
        # The gradient of a number: `grad_outputs` would make PyTorch import its symbolic shapes, a quarter of a second.
        return _flat(torch.autograd.grad((gradient_RD * vectors_RD).sum(), clone.params, retain_graph=True), clone.runs)

    return product


def _flat(parts: Sequence[Tensor], runs: int) -> Tensor:
    """Tensors as parameters have them, [R*rows, ...], side by side: [R, D]."""
    return torch.cat([part.unflatten(0, (runs, -1)).flatten(1) for part in parts], dim=1)


def lambda_max(product: Product, start_RD: Tensor, iterations: int = ITERATIONS, tolerance: float = TOLERANCE) -> Tensor:
    """The largest eigenvalue of each run's Hessian on the span of its power iterates from `start`, [R], float64; NaN where one is not
    finite. Each run's value is that of the iteration in which it came to rest, whatever the others in its stack still do."""
    kept_RKD = nn.functional.normalize(start_RD, dim=1).unsqueeze(1)
    runs, iterations = len(start_RD), min(iterations, start_RD.shape[1])
    tridiagonal = torch.zeros(runs, iterations, iterations, dtype=torch.float64, device=start_RD.device)
    exhausted_R = torch.zeros(runs, dtype=torch.bool, device=start_RD.device)
    found_R = torch.full_like(tridiagonal[:, 0, 0], torch.nan)
    resting_R = torch.zeros(runs, dtype=torch.int64, device=start_RD.device)
    for k in range(iterations):
        new_RD = product(kept_RKD[:, -1])
        quotient_R = (new_RD * kept_RKD[:, -1]).sum(1, dtype=torch.float64)
        tridiagonal[:, k, k] = quotient_R.where(~exhausted_R, tridiagonal[:, 0, 0])  # which is no larger than the largest
        now_R = _largest(tridiagonal[:, : k + 1, : k + 1])
        moves_R = ((now_R - found_R).abs() > tolerance * now_R.abs()) | (found_R.isnan() & now_R.isfinite())
        found_R = found_R.where(resting_R >= AT_REST, now_R)
        resting_R = torch.where((resting_R >= AT_REST) | ~moves_R, resting_R + 1, 0)
        if k + 1 == iterations or bool((resting_R >= AT_REST).all()):
            break
        for _ in range(2):  # twice is enough (Parlett 1998, section 6.9): rounding would let converged directions come back
            along_RK1 = torch.bmm(kept_RKD, new_RD.unsqueeze(2))
            new_RD = new_RD - (along_RK1 * kept_RKD).sum(1)
        length_R = torch.linalg.vector_norm(new_RD, dim=1)
        # Below rounding the iterates span all that they ever will: what is left is noise, and would be taken for a direction.
        exhausted_R |= length_R <= ROUNDING * tridiagonal.abs().amax((1, 2))
        tridiagonal[:, k, k + 1] = tridiagonal[:, k + 1, k] = length_R.where(~exhausted_R, 0.0)
        direction_RD = torch.where(exhausted_R.unsqueeze(1), 0.0, new_RD / length_R.unsqueeze(1))
        kept_RKD = torch.cat([kept_RKD, direction_RD.unsqueeze(1)], dim=1)
    return found_R


def _largest(symmetric_RKK: Tensor) -> Tensor:
    finite_R = symmetric_RKK.isfinite().flatten(1).all(1)
    values: Tensor = torch.linalg.eigvalsh(symmetric_RKK.where(finite_R[:, None, None], 0.0)).amax(1)
    return values.where(finite_R, torch.nan)


def start(clone: NetworkCopy) -> Tensor:
    """The same random vector for every run, whatever stack it is in, [R, D]."""
    own = torch.randn(sum(view[0].numel() for view in clone.views), generator=torch.Generator().manual_seed(derive(0, "sharpness")))
    return own.to(clone.params[0]).expand(clone.runs, -1)


METRIC = SampledMetric(
    summary="largest eigenvalue of the Hessian, in train and in eval mode",
    measure=measure,
    cost=lambda layers: 80.0,  # some ten products a mode, at three to five steps each
    keys=(
        Keys(
            "{train,eval}/lambda_max",
            "largest eigenvalue of the Hessian on 32 images, with batch statistics and with running ones",
            "of the loss, per squared weight",
            "Cohen et al. 2021, section 2",
        ),
        Keys(
            "{train,eval}/over_edge",
            "lambda_max lr/2 with the learning rate in force: above 1 gradient descent without momentum is unstable in that direction",
            source="the same",
        ),
    ),
)
