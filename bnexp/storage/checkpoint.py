"""Saved state: a stack's checkpoints in two generations, and a run's model.pt. Only tensors and plain values."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bnexp.base.errors import DataError, reason
from bnexp.base.files import atomic_write, make_folder, open_plain, sync_folder
from bnexp.models import build
from bnexp.storage.run import Run
from bnexp.storage.torch_archive import MAX_PICKLE, read_archive

FORMAT = 1
"""Version of a checkpoint's content. model.pt has none: it is a plain state_dict, and the run's summary holds its digest."""
TENSOR_BYTES = 2**10
"""What an archive says of a tensor beside its numbers, at the most."""


def save_checkpoint(folder: Path, state: dict[str, Any]) -> None:
    """Writes `checkpoint.pt`; the one that was there becomes `checkpoint.prev.pt`. At any moment one of them is whole."""
    make_folder(folder)
    current = folder / "checkpoint.pt"
    staged = folder / "checkpoint.next.pt"
    _write(staged, {"format": FORMAT, **state})
    if current.exists():
        current.replace(folder / "checkpoint.prev.pt")
    staged.replace(current)
    sync_folder(folder)


def load_checkpoint(
    folder: Path, report: Callable[[str], None], use: Callable[[dict[str, Any]], None] = lambda state: None, most: int | None = None
) -> dict[str, Any] | None:
    """The newest checkpoint that can be read and that `use` takes, or None; `report` is called with one that cannot, and why `use` raised a
    DataError.

    Args:
        most: bytes that it may have; a larger one is not ours.
    """
    for path in (folder / "checkpoint.pt", folder / "checkpoint.prev.pt"):
        if not path.exists():
            continue
        try:
            state = _read(path, most)
        except DataError as error:
            report(f"{error} It is not used.")
            continue
        if not isinstance(state, dict) or state.get("format") != FORMAT:
            report(f"{path} has another format. It is not used.")
            continue
        try:
            use(state)
        except DataError as error:
            report(f"{path} does not fit: {error} It is not used.")
            continue
        except (LookupError, TypeError, ValueError, RuntimeError, AttributeError, ArithmeticError) as error:
            report(f"{path} does not fit ({type(error).__name__}). It is not used.")
            continue
        return state
    return None


def _write(path: Path, value: dict[str, Any]) -> None:
    buffer = io.BytesIO()  # torch turns a full disk into an error of its own; a plain write does not
    torch.save(value, buffer)
    with atomic_write(path) as file:
        file.write(buffer.getbuffer())


def _read(path: Path, most: int | None = None) -> Any:
    try:
        with open_plain(path, most) as file:
            return read_archive(file)
    except OSError as error:
        raise DataError(f"{path} cannot be read ({reason(error)}).") from None
    except Exception as error:  # of a file that is not ours anything, an error without text among it
        why = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
        raise DataError(f"{path} cannot be read ({why}).") from None


def save_model(path: Path, state: dict[str, Tensor]) -> None:
    """A plain state_dict. The same weights give the same bytes: contiguous clones, through a buffer (a path would be stored)."""
    _write(path, {name: tensor.detach().cpu().contiguous().clone() for name, tensor in state.items()})


def load_model(path: Path, most: int | None = None) -> dict[str, Tensor]:
    """The state_dict of a model.pt, of at most `most` bytes.

    Raises:
        DataError: it is missing, truncated, larger, or holds anything but tensors.
    """
    if not path.exists():
        raise DataError(f"{path} is not there; the run has no trained model yet. `bnexp resume {path.parent.name}` resumes it.")
    state = _read(path, most)
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise DataError(f"{path} does not hold a state_dict.")
    return state


def load_network(run: Run) -> nn.Sequential:
    """A run's trained network as a plain module in eval mode: normalized x_[B, C, *map] -> logits_[B, K].

    Inputs are normalized as in training, with `mean` and `std` under `data` in the run's summary.

    Raises:
        DataError: the run's files are missing, damaged or do not belong together.
    """
    config, data = run.trained_config(), run.result().data
    try:
        if data is None or data.shape is None or data.classes is None:
            raise TypeError("its summary does not say what data it was trained on")
        with torch.device("meta"):  # what a foreign config asks for takes no memory: the weights are those of the file
            network = build(config.model, data.shape, len(data.classes))
        own = network.state_dict()
        state = load_model(run.model_pt, most=sum(tensor.nbytes + TENSOR_BYTES for tensor in own.values()) + MAX_PICKLE)
        if not run.is_whole(run.model_pt):
            raise DataError(
                f"{run.model_pt} is not what the run wrote: it was damaged or replaced. `bnexp runs rm {run.id}`, and the same training, "
                "make it anew."
            )
        if {name: tensor.dtype for name, tensor in own.items()} != {name: tensor.dtype for name, tensor in state.items()}:
            raise TypeError("other names or types of weights")
        network.load_state_dict(state, assign=True)
    except (TypeError, RuntimeError) as error:
        raise DataError(f"{run.folder}: model.pt does not fit the run's config ({str(error).splitlines()[0][:120]}).") from None
    return network.eval()
