"""GPU: stacks, and how much of the GPU a step uses.

Training steps on device=cuda after a warm-up, queued and waited for after every 20. The share is that of the TFLOP/s of a bf16 product of
two 8192x8192 matrices, with the operations of forward and backward as PyTorch counts them.
"""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.children import Worker, bnexp_worker, scratch
from benchmarks.group import Request, budget, noise
from benchmarks.rows import Row, Target, at_least, figure, measured, not_measured, ratio
from benchmarks.sides import Sides

NAME, REPETITIONS = "gpu", 3
RUNS, SECONDS = 64, 2.0
FASTER = at_least(20)
SHARE = at_least(0.40)
ON = ["device=cuda", "metrics=off", *budget(10**6)]
STACKED = f"digits, batch 32: {RUNS} runs in a stack, and one after the other"
STACKED_28 = f"28x28, batch 32: {RUNS} runs in a stack, and one after the other"
WIDE = "3x32x32, batch 512, widths 64/128/256, bf16"
MNIST = "28x28, batch 256, bf16"
NO_GPU = "no CUDA GPU"


def rows(request: Request) -> Iterator[Row]:
    with scratch() as folder, bnexp_worker(folder, threads=1) as own:
        name = own.ask("benchmarks.library:cuda")
        if name is None:
            yield not_measured(NAME, STACKED, NO_GPU, FASTER)
            yield not_measured(NAME, STACKED_28, NO_GPU)
            yield not_measured(NAME, WIDE, NO_GPU, SHARE)
            yield not_measured(NAME, MNIST, NO_GPU)
            return
        yield _stacked(request, own, STACKED, ON, FASTER, name)
        yield _stacked(request, own, STACKED_28, [*noise(own, folder, 6_000, 200), *ON], None, name)
        images = noise(own, folder, 20_000, 200, shape=(3, 32, 32))
        wide = [*images, "train.batch_size=512", "model.widths=[64,128,256]", "precision=bf16", *ON]
        yield _share(request, own, WIDE, wide, SHARE, name)
        images = [*noise(own, folder, 60_000, 200), "train.batch_size=256", "precision=bf16", *ON]
        yield _share(request, own, MNIST, images, None, name)


def _stacked(request: Request, own: Worker, name: str, overrides: list[str], target: Target | None, gpu: str) -> Row:
    def ms(width: int) -> float:
        return float(own.ask("benchmarks.library:step_ms", overrides=overrides, width=width, seconds=SECONDS)["ms"])

    taken = Sides.measure(NAME, {"separate": lambda: ms(1), "stack": lambda: ms(RUNS)}, request.repetitions)
    shown = {"separate": "separate", "stack": "stack"}
    return taken.row(name, "ms a run and step", shown, ("separate / stack", "separate", "stack"), target, remark=gpu)


def _share(request: Request, own: Worker, name: str, overrides: list[str], target: Target | None, gpu: str) -> Row:
    share = {"step": lambda: own.ask("benchmarks.library:share_of_matmul", overrides=overrides, seconds=SECONDS)}
    taken = Sides.measure(NAME, share, request.repetitions)
    if taken.failed:
        return not_measured(NAME, name, taken.failed["step"], target)
    each = {key: [one[key] for one in taken.found["step"]] for key in ("images_per_s", "tflops", "matmul")}
    figures = [
        figure("training", "images/s", each["images_per_s"]),
        figure("training", "TFLOP/s", each["tflops"]),
        figure("matmul", "TFLOP/s", each["matmul"]),
    ]
    return measured(NAME, name, figures, ratio("training / matmul", each["tflops"], each["matmul"]), target, load=taken.load, remark=gpu)
