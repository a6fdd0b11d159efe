"""Saved state: a stack's checkpoints in two generations, and a run's model.pt. Only tensors and plain values, read with `weights_only`."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bnexp.errors import DataError
from bnexp.files import atomic_write
from bnexp.models import build
from bnexp.run import Run

FORMAT = 1


def save_checkpoint(folder: Path, state: dict[str, Any]) -> None:
    """Writes `checkpoint.pt`; the one that was there becomes `checkpoint.prev.pt`. At any moment one of them is whole."""
    folder.mkdir(parents=True, exist_ok=True)
    current = folder / "checkpoint.pt"
    staged = folder / "checkpoint.next.pt"
    _write(staged, {"format": FORMAT, **state})
    if current.exists():
        current.replace(folder / "checkpoint.prev.pt")
    staged.replace(current)


def load_checkpoint(
    folder: Path, report: Callable[[str], None], use: Callable[[dict[str, Any]], None] = lambda state: None
) -> dict[str, Any] | None:
    """The newest checkpoint that can be read and that `use` takes, or None; `report` is told of one that cannot."""
    for path in (folder / "checkpoint.pt", folder / "checkpoint.prev.pt"):
        if not path.exists():
            continue
        try:
            state = _read(path)
        except DataError as error:
            report(f"{error} It is not used.")
            continue
        if not isinstance(state, dict) or state.get("format") != FORMAT:
            report(f"{path} has another format. It is not used.")
            continue
        try:
            use(state)
        except (KeyError, TypeError, ValueError, RuntimeError, AttributeError) as error:
            report(f"{path} does not fit ({type(error).__name__}). It is not used.")
            continue
        return state
    return None


def _write(path: Path, value: dict[str, Any]) -> None:
    buffer = io.BytesIO()  # torch turns a full disk into an error of its own; a plain write does not
    torch.save(value, buffer)
    with atomic_write(path) as file:
        file.write(buffer.getbuffer())


def _read(path: Path) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # of a file that is not ours the unpickler raises anything, IndexError and an EOFError without text among it
        reason = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
        raise DataError(f"{path} cannot be read ({reason}).") from None


def save_model(path: Path, state: dict[str, Tensor]) -> None:
    """A plain state_dict. The same weights give the same bytes: contiguous clones, through a buffer (a path would be stored)."""
    _write(path, {name: tensor.detach().cpu().contiguous().clone() for name, tensor in state.items()})


def load_model(path: Path) -> dict[str, Tensor]:
    """The state_dict of a model.pt.

    Raises:
        DataError: it is missing, truncated, or holds anything but tensors.
    """
    if not path.exists():
        raise DataError(f"{path} is not there; the run has no trained model yet. `bnexp resume` goes on with it.")
    state = _read(path)
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise DataError(f"{path} does not hold a state_dict.")
    return state


def load_network(run: Run) -> nn.Sequential:
    """A run's trained network as a plain module in eval mode: normalized x_[B, C, *map] -> logits_[B, K].

    Inputs are normalized as in training, with `mean` and `std` under `data` in the run's summary.

    Raises:
        DataError: the run's files are missing, damaged or do not belong together.
    """
    config, state = run.config(), load_model(run.model_pt)
    try:
        data = run.summary()["data"]
        network = build(config.model, tuple(data["shape"]), len(data["classes"]))
        network.load_state_dict(state)
    except (KeyError, TypeError, RuntimeError) as error:
        raise DataError(f"{run.folder}: model.pt does not fit the run's config ({str(error).splitlines()[0][:120]}).") from None
    return network.eval()
