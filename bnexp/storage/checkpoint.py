"""Saved state: a stack's checkpoints in two generations, and a run's model.pt. Only tensors and plain values."""

from __future__ import annotations

import io
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bnexp.base.errors import DataError, reason
from bnexp.base.files import atomic_write, make_folder, open_plain, sync_folder
from bnexp.models import build
from bnexp.storage.run import Run

State = dict[str, Any]
"""What a stack saves, by name: tensors, texts, numbers, None, and lists, tuples and dicts of them. `saved_state` checks what is read."""
FORMAT = 1
"""Version of a checkpoint's content. model.pt has none: it is a plain state_dict, and the run's summary holds its digest."""
TENSOR_BYTES = 2**10
"""What an archive says of a tensor beside its numbers, at the most."""
MAX_PICKLE = 2**24
"""Bytes of the pickle inside, which may make a hundred times as many of memory: it says where the tensors are. A stack of two thousand runs
that all stopped at their target has about as many, one of eight below a hundredth."""


def save_checkpoint(folder: Path, state: State) -> None:
    """Writes `checkpoint.pt`; the previous one becomes `checkpoint.prev.pt`. At any moment one of them is whole."""
    make_folder(folder)
    current = folder / "checkpoint.pt"
    staged = folder / "checkpoint.next.pt"
    _write(staged, {"format": FORMAT, **state})
    if current.exists():
        current.replace(folder / "checkpoint.prev.pt")
    staged.replace(current)
    sync_folder(folder)


def load_checkpoint(
    folder: Path, report: Callable[[str], None], use: Callable[[State], None] = lambda state: None, most: int | None = None
) -> State | None:
    """The newest checkpoint of at most `most` bytes that `use` takes, or None; `report` gets the reason why one is not used."""
    for path in (folder / "checkpoint.pt", folder / "checkpoint.prev.pt"):
        if path.exists():
            try:
                return _taken(path, use, most)
            except DataError as error:
                report(f"{error} It is not used.")
    return None


def _taken(path: Path, use: Callable[[State], None], most: int | None) -> State:
    state = _read(path, most)
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise DataError(f"{path} has another format.")
    try:
        use(state)
    except DataError as error:
        raise DataError(f"{path} does not fit: {error}") from None
    except (LookupError, TypeError, ValueError, RuntimeError, AttributeError, ArithmeticError) as error:
        raise DataError(f"{path} does not fit ({type(error).__name__}).") from None
    return state


def _write(path: Path, value: State) -> None:
    buffer = io.BytesIO()  # torch turns a full disk into an error of its own; a plain write does not
    torch.save(value, buffer)
    with atomic_write(path) as file:
        file.write(buffer.getbuffer())


def _read(path: Path, most: int | None = None) -> Any:
    try:
        with open_plain(path, most) as file:
            return _read_archive(file.read())
    except OSError as error:
        raise DataError(f"{path} cannot be read ({reason(error)}).") from None
    except Exception as error:  # a foreign file raises anything, also an error without text
        why = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
        raise DataError(f"{path} cannot be read ({why}).") from None


def _read_archive(data: bytes) -> Any:
    """The value that `torch.save` was given, its tensors on the CPU. A file that is damaged raises errors of many kinds."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        records = archive.infolist()
        if any(record.compress_type != zipfile.ZIP_STORED for record in records):  # it might unfold to more than memory holds
            raise ValueError("it is compressed")
        if damaged := archive.testzip():  # torch writes CRC32 sums and does not compare them
            raise zipfile.BadZipFile(f"Bad CRC-32 for file '{damaged}'")
        if sum(record.file_size for record in records if record.filename.endswith(".pkl")) > MAX_PICKLE:
            raise ValueError(f"its pickle has more than {MAX_PICKLE:,} bytes")
    try:
        return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:  # whose text is a page on how to trust a file
        raise ValueError("it holds other things than tensors and plain values") from None


def save_model(path: Path, state: dict[str, Tensor]) -> None:
    """A plain state_dict. The same weights give the same bytes: contiguous clones, through a buffer (a path would be stored)."""
    _write(path, {name: tensor.detach().cpu().contiguous().clone() for name, tensor in state.items()})


def load_model(path: Path, most: int | None = None) -> dict[str, Tensor]:
    """The state_dict of a model.pt. Raises DataError where it is missing, damaged, has more than `most` bytes or other content."""
    if not path.exists():
        raise DataError(f"{path} is not there; the run has no trained model yet. `bnexp resume {path.parent.name}` resumes it.")
    state = _read(path, most)
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) and value.layout is torch.strided for value in state.values()):
        raise DataError(f"{path} does not hold a state_dict.")
    return state


def load_network(run: Run) -> nn.Sequential:
    """A run's trained network as a plain module in eval mode: normalized x_[B, C, *map] -> logits_[B, K]. `mean` and `std` of the inputs
    are under `data` in the run's summary. Raises DataError where the run's files are missing, damaged or do not fit."""
    config, data = run.trained_config(), run.result().data
    try:
        if data is None or data.shape is None or data.classes is None:
            raise TypeError("its summary does not say what data it was trained on")
        with torch.device("meta"):  # the config takes no memory: the weights are those of the file
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
